//! Whatever is done to a ledger's file behind the broker's back is found: by opening it, or by looking at all of it.

use std::fs;
use std::path::Path;

use bursar_core::audit::{Action, AuditRecord};
use bursar_core::lease::LeaseEvent;
use bursar_core::tlog::{Frontier, leaf_hash};
use tempfile::TempDir;

use super::super::{Change, Entry, LedgerError, LedgerPlace, LogKey, OpenError, Outcome};
use super::{Fixture, image, new_key, open, raw, signer, within};

#[tokio::test]
async fn a_ledger_that_nobody_touched_is_well() {
    let site = Site::new().await;
    assert_eq!(site.findings(&site.fixture.path()), Vec::<String>::new());
}

#[tokio::test]
async fn a_ledger_is_looked_at_while_it_is_open() {
    let fixture = filled().await;
    let found = fixture.place().inspect(LogKey::Own(&signer(&fixture.key))).expect("inspection");
    assert_eq!(found.findings, Vec::<String>::new());
    assert_eq!((found.first, found.size), (256, fixture.ledger.checkpoint().expect("head").size));
}

#[tokio::test]
async fn a_lease_that_was_forgotten_is_not_missed() {
    let fixture = filled().await;
    let forgotten = fixture.change(Change::Forget { before: fixture.after(60), limit: 10 }).await;
    assert!(matches!(forgotten, Ok(Outcome::Many { count: 1 })), "{forgotten:?}");
    let found = fixture.place().inspect(LogKey::Own(&signer(&fixture.key))).expect("inspection");
    assert_eq!(found.findings, Vec::<String>::new());
}

/// Each kind of record, in five ways.
#[tokio::test]
async fn every_kind_of_record_is_guarded() {
    let site = Site::new().await;
    for action in Action::ALL {
        let seq = site.record_of(action);
        let ways = [
            ("changed", flipped(seq)),
            ("deleted", format!("DELETE FROM audit WHERE seq = {seq}")),
            ("swapped", swapped(seq)),
            ("inserted before", inserted(seq)),
            ("cut off from there", format!("DELETE FROM audit WHERE seq >= {seq}")),
        ];
        for (way, sql) in ways {
            let found = site.after(&sql);
            assert!(!found.is_empty(), "a `{}` record was {way} unseen", action.as_str());
        }
    }
}

#[tokio::test]
async fn every_table_of_the_log_is_guarded() {
    let site = Site::new().await;
    let cases = [
        ("UPDATE tiles SET hash = randomblob(32) WHERE level = 8 AND place = 0", "over the records 0 to 255"),
        ("DELETE FROM tiles WHERE place = 1", "over the records 256 to 511"),
        ("INSERT INTO tiles VALUES (16, 0, randomblob(32))", "stored nodes"),
        ("UPDATE tiles SET place = place + 100; UPDATE tiles SET place = 101 - place", "over the records"),
        ("UPDATE leaves SET hashes = zeroblob(8192)", "over the records 0 to 255"),
        ("UPDATE leaves SET hashes = zeroblob(32)", "so are their hashes"),
        ("DELETE FROM leaves", "so are their hashes"),
        ("INSERT INTO leaves VALUES (1, zeroblob(8192))", "do not end there"),
        ("UPDATE head SET frontier = zeroblob(8)", "edge"),
        (
            "UPDATE head SET note = replace(note, 'example.org', 'example.com')",
            "not one that this log signed",
        ),
        ("DELETE FROM head", "no head"),
        ("DELETE FROM audit", "records"),
        ("UPDATE audit SET at = at - 1 WHERE seq = 400", "another time"),
        ("DELETE FROM audit WHERE seq < 300", "the oldest record is 300"),
    ];
    for (sql, expected) in cases {
        let found = site.after(sql);
        let found = found.join("; ");
        assert!(found.contains(expected), "`{sql}`: {found}");
    }
}

#[tokio::test]
async fn a_prune_that_the_log_does_not_speak_of_is_a_deletion() {
    // As the broker itself would prune, but without its record.
    let fixture = Fixture::new();
    fixture.records((0..600).map(|_| fixture.record(Action::Read, None)).collect()).await;
    fixture.change(Change::Prune { below: 512 }).await.expect("pruned");
    let found = fixture.place().inspect(LogKey::Own(&signer(&fixture.key))).expect("inspection");
    assert_eq!(found.findings, ["the records before 512 are gone, and no record says that they were pruned"]);
}

