//! A store that is silent, slow, or answers what is no answer: the read fails in time and by name, the others go on, the
//! store is not called again and again, and nothing that it said gets out.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bursar_tests::{Broker, Canary, Cli, OddStore, Oddity, scan};
use serde_json::Value;

#[test]
fn a_store_that_misbehaves_fails_its_own_reads_in_time_and_by_name() -> Result<()> {
    let site = Site::start("1s", "10s")?;
    // What is said, the exit code, the kind in the ledger, and how many calls the store gets. A kind other than
    // `deadline` shows that it was the store's own timeout, a second, that ended the read.
    let cases = [
        (Oddity::Silent, "in time", 69, "timeout", 1),
        (Oddity::Drips, "in time", 69, "timeout", 1),
        (Oddity::Garbage, "", 69, "unavailable", 3),
        (Oddity::Closes, "", 69, "unavailable", 3),
        (Oddity::Fails, "", 69, "unavailable", 3),
        (Oddity::Page, "cannot be read", 1, "malformed", 1),
        (Oddity::Huge, "cannot be read", 1, "malformed", 1),
    ];
    for (oddity, part, code, kind, calls) in cases {
        let reference = format!("odd/kv/{}#p", oddity.path());
        let said = site.admin.run(&["get", &reference])?;
        let about = || format!("a store that is {}", oddity.path());
        said.refused(code, &["`odd`", part, "hint: "]).with_context(about)?;
        ensure!(site.store.calls(oddity) == calls, "{}: {} calls", about(), site.store.calls(oddity));
        site.is_kept(said.request_id(), kind).with_context(about)?;
        site.admin.done(&["get", "local/a"])?;
        site.admin.done(&["get", "odd/kv/proper#p", "--max-age", "0s"]).with_context(about)?;
    }
    site.nothing_got_out()
}

#[test]
fn a_read_that_takes_longer_than_a_request_may_ends_at_the_deadline_and_is_kept() -> Result<()> {
    let site = Site::start("30s", "1s")?;
    let said = site.admin.run(&["get", "odd/kv/silent#p"])?;
    said.refused(69, &["the request took longer than its deadline", "hint: ", "request id: "])?;
    site.is_kept(said.request_id(), "deadline")?;
    site.admin.done(&["get", "local/a"])?;
    site.nothing_got_out()
}

#[test]
fn many_readers_of_a_silent_store_cost_one_call_and_keep_nobody_else_waiting() -> Result<()> {
    let site = Site::start("2s", "10s")?;
    std::thread::scope(|scope| {
        let readers: Vec<_> =
            (0..8).map(|_| scope.spawn(|| site.admin.run(&["get", "odd/kv/silent#p"]))).collect();
        bursar_tests::wait_until(LIMIT, "the store to be asked", || site.store.calls(Oddity::Silent) > 0)?;
        site.admin.done(&["get", "local/a"])?;
        ensure!(readers.iter().any(|reader| !reader.is_finished()), "others had to wait for a silent store");
        for reader in readers {
            reader.join().expect("a thread")?.refused(69, &["`odd`", "hint: "])?;
        }
        // Those who wait for a call share its failure. A process that started late makes another.
        let calls = site.store.calls(Oddity::Silent);
        ensure!(calls <= 2, "{calls} calls for 8 reads");
        anyhow::Ok(())
    })
}

/// A broker with a store that misbehaves and one that does not.
struct Site {
    broker: Broker,
    admin: Cli,
    store: OddStore,
    said: Canary,
    _token: tempfile::NamedTempFile,
}

impl Site {
    /// `timeout` is the store's, `deadline` that of a request.
    fn start(timeout: &str, deadline: &str) -> Result<Self> {
        let said = Canary::alphanumeric("what the store says");
        let store = OddStore::start(said.value())?;
        let token = tempfile::NamedTempFile::new()?;
        std::fs::write(token.path(), "a token")?;
        let broker = Broker::start(&format!(
            "[limits]\ndeadline = '{deadline}'\n[backends.local]\nkind = 'local'\n\
             [backends.odd]\nkind = 'vault'\naddress = '{}'\nallow_plaintext = true\ntimeout = '{timeout}'\n\
             auth = {{ method = 'token', token = {{ file = '{}' }} }}\nmounts = {{ kv = 'kv-v2' }}\n",
            store.url(),
            token.path().display(),
        ))?;
        let admin = Cli::administering(&broker)?;
        admin.apply_policies(POLICIES, "")?;
        admin.done_with(&["secret", "put", "local/a"], b"value")?;
        Ok(Self { broker, admin, store, said, _token: token })
    }

    fn is_kept(&self, request: Option<&str>, kind: &str) -> Result<()> {
        let records = self.admin.audit(&["--request", request.context("no request id")?])?;
        let [record] = records.as_slice() else { anyhow::bail!("{} records", records.len()) };
        let text = |name: &str| record.get(name).and_then(Value::as_str).unwrap_or_default();
        ensure!(text("outcome") == "failed" && text("action") == "read", "{record}");
        ensure!(text("error_kind") == kind, "{record}");
        ensure!(record.get("lease_id").is_none(), "{record}");
        Ok(())
    }

    /// Neither into a log nor a record, nor into an error that was shown.
    fn nothing_got_out(&self) -> Result<()> {
        let found = scan(self.broker.directory(), &[&self.said])?;
        ensure!(found.is_empty(), "what the store said got out: {found:?}");
        Ok(())
    }
}

const LIMIT: Duration = Duration::from_secs(20);

const POLICIES: &str = r#"
@id("everything")
permit (principal == Bursar::Principal::"spiffe://example.org/user/admin", action, resource);
"#;
