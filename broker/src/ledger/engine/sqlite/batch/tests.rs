//! Random histories of leases: whatever happens, and whatever is refused, the sums are those of the rows.

use std::num::NonZeroU64;

use bursar_core::backend::StoreHandle;
use bursar_core::lease::{LeaseEvent, TtlBound};
use bursar_core::tlog::Frontier;
use bursar_core::{BackendName, Lease, LeaseId, LeaseState, Reference, SpiffeId};
use jiff::Timestamp;
use proptest::prelude::*;
use rusqlite::Connection;

use super::super::{holders, schema};
use super::*;
use crate::ledger::tests::{new_key, record, signer};
use crate::ledger::{HolderKind, Quota, Quotas, RevocationId, RevokeSelector};

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn the_sums_are_those_of_the_rows(batches in prop::collection::vec(entries(), 1..6)) {
        let connection = Connection::open_in_memory().expect("database");
        schema::bring_up(&connection, 0).expect("tables");
        let signer = signer(&new_key());
        let mut tail = LogTail { frontier: Frontier::default(), latest: i64::MIN };
        let quota = Quota { live: NonZeroU64::new(MOST_LIVE), issued_per_minute: None };
        let mut meter = Meter::new(Quotas { principal: quota, ..Quotas::default() });
        for entries in batches {
            let mut batch = Batch::begin(&connection, &tail, &mut meter).expect("transaction");
            for changes in entries {
                match batch.apply(Entry { changes, records: Vec::new() }) {
                    Ok(_) | Err(Fault::Refused(_)) => {}
                    Err(Fault::Engine(error)) => panic!("{error}"),
                }
            }
            (tail, _) = batch.commit(&signer, false).expect("commit");
            for (kept, counted) in SUMS {
                prop_assert_eq!(rows(&connection, kept), rows(&connection, counted), "{}", counted);
            }
            let top = holders::top(&connection, HolderKind::Principal, 10).expect("holders");
            let mut top: Vec<_> = top.into_iter().map(|(name, count)| (name, count as i64)).collect();
            top.sort();
            prop_assert!(top.iter().all(|(_, live)| *live <= MOST_LIVE as i64), "{top:?}");
            prop_assert_eq!(top, rows(&connection, PRINCIPALS));
            for impossible in IMPOSSIBLE {
                prop_assert_eq!(rows(&connection, impossible), Vec::new(), "{}", impossible);
            }
        }
    }
}

/// Few, so that the quota is met.
const MOST_LIVE: u64 = 3;

fn entries() -> impl Strategy<Value = Vec<Vec<Change>>> {
    prop::collection::vec(prop::collection::vec(change(), 1..4), 1..8)
}

/// Over few leases, principals and paths, so that things meet.
fn change() -> impl Strategy<Value = Change> {
    let id = || (0..12_u8).prop_map(id);
    prop_oneof![
        6 => (0..12_u8, 0..3_u8, 0..3_u8).prop_map(|(id, who, what)| Change::Grant(lease(id, who, what))),
        3 => (0..12_u8, 0..3_u8, 0..3_u8).prop_map(|(id, who, what)| Change::Intent(lease(id, who, what))),
        3 => id().prop_map(|id| Change::Activate {
            id,
            handle: StoreHandle::new("h".to_owned()),
            version: None,
            expires_at: at(50),
            max_expires_at: None,
            renewable: true,
            ttl_bound: TtlBound::Backend,
            sealed: Some(vec![1]),
            at: at(10),
        }),
        1 => id().prop_map(|id| Change::Renew { id, expires_at: at(90), ttl_bound: TtlBound::Asked, at: at(20) }),
        6 => (id(), 0..7_usize).prop_map(|(id, event)| Change::Apply {
            id,
            event: EVENTS[event],
            at: at(60),
            error: None,
            next_attempt_at: None,
        }),
        1 => (0..3_u8).prop_map(|who| order(RevokeSelector::Principal(principal(who)))),
        2 => (1..3_u64, prop::collection::vec(id(), 0..6), any::<bool>()).prop_map(|(number, ids, ends)| {
            Change::Mark {
                revocation: RevocationId(number),
                ids,
                place: (!ends).then(Vec::new),
                at: at(30),
            }
        }),
        1 => (0..2_usize).prop_map(|limit| Change::Forget { before: at(60), limit }),
        1 => (0..1_u8).prop_map(|_| Change::Hasten {
            backend: BackendName::parse("vault").expect("name"),
            at: at(40),
            limit: 3,
        }),
    ]
}

