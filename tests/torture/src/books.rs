//! The three books, compared while nobody writes in them.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use bursar_core::tlog::{Frontier, LogVerifier, TreeHead, leaf_hash};
use bursar_core::{Clock, LeaseId, SystemClock};
use serde_json::Value;

use crate::ledger::Ledger;
use crate::notes::{Book, Notes, Received, UserHash, hash};
use crate::site::{Export, Site};

/// A lease as the ledger's database has it.
struct Row {
    state: i64,
    dynamic: bool,
    /// Seconds since 1970.
    expires_at: i64,
    handle: Option<String>,
}

/// Compares the books, with the broker stopped, and answers what was compared.
///
/// # Errors
/// The first thing that one book knows and another does not.
pub(crate) fn compare(site: &Site, notes: &Notes, export: &Export) -> Result<String> {
    let book = notes.book();
    let ledger = site.ledger();
    let leases = leases(ledger)?;
    sound(ledger)?;
    let told = told(export)?;
    let credentials = credentials(site, &leases, told.left_behind)?;
    received(&book, &leases, &credentials, &told)?;
    let records = log(site, &book, export)?;
    disclosed(&book, &leases, &told)?;
    Ok(format!(
        "the books agree: {} credentials alive, each of one lease; {} leases; {} received, each with lease and record; \
         {records} records; {} heads seen",
        credentials.len(),
        leases.len(),
        book.received.len(),
        book.heads.len(),
    ))
}

/// How many leases are not gone, and how many credentials work that were not given up knowingly.
///
/// # Errors
/// A book cannot be read.
pub(crate) fn left(site: &Site, export: &Export) -> Result<(usize, usize)> {
    let leases = leases(site.ledger())?;
    let roles = site.roles()?.len().saturating_sub(told(export)?.left_behind);
    Ok((leases.values().filter(|lease| lease.state != GONE).count(), roles))
}

/// What the audit log says of leases.
#[derive(Default)]
struct Told {
    /// The requests that disclosed under each lease.
    disclosed: BTreeMap<LeaseId, BTreeSet<String>>,
    /// Leases that were revoked or expired: static ones were gone with that.
    ended: BTreeSet<LeaseId>,
    /// Leases whose credentials are gone, or were given up.
    gone: BTreeSet<LeaseId>,
    /// How many were given up although their store did not take them back.
    left_behind: usize,
}

fn told(export: &Export) -> Result<Told> {
    let mut told = Told::default();
    for line in lines(export) {
        let record: Value = serde_json::from_slice(line)?;
        let text = |name: &str| record.get(name).and_then(Value::as_str).unwrap_or_default();
        let Ok(id) = text("lease_id").parse::<LeaseId>() else {
            ensure!(
                text("action") != "read" || text("outcome") != "ok",
                "the record of {} names no lease",
                text("request_id")
            );
            continue;
        };
        match (text("action"), text("outcome")) {
            ("read", "ok") => {
                told.disclosed.entry(id).or_default().insert(text("request_id").to_owned());
            }
            ("revoke" | "expire", "ok") => drop(told.ended.insert(id)),
            ("gone", "ok") => drop(told.gone.insert(id)),
            ("force-revoke", "ok") => {
                told.gone.insert(id);
                told.ended.insert(id);
                told.left_behind += usize::from(!text("error_kind").is_empty());
            }
            _ => {}
        }
    }
    Ok(told)
}

/// The stores, PostgreSQL and the ledger have the same credentials. Answers them by the hash of their users.
fn credentials(
    site: &Site,
    leases: &BTreeMap<LeaseId, Row>,
    left_behind: usize,
) -> Result<BTreeSet<UserHash>> {
    let open = leases.iter().filter(|(_, lease)| lease.dynamic && lease.state != GONE);
    let mut held = BTreeMap::new();
    for (id, lease) in open {
        let handle = lease.handle.as_deref().with_context(|| format!("lease {id} has no handle"))?;
        let twice = held.insert(handle.to_owned(), id);
        ensure!(twice.is_none(), "leases {twice:?} and {id} hold one credential");
    }
    let at_store = site.store_handles()?;
    let orphans: Vec<_> = at_store.iter().filter(|handle| !held.contains_key(*handle)).collect();
    ensure!(
        orphans.len() <= left_behind,
        "{} orphans: the stores have {orphans:?}, and no lease holds it; {left_behind} were given up",
        orphans.len()
    );
    let lost: Vec<_> = held.iter().filter(|(handle, _)| !at_store.contains(*handle)).collect();
    ensure!(lost.is_empty(), "these leases hold what the stores do not have: {lost:?}");
    let roles = site.roles()?;
    ensure!(
        roles.len() == held.len() + orphans.len(),
        "{} roles work at PostgreSQL, {} leases hold one, and {} were given up",
        roles.len(),
        held.len(),
        orphans.len()
    );
    Ok(roles.iter().map(|role| hash(role.as_bytes())).collect())
}

