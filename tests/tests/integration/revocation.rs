//! Taking credentials back at a real OpenBao and a real PostgreSQL: when they refuse, when they are away, when they are
//! many, and when the broker stops half-way.

use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bursar_sdk::{Address, Client, Identity, Leased, ReadOptions, Secret, Tls};
use bursar_tests::{Broker, OpenBao, Postgres, binary, wait_for, wait_until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::runtime::Runtime;

#[test]
fn a_role_that_owns_something_is_stuck_with_a_reason_and_gone_once_it_can_be_dropped() -> Result<()> {
    let site = Site::start("attempts = 2")?;
    let held = site.issue()?;
    site.postgres.psql(&format!("CREATE TABLE kept (x int); ALTER TABLE kept OWNER TO \"{}\"", held.user))?;
    site.revoke(&[&held.lease, "--reason", "test"])?;
    let stuck = site.until(&held.lease, "stuck")?;
    ensure!(stuck.get("last_error_kind").is_some_and(Value::is_string), "no reason: {stuck}");
    ensure!(stuck.get("attempts").and_then(Value::as_u64) >= Some(2), "{stuck}");
    let table = site.bursar(&["lease", "list", "--state", "stuck"])?;
    let shown = String::from_utf8_lossy(&table.stdout).into_owned();
    ensure!(shown.contains("stuck (") && shown.contains(&held.lease), "{shown}");

    // One credential that cannot be removed keeps nobody from the store.
    let other = site.issue()?;
    ensure!(site.is_there(&other)?, "the store gave a role that is not there");

    site.postgres.psql("DROP TABLE kept")?;
    site.revoke(&[&held.lease, "--reason", "mended"])?;
    site.until(&held.lease, "gone")?;
    ensure!(!site.is_there(&held)?, "the lease is gone and its role is not");
    Ok(())
}

#[test]
fn leases_under_a_sealed_store_are_stuck_and_taken_back_as_soon_as_it_is_unsealed() -> Result<()> {
    let site = Site::start("attempts = 1")?;
    let (one, other) = (site.issue()?, site.issue()?);
    site.bao.seal()?;
    site.revoke(&[&one.lease, &other.lease, "--reason", "test"])?;
    for held in [&one, &other] {
        let stuck = site.until(&held.lease, "stuck")?;
        ensure!(stuck.get("last_error_kind").and_then(Value::as_str) == Some("sealed"), "{stuck}");
        ensure!(site.is_there(held)?);
    }
    site.bao.unseal()?;
    for held in [&one, &other] {
        site.until(&held.lease, "gone")?;
        ensure!(!site.is_there(held)?, "the lease is gone and its role is not");
    }
    Ok(())
}

#[test]
fn a_bulk_revocation_goes_on_past_one_that_fails_and_says_so() -> Result<()> {
    let site = Site::start("attempts = 1")?;
    let stuck = site.issue()?;
    site.postgres
        .psql(&format!("CREATE TABLE kept (x int); ALTER TABLE kept OWNER TO \"{}\"", stuck.user))?;
    let others = (0..5).map(|_| site.issue()).collect::<Result<Vec<_>>>()?;
    let done = site.bursar(&[
        "lease",
        "revoke-many",
        "--path",
        "vault",
        "--reason",
        "test",
        "--yes",
        "--output",
        "json",
    ])?;
    ensure!(
        done.status.code() == Some(1),
        "something is stuck, and the exit code is {:?}",
        done.status.code()
    );
    let told: Value = serde_json::from_slice(&done.stdout)?;
    let number = |name: &str| told.get(name).and_then(Value::as_u64);
    ensure!(
        [number("revoked"), number("dynamic"), number("waiting"), number("stuck")]
            == [Some(6), Some(6), Some(1), Some(1)],
        "{told}"
    );
    for held in &others {
        ensure!(!site.is_there(held)?, "a role outlived its revocation");
    }
    ensure!(site.is_there(&stuck)?);

    // Given up: it is gone here, and the log says who did it and why.
    let refused = site.bursar(&["lease", "revoke", &stuck.lease, "--force"])?;
    ensure!(refused.status.code() == Some(2), "a lease was given up without a reason");
    site.revoke(&[&stuck.lease, "--force", "--reason", "the table is needed"])?;
    let gone = site.until(&stuck.lease, "gone")?;
    ensure!(gone.get("last_error_kind").is_some_and(Value::is_string), "the last error is lost: {gone}");
    let audit = site.json(&["audit", "query", "--action", "force-revoke"])?;
    let record = audit.pointer("/0").context("no record of who gave it up")?.to_string();
    ensure!(record.contains("the table is needed") && record.contains("/user/admin"), "{record}");
    Ok(())
}

#[test]
fn a_broker_that_is_killed_half_way_through_a_bulk_revocation_goes_on_when_it_is_back() -> Result<()> {
    let mut site = Site::start("per_second = 2")?;
    let held = (0..8).map(|_| site.issue()).collect::<Result<Vec<_>>>()?;
    let order = site.bursar(&[
        "lease",
        "revoke-many",
        "--path",
        "vault",
        "--reason",
        "test",
        "--yes",
        "--no-wait",
        "--output",
        "json",
    ])?;
    let told: Value = serde_json::from_slice(&order.stdout).context("no answer to the order")?;
    let number =
        told.get("revocation").and_then(Value::as_u64).context("the order has no number")?.to_string();
    site.broker.process().kill()?;
    let left = held.iter().map(|held| site.is_there(held)).collect::<Result<Vec<_>>>()?;
    ensure!(left.contains(&true), "all was done before the broker was killed: it was no trial");
    site.broker.start_again()?;
    let done = || site.json(&["lease", "revocations", &number]).ok();
    wait_until(LIMIT, "the revocation to be done", || {
        done().is_some_and(|shown| shown.get("state").and_then(Value::as_str) == Some("done"))
    })?;
    for held in &held {
        ensure!(!site.is_there(held)?, "a role outlived its revocation");
    }
    Ok(())
}

#[test]
fn whoever_stops_waiting_for_a_bulk_revocation_is_told_that_it_goes_on() -> Result<()> {
    let site = Site::start("per_second = 1")?;
    let held = (0..4).map(|_| site.issue()).collect::<Result<Vec<_>>>()?;
    let mut waiting =
        site.command(&["lease", "revoke-many", "--path", "vault", "--reason", "test", "--yes"])?;
    let waiting = waiting.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let status = format!("/proc/{}/status", waiting.id());
    wait_until(LIMIT, "the command to wait", || {
        std::fs::read_to_string(&status).is_ok_and(catches_interrupts)
    })?;
    let pid = i32::try_from(waiting.id()).ok().and_then(Pid::from_raw).context("no process id")?;
    kill_process(pid, Signal::INT)?;
    let left = waiting.wait_with_output()?;
    let said = String::from_utf8_lossy(&left.stderr);
    ensure!(left.status.code() == Some(130), "{}: {said}", left.status);
    ensure!(
        said.contains("the broker goes on with bulk revocation") && said.contains("lease revocations"),
        "{said}"
    );
    for held in &held {
        site.until(&held.lease, "gone")?;
    }
    Ok(())
}

/// Whether `/proc/PID/status` says that the process does something of its own on SIGINT.
fn catches_interrupts(status: String) -> bool {
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let caught = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    caught.is_some_and(|mask| mask & 0b10 != 0)
}

/// A broker over OpenBao with a database engine.
pub(crate) struct Site {
    pub(crate) broker: Broker,
    pub(crate) bao: OpenBao,
    pub(crate) postgres: Postgres,
    runtime: Runtime,
    // Read by the broker at each login.
    _secret_id: tempfile::NamedTempFile,
}

/// A credential that the store made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) lease: String,
    pub(crate) user: String,
}

