//! The ledger as the broker meets it: opened, and asked by its methods.
//!
//! What holds of every engine is tried on each: on files here, and on a PostgreSQL in `on_postgres.rs`, which has the same
//! modules over another fixture.

mod durability;
mod grants;
mod lists;
mod log;
mod migration;
mod objects;
#[cfg(feature = "postgres")]
mod on_postgres;
mod opening;
mod pruning;
mod queue;
mod quotas;
mod revocation;
mod tampering;
mod transitions;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bursar_core::audit::{Action, Actor, AuditRecord, Decision, Outcome as Came};
use bursar_core::backend::StoreHandle;
use bursar_core::clock::TestClock;
use bursar_core::lease::{LeaseEvent, TtlBound};
use bursar_core::tlog::Signer;
use bursar_core::{BackendName, Clock, Lease, LeaseId, LeaseState, Reference, SpiffeId};
use jiff::Timestamp;
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::Ed25519KeyPair;
use tempfile::TempDir;

use super::*;

/// Where a test keeps a ledger.
pub(super) trait Site {
    /// One that nobody else has.
    fn new() -> Self;

    fn place(&self) -> LedgerPlace;
}

/// Files in a folder of their own.
pub(super) struct Files(TempDir);

impl Site for Files {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("folder"))
    }

    fn place(&self) -> LedgerPlace {
        LedgerPlace::sqlite(database(&self.0))
    }
}

/// A ledger in files.
pub(super) type Fixture = FixtureOn<Files>;

/// A ledger of its own, with a clock that stands still.
pub(super) struct FixtureOn<S> {
    pub(super) ledger: Ledger,
    pub(super) clock: Arc<TestClock>,
    pub(super) key: Vec<u8>,
    pub(super) site: S,
}

impl FixtureOn<Files> {
    pub(super) fn path(&self) -> PathBuf {
        database(self.folder())
    }

    pub(super) fn folder(&self) -> &TempDir {
        &self.site.0
    }
}

impl<S: Site> FixtureOn<S> {
    pub(super) fn new() -> Self {
        Self::with_queue(64)
    }

    pub(super) fn with_queue(queue: usize) -> Self {
        Self::with(queue, Quotas::default())
    }

    pub(super) fn with(queue: usize, quotas: Quotas) -> Self {
        Self::on(S::new(), queue, quotas)
    }

    pub(super) fn on(site: S, queue: usize, quotas: Quotas) -> Self {
        let clock = Arc::new(TestClock::new());
        let key = new_key();
        let config = LedgerConfig { queue, quotas, ..config_at(site.place()) };
        let ledger = Ledger::open(config, Arc::clone(&clock) as Arc<dyn Clock>).expect("ledger");
        ledger.start_signing(signer(&key)).expect("signing");
        Self { ledger, clock, key, site }
    }

