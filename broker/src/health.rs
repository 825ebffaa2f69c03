//! What "ready" means: the broker can authenticate callers, commit and issue now (promise 9).
//!
//! Ready is one flag, worked out from checks that are made again all the time; nothing sets it by hand but the shutdown.
//! A store that is down does not make the broker unready: others may be well, and an orchestrator that restarts brokers
//! because a store is sealed would only make things worse. It is shown, counted and named instead. So is an audit sink
//! that takes no records: they wait in the ledger.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bursar_core::BackendName;
use bursar_core::tasks::Tasks;
use futures_util::future::join_all;
use tokio::sync::watch;

use crate::disk::{Disk, Room};
use crate::identity::Trust;
use crate::ledger::{Ledger, LedgerError};
use crate::mounts::Mounts;
use crate::shipping::Shipping;

/// The checks and what came of them last.
#[derive(Debug)]
pub struct Health {
    ledger: Ledger,
    mounts: Arc<Mounts>,
    shipping: Arc<Shipping>,
    disk: Arc<Disk>,
    trust: Arc<Trust>,
    stopping: AtomicBool,
    findings: watch::Sender<Findings>,
}

/// What the last round of checks found.
#[derive(Debug, Clone, Default)]
pub struct Findings {
    pub ledger: Option<String>,
    pub backends: Vec<(BackendName, Option<String>)>,
    checked: bool,
}

impl Health {
    /// Not ready until the first round.
    pub fn new(
        ledger: Ledger,
        mounts: Arc<Mounts>,
        shipping: Arc<Shipping>,
        disk: Arc<Disk>,
        trust: Arc<Trust>,
    ) -> Self {
        let findings = watch::Sender::new(Findings::default());
        Self { ledger, mounts, shipping, disk, trust, stopping: AtomicBool::new(false), findings }
    }

    /// Checks until the process stops.
    pub async fn watch(self: Arc<Self>, tasks: Tasks) {
        let mut ticks = tasks.ticks(TICK);
        while ticks.next().await {
            let findings = self.check().await;
            self.findings.send_replace(findings);
        }
        self.stop();
    }

    /// Not ready from now on.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.findings.send_modify(|_| {});
    }

    /// Whether the broker can serve now. What the last commit met counts at once, not at the next round.
    pub fn ready(&self) -> bool {
        self.why_not().is_none()
    }

    /// Why the broker cannot serve now; nothing when it can.
    pub fn why_not(&self) -> Option<String> {
        if self.stopping.load(Ordering::Acquire) {
            return Some("stopping".to_owned());
        }
        let findings = self.findings.borrow();
        match self.ledger.health() {
            crate::ledger::Health::Full => Some(LedgerError::Full.to_string()),
            crate::ledger::Health::Failed(kind) => Some(format!("the ledger fails ({})", kind.as_str())),
            crate::ledger::Health::Ready if !findings.checked => Some("starting".to_owned()),
            crate::ledger::Health::Ready => findings
                .ledger
                .clone()
                .or_else(|| self.disk.finding().filter(|_| self.disk.room() >= Room::Refusing)),
        }
    }

    /// What the last round found.
    pub fn findings(&self) -> Findings {
        self.findings.borrow().clone()
    }

    /// What the last look at the disk found.
    pub fn disk(&self) -> (String, Option<String>) {
        ("disk".to_owned(), self.disk.finding())
    }

    /// What is not well and does not keep the broker from serving, with why: stores, audit sinks, a disk that gets full, trust
    /// bundles that cannot be read again.
    pub fn degraded(&self) -> Vec<(String, String)> {
        let backends = self.findings().backends.into_iter();
        let backends = backends.map(|(name, fault)| (format!("backend {name}"), fault));
        let faults = backends.chain(self.sinks()).chain([self.disk()]).chain(self.trust());
        faults.filter_map(|(what, fault)| fault.map(|fault| (what, fault))).collect()
    }

    /// What each audit sink met last.
    pub fn sinks(&self) -> impl Iterator<Item = (String, Option<String>)> {
        self.shipping.findings().into_iter().map(|(name, fault)| (format!("sink {name}"), fault))
    }

    /// What each trust bundle's files met last.
    pub fn trust(&self) -> Vec<(String, Option<String>)> {
        self.trust.findings()
    }

    /// Hears of every round.
    pub fn rounds(&self) -> watch::Receiver<Findings> {
        self.findings.subscribe()
    }

    async fn check(&self) -> Findings {
        let ledger = self.ledger.probe().await.err().map(|error| error.to_string());
        let checks = self.mounts.iter().map(|(name, mount)| async move {
            let health = mount.examine(BACKEND_LIMIT).await;
            (name.clone(), health.err().map(|error| error.to_string()))
        });
        Findings { ledger, backends: join_all(checks).await, checked: true }
    }
}

const TICK: Duration = Duration::from_secs(5);
const BACKEND_LIMIT: Duration = Duration::from_secs(3);
