//! A store that leases, and that fails as it is told to.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use bursar_core::backend::{
    Backend, BackendError, Capabilities, ErrorKind, Fetched, Issued, Leasing, Operation, Removal,
    StoreHandle, VersionInfo, fields_from,
};
use bursar_core::clock::TestClock;
use bursar_core::{BackendName, Clock, LeaseId, Secret, SecretPath, Version};
use jiff::Timestamp;
use tokio::sync::Notify;

/// What goes wrong with the next call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    None,
    /// The store says no, and does nothing.
    Refused,
    /// The call never arrives.
    LostBefore,
    /// The store does it; its answer never arrives.
    LostAfter,
    /// The store does it, and answers what nobody can read.
    Garbage,
    /// The store does it long after the client has given up.
    Late,
    /// What the call is about is gone already.
    Gone,
    /// The broker ends before the store has done anything.
    CrashBefore,
    /// The broker ends when the store has done it.
    CrashAfter,
    /// The broker ends, and the store does it long after that.
    CrashLate,
}

pub(super) const FAULTS: [Fault; 10] = [
    Fault::None,
    Fault::Refused,
    Fault::LostBefore,
    Fault::LostAfter,
    Fault::Garbage,
    Fault::Late,
    Fault::Gone,
    Fault::CrashBefore,
    Fault::CrashAfter,
    Fault::CrashLate,
];

/// The store. It outlives brokers.
#[derive(Clone)]
pub(super) struct Store(Arc<Inner>);

struct Inner {
    clock: Arc<TestClock>,
    name: BackendName,
    state: Mutex<State>,
    crash: Notify,
    /// While it is set, an answer to an issuance is held back.
    held: Notify,
}

#[derive(Default)]
struct State {
    fault: Option<Fault>,
    hold: bool,
    issued: u64,
    renewed: u64,
    finds: u64,
    /// Whether what it makes cannot be extended.
    final_ends: bool,
    alive: BTreeMap<String, Timestamp>,
    /// When requests of clients that are gone will be done.
    pending: Vec<(Timestamp, String)>,
    removals: BTreeMap<String, u32>,
}

impl Store {
    pub(super) fn new(clock: &Arc<TestClock>) -> Self {
        Self(Arc::new(Inner {
            clock: Arc::clone(clock),
            name: BackendName::parse("fake").expect("name"),
            state: Mutex::default(),
            crash: Notify::new(),
            held: Notify::new(),
        }))
    }

    pub(super) fn name(&self) -> &BackendName {
        &self.0.name
    }

    /// Lets the next call, and no other, go wrong.
    pub(super) fn fail(&self, fault: Fault) {
        self.state().fault = Some(fault);
    }

    /// Forgets a fault that no call met.
    pub(super) fn mend(&self) {
        self.state().fault = None;
    }

    /// Holds the answer to the next issuance back until [`Store::let_go`].
    pub(super) fn hold(&self) {
        self.state().hold = true;
    }

    pub(super) fn let_go(&self) {
        self.0.held.notify_one();
    }

    /// Returns when the broker is to end.
    pub(super) async fn crashed(&self) {
        self.0.crash.notified().await;
    }

    /// Every credential that works, with the time of its making.
    pub(super) fn alive(&self) -> BTreeMap<String, Timestamp> {
        self.state().alive.clone()
    }

    /// How many credentials it was asked for and made.
    pub(super) fn issued(&self) -> u64 {
        self.state().issued
    }

    /// How often it was asked for more time.
    pub(super) fn renewed(&self) -> u64 {
        self.state().renewed
    }

    /// What it makes from now on cannot be extended.
    pub(super) fn make_ends_final(&self) {
        self.state().final_ends = true;
    }

    /// Forgets every credential, as nobody asked it to.
    pub(super) fn lose_all(&self) {
        self.state().alive.clear();
    }

    /// How often it was searched.
    pub(super) fn finds(&self) -> u64 {
        self.state().finds
    }

    /// The most removals that were asked for one credential since this was asked last.
    pub(super) fn most_removals(&self) -> u32 {
        std::mem::take(&mut self.state().removals).into_values().max().unwrap_or_default()
    }

