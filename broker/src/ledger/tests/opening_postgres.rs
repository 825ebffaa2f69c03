use std::path::PathBuf;
use std::sync::Arc;

use bursar_core::Clock;
use bursar_core::audit::Action;
use bursar_core::lease::LeaseState;

use super::super::{Change, Entry, Health, LedgerConfig, LedgerError, LogKey, OpenError, Quotas};
use super::{Database, Fixture, FixtureOn, Ledger, LedgerPlace, ORIGIN, Site, signer, within};

#[tokio::test]
async fn a_log_goes_on_where_it_ended() {
    let fixture = Fixture::new();
    let id = fixture.grant(fixture.lease("vault/shop/db")).await;
    fixture.records((0..300).map(|_| fixture.record(Action::ListLeases, None)).collect()).await;
    let head = fixture.ledger.checkpoint().expect("head");
    let fixture = fixture.reopen().await;
    assert_eq!(fixture.ledger.checkpoint().expect("head"), head);
    assert_eq!(fixture.state(id).await, LeaseState::Active);
    assert_eq!(fixture.records(vec![fixture.record(Action::ListLeases, None)]).await.first_seq, 300);
}

#[tokio::test]
async fn a_whole_ledger_holds_while_it_is_open() {
    let fixture = Fixture::new();
    let lease = fixture.lease("vault/shop/db");
    let records = vec![fixture.record(Action::Read, Some(lease.id))];
    let records = records
        .into_iter()
        .map(|record| bursar_core::audit::AuditRecord { resource: "vault/shop/db".to_owned(), ..record });
    let entry = Entry { changes: vec![Change::Grant(lease)], records: records.collect() };
    within(fixture.ledger.commit(entry)).await.expect("granted");
    let found = fixture.place().inspect(LogKey::Own(&signer(&fixture.key))).expect("inspection");
    assert_eq!((found.size, found.findings), (1, Vec::new()));

    fixture.site.sql("UPDATE bursar.audit SET line = line || ' '::bytea");
    fixture.site.sql("UPDATE bursar.lease_counts SET leases = leases + 1");
    let found = fixture.place().inspect(LogKey::Own(&signer(&fixture.key))).expect("inspection").findings;
    let found = found.join("; ");
    assert!(found.contains("edge of the tree") && found.contains("counted as active"), "{found}");
}

