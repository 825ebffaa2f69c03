//! A broker whose ledger is in a PostgreSQL: what it does for people is what it does on files.

use std::fs;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bursar_tests::{Postgres, Release, scan, wait_until};
use serde_json::Value;
use tempfile::TempDir;

use super::local_site::{LocalSite, said};

#[test]
fn secrets_are_leased_renewed_revoked_and_accounted_for_over_restarts() -> Result<()> {
    serves(Site::start("[leases.quota]\nlive = 3")?)
}

#[test]
fn newer_servers_keep_a_ledger_as_well() -> Result<()> {
    for release in [Release::Sixteen, Release::Eighteen] {
        let site = Site::on(Arc::new(server(release)?), "[leases.quota]\nlive = 3")?;
        serves(site).with_context(|| format!("{release:?}"))?;
    }
    Ok(())
}

fn serves(mut site: Site) -> Result<()> {
    let [first, second] = [site.local.read(0)?.lease.id, site.local.read(1)?.lease.id];
    site.local.read(2)?;
    ensure!(site.local.read(0)?.lease.id == first, "a repeated read got another lease");
    let refused = site.local.read(9).err().context("a quota was not met")?;
    ensure!(refused.to_string().contains("has 3 leases"), "{refused:#}");
    site.local.done(&["lease", "renew", &first.to_string()])?;
    site.local.done(&["lease", "revoke", &first.to_string(), "--reason", "test"])?;
    site.local.read(3)?;

    for _ in 0..2 {
        site.local.broker.process().kill()?;
        site.local.broker.start_again()?;
        site.local.connect()?;
        ensure!(site.local.read(1)?.lease.id == second, "a lease was lost with the process");
    }
    site.local.done(&["audit", "verify"])?;
    let verified = said(&site.local.broker.command(&["verify"])?)?;
    ensure!(verified.contains("the log holds"), "{verified}");

    site.local.done(&["lease", "revoke-many", "--principal", ADMIN, "--reason", "all of it", "--yes"])?;
    let gone = || site.live().is_ok_and(|live| live.is_empty());
    wait_until(Duration::from_secs(30), "every lease to be gone", gone)?;
    site.local.done(&["audit", "verify"])?;
    let verified = said(&site.local.broker.command(&["verify"])?)?;
    ensure!(verified.contains("the log holds"), "{verified}");
    let found = scan(site.local.broker.directory(), &[site.postgres.password(), &site.local.key])?;
    ensure!(found.is_empty(), "a secret was written: {found:?}");
    let found = scan(site.postgres.directory(), &[&site.local.key])?;
    ensure!(found.is_empty(), "a secret reached the database: {found:?}");
    Ok(())
}

#[test]
fn while_the_database_is_away_nothing_is_issued_and_health_says_so() -> Result<()> {
    let mut site = Site::on(Arc::new(server(Release::System)?), "")?;
    site.local.read(0)?;
    let postgres = Arc::get_mut(&mut site.postgres).context("somebody else has the server")?;
    postgres.stop()?;
    ensure!(site.local.read(1).is_err(), "a secret went out without its record");
    let shown = site.local.http("/readyz")?;
    ensure!(shown.contains("ledger"), "{shown}");
    postgres.start_again()?;
    site.local.broker.wait_ready()?;
    site.local.read(1)?;
    site.local.done(&["audit", "verify"])?;
    Ok(())
}

#[test]
fn a_second_broker_of_the_same_name_is_refused_while_the_first_lives() -> Result<()> {
    let site = Site::start("")?;
    let second = TempDir::new()?;
    let config = fs::read_to_string(site.local.broker.config())?;
    let own = site.local.broker.bootstrap("").parent().context("no data directory")?.display().to_string();
    let other = second.path().join("data");
    fs::create_dir(&other)?;
    let path = second.path().join("broker.toml");
    fs::write(&path, config.replace(&own, &other.display().to_string()))?;
    let refused = std::process::Command::new(bursar_tests::binary("bursar-broker")?)
        .env_clear()
        .args(["--config".as_ref(), path.as_os_str(), "serve".as_ref()])
        .output()?;
    let said = String::from_utf8_lossy(&refused.stderr);
    ensure!(!refused.status.success() && said.contains("give each broker a `name` of its own"), "{said}");
    site.local.read(0)?;
    Ok(())
}

#[test]
fn a_backup_says_where_the_ledger_is() -> Result<()> {
    let site = Site::start("")?;
    let to = site.local.broker.directory().join("backup");
    let output = site.local.broker.command(&["backup", "--to", &to.display().to_string()])?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(!output.status.success() && said.contains("pg_dump"), "{said}");
    Ok(())
}

struct Site {
    local: LocalSite,
    postgres: Arc<Postgres>,
    _url: TempDir,
}

impl Site {
    /// On the server that all tests share, in a database of its own.
    fn start(more: &str) -> Result<Self> {
        static SERVER: Mutex<Weak<Postgres>> = Mutex::new(Weak::new());
        let mut shared = SERVER.lock().unwrap_or_else(PoisonError::into_inner);
        let postgres = match shared.upgrade() {
            Some(postgres) => postgres,
            None => Arc::new(server(Release::System)?),
        };
        *shared = Arc::downgrade(&postgres);
        drop(shared);
        Self::on(postgres, more)
    }

    fn on(postgres: Arc<Postgres>, more: &str) -> Result<Self> {
        let folder = TempDir::new()?;
        let database = format!("ledger{}", fastrand::u64(..));
        let ledger = postgres.ledger(&database, folder.path())?;
        let local = LocalSite::start(&format!("{more}\n{ledger}"))?;
        Ok(Self { local, postgres, _url: folder })
    }

    /// Leases that are not gone.
    fn live(&self) -> Result<Vec<Value>> {
        let listed: Value = serde_json::from_str(&self.local.done(&["lease", "list", "--output", "json"])?)?;
        Ok(listed.as_array().cloned().unwrap_or_default())
    }
}

fn server(release: Release) -> Result<Postgres> {
    // What is durable is what this is about.
    Postgres::start_release(release, &["fsync=on"])
}

const ADMIN: &str = "spiffe://example.org/user/admin";
