//! Credentials that a real store made, read again: one live lease for each instance of a workload.

use anyhow::{Context, Result, ensure};
use bursar_sdk::ReadOptions;

use super::revocation::{Held, Site};

#[test]
fn a_repeated_read_gets_the_same_credential_until_it_is_taken_back() -> Result<()> {
    let mut site = Site::start("attempts = 2")?;
    let first = one(&site, &instance("a"))?;
    ensure!(one(&site, &instance("a"))? == first, "a second read made another credential");
    ensure!(roles(&site)? == 1, "the store made {} roles", roles(&site)?);

    site.broker.process().kill()?;
    site.broker.start_again()?;
    ensure!(one(&site, &instance("a"))? == first, "a restart made another credential");
    ensure!(roles(&site)? == 1, "the store made {} roles", roles(&site)?);
    let records = site.json(&["audit", "query", "--action", "read", "--outcome", "ok"])?;
    let records = records.as_array().map_or(0, Vec::len);
    ensure!(records == 3, "three reads have {records} records");

    site.revoke(&[&first.lease, "--reason", "test"])?;
    site.until(&first.lease, "gone")?;
    let second = one(&site, &instance("a"))?;
    ensure!(second.lease != first.lease && second.user != first.user, "what was taken back was handed out");
    ensure!(site.is_there(&second)? && !site.is_there(&first)?);
    Ok(())
}

#[test]
fn instances_and_reads_for_a_new_lease_get_credentials_of_their_own_and_reads_at_once_share_one() -> Result<()>
{
    let site = Site::start("attempts = 2")?;
    let together = site.read_at_once(16, &instance("a"))?;
    let first = together.first().context("no credential")?.clone();
    ensure!(together.iter().all(|held| *held == first), "reads at once got several credentials");
    ensure!(roles(&site)? == 1, "the store made {} roles", roles(&site)?);

    let other = one(&site, &instance("b"))?;
    let anew = one(&site, &ReadOptions { new_lease: true, ..instance("a") })?;
    ensure!(first != other && first != anew && other != anew);
    ensure!(one(&site, &instance("a"))? == anew, "the newest is not the one that is repeated");
    ensure!(roles(&site)? == 3, "the store made {} roles", roles(&site)?);
    // The older one is nobody's to hand out, and its holder's to use.
    site.until(&first.lease, "active")?;

    let asked = site.bursar(&["get", "vault/database/creds/app#username", "--new-lease"])?;
    let again = site.bursar(&["get", "vault/database/creds/app#username"])?;
    ensure!(asked.status.success() && asked.stdout == again.stdout, "the command line got another one");
    ensure!(roles(&site)? == 4, "the store made {} roles", roles(&site)?);
    Ok(())
}

fn one(site: &Site, options: &ReadOptions) -> Result<Held> {
    site.read_at_once(1, options)?.pop().context("no credential")
}

fn instance(name: &str) -> ReadOptions {
    ReadOptions { instance: name.to_owned(), ..ReadOptions::default() }
}

/// How many roles OpenBao has at PostgreSQL.
fn roles(site: &Site) -> Result<usize> {
    Ok(site.postgres.psql("SELECT count(*) FROM pg_roles WHERE rolname LIKE 'v-%'")?.parse()?)
}
