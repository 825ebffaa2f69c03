//! A broker's leases on a disk of their own, which can lose power at any moment, and the invariants that then hold.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use bursar_core::audit::{Action, Decision, Outcome};
use bursar_core::clock::TestClock;
use bursar_core::reference::FieldName;
use bursar_core::tasks::Tasks;
use bursar_core::tlog::Signer;
use bursar_core::{Clock, Lease, LeaseId, LeaseState, Reference, Secret, SpiffeId};
use prometheus_client::registry::Registry;
use ring::rand::SystemRandom;
use ring::signature::Ed25519KeyPair;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::time::Instant;

use super::store::{Fault, Store};
use crate::call::{Call, Draft};
use crate::config::{CacheContract, LeaseLimits, OnOutage, RevocationLimits};
use crate::failure::Failure;
use crate::identity::Caller;
use crate::lease::Leases;
use crate::lease::grant::{Granted, Refused, Terms, Wanted};
use crate::lease::queue::Pace;
use crate::ledger::{AuditQuery, LeaseFilter, Ledger, LedgerConfig, LedgerPlace, Page, Quotas};
use crate::mounts::{Mount, Mounts};
use crate::policy::{Facts, PrincipalFacts};
use crate::seal::Seal;
use crate::telemetry::Metrics;

/// One broker after the other on one ledger, before one store.
pub(super) struct World {
    pub(super) store: Store,
    pub(super) clock: Arc<TestClock>,
    pub(super) life: Life,
    /// What callers got: each lease with the credential under it.
    pub(super) received: BTreeMap<LeaseId, Option<String>>,
    /// Each lease as it was last, with its attempts.
    seen: BTreeMap<LeaseId, (LeaseState, u32)>,
    keys: Keys,
    requests: u32,
}

/// What brokers of one ledger share.
struct Keys {
    signing: Vec<u8>,
    seal: Secret,
    quotas: Quotas,
}

/// One broker, from its start to its end.
pub(super) struct Life {
    pub(super) leases: Arc<Leases>,
    pub(super) ledger: Ledger,
    runtime: Runtime,
    folder: TempDir,
}

impl World {
    pub(super) fn new() -> Self {
        Self::under(Quotas::default())
    }

    /// With quotas.
    pub(super) fn under(quotas: Quotas) -> Self {
        let clock = Arc::new(TestClock::new());
        let store = Store::new(&clock);
        let random = SystemRandom::new();
        let keys = Keys {
            signing: Ed25519KeyPair::generate_pkcs8(&random).expect("key").as_ref().to_vec(),
            seal: Seal::generate_key(&random).expect("key"),
            quotas,
        };
        let life = Life::begin(tempfile::tempdir().expect("folder"), &clock, &store, &keys);
        Self { store, clock, life, received: BTreeMap::new(), seen: BTreeMap::new(), keys, requests: 0 }
    }

    /// Power is lost, and comes back: what is on disk at this moment is all that the next broker has.
    pub(super) fn lose_power(&mut self) {
        let folder = tempfile::tempdir().expect("folder");
        self.clock.advance(BLINK);
        for name in [LEDGER, "ledger.db-wal"] {
            std::fs::copy(self.life.folder.path().join(name), folder.path().join(name)).expect("copy");
        }
        self.life = Life::begin(folder, &self.clock, &self.store, &self.keys);
    }

    /// Does `work`, while `fault` goes wrong; nothing when the broker ended over it.
    pub(super) fn run<T>(&mut self, fault: Fault, work: impl Future<Output = T>) -> Option<T> {
        self.store.fail(fault);
        let store = self.store.clone();
        let done = self.life.runtime.block_on(async {
            tokio::select! {
                done = work => Some(done),
                () = store.crashed() => None,
            }
        });
        self.store.mend();
        self.life.runtime.block_on(self.life.leases.examine_stores());
        if done.is_none() {
            self.lose_power();
        }
        done
    }

    /// Reads a secret; answers whether it was disclosed.
    pub(super) fn read(&mut self, reference: &str, fault: Fault) -> bool {
        let work = self.reading(reference);
        let granted = self.run(fault, work).flatten();
        granted.map(|granted| self.take(granted)).is_some()
    }

    /// A read, to be run.
    pub(super) fn reading(&mut self, reference: &str) -> impl Future<Output = Option<Granted>> + use<> {
        let terms = Terms { instance: format!("{}", self.requests), ..Terms::default() };
        let reading = self.reading_all(terms, &[reference]);
        async move { reading.await.ok()?.pop() }
    }

