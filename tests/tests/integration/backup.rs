//! A backup of a broker that serves, and the broker that comes back from it.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bursar_proto::v1::LeasesListRequest;
use bursar_tests::{scan, wait_until};

use super::local_site::{LocalSite, administrator, said};

#[test]
fn a_broker_restored_from_a_backup_under_load_knows_its_leases_and_its_log_holds() -> Result<()> {
    let mut site = LocalSite::start("")?;
    let before = site.read(0)?;
    let backup = site.broker.directory().join("backup");
    let to = backup.to_string_lossy().into_owned();
    let (going, reads) = (AtomicBool::new(true), AtomicUsize::new(1));
    std::thread::scope(|scope| -> Result<()> {
        let load = scope.spawn(|| -> Result<()> {
            while going.load(Ordering::Relaxed) {
                site.read(reads.fetch_add(1, Ordering::Relaxed))?;
            }
            Ok(())
        });
        let loaded = wait_until(LIMIT, "some load", || reads.load(Ordering::Relaxed) > 50);
        let taken = site.broker.command(&["backup", "--to", &to]);
        let at = reads.load(Ordering::Relaxed);
        let more = wait_until(LIMIT, "reads to go on", || reads.load(Ordering::Relaxed) > at + 20);
        going.store(false, Ordering::Relaxed);
        load.join().map_err(|_| anyhow::anyhow!("the load ended badly"))??;
        loaded.and(more)?;
        ensure!(said(&taken?)?.contains("the seal key is not in it"));
        Ok(())
    })?;
    let found = scan(&backup, &[&site.key])?;
    ensure!(found.is_empty(), "secrets leaked into the backup: {found:?}");

    // The machine is lost, but for the backup, the configuration and the seal key.
    site.broker.process().kill()?;
    let data = site.broker.ledger().parent().context("no data directory")?.to_owned();
    let restored = site.broker.command(&["restore", "--from", &to])?;
    let refusal = String::from_utf8_lossy(&restored.stderr).into_owned();
    ensure!(!restored.status.success() && refusal.contains("nothing is written over"), "{refusal}");
    let bootstrap = site.broker.directory().join("bootstrap");
    fs::rename(data.join("bootstrap"), &bootstrap)?;
    fs::remove_dir_all(&data)?;
    ensure!(said(&site.broker.command(&["restore", "--from", &to])?)?.contains("restored"));
    fs::rename(&bootstrap, data.join("bootstrap"))?;
    site.broker.start_again()?;
    site.client = site.runtime.block_on(administrator(&site.broker))?;

    let request = LeasesListRequest { page_size: 1000, ..LeasesListRequest::default() };
    let leases = site.run(async { site.client.leases().list(request).await })?.into_inner().leases;
    // That of the first read, and of all that were begun before the backup but the one that was under way.
    ensure!(leases.len() >= 50, "{} leases came back", leases.len());
    ensure!(leases.iter().any(|lease| lease.id == before.lease.id.to_string()));
    let key = data.join("bootstrap/audit.vkey").to_string_lossy().into_owned();
    let verified = site.done(&["audit", "verify", "--key-file", &key])?;
    ensure!(verified.contains("records"), "{verified}");
    site.read(10_000)?;
    ensure!(said(&site.broker.command(&["verify"])?)?.contains("the log holds"));
    Ok(())
}

const LIMIT: Duration = Duration::from_secs(60);
