//! Queues and bulk revocations over stores that do what they are told, with a real ledger and tasks that run.

mod bulk;
mod jumps;
mod queues;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bursar_core::audit::Action;
use bursar_core::backend::{
    Backend, BackendError, Capabilities, ErrorKind, Fetched, Issued, Leasing, Operation, Removal,
    StoreHandle, VersionInfo,
};
use bursar_core::clock::SteadyClock;
use bursar_core::lease::{LeaseEvent, TtlBound};
use bursar_core::tasks::Tasks;
use bursar_core::tlog::Signer;
use bursar_core::{BackendName, Clock, Lease, LeaseId, LeaseState, Reference, SecretPath, SpiffeId, Version};
use jiff::{SignedDuration, Timestamp};
use ring::rand::SystemRandom;
use ring::signature::Ed25519KeyPair;
use tempfile::TempDir;
use tokio::time::Instant;

use crate::call::{Call, Draft};
use crate::config::{CacheContract, LeaseLimits, OnOutage, RevocationLimits};
use crate::identity::Caller;
use crate::lease::Leases;
use crate::ledger::{AuditQuery, Change, Entry, Ledger, LedgerConfig, LedgerPlace, Page, Quota, Quotas};
use crate::mounts::{Mount, Mounts};
use crate::policy::{Facts, PrincipalFacts};
use crate::seal::Seal;
use crate::telemetry::Metrics;

/// A ledger in a folder of its own, stores, and the leases between them.
struct Site {
    leases: Arc<Leases>,
    ledger: Ledger,
    clock: Arc<dyn Clock>,
    /// The machine's, which the broker's follows.
    wall: Arc<Wall>,
    tasks: Tasks,
    key: Vec<u8>,
    folder: TempDir,
}