impl Site {
    /// `revocation` is what the backend's configuration says of it.
    pub(crate) fn start(revocation: &str) -> Result<Self> {
        Self::start_with(&format!("revocation = {{ {revocation} }}"))
    }

    /// `more` goes to the end of the configuration, which is that of the backend.
    pub(crate) fn start_with(more: &str) -> Result<Self> {
        let postgres = Postgres::start()?;
        let bao = OpenBao::start()?;
        bao.enable_database("database", &postgres)?;
        bao.database_role("database", "app", Duration::from_secs(3600))?;
        let role = bao.approle("bursar", BAO_POLICY)?;
        let secret_id = tempfile::NamedTempFile::new()?;
        std::fs::write(secret_id.path(), role.secret_id.value())?;
        let broker = Broker::start(&format!(
            "[backends.vault]\nkind = 'vault'\naddress = '{}'\nca_file = '{}'\n\
             auth = {{ method = 'approle', role_id = '{}', secret_id = {{ file = '{}' }} }}\n\
             mounts = {{ database = 'leased' }}\n{more}\n",
            bao.tls_url(),
            bao.authority().display(),
            role.role_id,
            secret_id.path().display(),
        ))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let site = Self { broker, bao, postgres, runtime, _secret_id: secret_id };
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("test.cedar");
        std::fs::write(&file, POLICIES)?;
        let applied = site.bursar(&["policy", "apply", &file.display().to_string()])?;
        ensure!(applied.status.success(), "{}", String::from_utf8_lossy(&applied.stderr));
        Ok(site)
    }

