//! Quotas before a real store: refused before it is asked, exact over a restart, and never in the way of what is held.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bursar_proto::Reason;
use bursar_sdk::{ReadOptions, Refusal};
use serde_json::Value;

use super::revocation::{Held, Site};

#[test]
fn a_storm_for_new_leases_is_refused_without_a_call_to_the_store_and_what_is_held_stays() -> Result<()> {
    let mut site = Site::start_with("[leases.quota]\nlive = 3")?;
    let held: Vec<_> = ["a", "b", "c"].map(|name| read(&site, name)).into_iter().collect::<Result<_>>()?;
    for number in 0..20 {
        let refusal = refused(&site, &format!("storm-{number}"))?;
        ensure!(refusal.reason == Some(Reason::QuotaExceeded), "{refusal:?}");
        ensure!(refusal.retry_after == Some(Duration::from_secs(30)), "{refusal:?}");
        let told = ["principal `spiffe://example.org/user/admin`", "has 3 leases", "revoke some"];
        ensure!(told.iter().all(|part| refusal.message.contains(part)), "{}", refusal.message);
    }
    ensure!(issued(&site)? == 3, "the store was asked for {} credentials", issued(&site)?);
    let records =
        site.json(&["audit", "query", "--action", "read", "--outcome", "failed", "--limit", "100"])?;
    let records = records.as_array().cloned().unwrap_or_default();
    let of_quota = |record: &&Value| record.get("error_kind").is_some_and(|kind| kind == "quota_exceeded");
    ensure!(records.iter().filter(of_quota).count() == 20, "{records:?}");
    let metrics = site.broker.http("/metrics")?;
    let counted = "bursar_quota_refusals_total{of=\"principal\",limit=\"live\"} 20";
    ensure!(String::from_utf8_lossy(&metrics.body).contains(counted), "the refusals are not counted");
    let top = site.json(&["lease", "top"])?;
    let first = top.get(0).context("nobody holds anything")?;
    ensure!(first.get("live") == Some(&3.into()) && first.get("quota") == Some(&3.into()), "{top}");

    site.broker.process().kill()?;
    site.broker.start_again()?;
    refused(&site, "after the restart")?;
    for (name, held) in ["a", "b", "c"].into_iter().zip(&held) {
        ensure!(read(&site, name)? == *held, "what is held was not handed out again");
    }
    let [first, ..] = held.as_slice() else { anyhow::bail!("nothing is held") };
    let renewed = site.bursar(&["lease", "renew", &first.lease])?;
    ensure!(renewed.status.success(), "{}", String::from_utf8_lossy(&renewed.stderr));
    site.revoke(&[&first.lease, "--reason", "test"])?;
    site.until(&first.lease, "gone")?;
    read(&site, "d")?;
    refused(&site, "e")?;
    Ok(())
}

#[test]
fn a_backend_that_is_asked_too_fast_says_when_to_come_again() -> Result<()> {
    let site = Site::start_with("quota = { issued_per_minute = 2 }")?;
    for name in ["a", "b"] {
        read(&site, name)?;
    }
    let refusal = refused(&site, "c")?;
    let wait = refusal.retry_after.context("no time to come again")?;
    ensure!(wait > Duration::ZERO && wait <= Duration::from_secs(30), "{wait:?}");
    ensure!(
        refusal.message.contains("backend `vault`") && refusal.message.contains("2 a minute"),
        "{refusal:?}"
    );
    ensure!(issued(&site)? == 2);
    let said = site.bursar(&["get", "vault/database/creds/app"])?;
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    ensure!(said.contains("bursar lease top"), "no hint: {said}");
    Ok(())
}

fn read(site: &Site, instance: &str) -> Result<Held> {
    let options = ReadOptions { instance: instance.to_owned(), ..ReadOptions::default() };
    site.read_at_once(1, &options)?.pop().context("no credential")
}

fn refused(site: &Site, instance: &str) -> Result<Refusal> {
    let error = read(site, instance).err().context("the read was meant to be refused")?;
    let error: bursar_sdk::Error = error.downcast()?;
    error.refusal().cloned().with_context(|| format!("no refusal: {error}"))
}

/// How often the store was asked for a credential.
fn issued(site: &Site) -> Result<u64> {
    let metrics = site.broker.http("/metrics")?;
    let text = String::from_utf8_lossy(&metrics.body).into_owned();
    let calls = text.lines().filter(|line| {
        line.starts_with("bursar_backend_calls_total{") && line.contains("operation=\"issue\"")
    });
    let counts = calls.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
    Ok(counts.sum())
}