#[tokio::test]
async fn records_that_do_not_fit_the_signed_tree_are_kept_as_evidence() {
    let fixture = Fixture::new();
    fixture.records((0..600).map(|_| fixture.record(Action::Read, None)).collect()).await;
    raw(&fixture.path())
        .execute_batch("UPDATE audit SET line = CAST(line || ' ' AS BLOB) WHERE seq = 300")
        .expect("damage");
    fixture.change(Change::Prune { below: 256 }).await.expect("the tile before is well");
    let refused = fixture.change(Change::Prune { below: 600 }).await;
    assert!(matches!(refused, Err(LedgerError::Corrupt { .. })), "{refused:?}");
    assert_eq!(within(fixture.ledger.first_kept()).await.expect("first"), 256);
}

#[tokio::test]
async fn a_log_that_was_rewritten_whole_lacks_the_signature() {
    let site = Site::new().await;
    // Another log of the same broker, by another key: consistent in itself.
    let other = filled().await;
    within(other.ledger.clone().close()).await;
    let found = site.findings(&other.path());
    assert!(found.iter().any(|finding| finding.contains("not one that this log signed")), "{found:?}");
}

#[tokio::test]
async fn leases_that_contradict_the_log_are_found() {
    let site = Site::new().await;
    let cases = [
        (
            "UPDATE leases SET principal = 'spiffe://example.org/user/eve' WHERE state = 1",
            "another principal",
        ),
        ("UPDATE leases SET path = 'other' WHERE state = 1", "another principal or secret"),
        ("UPDATE leases SET state = 1 WHERE state = 6", "says that it ended"),
        ("DELETE FROM leases WHERE state = 1", "there is no such lease"),
        ("UPDATE lease_counts SET leases = leases + 1 WHERE state = 1", "counted as active"),
        ("UPDATE holders SET leases = leases + 1", "counted wrongly"),
        ("DELETE FROM holders", "counted wrongly"),
        ("INSERT INTO credentials VALUES (zeroblob(32), zeroblob(16), zeroblob(64))", "which is not active"),
        (
            "INSERT INTO leases SELECT zeroblob(16), state, dynamic, NULL, issued_at, renewed_at, expires_at, \
             max_expires_at, next_attempt_at, renewable, ttl_bound, attempts, backend, path, version, principal, node, \
             instance, environment, reason, last_error, NULL, NULL, NULL FROM leases WHERE state = 1 LIMIT 1",
            "no record says that it was granted",
        ),
    ];
    for (sql, expected) in cases {
        let found = site.after(sql).join("; ");
        assert!(found.contains(expected), "`{sql}`: {found}");
    }
}

#[tokio::test]
async fn no_byte_of_the_file_is_changed_unseen_where_the_log_is() {
    let site = Site::new().await;
    let path = site.fixture.path();
    // Without what was deleted, which is nobody's business.
    let database = raw(&path);
    database.execute_batch("VACUUM").expect("compact");
    let mut select = database.prepare("SELECT line FROM audit WHERE seq % 40 = 0").expect("query");
    let lines: Vec<Vec<u8>> =
        select.query_map([], |row| row.get(0)).expect("lines").collect::<Result<_, _>>().expect("lines");
    drop(select);
    database.close().expect("closed");
    let whole = fs::read(&path).expect("file");
    for line in lines {
        let place = whole.windows(line.len()).position(|found| found == line).expect("in the file");
        let mut changed = whole.clone();
        changed[place + line.len() / 2] ^= 1;
        let copy = site.copies.path().join("ledger.db");
        fs::write(&copy, changed).expect("file");
        assert!(!site.findings(&copy).is_empty(), "byte {place}");
    }
}

#[tokio::test]
async fn what_is_newer_than_the_checkpoint_is_sealed() {
    let fixture = Fixture::new();
    fixture.records(vec![fixture.record(Action::Read, None)]).await;
    fixture.records((0..9).map(|_| fixture.record(Action::Read, None)).collect()).await;
    let image = image(&fixture);
    let inspect = |key| LedgerPlace::sqlite(image.clone()).inspect(key).expect("inspection");
    let (own, stranger) = (signer(&fixture.key), signer(&new_key()));
    let found = inspect(LogKey::Own(&own));
    assert_eq!((found.signed, found.size, found.findings), (1, 10, Vec::new()));

    // Somebody rewrites the last record, and all that can be computed without the key.
    let database = raw(&image);
    let other = "UPDATE audit SET line = CAST(replace(line, '\"read\"', '\"list\"') AS BLOB) WHERE seq = 9";
    database.execute_batch(other).expect("tampering");
    let mut edge = Frontier::default();
    let mut select = database.prepare("SELECT line FROM audit ORDER BY seq").expect("query");
    let lines = select.query_map([], |row| row.get(0)).expect("lines").collect::<Result<Vec<Vec<u8>>, _>>();
    lines.expect("lines").iter().for_each(|line| edge.append(leaf_hash(line), |_| {}));
    drop(select);
    database
        .execute("UPDATE head SET frontier = ?1, seal = ?2", (edge.to_bytes(), stranger.seal(&edge)))
        .expect("tampering");
    drop(database);
    let found = inspect(LogKey::Own(&own)).findings;
    assert_eq!(found, ["the records from 1 on are not those that the broker sealed"]);
    let ledger = open(&image, &fixture.clock).expect("ledger");
    let refused = ledger.start_signing(own);
    assert!(matches!(refused, Err(OpenError::Corrupt { .. })), "{refused:?}");
}