    /// A read of several secrets, to be run.
    pub(super) fn reading_all(
        &mut self,
        terms: Terms,
        references: &[&str],
    ) -> impl Future<Output = Result<Vec<Granted>, Vec<Refused>>> + use<> {
        self.requests += 1;
        self.clock.advance(BLINK);
        let wanted = |reference: &&str| {
            let reference = Reference::parse(reference).expect("reference");
            Wanted {
                reference: reference.without_field(),
                fields: vec![reference.field.clone()],
                max_age: None,
                draft: self.draft(Action::Read, &reference.to_string()),
            }
        };
        let wanted = references.iter().map(wanted).collect();
        let (leases, caller) = (Arc::clone(&self.life.leases), Arc::new(self.caller()));
        async move { leases.grant(&caller, terms, wanted).await }
    }

    /// A caller has it now.
    pub(super) fn take(&mut self, granted: Granted) {
        let user = FieldName::parse("username").expect("field");
        let value = granted.data.select(Some(&user)).expect("there is a user");
        let user = String::from_utf8(value.expose().to_vec()).expect("text");
        self.received.insert(granted.lease.id, granted.lease.dynamic.then_some(user));
    }

    pub(super) fn lease(&self, id: LeaseId) -> Lease {
        let found = self.life.runtime.block_on(self.life.ledger.lease(id));
        found.expect("the ledger answers").expect("a lease that was there once stays in the ledger")
    }

    /// Every lease, whatever its state.
    pub(super) fn leases(&self) -> Vec<Lease> {
        let filter = LeaseFilter { states: LeaseState::ALL.to_vec(), ..LeaseFilter::default() };
        let found = self.life.runtime.block_on(self.life.ledger.leases(filter, Page::first(1000)));
        found.expect("the ledger answers").items
    }

    pub(super) fn draft(&self, action: Action, resource: &str) -> Draft {
        let call = Call {
            caller: Arc::new(self.caller()),
            request_id: format!("request-{}", self.requests).into(),
            trace_id: None,
            time: self.clock.now(),
            arrived: Instant::now(),
        };
        call.asks(action, resource).decided(Decision::Allow, Arc::default())
    }

    pub(super) fn caller(&self) -> Caller {
        Caller {
            account: None,
            facts: PrincipalFacts::new(Facts {
                id: SpiffeId::parse("spiffe://example.org/ns/shop/sa/web").expect("id"),
                method: "mtls".to_owned(),
                node: None,
                selectors: Vec::new(),
                groups: Vec::new(),
            }),
            credential: String::new(),
            credential_expires: self.clock.now() + Duration::from_secs(24 * 3600),
            instance: None,
            ttl: None,
            peer: None,
        }
    }

    /// Every invariant of leases, by name.
    ///
    /// # Errors
    /// The first that does not hold.
    pub(super) fn check(&mut self) -> Result<(), String> {
        let leases = self.leases();
        self.no_credential_without_lease_or_intent(&leases)?;
        self.nothing_disclosed_without_record()?;
        self.a_live_lease_has_its_credential()?;
        self.only_removal_ends_a_lease()?;
        self.attempts_are_bounded(&leases)?;
        self.no_lease_resurrects(&leases)
    }

    fn no_credential_without_lease_or_intent(&self, leases: &[Lease]) -> Result<(), String> {
        let holds = |lease: &&Lease| {
            let handle = self.life.runtime.block_on(self.life.ledger.handle(lease.id)).expect("answer");
            handle.map(|handle| handle.as_str().to_owned())
        };
        let open = leases.iter().filter(|lease| lease.dynamic && lease.state != LeaseState::Gone);
        let (held, searched): (Vec<_>, Vec<_>) =
            open.map(|lease| (lease, holds(&lease))).partition(|(_, handle)| handle.is_some());
        for (credential, made) in self.store.alive() {
            let is_held = held.iter().any(|(_, handle)| handle.as_ref() == Some(&credential));
            let is_searched = searched
                .iter()
                .any(|(lease, _)| lease.issued_at <= made && made <= self.life.leases.store_is_done(lease));
            if !is_held && !is_searched {
                return Err(format!("no lease and no intent knows `{credential}`, made at {made}"));
            }
        }
        Ok(())
    }

    fn nothing_disclosed_without_record(&self) -> Result<(), String> {
        for id in self.received.keys() {
            self.lease(*id);
            let query =
                AuditQuery { lease_id: Some(*id), actions: vec![Action::Read], ..AuditQuery::default() };
            let found = self.life.runtime.block_on(self.life.ledger.audit(query, Page::first(10)));
            if !found.expect("answer").items.iter().any(|record| record.outcome == Outcome::Ok) {
                return Err(format!("the disclosure under {id} has no record"));
            }
        }
        Ok(())
    }

