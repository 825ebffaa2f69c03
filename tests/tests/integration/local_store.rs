//! What becomes of the secrets of the broker's own store: they expire, are labelled and destroyed.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bursar_core::{Clock, SystemClock};
use bursar_tests::wait_for;
use serde_json::Value;

use super::local_site::LocalSite;

#[test]
fn no_lease_outlives_the_value_it_is_on() -> Result<()> {
    let site = LocalSite::start("")?;
    put(&site, "local/app/short", &["--expires", "20m"])?;
    let lease = lease(&site, &["get", "local/app/short", "--ttl", "2h"])?;
    ensure!(lease["ttl_bound"] == "backend", "another limit bound it: {lease}");
    let id = lease["id"].as_str().context("no id")?;
    let renewed: Value =
        serde_json::from_str(&site.done(&["lease", "renew", id, "--ttl", "3h", "--output", "json"])?)?;
    let end = |lease: &Value| -> Result<jiff::Timestamp> {
        Ok(lease["expires_at"].as_str().context("no end")?.parse()?)
    };
    let left = end(&renewed)?.duration_since(SystemClock.now());
    ensure!(left <= jiff::SignedDuration::from_mins(20), "a renewal went past the expiry: {renewed}");
    let history = site.done(&["secret", "history", "local/app/short"])?;
    ensure!(history.contains("readable") && history.contains("in 19m"), "{history}");
    Ok(())
}

#[test]
fn an_expired_value_is_not_served_from_the_cache() -> Result<()> {
    let site = LocalSite::start("max_stale = '1h'\n")?;
    put(&site, "local/app/brief", &["--expires", "3s"])?;
    ensure!(site.done(&["get", "local/app/brief"]).context("at first")? == "value", "another value");
    // The cache has it for an hour; each of these reads is answered by it until the end.
    let refused = || {
        let got = site.bursar(&["get", "local/app/brief"])?;
        let said = String::from_utf8_lossy(&got.stderr).into_owned();
        ensure!(got.status.success() || said.contains("local/app/brief"), "{said}");
        Ok((got.status.code() == Some(1)).then_some(said))
    };
    let said = wait_for(Duration::from_secs(30), "the value expires", refused)?;
    ensure!(said.contains("is not there"), "{said}");
    let history = site.done(&["secret", "history", "local/app/brief"])?;
    ensure!(history.contains("expired"), "{history}");
    put(&site, "local/app/brief", &[])?;
    ensure!(site.done(&["get", "local/app/brief"])? == "value", "the next version cannot be read");
    let past = site.bursar(&["secret", "put", "local/app/brief", "--expires", "2001-01-01T00:00:00Z"])?;
    ensure!(!past.status.success(), "an expiry in the past was taken");
    Ok(())
}

#[test]
fn what_is_destroyed_is_gone_and_recorded() -> Result<()> {
    let site = LocalSite::start("")?;
    for _ in 0..3 {
        put(&site, "local/app/old", &[])?;
    }
    ensure!(site.done(&["get", "local/app/old@1"])? == "value", "version 1 is not there");
    let unconfirmed = site.bursar(&["secret", "destroy", "local/app/old", "--all"])?;
    ensure!(!unconfirmed.status.success(), "it was destroyed without a question");
    site.done(&["secret", "destroy", "local/app/old", "--version", "1,2", "--reason", "leaked", "--yes"])?;
    ensure!(site.bursar(&["get", "local/app/old@1"])?.status.code() == Some(1), "version 1 is still served");
    ensure!(site.done(&["get", "local/app/old"])? == "value", "the newest went with it");
    let history = site.done(&["secret", "history", "local/app/old"])?;
    ensure!(history.matches("destroyed").count() == 2, "{history}");
    site.done(&["secret", "destroy", "local/app/old", "--all", "--yes"])?;
    let listed = site.done(&["secret", "list", "local/app"])?;
    ensure!(!listed.contains("old"), "{listed}");
    let records = site.done(&["audit", "query", "--action", "destroy"])?;
    ensure!(records.contains("leaked") && records.matches("local/app/old").count() >= 4, "{records}");
    Ok(())
}

#[test]
fn labels_are_written_shown_and_taken_off() -> Result<()> {
    let site = LocalSite::start("")?;
    put(&site, "local/app/db", &[])?;
    site.done(&["secret", "label", "local/app/db", "owner=payments", "tier=1"])?;
    site.done(&["secret", "label", "local/app/db", "tier-", "rotate=every quarter"])?;
    let shown = site.done(&["secret", "get-metadata", "local/app/db"])?;
    ensure!(shown.contains("owner=payments, rotate=every quarter"), "{shown}");
    let absent = site.bursar(&["secret", "label", "local/app/none", "a=b"])?;
    ensure!(absent.status.code() == Some(1), "a secret that is not there was labelled");
    Ok(())
}

fn put(site: &LocalSite, reference: &str, more: &[&str]) -> Result<String> {
    let value = site.broker.directory().join("value");
    std::fs::write(&value, "value")?;
    let file = value.to_string_lossy();
    let arguments = [&["secret", "put", reference, "--from-file", &file], more].concat();
    site.done(&arguments)
}

fn lease(site: &LocalSite, get: &[&str]) -> Result<Value> {
    site.done(get)?;
    let leases: Value = serde_json::from_str(&site.done(&["lease", "list", "--output", "json"])?)?;
    leases.get(0).cloned().context("no lease")
}