#[tokio::test]
async fn a_log_that_lost_its_tail_is_damaged() {
    let fixture = Fixture::new();
    fixture.records((0..10).map(|_| fixture.record(Action::Read, None)).collect()).await;
    within(fixture.ledger.clone().close()).await;
    fixture.site.sql("DELETE FROM bursar.audit WHERE seq = 9");
    match open(fixture.place(), &fixture) {
        Err(OpenError::Corrupt { what, .. }) => {
            assert!(what.contains("its head is over 10 audit records, and 9 are there"), "{what}");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_process_that_was_taken_over_from_writes_nothing_more() {
    let fixture = Fixture::new();
    fixture.records(vec![fixture.record(Action::Read, None)]).await;
    fixture.site.sql("UPDATE bursar.logs SET epoch = epoch + 1");
    let entry = || Entry { changes: Vec::new(), records: vec![fixture.record(Action::Read, None)] };
    let refused = within(fixture.ledger.commit(entry())).await;
    assert!(matches!(refused, Err(LedgerError::Unavailable { .. })), "{refused:?}");
    assert!(matches!(fixture.ledger.health(), Health::Failed(_)));
    assert_eq!(fixture.site.sql("SELECT count(*) FROM bursar.audit"), "1");
}

#[tokio::test]
async fn a_log_that_another_process_holds_is_refused() {
    let fixture = Fixture::new();
    fixture.records(vec![fixture.record(Action::Read, None)]).await;
    // Another data directory, and a hold that does not end.
    let sql = "UPDATE bursar.logs SET held_until = now() + interval '1 hour' WHERE origin <> ''";
    fixture.site.sql(sql);
    let second = Database { folder: tempfile::tempdir().expect("folder"), ..same(&fixture.site) };
    second.write_url(&second.url(bursar_tests::Postgres::SUPERUSER, second.server.password().value()));
    fixture.site.sql("UPDATE bursar.logs SET held_until = now() + interval '2 seconds'");
    let prolong = || fixture.site.sql("UPDATE bursar.logs SET held_until = now() + interval '1 hour'");
    let place = second.place();
    let opening = std::thread::spawn(move || Ledger::open(config(place), clock()).map(drop));
    prolong();
    match opening.join().expect("no panic") {
        Err(OpenError::Held { origin, .. }) => assert_eq!(origin, ORIGIN),
        other => panic!("{other:?}"),
    }
    let same_folder = open(fixture.place(), &fixture);
    assert!(matches!(same_folder, Err(OpenError::InUse { .. })), "{same_folder:?}");
}

#[tokio::test]
async fn a_session_that_is_lost_is_opened_again() {
    let fixture = Fixture::new();
    fixture.records(vec![fixture.record(Action::Read, None)]).await;
    fixture.site.sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()",
    );
    assert_eq!(fixture.records(vec![fixture.record(Action::Read, None)]).await.first_seq, 1);
    assert_eq!(within(fixture.ledger.audit_lines(0, 10)).await.expect("lines").len(), 2);
}

#[tokio::test]
async fn what_cannot_be_a_ledger_is_told_apart() {
    let fixture = Fixture::new();
    within(fixture.ledger.clone().close()).await;
    let site = &fixture.site;
    let (user, password) = (bursar_tests::Postgres::SUPERUSER, site.server.password().value());

    let domain = site.place_as(ORIGIN, "example.com").expect("place");
    told(open(domain, &fixture), "belongs to the trust domain `example.org`");
    site.sql("UPDATE bursar.ledger SET version = 99");
    told(open(site.place(), &fixture), "has schema 99, and this broker knows 1 and older");
    site.sql("UPDATE bursar.ledger SET version = 0");
    told(open(site.place(), &fixture), "has schema 0");
    site.sql("UPDATE bursar.ledger SET version = 1; ALTER TABLE bursar.tiles RENAME TO elsewhere");
    told(open(site.place(), &fixture), "has no table `bursar.tiles`");
    site.sql("ALTER TABLE bursar.elsewhere RENAME TO tiles");
    site.sql(&format!("ALTER DATABASE {} SET default_transaction_read_only = on", site.name));
    told(open(site.place(), &fixture), "name the primary");
    site.server
        .psql(&format!(
            "ALTER DATABASE {0} RESET ALL; ALTER DATABASE {0} SET synchronous_commit = off",
            site.name
        ))
        .expect("settings");
    told(open(site.place(), &fixture), "`synchronous_commit` off");
    site.server.psql(&format!("ALTER DATABASE {} RESET ALL", site.name)).expect("settings");

    site.sql(
        "CREATE ROLE weak LOGIN PASSWORD 'weak'; GRANT USAGE ON SCHEMA bursar TO weak; \
              GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA bursar TO weak",
    );
    site.write_url(&site.url("weak", "weak"));
    told(open(site.place(), &fixture), "may not DELETE in `bursar.ledger`");
    site.write_url(&site.url(user, "wrong"));
    told(open(site.place(), &fixture), "check user and password");
    site.write_url(&site.url(user, password).replace(&site.name, "nowhere"));
    told(open(site.place(), &fixture), "no such database");
    site.write_url(&site.url(user, password));
    told(open(site.place_trusting(&other_authority(site)), &fixture), "its certificate is not trusted");
    site.write_url("postgres://127.0.0.1");
    let fault = site.place_as(ORIGIN, "example.org").expect_err("no URL");
    assert!(fault.to_string().contains("write `postgres://USER:PASSWORD@HOST:PORT/DATABASE`"), "{fault}");

    site.write_url(&site.url(user, password));
    open(site.place(), &fixture).expect("as it was");
}

/// A file with an authority that did not vouch for the server.
fn other_authority(site: &Database) -> PathBuf {
    let path = site.folder.path().join("other.pem");
    let other = rcgen::generate_simple_self_signed(vec!["other".to_owned()]).expect("authority");
    std::fs::write(&path, other.cert.pem()).expect("file");
    path
}

fn told(opened: Result<Ledger, OpenError>, expected: &str) {
    let error = opened.expect_err("refused");
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    assert!(text.contains(expected), "{text}");
}

fn same(site: &Database) -> Database {
    let folder = tempfile::tempdir().expect("folder");
    Database { server: Arc::clone(&site.server), name: site.name.clone(), folder }
}

fn open(place: LedgerPlace, _fixture: &FixtureOn<Database>) -> Result<Ledger, OpenError> {
    Ledger::open(config(place), clock())
}

fn config(place: LedgerPlace) -> LedgerConfig {
    LedgerConfig { place, origin: ORIGIN.to_owned(), queue: 64, quotas: Quotas::default() }
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(bursar_core::clock::TestClock::new())
}