impl Site {
    /// Over `stores`, whose queues run.
    fn start(stores: &[&Arc<Store>]) -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let key = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("key").as_ref().to_vec();
        Self::open(folder, key, stores)
    }

    fn open(folder: TempDir, key: Vec<u8>, stores: &[&Arc<Store>]) -> Self {
        let wall = Arc::new(Wall::default());
        let passing = Arc::clone(&wall);
        let steady = SteadyClock::new(Arc::clone(&wall) as Arc<dyn Clock>, move || passing.passed());
        let clock: Arc<dyn Clock> = Arc::new(steady);
        let config = LedgerConfig {
            place: LedgerPlace::sqlite(folder.path().join("ledger.db")),
            origin: ORIGIN.to_owned(),
            queue: 1024,
            quotas: Quotas::default(),
        };
        let ledger = Ledger::open(config, Arc::clone(&clock)).expect("ledger");
        ledger.start_signing(Signer::from_pkcs8(ORIGIN, &key).expect("signer")).expect("signing");
        let metrics = Metrics::register(&mut prometheus_client::registry::Registry::default());
        let contract = CacheContract { max_stale: Duration::ZERO, on_outage: OnOutage::Fail, poll: HOUR };
        let mount = |store: &&Arc<Store>| {
            let backend = Arc::clone(store) as Arc<dyn Backend>;
            Mount::new(store.name.clone(), backend, contract, store.limits, metrics.clone())
        };
        let mounts = Arc::new(Mounts::new(stores.iter().map(mount), 1024, metrics.clone()));
        let limits = LeaseLimits {
            default_ttl: HOUR,
            max_ttl: HOUR,
            max_life: HOUR,
            keep_gone: HOUR,
            settle_after: HOUR,
            quota: Quota::default(),
        };
        let tasks = Tasks::new();
        let seal = Seal::from_key(&Seal::generate_key(&SystemRandom::new()).expect("key")).expect("seal");
        let seal = Arc::new(seal);
        let leases =
            Leases::new(ledger.clone(), mounts, seal, limits, Arc::clone(&clock), tasks.clone(), metrics);
        let leases = Arc::new(leases);
        tasks.run("revoker", Arc::clone(&leases).revoke_due());
        Self { leases, ledger, clock, wall, tasks, key, folder }
    }

    fn mark(&self) {
        self.tasks.run("bulk revocation", Arc::clone(&self.leases).mark_ordered());
    }

    /// Stops everything, as a process does that ends, and opens the ledger again.
    async fn restart(self, stores: &[&Arc<Store>]) -> Self {
        assert!(self.tasks.drain(Duration::from_secs(20)).await, "the tasks do not stop");
        drop(self.leases);
        self.ledger.close().await;
        Self::open(self.folder, self.key, stores)
    }

    fn lease(&self, reference: &str) -> Lease {
        let now = self.clock.now();
        Lease {
            id: self.leases.ids.next(now).expect("id"),
            reference: Reference::parse(reference).expect("reference"),
            principal: principal(),
            node: None,
            instance: String::new(),
            environment: None,
            state: LeaseState::Active,
            dynamic: false,
            issued_at: now,
            renewed_at: now,
            expires_at: now.checked_add(HOUR).expect("time"),
            max_expires_at: None,
            renewable: true,
            ttl_bound: TtlBound::Policy,
            attempts: 0,
            last_error: None,
            reason: None,
        }
    }

    async fn commit(&self, changes: Vec<Change>) {
        self.ledger.commit(Entry { changes, records: Vec::new() }).await.expect("commit");
    }

    async fn grant(&self, reference: &str) -> LeaseId {
        let lease = self.lease(reference);
        let id = lease.id;
        self.commit(vec![Change::Grant(lease)]).await;
        id
    }

    /// A dynamic lease; its handle is its id.
    async fn issue(&self, reference: &str) -> Lease {
        let lease = Lease { dynamic: true, ..self.lease(reference) };
        let activate = Change::Activate {
            id: lease.id,
            handle: StoreHandle::new(lease.id.to_string()),
            version: None,
            expires_at: lease.expires_at,
            max_expires_at: None,
            renewable: true,
            ttl_bound: TtlBound::Backend,
            sealed: None,
            at: lease.issued_at,
        };
        self.commit(vec![Change::Intent(lease.clone()), activate]).await;
        lease
    }

    /// A dynamic lease that is due to be taken back.
    async fn revoked(&self, reference: &str) -> LeaseId {
        let id = self.issue(reference).await.id;
        let (event, at) = (LeaseEvent::Revoke, self.clock.now());
        self.commit(vec![Change::Apply { id, event, at, error: None, next_attempt_at: None }]).await;
        id
    }

    async fn get(&self, id: LeaseId) -> Lease {
        self.ledger.lease(id).await.expect("ledger").expect("there is one")
    }

    /// Waits until a lease is in a state.
    async fn until(&self, id: LeaseId, state: LeaseState) -> Lease {
        self.looking(id, state, ROUND).await
    }

    /// The same where that may take minutes, in a test whose time is paused.
    async fn until_in_time(&self, id: LeaseId, state: LeaseState) -> Lease {
        self.looking(id, state, SECOND).await
    }

    /// Lets time pass in a test whose time is paused, with the ledger keeping up. Answers how many hours it became by
    /// tokio's time, which runs on while the ledger's threads work.
    async fn pass(&self, time: Duration) -> f64 {
        let begun = Instant::now();
        for _ in 0..time.as_secs() {
            self.wall.pass(SECOND);
            tokio::time::sleep(SECOND).await;
            self.commit(Vec::new()).await;
        }
        begun.elapsed().as_secs_f64() / HOUR.as_secs_f64()
    }

    async fn looking(&self, id: LeaseId, state: LeaseState, round: Duration) -> Lease {
        for _ in 0..ROUNDS {
            let lease = self.get(id).await;
            if lease.state == state {
                return lease;
            }
            self.wall.pass(round);
            tokio::time::sleep(round).await;
            // What is on its way to the ledger gets there meanwhile.
            self.commit(Vec::new()).await;
        }
        panic!("{id} is {} and was to be {}", self.get(id).await.state.as_str(), state.as_str());
    }

    async fn records(&self, action: Action) -> Vec<bursar_core::audit::AuditRecord> {
        let query = AuditQuery { actions: vec![action], ..AuditQuery::default() };
        self.ledger.audit(query, Page::first(1000)).await.expect("audit").items
    }

    fn draft(&self, action: Action) -> Draft {
        let facts = Facts {
            id: principal(),
            method: "mtls".to_owned(),
            node: None,
            selectors: Vec::new(),
            groups: Vec::new(),
        };
        let caller = Caller {
            account: None,
            facts: PrincipalFacts::new(facts),
            credential: String::new(),
            credential_expires: Timestamp::MAX,
            instance: None,
            ttl: None,
            peer: None,
        };
        let call = Call {
            caller: Arc::new(caller),
            request_id: "request-1".into(),
            trace_id: None,
            time: self.clock.now(),
            arrived: Instant::now(),
        };
        call.asks(action, "leases of a test").because("a test")
    }
}

/// Wall time that passes, and jumps, when it is told to: tokio's paused time runs on by itself while a test waits for the
/// threads of the ledger.
#[derive(Debug, Default)]
struct Wall {
    passed: Mutex<Duration>,
    jumped: Mutex<SignedDuration>,
}

impl Wall {
    fn passed(&self) -> Duration {
        *self.passed.lock().expect("lock")
    }

    fn pass(&self, time: Duration) {
        *self.passed.lock().expect("lock") += time;
    }

    fn jump(&self, by: SignedDuration) {
        *self.jumped.lock().expect("lock") += by;
    }
}

impl Clock for Wall {
    fn now(&self) -> Timestamp {
        let begun = Timestamp::constant(1_767_225_600, 0);
        let unset = begun.checked_add(self.passed()).expect("time");
        unset.checked_add(*self.jumped.lock().expect("lock")).expect("time")
    }
}

