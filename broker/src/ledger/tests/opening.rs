use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use bursar_core::Clock;
use bursar_core::audit::Action;
use bursar_core::clock::TestClock;
use bursar_core::tlog::Signer;

use super::super::{Ledger, LedgerConfig, LedgerError, OpenError};
use super::{Fixture, ORIGIN, config, database, new_key, open, raw, signer, within};

#[tokio::test]
async fn only_the_broker_may_read_the_files() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("new/ledger.db");
    let _ledger = open(&path, &Arc::new(TestClock::new())).expect("ledger");
    let mode = |path: &Path| fs::metadata(path).expect("metadata").permissions().mode() & 0o777;
    assert_eq!(mode(path.parent().expect("folder")), 0o700);
    for name in ["ledger.db", "ledger.db-wal", "ledger.db-shm", "ledger.db.lock"] {
        assert_eq!(mode(&path.with_file_name(name)), 0o600, "{name}");
    }
}

#[tokio::test]
async fn a_ledger_is_open_once() {
    let fixture = Fixture::new();
    let second = open(&fixture.path(), &fixture.clock);
    assert!(matches!(second, Err(OpenError::InUse { .. })), "{second:?}");
}

#[tokio::test]
async fn nothing_is_taken_before_there_is_a_key() {
    let folder = tempfile::tempdir().expect("folder");
    let ledger = open(&database(&folder), &Arc::new(TestClock::new())).expect("ledger");
    let refused = within(ledger.commit(Default::default())).await;
    assert!(matches!(refused, Err(LedgerError::NotSigning)), "{refused:?}");
    assert!(matches!(ledger.checkpoint(), Err(LedgerError::NotSigning)));
}

#[tokio::test]
async fn a_log_is_signed_by_one_key() {
    let fixture = Fixture::new();
    fixture.records(vec![fixture.record(Action::Read, None)]).await;
    assert!(matches!(fixture.ledger.start_signing(signer(&fixture.key)), Err(OpenError::SigningAlready)));
    within(fixture.ledger.clone().close()).await;
    let ledger = open(&fixture.path(), &fixture.clock).expect("ledger");
    let other = ledger.start_signing(signer(&new_key()));
    assert!(matches!(other, Err(OpenError::OtherSigner { .. })), "{other:?}");
    ledger.start_signing(signer(&fixture.key)).expect("its own key");
}

