//! A key vault behind a real broker.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bursar_core::{Clock, SystemClock};
use bursar_tests::{Broker, Canary, Cli, KeyVault, scan, wait_for};
use serde_json::{Value, json};

#[test]
fn microsofts_own_client_takes_the_fake_for_a_vault() -> Result<()> {
    KeyVault::start()?.try_microsofts_client()
}

#[test]
fn a_field_is_read_and_a_rotation_is_another_version() -> Result<()> {
    let site = Site::start()?;
    let (old, new) = (Canary::random("old"), Canary::random("new"));
    let first = site.put("db", &old)?;
    ensure!(site.admin.done(&["get", "azure/db#password"])? == old.value(), "another value was read");
    ensure!(site.references()? == [format!("azure/db@{first}")], "the lease is of another version");

    let second = site.put("db", &new)?;
    let fresh = ["get", "azure/db#password", "--max-age", "0s"];
    ensure!(site.admin.done(&fresh)? == new.value(), "the rotation was not seen");
    let reference = format!("azure/db#password@{first}");
    ensure!(site.admin.done(&["get", &reference])? == old.value(), "the old version is another value");
    let history = site.admin.json(&["secret", "history", "azure/db"])?;
    let names = history.as_array().into_iter().flatten().filter_map(|one| one.get("version")?.as_str());
    ensure!(names.eq([second.as_str(), first.as_str()]), "{history}");

    site.said_nowhere(&[&old, &new])
}

#[test]
fn a_token_that_ends_during_a_run_is_replaced_by_another() -> Result<()> {
    let site = Site::start()?;
    let value = Canary::random("value");
    site.put("db", &value)?;
    let read = ["get", "azure/db#password", "--max-age", "0s"];
    ensure!(site.admin.done(&read)? == value.value(), "another value was read");
    site.vault.end_tokens();
    ensure!(site.admin.done(&read)? == value.value(), "another value was read");
    ensure!(site.vault.tokens().len() == 2, "{} tokens", site.vault.tokens().len());
    site.said_nowhere(&[&value])
}

#[test]
fn what_is_deleted_disabled_or_outside_its_time_is_not_found() -> Result<()> {
    let site = Site::start()?;
    let value = Canary::random("value");
    site.put("deleted", &value)?;
    site.admin.done(&["get", "azure/deleted#password"])?;
    site.vault.delete("prod-deleted")?;
    let version = site.put("disabled", &value)?;
    site.vault.change("prod-disabled", &version, &json!({ "enabled": false }))?;
    for (name, attributes) in
        [("expired", json!({ "exp": 1 })), ("early", json!({ "nbf": 32_503_680_000_u64 }))]
    {
        site.vault.put(&format!("prod-{name}"), value.value(), &json!({ "attributes": attributes }))?;
    }
    for name in ["deleted", "disabled", "expired", "early", "absent"] {
        let reference = format!("azure/{name}");
        let said = site.admin.run(&["get", &reference, "--max-age", "0s"])?;
        said.refused(1, &[&reference, "hint: "])?;
        let records = site.admin.audit(&["--request", said.request_id().context("no request id")?])?;
        let kept = records.first().and_then(|record| record.get("error_kind")?.as_str());
        ensure!(kept == Some("not_found"), "`{name}` is kept as {kept:?}");
    }
    let history = site.admin.json(&["secret", "history", "azure/disabled"])?;
    ensure!(history.pointer("/0/deleted") == Some(&json!(true)), "{history}");
    site.said_nowhere(&[&value])
}

#[test]
fn no_lease_outlives_the_expiry_of_its_version_and_tags_are_labels() -> Result<()> {
    let site = Site::start()?;
    let end = SystemClock.now().as_second() + 1200;
    let members = json!({ "attributes": { "exp": end }, "tags": { "owner": "payments" } });
    let version = site.vault.put("prod-short", "value", &members)?;
    site.admin.done(&["get", "azure/short", "--ttl", "2h"])?;
    let leases = site.admin.json(&["lease", "list", "--path", "azure/short"])?;
    let lease = leases.get(0).context("no lease")?;
    ensure!(lease.get("ttl_bound") == Some(&json!("backend")), "another limit bound it: {lease}");
    let ends = lease.get("expires_at").and_then(Value::as_str).context("no end")?;
    ensure!(ends.parse::<jiff::Timestamp>()?.as_second() <= end, "it lasts until {ends}");
    let told = site.admin.json(&["secret", "get-metadata", "azure/short"])?;
    ensure!(told.get("labels") == Some(&json!({ "owner": "payments" })), "{told}");
    ensure!(told.to_string().contains(&version), "{told}");
    Ok(())
}

#[test]
fn a_policy_is_not_got_round_by_another_spelling() -> Result<()> {
    let site = Site::start()?;
    let value = Canary::random("value");
    site.put("ROOT-key", &value)?;
    site.put("plain", &value)?;
    site.admin.apply_policies(
        &format!(
            "{POLICIES}@id(\"root\")\nforbid (principal, action, resource == Bursar::Secret::\"azure/root-key\");\n"
        ),
        "",
    )?;
    site.admin.done(&["get", "azure/plain#password"])?;
    site.admin.run(&["get", "azure/root-key"])?.refused(77, &["hint: "])?;
    let before = site.vault.calls();
    for spelling in ["ROOT-key", "Root-key", "root-keY", "./root-key", "root-key/"] {
        let said = site.admin.run(&["get", &format!("azure/{spelling}")])?;
        ensure!(said.code != Some(0) && said.stdout.is_empty(), "`{spelling}` was handed out");
    }
    let after = site.vault.calls();
    ensure!(before == after, "the vault was asked: {:?}", after.get(before.len()..));
    site.said_nowhere(&[&value])
}