    pub(super) fn place(&self) -> LedgerPlace {
        self.site.place()
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// `seconds` from now.
    pub(super) fn after(&self, seconds: u64) -> Timestamp {
        self.now().checked_add(Duration::from_secs(seconds)).expect("time")
    }

    /// A lease for an hour, of a principal on a node, through an environment.
    pub(super) fn lease(&self, reference: &str) -> Lease {
        Lease {
            id: new_id(self.now()),
            reference: Reference::parse(reference).expect("reference"),
            principal: spiffe("spiffe://example.org/ns/shop/sa/web"),
            node: Some(spiffe("spiffe://example.org/node/n1")),
            instance: "pod-1".to_owned(),
            environment: Some("shop/prod".to_owned()),
            state: LeaseState::Active,
            dynamic: false,
            issued_at: self.now(),
            renewed_at: self.now(),
            expires_at: self.after(3600),
            max_expires_at: None,
            renewable: true,
            ttl_bound: TtlBound::Policy,
            attempts: 0,
            last_error: None,
            reason: None,
        }
    }

    pub(super) fn record(&self, action: Action, lease: Option<LeaseId>) -> AuditRecord {
        let lease_id = lease.map(|id| id.to_string());
        AuditRecord { action, lease_id, ..record(self.now()) }
    }

    pub(super) async fn change(&self, change: Change) -> Result<Outcome, LedgerError> {
        let mut committed = self.changes(vec![change]).await?;
        Ok(committed.outcomes.remove(0))
    }

    pub(super) async fn changes(&self, changes: Vec<Change>) -> Result<Committed, LedgerError> {
        within(self.ledger.commit(Entry { changes, records: Vec::new() })).await
    }

    pub(super) async fn records(&self, records: Vec<AuditRecord>) -> Committed {
        within(self.ledger.commit(Entry { changes: Vec::new(), records })).await.expect("records")
    }

    /// Grants a static lease and answers its id.
    pub(super) async fn grant(&self, lease: Lease) -> LeaseId {
        match self.change(Change::Grant(lease)).await {
            Ok(Outcome::Granted { id, .. }) => id,
            other => panic!("no grant: {other:?}"),
        }
    }

    /// Takes a dynamic lease up to active and answers its id.
    pub(super) async fn issue(&self, lease: Lease, handle: &str) -> LeaseId {
        let (id, expires_at) = (lease.id, lease.expires_at);
        self.change(Change::Intent(lease)).await.expect("intent");
        self.change(self.activation(id, handle, expires_at)).await.expect("activation");
        id
    }

    pub(super) fn activation(&self, id: LeaseId, handle: &str, expires_at: Timestamp) -> Change {
        Change::Activate {
            id,
            handle: StoreHandle::new(handle.to_owned()),
            version: None,
            expires_at,
            max_expires_at: None,
            renewable: true,
            ttl_bound: TtlBound::Backend,
            sealed: None,
            at: self.now(),
        }
    }

    pub(super) async fn apply(&self, id: LeaseId, event: LeaseEvent) -> Result<Outcome, LedgerError> {
        self.change(self.event(id, event)).await
    }

    pub(super) fn event(&self, id: LeaseId, event: LeaseEvent) -> Change {
        Change::Apply { id, event, at: self.now(), error: None, next_attempt_at: None }
    }

    /// Orders a bulk revocation.
    pub(super) async fn order(&self, selector: RevokeSelector) -> RevocationId {
        let record = Box::new(AuditRecord {
            resource: "leases of a test".to_owned(),
            ..self.record(Action::Revoke, None)
        });
        match self.change(Change::OrderRevocation { selector, record, at: self.now() }).await {
            Ok(Outcome::Ordered(revocation)) => revocation,
            other => panic!("no order: {other:?}"),
        }
    }

    /// One step of a bulk revocation; answers whether it was the last.
    pub(super) async fn step(&self, revocation: RevocationId, limit: usize) -> bool {
        let walked = within(self.ledger.walk(revocation, None, limit)).await.expect("walk");
        let ended = walked.place.is_none();
        let mark = Change::Mark { revocation, ids: walked.ids, place: walked.place, at: self.now() };
        self.change(mark).await.expect("step");
        ended
    }

    /// A whole bulk revocation; answers how many leases it took.
    pub(super) async fn revoke(&self, selector: RevokeSelector) -> u64 {
        let revocation = self.order(selector).await;
        while !self.step(revocation, 2).await {}
        self.revocation(revocation).await.marked
    }

    pub(super) async fn revocation(&self, id: RevocationId) -> Revocation {
        within(self.ledger.revocations(Some(id), 1)).await.expect("revocations").remove(0)
    }

    /// What waits at `vault` to be taken back, and is due.
    pub(super) async fn to_revoke(&self) -> Vec<Revocable> {
        let vault = BackendName::parse("vault").expect("name");
        within(self.ledger.to_revoke(&vault, self.now(), 10)).await.expect("waiting")
    }

    pub(super) async fn get(&self, id: LeaseId) -> Lease {
        within(self.ledger.lease(id)).await.expect("lease").expect("there is one")
    }

    pub(super) async fn state(&self, id: LeaseId) -> LeaseState {
        self.get(id).await.state
    }

    /// Closes the ledger and opens it again.
    pub(super) async fn reopen(self) -> Self {
        let quotas = self.ledger.quotas().clone();
        within(self.ledger.close()).await;
        let config = LedgerConfig { quotas, ..config_at(self.site.place()) };
        let ledger = Ledger::open(config, Arc::clone(&self.clock) as Arc<dyn Clock>).expect("ledger");
        ledger.start_signing(signer(&self.key)).expect("signing");
        Self { ledger, ..self }
    }
}

/// A read that was allowed.
pub(super) fn record(time: Timestamp) -> AuditRecord {
    AuditRecord {
        seq: 0,
        time,
        request_id: "request-1".to_owned(),
        trace_id: None,
        actor: Actor {
            principal: "spiffe://example.org/ns/shop/sa/web".to_owned(),
            method: "mtls".to_owned(),
            credential: None,
            node: None,
            selectors: Vec::new(),
            peer: None,
        },
        action: Action::Read,
        resource: "vault/shop/db".to_owned(),
        environment: None,
        version: None,
        lease_id: None,
        decision: Decision::Allow,
        policies: Vec::new(),
        approvals: Vec::new(),
        kept_until: None,
        reason: None,
        outcome: Came::Ok,
        error_kind: None,
        latency_us: 1,
    }
}

pub(super) fn open(path: &Path, clock: &Arc<TestClock>) -> Result<Ledger, OpenError> {
    Ledger::open(config(path), Arc::clone(clock) as Arc<dyn Clock>)
}

pub(super) fn config(path: &Path) -> LedgerConfig {
    config_at(LedgerPlace::sqlite(path.to_owned()))
}

fn config_at(place: LedgerPlace) -> LedgerConfig {
    LedgerConfig { place, origin: ORIGIN.to_owned(), queue: 64, quotas: Quotas::default() }
}

pub(super) fn database(folder: &TempDir) -> PathBuf {
    folder.path().join("ledger.db")
}

/// The files as a machine that lost power would find them: copied while the ledger is open.
pub(super) fn image(fixture: &Fixture) -> PathBuf {
    let folder = fixture.folder().path().join("image");
    std::fs::create_dir(&folder).expect("folder");
    for name in ["ledger.db", "ledger.db-wal"] {
        std::fs::copy(fixture.folder().path().join(name), folder.join(name)).expect("copy");
    }
    folder.join("ledger.db")
}

pub(super) fn new_key() -> Vec<u8> {
    Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("key").as_ref().to_vec()
}

pub(super) fn signer(key: &[u8]) -> Signer {
    Signer::from_pkcs8(ORIGIN, key).expect("signer")
}

pub(super) fn new_id(now: Timestamp) -> LeaseId {
    let mut random = [0; 10];
    SystemRandom::new().fill(&mut random).expect("random");
    LeaseId::new(now, random)
}

pub(super) fn spiffe(text: &str) -> SpiffeId {
    SpiffeId::parse(text).expect("spiffe id")
}

pub(super) fn first(size: usize) -> Page {
    Page::first(size)
}

/// Fails the test, rather than hang it.
pub(super) async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), work).await.expect("done within a minute")
}

/// Another program's view of the database.
pub(super) fn raw(path: &Path) -> rusqlite::Connection {
    rusqlite::Connection::open(path).expect("database")
}

pub(super) const ORIGIN: &str = "bursar.dev/example.org/broker-1";