/// A store that does what it is told.
struct Store {
    name: BackendName,
    limits: RevocationLimits,
    conduct: Mutex<Conduct>,
    under_way: AtomicUsize,
    most: AtomicUsize,
    calls: Mutex<Vec<(Instant, String)>>,
}

#[derive(Clone, Copy)]
enum Conduct {
    Well {
        taking: Duration,
    },
    Fails(ErrorKind),
    Hangs,
    /// Takes nothing back: what there is ends then.
    KeepsUntil(Timestamp),
}

impl Store {
    fn new(name: &str, conduct: Conduct) -> Arc<Self> {
        Self::with(
            name,
            conduct,
            RevocationLimits {
                concurrency: 4,
                per_second: std::num::NonZeroU32::new(1000).expect("not 0"),
                attempts: 3,
            },
        )
    }

    fn with(name: &str, conduct: Conduct, limits: RevocationLimits) -> Arc<Self> {
        Arc::new(Self {
            name: BackendName::parse(name).expect("name"),
            limits,
            conduct: Mutex::new(conduct),
            under_way: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            calls: Mutex::default(),
        })
    }

    fn turn(&self, conduct: Conduct) {
        *self.conduct.lock().expect("lock") = conduct;
    }

    /// When it was asked to take a credential back, and which.
    fn calls(&self) -> Vec<(Instant, String)> {
        self.calls.lock().expect("lock").clone()
    }

    fn most_at_a_time(&self) -> usize {
        self.most.load(Ordering::Relaxed)
    }

    async fn act(&self, operation: Operation) -> Result<(), BackendError> {
        let conduct = *self.conduct.lock().expect("lock");
        match conduct {
            Conduct::Well { taking } => {
                tokio::time::sleep(taking).await;
                Ok(())
            }
            Conduct::Fails(kind) => Err(BackendError::new(kind, &self.name, operation)),
            Conduct::Hangs => std::future::pending().await,
            Conduct::KeepsUntil(_) => Ok(()),
        }
    }
}

#[async_trait]
impl Backend for Store {
    fn capabilities(&self) -> Capabilities {
        Capabilities { kind: "fake", versions: false, list: false, leasing: true, writing: false }
    }

    async fn read(&self, _: &SecretPath, _: Option<&Version>) -> Result<Fetched, BackendError> {
        Err(BackendError::new(ErrorKind::NotFound, &self.name, Operation::Read))
    }

    async fn list(
        &self,
        _: Option<&SecretPath>,
        _: Option<&str>,
        _: usize,
    ) -> Result<Vec<String>, BackendError> {
        Ok(Vec::new())
    }

    async fn versions(&self, _: &SecretPath) -> Result<Vec<VersionInfo>, BackendError> {
        Ok(Vec::new())
    }

    async fn health(&self) -> Result<(), BackendError> {
        self.act(Operation::Health).await
    }

    fn leasing(&self) -> Option<&dyn Leasing> {
        Some(self)
    }
}

#[async_trait]
impl Leasing for Store {
    fn is_leased(&self, _: &SecretPath) -> bool {
        true
    }

    async fn issue(&self, _: &SecretPath, _: LeaseId, _: Duration) -> Result<Issued, BackendError> {
        Err(BackendError::new(ErrorKind::Misconfigured, &self.name, Operation::Issue))
    }

    async fn renew(&self, _: &StoreHandle, ttl: Duration) -> Result<Duration, BackendError> {
        Ok(ttl)
    }

    async fn revoke(&self, handle: &StoreHandle) -> Result<Removal, BackendError> {
        self.calls.lock().expect("lock").push((Instant::now(), handle.as_str().to_owned()));
        let under_way = self.under_way.fetch_add(1, Ordering::Relaxed) + 1;
        self.most.fetch_max(under_way, Ordering::Relaxed);
        let done = self.act(Operation::Revoke).await;
        self.under_way.fetch_sub(1, Ordering::Relaxed);
        let conduct = *self.conduct.lock().expect("lock");
        done.map(|()| match conduct {
            Conduct::KeepsUntil(end) => Removal::EndsAt(end),
            Conduct::Well { .. } | Conduct::Fails(_) | Conduct::Hangs => Removal::Gone,
        })
    }

    async fn find_orphans(
        &self,
        _: &SecretPath,
        _: std::ops::Range<Timestamp>,
    ) -> Result<Vec<StoreHandle>, BackendError> {
        self.act(Operation::FindOrphans).await.map(|()| Vec::new())
    }
}

fn well() -> Conduct {
    Conduct::Well { taking: Duration::ZERO }
}

fn principal() -> SpiffeId {
    SpiffeId::parse("spiffe://example.org/workload/web").expect("id")
}

const ORIGIN: &str = "bursar.dev/example.org/broker-1";
const HOUR: Duration = Duration::from_secs(3600);
const SECOND: Duration = Duration::from_secs(1);
const ROUND: Duration = Duration::from_millis(20);
const ROUNDS: usize = 3000;