#[test]
fn secrets_are_listed_below_the_prefix() -> Result<()> {
    let site = Site::start()?;
    for number in 0..30 {
        site.put(&format!("Many-{number:02}"), &Canary::random("value"))?;
    }
    site.vault.put("other-hidden", "value", &Value::Null)?;
    let listed = site.admin.json(&["secret", "list", "azure"])?;
    let names = listed.as_array().into_iter().flatten().filter_map(|one| one.get("name")?.as_str());
    ensure!(names.eq((0..30).map(|number| format!("many-{number:02}"))), "{listed}");
    Ok(())
}

#[test]
fn what_azure_does_wrong_is_told_by_name_and_the_other_stores_go_on() -> Result<()> {
    let site = Site::start()?;
    site.admin.done_with(&["secret", "put", "local/a"], b"value")?;
    site.vault.put("prod-plain", "no JSON", &Value::Null)?;
    let said = Canary::alphanumeric("what Azure says");
    let fault = |code: &str, inner: &str| {
        let message = said.value();
        json!({ "error": { "code": code, "message": message, "innererror": { "code": inner } } }).to_string()
    };
    let page = format!("<html>log in, {}</html>", said.value());
    let cases = [
        (200, page.clone(), 1, "malformed"),
        (403, page.clone(), 1, "denied"),
        (404, page, 1, "misconfigured"),
        (403, fault("Forbidden", "ForbiddenByRbac"), 1, "denied"),
        (403, fault("Forbidden", said.value()), 1, "denied"),
        (401, fault("Unauthorized", ""), 1, "denied"),
        (429, fault("Throttled", ""), 69, "throttled"),
        (503, fault("ServiceUnavailable", ""), 69, "unavailable"),
        (400, fault(said.value(), ""), 1, "misconfigured"),
    ];
    for (status, body, exit, kind) in cases {
        site.vault.answer(status, "Content-Type: application/json", &body);
        let refused = site.admin.run(&["get", "azure/plain", "--max-age", "0s"])?;
        let about = || format!("an answer of {status} that is {kind}: {}", refused.stderr);
        refused.refused(exit, &["`azure`", "hint: "]).with_context(about)?;
        let records = site.admin.audit(&["--request", refused.request_id().context("no request id")?])?;
        let kept = records.first().and_then(|record| record.get("error_kind")?.as_str());
        ensure!(kept == Some(kind), "{}, and kept as {kept:?}", about());
        site.admin.done(&["get", "local/a"])?;
    }
    site.vault.mend();
    site.vault.hang();
    site.admin.run(&["get", "azure/plain", "--max-age", "0s"])?.refused(69, &["`azure`", "hint: "])?;
    site.admin.done(&["get", "local/a"])?;
    site.vault.mend();
    wait_for(LIMIT, "Azure to be noticed again", || {
        let read = site.admin.run(&["get", "azure/plain", "--max-age", "0s"])?;
        Ok((read.stdout == b"no JSON").then_some(()))
    })?;
    site.admin.run(&["get", "azure/plain#password"])?.refused(1, &["password", "hint: "])?;
    site.said_nowhere(&[&said])
}

/// A broker before a vault that it reads as an application.
struct Site {
    // Dropped first: it calls the vault.
    broker: Broker,
    admin: Cli,
    vault: KeyVault,
}

impl Site {
    fn start() -> Result<Self> {
        let vault = KeyVault::start()?;
        let sections = vault.backend("azure", "prefix = 'prod-'\ntimeout = '2s'")?;
        let broker = Broker::start(&format!("[backends.local]\nkind = 'local'\n{sections}"))?;
        let admin = Cli::administering(&broker)?;
        admin.apply_policies(POLICIES, "")?;
        Ok(Self { broker, admin, vault })
    }

    /// Writes a secret with the field `password`; answers the version.
    fn put(&self, name: &str, value: &Canary) -> Result<String> {
        let text = json!({ "user": "ada", "password": value.value() }).to_string();
        self.vault.put(&format!("prod-{name}"), &text, &Value::Null)
    }

    fn references(&self) -> Result<Vec<String>> {
        let leases = self.admin.json(&["lease", "list", "--path", "azure"])?;
        let reference = |lease: &Value| lease.get("reference").and_then(Value::as_str).map(str::to_owned);
        Ok(leases.as_array().into_iter().flatten().filter_map(reference).collect())
    }

    /// Fails where one of these, the application's secret or a token is anywhere that the broker writes to.
    fn said_nowhere(&self, canaries: &[&Canary]) -> Result<()> {
        let (secret, tokens) = (self.vault.client_secret(), self.vault.tokens());
        ensure!(!tokens.is_empty(), "there was no token to search for");
        let all: Vec<_> = canaries.iter().copied().chain([&secret]).chain(&tokens).collect();
        let found = scan(self.broker.directory(), &all)?;
        ensure!(found.is_empty(), "{found:?}");
        Ok(())
    }
}

const LIMIT: Duration = Duration::from_secs(60);

const POLICIES: &str = r#"
@id("everything")
permit (principal == Bursar::Principal::"spiffe://example.org/user/admin", action, resource);
"#;