#[tokio::test]
async fn a_broker_that_was_renamed_is_told_the_name_that_its_log_has() {
    let fixture = Fixture::new();
    fixture.records(vec![fixture.record(Action::Read, None)]).await;
    within(fixture.ledger.clone().close()).await;
    let renamed = LedgerConfig { origin: "renamed".to_owned(), ..config(&fixture.path()) };
    let ledger = Ledger::open(renamed, Arc::clone(&fixture.clock) as Arc<dyn Clock>).expect("ledger");
    let signer = Signer::from_pkcs8("renamed", &fixture.key).expect("signer");
    match ledger.start_signing(signer) {
        Err(OpenError::OtherOrigin { found, configured }) => {
            assert_eq!((found.as_str(), configured.as_str()), (ORIGIN, "renamed"));
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_log_is_signed_under_its_own_name() {
    let folder = tempfile::tempdir().expect("folder");
    let ledger = open(&database(&folder), &Arc::new(TestClock::new())).expect("ledger");
    let other = ledger.start_signing(Signer::from_pkcs8("another", &new_key()).expect("signer"));
    assert!(matches!(other, Err(OpenError::OtherOrigin { .. })), "{other:?}");
}

#[tokio::test]
async fn a_log_that_lost_its_tail_is_damaged() {
    damage("DELETE FROM audit WHERE seq = 299", "its head is over 300 audit records, and 299 are there")
        .await;
}

#[tokio::test]
async fn a_log_with_a_record_too_many_is_damaged() {
    damage("INSERT INTO audit SELECT 300, at, line FROM audit WHERE seq = 299", "and 301 are there").await;
}

#[tokio::test]
async fn a_changed_last_record_is_damage() {
    damage(
        "UPDATE audit SET line = CAST(line || ' ' AS BLOB) WHERE seq = 299",
        "not the one that was written",
    )
    .await;
}

#[tokio::test]
async fn a_changed_tile_is_damage() {
    damage("UPDATE tiles SET hash = randomblob(32)", "not the one that was written").await;
}

#[tokio::test]
async fn a_lost_head_is_damage() {
    damage("DELETE FROM head", "300 audit records and no head").await;
}

#[tokio::test]
async fn a_head_that_nobody_signed_is_damage() {
    let fixture = closed_with(300).await;
    let sql =
        "UPDATE head SET note = replace(note, char(10) || '300' || char(10), char(10) || '301' || char(10))";
    raw(&fixture.path()).execute_batch(sql).expect("damage");
    let ledger = open(&fixture.path(), &fixture.clock).expect("ledger");
    let refused = ledger.start_signing(signer(&fixture.key));
    assert!(matches!(refused, Err(OpenError::Corrupt { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_newer_schema_is_refused() {
    let fixture = closed_with(1).await;
    raw(&fixture.path()).execute_batch("PRAGMA user_version = 99").expect("version");
    let refused = open(&fixture.path(), &fixture.clock);
    assert!(matches!(refused, Err(OpenError::NewerSchema { found: 99, .. })), "{refused:?}");
}

#[tokio::test]
async fn another_programs_database_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().expect("folder");
    raw(&database(&folder)).execute_batch("CREATE TABLE theirs (x)").expect("table");
    let refused = open(&database(&folder), &Arc::new(TestClock::new()));
    assert!(matches!(refused, Err(OpenError::NotALedger { .. })), "{refused:?}");
    let theirs = raw(&database(&folder));
    let tables: i64 =
        theirs.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).expect("tables");
    let journal: String = theirs.pragma_query_value(None, "journal_mode", |row| row.get(0)).expect("mode");
    assert_eq!((tables, journal.as_str()), (1, "delete"));
}

#[tokio::test]
async fn garbage_is_refused() {
    let folder = tempfile::tempdir().expect("folder");
    fs::write(database(&folder), "no database at all ".repeat(500)).expect("file");
    let refused = open(&database(&folder), &Arc::new(TestClock::new()));
    assert!(matches!(refused, Err(OpenError::NotALedger { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_file_cut_short_anywhere_is_refused_or_whole() {
    let fixture = closed_with(300).await;
    let path = fixture.path();
    let whole = fs::read(&path).expect("file");
    for length in [1, 50, 100, 4096, 10_000, whole.len() / 2, whole.len() - 4096, whole.len() - 1] {
        fs::write(&path, &whole[..length]).expect("file");
        let opened = open(&path, &fixture.clock);
        let clear = matches!(opened, Err(OpenError::Corrupt { .. } | OpenError::NotALedger { .. }));
        assert!(clear, "{length} of {}: {opened:?}", whole.len());
    }
}

#[tokio::test]
async fn a_folder_in_the_place_of_the_file_is_named() {
    let folder = tempfile::tempdir().expect("folder");
    fs::create_dir(database(&folder)).expect("folder");
    let refused = Ledger::open(config(&database(&folder)), Arc::new(TestClock::new()));
    assert!(matches!(refused, Err(OpenError::File { .. })), "{refused:?}");
}

/// What the reaper, the revoker and a restart ask must not cost more with more leases.
#[tokio::test]
async fn what_runs_all_day_goes_by_index() {
    let fixture = Fixture::new();
    fixture.grant(fixture.lease("vault/a")).await;
    let connection = raw(&fixture.path());
    for query in super::super::engine::sqlite::STANDING_QUERIES {
        let mut explain =
            connection.prepare(&format!("EXPLAIN QUERY PLAN SELECT id {query}")).expect("query");
        let unset = vec![0; explain.parameter_count()];
        let steps = explain.query_map(rusqlite::params_from_iter(unset), |row| row.get::<_, String>(3));
        let steps = steps.expect("plan");
        let plan: Vec<_> = steps.collect::<Result<_, _>>().expect("plan");
        let sound = plan.iter().any(|step| step.starts_with("SEARCH leases USING"))
            && !plan.iter().any(|step| step.starts_with("SCAN") || step.contains("TEMP B-TREE"));
        assert!(sound, "{query}: {plan:?}");
    }
}

/// Damages a closed ledger of 300 records by `sql`; opening it must fail and say `expected`.
async fn damage(sql: &str, expected: &str) {
    let fixture = closed_with(300).await;
    raw(&fixture.path()).execute_batch(sql).expect("damage");
    match open(&fixture.path(), &fixture.clock) {
        Err(OpenError::Corrupt { what, .. }) => assert!(what.contains(expected), "{what}"),
        other => panic!("{other:?}"),
    }
}

async fn closed_with(records: usize) -> Fixture {
    let fixture = Fixture::new();
    fixture.records((0..records).map(|_| fixture.record(Action::Read, None)).collect()).await;
    within(fixture.ledger.clone().close()).await;
    fixture
}