    /// The state as of now: what was to happen meanwhile has happened.
    fn state(&self) -> MutexGuard<'_, State> {
        let mut state = self.0.state.lock().expect("a test of this store panicked");
        let now = self.0.clock.now();
        let (due, later) = std::mem::take(&mut state.pending).into_iter().partition(|(at, _)| *at <= now);
        state.pending = later;
        state
            .alive
            .extend(Vec::from_iter(due).into_iter().map(|(at, handle): (Timestamp, String)| (handle, at)));
        state
    }

    /// Does `work` as the fault says, and answers as it says.
    async fn call<T>(
        &self,
        operation: Operation,
        work: impl FnMut(&mut State) -> Result<T, BackendError>,
    ) -> Result<T, BackendError> {
        self.call_or(operation, work, |_| {}).await
    }

    /// The same, with what a fault leaves to be done long after.
    async fn call_or<T>(
        &self,
        operation: Operation,
        mut work: impl FnMut(&mut State) -> Result<T, BackendError>,
        put_off: impl FnOnce(&mut State),
    ) -> Result<T, BackendError> {
        tokio::task::yield_now().await;
        // In one moment: a call beside this one may take the fault.
        let fault = {
            let mut state = self.state();
            let fault = state.fault.take().unwrap_or(Fault::None);
            if matches!(fault, Fault::Late | Fault::CrashLate) {
                put_off(&mut state);
            }
            fault
        };
        let error = |kind| Err(BackendError::new(kind, &self.0.name, operation));
        match fault {
            Fault::None | Fault::Gone => work(&mut self.state()),
            Fault::Refused => error(ErrorKind::Denied),
            Fault::LostBefore | Fault::Late => error(ErrorKind::Timeout),
            Fault::LostAfter => {
                drop(work(&mut self.state()));
                error(ErrorKind::Timeout)
            }
            Fault::Garbage => {
                drop(work(&mut self.state()));
                error(ErrorKind::Malformed)
            }
            Fault::CrashAfter => {
                drop(work(&mut self.state()));
                self.crash().await
            }
            Fault::CrashBefore | Fault::CrashLate => self.crash().await,
        }
    }

    async fn crash<T>(&self) -> T {
        self.0.crash.notify_one();
        std::future::pending().await
    }
}

#[async_trait]
impl Leasing for Store {
    fn is_leased(&self, path: &SecretPath) -> bool {
        path.as_str().starts_with("creds")
    }

    async fn issue(&self, _: &SecretPath, _: LeaseId, _: Duration) -> Result<Issued, BackendError> {
        let now = self.0.clock.now();
        let (handle, late) = {
            let mut state = self.state();
            state.issued += 1;
            (format!("credential-{}", state.issued), std::mem::take(&mut state.hold))
        };
        let make = |state: &mut State| {
            state.alive.insert(handle.clone(), now);
            Ok(())
        };
        self.call_or(Operation::Issue, make, |state| state.pending.push((now + LATE, handle.clone())))
            .await?;
        if late {
            self.0.held.notified().await;
        }
        let value = Secret::from(handle.clone());
        Ok(Issued {
            data: fields_from([("username", value)]).expect("field"),
            handle: StoreHandle::new(handle),
            ttl: Duration::from_secs(3600),
            renewable: !self.state().final_ends,
        })
    }

    async fn renew(&self, handle: &StoreHandle, ttl: Duration) -> Result<Duration, BackendError> {
        self.state().renewed += 1;
        self.call(Operation::Renew, |state| match state.alive.contains_key(handle.as_str()) {
            true => Ok(ttl),
            false => Err(BackendError::new(ErrorKind::NotFound, &self.0.name, Operation::Renew)),
        })
        .await
    }

    async fn revoke(&self, handle: &StoreHandle) -> Result<Removal, BackendError> {
        *self.state().removals.entry(handle.as_str().to_owned()).or_default() += 1;
        self.call(Operation::Revoke, |state| {
            state.alive.remove(handle.as_str());
            Ok(Removal::Gone)
        })
        .await
    }

    async fn find_orphans(
        &self,
        _: &SecretPath,
        created: Range<Timestamp>,
    ) -> Result<Vec<StoreHandle>, BackendError> {
        self.call(Operation::FindOrphans, |state| {
            state.finds += 1;
            let within = state.alive.iter().filter(|(_, at)| created.contains(at));
            Ok(within.map(|(handle, _)| StoreHandle::new(handle.clone())).collect())
        })
        .await
    }
}

#[async_trait]
impl Backend for Store {
    fn capabilities(&self) -> Capabilities {
        Capabilities { kind: "fake", versions: false, list: false, leasing: true, writing: false }
    }

    async fn read(&self, _: &SecretPath, _: Option<&Version>) -> Result<Fetched, BackendError> {
        let value = Secret::from("static".to_owned());
        Ok(Fetched {
            data: fields_from([("username", value)]).expect("field"),
            version: None,
            expires_at: None,
        })
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
        Ok(())
    }

    fn leasing(&self) -> Option<&dyn Leasing> {
        Some(self)
    }
}

/// Well after the first look, and before the store must be done.
const LATE: Duration = Duration::from_secs(80);