/// Whatever a client got has its lease, and the lease is what the client was told.
fn received(
    book: &Book,
    leases: &BTreeMap<LeaseId, Row>,
    credentials: &BTreeSet<UserHash>,
    told: &Told,
) -> Result<()> {
    let now = SystemClock.now().as_second();
    for (id, received) in &book.received {
        let works = received.user.is_none_or(|user| credentials.contains(&user));
        let Some(lease) = leases.get(id) else {
            // Forgotten, after it was gone for a while.
            let ends = if received.user.is_some() { &told.gone } else { &told.ended };
            ensure!(ends.contains(id), "lease {id} was received, and is lost");
            continue;
        };
        match lease.state {
            ACTIVE => {
                ensure!(works, "lease {id} is active, and its credential does not work");
                ensure!(!received.revoked, "lease {id} is active, and its revocation was answered");
                ensure!(lease.expires_at >= received.until, "an extension of lease {id} was lost");
            }
            _ => {
                let left_behind = told.left_behind > 0;
                ensure!(
                    received.user.is_none() || !works || left_behind,
                    "lease {id} is over, and its credential works"
                );
                let unwanted = book.is_unwanted(*id, received);
                ensure!(unwanted || received.until <= now, "lease {id} ended before its time");
            }
        }
    }
    Ok(())
}

/// The log is whole, signed, and begins with every head that a client ever saw. Answers its length.
fn log(site: &Site, book: &Book, export: &Export) -> Result<u64> {
    ensure!(book.forks.is_empty(), "two heads were signed for the sizes {:?}", book.forks);
    let mut log = LogVerifier::new(site.verifier()?);
    let mut frontier = Frontier::default();
    let mut heads = book.heads.clone();
    heads.remove(&0);
    for line in lines(export) {
        log.push(line);
        frontier.append(leaf_hash(line), drop);
        if let Some(head) = heads.remove(&frontier.size()) {
            ensure!(
                head == frontier.head(),
                "the log no longer begins with its head of {} records",
                head.size
            );
        }
    }
    log.finish(&export.note).context("the exported log does not verify")?;
    let beyond: Vec<&TreeHead> = heads.values().filter(|head| head.size > frontier.size()).collect();
    ensure!(beyond.is_empty(), "the log has {} records, and clients saw more: {beyond:?}", frontier.size());
    Ok(frontier.size())
}

/// Every disclosure has a record of its own request, and every record of one has its lease.
fn disclosed(book: &Book, leases: &BTreeMap<LeaseId, Row>, told: &Told) -> Result<()> {
    for id in told.disclosed.keys() {
        let known = leases.contains_key(id) || told.ended.contains(id) || told.gone.contains(id);
        ensure!(known, "a record of a disclosure names lease {id}, which is lost");
    }
    for (id, Received { requests, .. }) in &book.received {
        for request in requests {
            let has = told.disclosed.get(id).is_some_and(|requests| requests.contains(request));
            ensure!(has, "request {request} disclosed under lease {id} without a record");
        }
    }
    Ok(())
}

/// The database is whole, and the sums that it keeps are those of its rows.
fn sound(ledger: &Ledger) -> Result<()> {
    ledger.whole()?;
    let wrong = ledger.number(WRONG_SUMS)?;
    ensure!(wrong == 0, "{wrong} sums of leases by state are wrong");
    let wrong = ledger.number(WRONG_HOLDERS)?;
    ensure!(wrong == 0, "{wrong} sums of leases by principal are wrong");
    let stray = ledger.number(STRAY_CREDENTIALS)?;
    ensure!(stray == 0, "{stray} credentials are kept of leases that are not active");
    Ok(())
}

fn leases(ledger: &Ledger) -> Result<BTreeMap<LeaseId, Row>> {
    ledger.rows(LEASES)?.iter().map(|row| lease(row).context("a lease is not what it should be")).collect()
}

fn lease(row: &[String]) -> Option<(LeaseId, Row)> {
    let [id, state, dynamic, expires_at, handle] = row else { return None };
    let id = data_encoding::HEXLOWER.decode(id.as_bytes()).ok()?;
    let lease = Row {
        state: state.parse().ok()?,
        dynamic: dynamic == "1",
        expires_at: expires_at.parse::<i64>().ok()? / 1_000_000,
        handle: Some(handle.clone()).filter(|handle| !handle.is_empty()),
    };
    Some((LeaseId::from_bytes(id.try_into().ok()?), lease))
}

fn lines(export: &Export) -> impl Iterator<Item = &[u8]> {
    export.records.split(|byte| *byte == b'\n').filter(|line| !line.is_empty())
}

/// Codes of the ledger's states.
const ACTIVE: i64 = 1;
const GONE: i64 = 6;

const LEASES: &str = "SELECT id, state, CASE WHEN dynamic THEN 1 ELSE 0 END, expires_at, handle FROM leases";

const WRONG_SUMS: &str = "SELECT count(*) FROM lease_counts AS kept WHERE kept.leases <> \
     (SELECT count(*) FROM leases WHERE leases.state = kept.state)";

const WRONG_HOLDERS: &str = "SELECT count(*) FROM holders AS kept WHERE kept.kind = 0 AND kept.leases <> \
     (SELECT count(*) FROM leases WHERE leases.principal = kept.name AND leases.state <> 6)";

const STRAY_CREDENTIALS: &str =
    "SELECT count(*) FROM credentials WHERE lease NOT IN (SELECT id FROM leases WHERE state = 1 AND dynamic)";