    /// A credential of its own.
    fn issue(&self) -> Result<Held> {
        let options = ReadOptions { new_lease: true, ..ReadOptions::default() };
        let mut held = self.read_at_once(1, &options)?;
        held.pop().context("no credential")
    }

    /// What so many reads that are made at once get.
    pub(crate) fn read_at_once(&self, reads: usize, options: &ReadOptions) -> Result<Vec<Held>> {
        let read = |name| std::fs::read(self.broker.bootstrap(name));
        let identity = Identity { cert_pem: read("admin.crt")?, key_pem: Secret::new(read("admin.key")?) };
        let tls = Tls { ca_pem: read("ca.pem")?, identity: Some(identity), server_name: None };
        let address: Address = self.broker.address().parse()?;
        let reference = "vault/database/creds/app#username".parse()?;
        let read = self.runtime.block_on(async {
            let client = Client::connect(&address, Some(&tls)).await?;
            let reads = (0..reads).map(|_| client.read(&reference, options));
            anyhow::Ok(futures_util::future::try_join_all(reads).await?)
        })?;
        let held = |read: Leased| {
            let user = std::str::from_utf8(read.value.expose())?.to_owned();
            Ok(Held { lease: read.lease.id.to_string(), user })
        };
        read.into_iter().map(held).collect()
    }

    /// Whether PostgreSQL has the role.
    pub(crate) fn is_there(&self, held: &Held) -> Result<bool> {
        let count = format!("SELECT count(*) FROM pg_roles WHERE rolname = '{}'", held.user);
        Ok(self.postgres.psql(&count)? == "1")
    }

    pub(crate) fn revoke(&self, arguments: &[&str]) -> Result<()> {
        let done = self.bursar(&[&["lease", "revoke"], arguments].concat())?;
        ensure!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        Ok(())
    }

    /// Waits until a lease is in a state, and answers the lease.
    pub(crate) fn until(&self, lease: &str, state: &str) -> Result<Value> {
        wait_for(LIMIT, &format!("the lease to be {state}"), || {
            let shown = self.json(&["lease", "show", lease])?;
            Ok(shown.get("state").is_some_and(|found| found == state).then_some(shown))
        })
    }

    pub(crate) fn json(&self, arguments: &[&str]) -> Result<Value> {
        let output = self.bursar(&[arguments, &["--output", "json"]].concat())?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// Runs the command line as the administrator.
    pub(crate) fn bursar(&self, arguments: &[&str]) -> Result<Output> {
        self.command(arguments)?.output().context("`bursar` cannot be run")
    }

    fn command(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = Command::new(binary("bursar")?);
        command.env_clear().env("BURSAR_ADDRESS", self.broker.address());
        let files = [("BURSAR_CA", "ca.pem"), ("BURSAR_CERT", "admin.crt"), ("BURSAR_KEY", "admin.key")];
        command.envs(files.map(|(name, file)| (name, self.broker.bootstrap(file))));
        command.args(arguments);
        Ok(command)
    }
}

const LIMIT: Duration = Duration::from_secs(60);

const BAO_POLICY: &str = r#"
path "database/creds/app" { capabilities = ["read"] }
path "sys/leases/renew" { capabilities = ["update"] }
path "sys/leases/revoke" { capabilities = ["update"] }
path "sys/leases/lookup" { capabilities = ["update"] }
path "sys/leases/lookup/database/*" { capabilities = ["list", "sudo"] }
"#;

const POLICIES: &str = r#"
@id("administration")
permit (principal == Bursar::Principal::"spiffe://example.org/user/admin",
        action in Bursar::Action::"administer", resource);
@id("use")
permit (principal == Bursar::Principal::"spiffe://example.org/user/admin",
        action in Bursar::Action::"use", resource in Bursar::Backend::"vault");
"#;
