//! A disk that gets full, and what goes on in the room that is kept.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bursar_tests::{SmallDisk, wait_for, wait_until};

use super::local_site::LocalSite;

#[test]
fn nothing_is_issued_on_a_disk_that_is_nearly_full_and_revocation_goes_on() -> Result<()> {
    let disk = SmallDisk::mount(96 * MIB)?;
    let site =
        LocalSite::start_on(&disk.path().join("data"), "[disk]\nwarn = '40 MiB'\nrefuse = '24 MiB'\n")?;
    let (first, second) = (site.read(0)?, site.read(1)?);

    disk.fill_but(32 * MIB)?;
    let degraded = || Ok(site.http("/readyz")?.contains("degraded: disk: ").then_some(()));
    wait_for(LIMIT, "the warning", degraded)?;
    site.read(2)?;
    disk.free()?;

    disk.fill_but(18 * MIB)?;
    wait_until(LIMIT, "the broker not to be ready", || status(&site) == Some(503))?;
    let why = site.http("/readyz")?;
    ensure!(why.contains("nothing new is issued; make room there"), "{why}");
    let records = site.done(&["status", "--output", "json"]).err().context("a broker that is not ready")?;
    ensure!(records.to_string().contains("not ready"), "{records}");
    let refused = site.read(3).err().context("a secret was issued")?.to_string();
    ensure!(refused.contains("nothing new is issued"), "{refused}");
    ensure!(site.put("local/app/other", "value").is_err(), "a secret was stored");
    site.run(site.client.renew(first.lease.id, None))?;
    site.run(site.client.revoke(first.lease.id, "leaked"))?;
    ensure!(site.done(&["audit", "query", "--action", "revoke"])?.contains("leaked"));

    disk.free()?;
    disk.fill_but(8 * MIB)?;
    wait_until(LIMIT, "renewals to be refused", || {
        site.run(site.client.renew(second.lease.id, None)).is_err()
    })?;
    site.run(site.client.revoke(second.lease.id, "leaked"))?;

    disk.free()?;
    wait_until(LIMIT, "the broker to go on by itself", || status(&site) == Some(200))?;
    site.read(4)?;
    let metrics = site.http("/metrics")?;
    ensure!(metrics.contains("bursar_disk_bytes{figure=\"free\"}"), "{metrics}");
    Ok(())
}

fn status(site: &LocalSite) -> Option<u16> {
    site.broker.http("/readyz").ok().map(|answer| answer.status)
}

const MIB: u64 = 1024 * 1024;
const LIMIT: Duration = Duration::from_secs(30);