    /// What a search takes back is never somebody's: not even of a read that it met half-way.
    fn a_live_lease_has_its_credential(&self) -> Result<(), String> {
        let alive = self.store.alive();
        for (id, credential) in &self.received {
            if let Some(credential) = credential
                && self.lease(*id).state.is_live()
                && !alive.contains_key(credential)
            {
                return Err(format!("`{credential}` of the live lease {id} is gone at the store"));
            }
        }
        Ok(())
    }

    fn only_removal_ends_a_lease(&self) -> Result<(), String> {
        let alive = self.store.alive();
        for (id, credential) in &self.received {
            if let Some(credential) = credential
                && self.lease(*id).state == LeaseState::Gone
                && alive.contains_key(credential)
            {
                return Err(format!("the lease {id} is gone and its `{credential}` works"));
            }
        }
        Ok(())
    }

    /// One step makes one attempt at a lease, whatever fails.
    fn attempts_are_bounded(&self, leases: &[Lease]) -> Result<(), String> {
        for lease in leases {
            let before = self.seen.get(&lease.id).map_or(0, |(_, attempts)| *attempts);
            if lease.attempts > before + 1 {
                return Err(format!("{} attempts at {} after {before}", lease.attempts, lease.id));
            }
        }
        Ok(())
    }

    fn no_lease_resurrects(&mut self, leases: &[Lease]) -> Result<(), String> {
        for lease in leases {
            let before = self.seen.insert(lease.id, (lease.state, lease.attempts)).map(|(state, _)| state);
            let was_over =
                before.is_some_and(|state| !matches!(state, LeaseState::Intent | LeaseState::Active));
            let was_gone = before == Some(LeaseState::Gone);
            if was_over && lease.state.is_live() || was_gone && lease.state != LeaseState::Gone {
                return Err(format!("the lease {} was {before:?} and is {:?}", lease.id, lease.state));
            }
        }
        let lost = self.seen.keys().find(|id| !leases.iter().any(|lease| lease.id == **id));
        lost.map_or(Ok(()), |id| Err(format!("the lease {id} was lost")))
    }
}

impl Leases {
    /// Looks once at every queue, and at the intents.
    pub(super) async fn look_once(&self) -> Result<(), Failure> {
        for (name, mount) in self.mounts.iter() {
            self.drain(name, mount, &Pace::of(mount.revocation)).await?;
        }
        self.give_up_old_intents().await
    }

    /// As it is done every few seconds: a circuit that faults opened is tried at the next call.
    async fn examine_stores(&self) {
        for (_, mount) in self.mounts.iter() {
            mount.examine(Duration::from_secs(60)).await.expect("the store is well");
        }
    }
}

impl Life {
    pub(super) fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    fn begin(folder: TempDir, clock: &Arc<TestClock>, store: &Store, keys: &Keys) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
        let origin = "bursar.dev/example.org/broker".to_owned();
        let signer = Signer::from_pkcs8(&origin, &keys.signing).expect("signer");
        let config = LedgerConfig {
            place: LedgerPlace::sqlite(folder.path().join(LEDGER)),
            origin,
            queue: 64,
            quotas: keys.quotas.clone(),
        };
        let ledger = Ledger::open(config, Arc::clone(clock) as Arc<dyn Clock>).expect("ledger");
        ledger.start_signing(signer).expect("signing");
        let metrics = Metrics::register(&mut Registry::default());
        let contract = CacheContract {
            max_stale: Duration::from_secs(30),
            on_outage: OnOutage::Fail,
            poll: Duration::from_secs(3600),
        };
        let limits = RevocationLimits { concurrency: 8, per_second: NonZeroU32::MAX, attempts: 12 };
        let backend = Arc::new(store.clone());
        let mount = Mount::new(store.name().clone(), backend, contract, limits, metrics.clone());
        let mounts = Mounts::new([mount], 1024 * 1024, metrics.clone());
        let limits = LeaseLimits {
            default_ttl: Duration::from_secs(600),
            max_ttl: Duration::from_secs(3600),
            max_life: Duration::from_secs(24 * 3600),
            settle_after: Duration::from_secs(90),
            keep_gone: Duration::from_secs(24 * 3600),
            quota: keys.quotas.principal,
        };
        let seal = Arc::new(Seal::from_key(&keys.seal).expect("seal"));
        let leases = Arc::new(Leases::new(
            ledger.clone(),
            Arc::new(mounts),
            seal,
            limits,
            Arc::clone(clock) as Arc<dyn Clock>,
            Tasks::new(),
            metrics,
        ));
        Self { leases, ledger, runtime, folder }
    }
}

const LEDGER: &str = "ledger.db";
/// No broker does two things at one moment.
const BLINK: Duration = Duration::from_millis(1);