fn order(selector: RevokeSelector) -> Change {
    Change::OrderRevocation { selector, record: Box::new(record(at(30))), at: at(30) }
}

fn lease(number: u8, who: u8, what: u8) -> Lease {
    Lease {
        id: id(number),
        reference: Reference::parse(["vault/a", "vault/b", "local/a"][usize::from(what)]).expect("reference"),
        principal: principal(who),
        node: (who > 0).then(|| SpiffeId::parse("spiffe://example.org/node/n").expect("id")),
        instance: String::new(),
        environment: None,
        state: LeaseState::Active,
        dynamic: false,
        issued_at: at(0),
        renewed_at: at(0),
        expires_at: at(50),
        max_expires_at: None,
        renewable: true,
        ttl_bound: TtlBound::Policy,
        attempts: 0,
        last_error: None,
        reason: None,
    }
}

fn id(number: u8) -> LeaseId {
    LeaseId::new(at(0), [number; 10])
}

fn principal(who: u8) -> SpiffeId {
    SpiffeId::parse(&format!("spiffe://example.org/user/u{who}")).expect("id")
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_767_225_600 + second).expect("time")
}

fn rows(connection: &Connection, query: &str) -> Vec<(String, i64)> {
    let mut select = connection.prepare(query).expect("query");
    let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).expect("rows");
    rows.collect::<Result<_, _>>().expect("rows")
}

const EVENTS: [LeaseEvent; 7] = [
    LeaseEvent::Issued,
    LeaseEvent::Expire,
    LeaseEvent::Revoke,
    LeaseEvent::Attempt,
    LeaseEvent::Removed,
    LeaseEvent::GaveUp,
    LeaseEvent::Abandoned,
];

/// What is kept, and what it has to be.
const SUMS: [(&str, &str); 3] = [
    (
        "SELECT CAST(state AS TEXT), leases FROM lease_counts WHERE leases <> 0 ORDER BY 1",
        "SELECT CAST(state AS TEXT), count(*) FROM leases GROUP BY state ORDER BY 1",
    ),
    (
        "SELECT name, leases FROM holders WHERE kind = 1 ORDER BY 1",
        "SELECT backend, count(*) FROM leases WHERE state < 6 GROUP BY 1 ORDER BY 1",
    ),
    (
        "SELECT name, leases FROM holders WHERE kind = 2 ORDER BY 1",
        "SELECT node, count(*) FROM leases WHERE state < 6 AND node IS NOT NULL GROUP BY 1 ORDER BY 1",
    ),
];

const PRINCIPALS: &str = "SELECT principal, count(*) FROM leases WHERE state < 6 GROUP BY 1 ORDER BY 1";

/// Rows that must not be: a held lease without a slot or a gone one with it, a waiting one that nobody would look at,
/// a handle that is kept past the credential, a gone lease that would never be forgotten, a static lease in a state for
/// dynamic ones; a credential that is kept of a lease that is not active.
const IMPOSSIBLE: [&str; 7] = [
    "SELECT 'credential', 0 FROM credentials WHERE lease NOT IN \
     (SELECT id FROM leases WHERE state = 1 AND dynamic)",
    "SELECT 'slot', 0 FROM leases WHERE (slot IS NULL) <> (state = 6)",
    "SELECT 'due', 0 FROM leases WHERE (next_attempt_at IS NOT NULL) <> (state BETWEEN 2 AND 5)",
    "SELECT 'handle', 0 FROM leases WHERE state = 6 AND handle IS NOT NULL",
    "SELECT 'gone', 0 FROM leases WHERE (gone_at IS NOT NULL) <> (state = 6)",
    "SELECT 'static', 0 FROM leases WHERE NOT dynamic AND state NOT IN (1, 6)",
    "SELECT 'two', 0 FROM leases WHERE state = 1 AND NOT dynamic GROUP BY principal, backend, path HAVING count(*) > 1",
];