/// A closed ledger with every kind of record, pruned in part, and leases in several states.
struct Site {
    fixture: Fixture,
    copies: TempDir,
}

impl Site {
    async fn new() -> Self {
        let fixture = filled().await;
        within(fixture.ledger.clone().close()).await;
        Self { fixture, copies: tempfile::tempdir().expect("folder") }
    }

    /// A record of this action, neither the oldest nor the newest of all.
    fn record_of(&self, action: Action) -> i64 {
        let sql = "SELECT seq FROM audit WHERE instr(line, ?1) > 0 AND seq > 300 ORDER BY seq LIMIT 1";
        let quoted = format!("\"action\":\"{}\"", action.as_str());
        raw(&self.fixture.path()).query_row(sql, [quoted.as_bytes()], |row| row.get(0)).expect("record")
    }

    /// What is found after `sql` was done to a copy: by opening it, or by looking at it.
    fn after(&self, sql: &str) -> Vec<String> {
        let copy = self.copies.path().join("ledger.db");
        fs::copy(self.fixture.path(), &copy).expect("copy");
        let database = raw(&copy);
        database.execute_batch(sql).expect("tampering");
        drop(database);
        self.findings(&copy)
    }

    fn findings(&self, path: &Path) -> Vec<String> {
        match LedgerPlace::sqlite(path.to_owned()).inspect(LogKey::Own(&signer(&self.fixture.key))) {
            Ok(inspection) => inspection.findings,
            Err(error) => vec![error.to_string()],
        }
    }
}

async fn filled() -> Fixture {
    let fixture = Fixture::new();
    fixture.records((0..300).map(|_| fixture.record(Action::ListLeases, None)).collect()).await;
    let prune =
        AuditRecord { resource: "records 0 to 255".to_owned(), ..fixture.record(Action::Prune, None) };
    fixture.records(vec![prune]).await;
    fixture.change(Change::Prune { below: 256 }).await.expect("pruned");
    for action in Action::ALL {
        let record = match action {
            Action::Prune => {
                AuditRecord { resource: "records 0 to 255".to_owned(), ..fixture.record(Action::Prune, None) }
            }
            _ => fixture.record(action, None),
        };
        fixture.records(vec![record]).await;
    }
    for number in 0..4 {
        let lease = fixture.lease(&format!("vault/shop/{number}"));
        let id = lease.id;
        let read = AuditRecord {
            resource: format!("vault/shop/{number}"),
            ..fixture.record(Action::Read, Some(id))
        };
        let entry = Entry { changes: vec![Change::Grant(lease)], records: vec![read] };
        within(fixture.ledger.commit(entry)).await.expect("granted");
        if number == 3 {
            let records = vec![fixture.record(Action::Revoke, Some(id))];
            let entry = Entry { changes: vec![fixture.event(id, LeaseEvent::Revoke)], records };
            within(fixture.ledger.commit(entry)).await.expect("revoked");
        }
    }
    fixture.records((0..400).map(|_| fixture.record(Action::ListLeases, None)).collect()).await;
    fixture
}

/// One bit of one byte in the middle of the line.
fn flipped(seq: i64) -> String {
    format!(
        "UPDATE audit SET line = CAST(substr(line, 1, 40) || char(unicode(CAST(substr(line, 41, 1) AS TEXT)) + 1) || \
         substr(line, 42) AS BLOB) WHERE seq = {seq}"
    )
}

fn swapped(seq: i64) -> String {
    let next = seq + 1;
    format!(
        "CREATE TEMP TABLE pair AS SELECT seq, line FROM audit WHERE seq IN ({seq}, {next}); \
         UPDATE audit SET line = (SELECT line FROM pair WHERE pair.seq = {seq} + {next} - audit.seq) \
         WHERE seq IN ({seq}, {next})"
    )
}

fn inserted(seq: i64) -> String {
    format!(
        "UPDATE audit SET seq = -seq WHERE seq >= {seq}; UPDATE audit SET seq = 1 - seq WHERE seq < 0; \
         INSERT INTO audit SELECT {seq}, at, line FROM audit WHERE seq = {seq} + 1"
    )
}
