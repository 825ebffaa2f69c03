use std::path::Path;
use std::sync::Arc;

use bursar_core::audit::Action;
use bursar_core::clock::TestClock;
use bursar_core::lease::LeaseEvent;

use super::super::{Change, Entry, HolderKind};
use super::{Fixture, database, open, raw, signer, within};

#[tokio::test]
async fn a_ledger_of_version_1_is_brought_up_and_goes_on() {
    let fixture = Fixture::new();
    let id = fixture.grant(fixture.lease("vault/shop/db")).await;
    fixture.records((0..300).map(|_| fixture.record(Action::Read, Some(id))).collect()).await;
    let gone = fixture.grant(fixture.lease("vault/shop/old")).await;
    fixture.apply(gone, LeaseEvent::Revoke).await.expect("revocation");
    let later = fixture.after(7200);
    within(fixture.ledger.clone().close()).await;

    // The same content under the schema of version 1.
    let folder = tempfile::tempdir().expect("folder");
    let old = raw(&database(&folder));
    old.execute_batch(VERSION_1).expect("schema");
    old.execute("ATTACH ?1 AS new", [fixture.path().to_str().expect("path")]).expect("attached");
    for table in ["leases", "lease_counts", "holders", "audit", "tiles", "head"] {
        let columns = "SELECT group_concat(name) FROM pragma_table_info(?1, 'main')";
        let columns: String = old.query_row(columns, [table], |row| row.get(0)).expect("columns");
        let copy = format!("INSERT INTO main.{table} ({columns}) SELECT {columns} FROM new.{table}");
        old.execute(&copy, []).expect("copied");
    }
    old.execute("DELETE FROM main.holders WHERE kind = 0", []).expect("no sums of principals yet");
    old.close().expect("closed");

    let ledger = open(&database(&folder), &fixture.clock).expect("ledger");
    ledger.start_signing(signer(&fixture.key)).expect("signing");
    assert_eq!(ledger.checkpoint().expect("head").size, 300);
    assert!(within(ledger.lease(id)).await.expect("answer").is_some());
    assert_eq!(within(ledger.shipped("siem")).await.expect("position"), 0);
    // It went before anybody wrote down when.
    let forget = Change::Forget { before: later, limit: 10 };
    let forgotten = within(ledger.commit(Entry { changes: vec![forget], records: Vec::new() })).await;
    assert_eq!(forgotten.expect("forgotten").count(), 1);
    within(ledger.close()).await;
    assert_eq!(shape(&database(&folder)), shape(&fixture.path()));
}

#[tokio::test]
async fn a_ledger_of_version_3_is_brought_up_and_knows_its_leases() {
    let fixture = Fixture::new();
    let id = fixture.issue(fixture.lease("vault/database/creds/app"), "h1").await;
    fixture.grant(fixture.lease("vault/shop/db")).await;
    let gone = fixture.grant(fixture.lease("vault/shop/old")).await;
    fixture.apply(gone, LeaseEvent::Revoke).await.expect("revocation");
    within(fixture.ledger.clone().close()).await;
    let shape_before = shape(&fixture.path());
    // What the fourth version added is taken away again.
    raw(&fixture.path()).execute_batch(BACK_TO_VERSION_3).expect("version 3");

    let ledger = open(&fixture.path(), &fixture.clock).expect("ledger");
    ledger.start_signing(signer(&fixture.key)).expect("signing");
    assert!(within(ledger.lease(id)).await.expect("answer").is_some());
    let top = within(ledger.top_holders(HolderKind::Principal, 10)).await.expect("holders");
    assert_eq!(top, [("spiffe://example.org/ns/shop/sa/web".to_owned(), 2)]);
    within(ledger.close()).await;
    assert_eq!(shape(&fixture.path()), shape_before);
}

#[tokio::test]
async fn a_step_that_fails_leaves_the_old_version_whole() {
    let folder = tempfile::tempdir().expect("folder");
    let old = raw(&database(&folder));
    old.execute_batch(VERSION_1).expect("schema");
    // In the way of what the next step creates.
    old.execute_batch("CREATE TABLE leaves (x)").expect("table");
    drop(old);
    let refused = open(&database(&folder), &Arc::new(TestClock::new()));
    assert!(refused.is_err(), "{refused:?}");
    let version: i64 =
        raw(&database(&folder)).pragma_query_value(None, "user_version", |row| row.get(0)).expect("version");
    let sinks: i64 = raw(&database(&folder))
        .query_row("SELECT count(*) FROM sqlite_schema WHERE name = 'sinks'", [], |row| row.get(0))
        .expect("tables");
    assert_eq!((version, sinks), (1, 0));
}

/// What the database looks like, and which version it says it has.
fn shape(path: &Path) -> (i64, Vec<String>) {
    let database = raw(path);
    let version = database.pragma_query_value(None, "user_version", |row| row.get(0)).expect("version");
    let mut select =
        database.prepare("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name").expect("query");
    let shape = select.query_map([], |row| row.get(0)).expect("shape").collect::<Result<_, _>>();
    (version, shape.expect("shape"))
}

const BACK_TO_VERSION_3: &str =
    "DROP TABLE credentials; DELETE FROM holders WHERE kind = 0; PRAGMA user_version = 3";

const VERSION_1: &str = include_str!("data/schema-1.sql");
