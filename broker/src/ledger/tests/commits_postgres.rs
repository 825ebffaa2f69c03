//! A COMMIT that nobody answers: it happened or it did not, and nobody is told either before it is known.

use std::sync::Arc;
use std::time::Duration;

use bursar_core::audit::Action;
use bursar_tests::wait_until;

use super::relay::{Cut, Relay};
use super::*;

#[tokio::test]
async fn one_whose_answer_is_lost_has_happened_once() {
    let fixture = OnRelay::new();
    fixture.site.relay.cut(Cut::After);
    let committed = commit(&fixture).await.expect("found out");
    assert_eq!((committed.first_seq, fixture.site.records()), (0, 1));
    goes_on(&fixture, &fixture.site.database, 1).await;
}

#[tokio::test]
async fn one_that_never_arrived_is_done_again() {
    let fixture = OnRelay::new();
    fixture.site.relay.cut(Cut::Before);
    let committed = commit(&fixture).await.expect("done again");
    assert_eq!((committed.first_seq, fixture.site.records()), (0, 1));
    goes_on(&fixture, &fixture.site.database, 1).await;
}

#[tokio::test]
async fn one_that_is_stuck_on_the_way_cannot_happen_later() {
    let fixture = OnRelay::new();
    fixture.site.relay.cut(Cut::Silent);
    let committed = commit(&fixture).await.expect("done again");
    assert_eq!((committed.first_seq, fixture.site.records()), (0, 1));
    goes_on(&fixture, &fixture.site.database, 1).await;
}

#[tokio::test]
async fn while_it_cannot_be_found_out_nobody_is_answered_and_what_happened_stays() {
    for (cut, happened) in [(Cut::After, 1), (Cut::Before, 0)] {
        let fixture = OnRelay::new();
        fixture.site.relay.cut_and_go_away(cut);
        let told = commit(&fixture).await;
        assert!(matches!(told, Err(LedgerError::Uncertain)), "{cut:?}: {told:?}");
        assert!(matches!(fixture.ledger.health(), Health::Failed(FailureKind::Unreachable)), "{cut:?}");
        let refused = commit(&fixture).await;
        assert!(matches!(refused, Err(LedgerError::Unavailable { .. })), "{cut:?}: {refused:?}");
        assert_eq!(fixture.site.records(), happened, "{cut:?}");
        fixture.site.relay.come_back();
        goes_on(&fixture, &fixture.site.database, happened).await;
        assert_eq!(fixture.ledger.health(), Health::Ready);
    }
}

#[tokio::test]
async fn one_whose_session_is_terminated_while_a_standby_has_to_confirm_is_not_answered() {
    let settings = ["fsync=on", "max_connections=100"];
    let server = Arc::new(Postgres::start_with(&settings).expect("PostgreSQL"));
    let database = Database::on(Arc::clone(&server));
    let fixture = FixtureOn::on(Impatient(database), 64, Quotas::default());
    commit(&fixture).await.expect("no standby is wanted yet");

    server.psql("ALTER SYSTEM SET synchronous_standby_names = 'nobody'").expect("setting");
    server.psql("SELECT pg_reload_conf()").expect("reloaded");
    let wanted = || server.psql("SHOW synchronous_standby_names").is_ok_and(|names| names == "nobody");
    wait_until(Duration::from_secs(30), "the server to want a standby", wanted).expect("wanted");

    let waiting = "FROM pg_stat_activity WHERE application_name = 'bursar' AND wait_event = 'SyncRep'";
    let terminated = async {
        let (server, sql) =
            (Arc::clone(&server), format!("SELECT count(pg_terminate_backend(pid)) {waiting}"));
        let waited = tokio::task::spawn_blocking(move || {
            let ended = || server.psql(&sql).is_ok_and(|ended| ended != "0");
            wait_until(Duration::from_secs(30), "a COMMIT to wait for the standby", ended)
        });
        waited.await.expect("no panic").expect("terminated");
    };
    let (told, ()) = tokio::join!(commit(&fixture), terminated);
    assert!(matches!(told, Err(LedgerError::Uncertain)), "{told:?}");
    assert_eq!(fixture.site.0.sql("SELECT count(*) FROM bursar.audit"), "2", "the server has it by itself");

    server.psql("ALTER SYSTEM RESET synchronous_standby_names").expect("setting");
    server.psql("SELECT pg_reload_conf()").expect("reloaded");
    goes_on(&fixture, &fixture.site.0, 2).await;
}

/// A record and a lease, as a read has them.
async fn commit<S: Site>(fixture: &FixtureOn<S>) -> Result<Committed, LedgerError> {
    let lease = fixture.lease("vault/shop/db");
    let record = fixture.record(Action::Read, Some(lease.id));
    let entry = Entry { changes: vec![Change::Grant(lease)], records: vec![record] };
    within(fixture.ledger.commit(entry)).await
}

/// The next commits follow the `records` that are there, and the whole ledger agrees with itself.
async fn goes_on<S: Site>(fixture: &FixtureOn<S>, database: &Database, records: u64) {
    for next in [records, records + 1] {
        let committed = commit(fixture).await.expect("the writer goes on");
        assert_eq!(committed.first_seq, next);
    }
    let found = database.place().inspect(LogKey::Own(&signer(&fixture.key))).expect("inspection");
    assert_eq!((found.size, found.findings), (records + 2, Vec::new()));
    let counts = within(fixture.ledger.lease_counts()).await.expect("counts");
    assert!(counts.contains(&(LeaseState::Active, 1)), "{counts:?}");
}

type OnRelay = FixtureOn<Relayed>;

/// A database that is reached by a network of the test's.
struct Relayed {
    database: Database,
    relay: Relay,
}

impl Site for Relayed {
    fn new() -> Self {
        let database = Database::new();
        let relay = Relay::to(database.server.address());
        let (user, password) = (Postgres::SUPERUSER, database.server.password().value().to_owned());
        let url = database.url(user, &password);
        let straight = database.server.address().to_string();
        database.write_url(&url.replace(&straight, &relay.address().to_string()));
        Self { database, relay }
    }

    fn place(&self) -> LedgerPlace {
        impatient(&self.database)
    }
}

impl Relayed {
    fn records(&self) -> u64 {
        self.database.sql("SELECT count(*) FROM bursar.audit").parse().expect("number")
    }
}

/// A database that is not waited for as long.
struct Impatient(Database);

impl Site for Impatient {
    fn new() -> Self {
        Self(Database::new())
    }

    fn place(&self) -> LedgerPlace {
        impatient(&self.0)
    }
}

fn impatient(database: &Database) -> LedgerPlace {
    let timeout = Duration::from_secs(3);
    let access = PostgresAccess { transport: Transport::Plaintext, timeout, ..database.access() };
    let folder = database.folder.path().to_owned();
    LedgerPlace::postgres(access, ORIGIN.to_owned(), "example.org".to_owned(), folder).expect("place")
}
