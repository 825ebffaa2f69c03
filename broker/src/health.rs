//! What "ready" means: the broker can authenticate callers, commit and issue now (promise 9).
//!
//! Ready is one flag, worked out from checks that are made again all the time; nothing sets it by hand but the shutdown.
//! A store that is down does not make the broker unready: others may be well, and an orchestrator that restarts brokers
//! because a store is sealed would only make things worse. It is shown, counted and named instead.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bursar_core::BackendName;
use bursar_core::tasks::Tasks;
use futures_util::future::join_all;
use tokio::sync::watch;

use crate::ledger::Ledger;
use crate::mounts::Mounts;

/// The checks and what came of them last.
#[derive(Debug)]
pub struct Health {
    ledger: Ledger,
    mounts: Arc<Mounts>,
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
    pub fn new(ledger: Ledger, mounts: Arc<Mounts>) -> Self {
        let findings = watch::Sender::new(Findings::default());
        Self { ledger, mounts, stopping: AtomicBool::new(false), findings }
    }

    /// Checks until the process stops.
    pub async fn watch(self: Arc<Self>, tasks: Tasks) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                _ = tasks.stopping() => break,
            }
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
        let findings = self.findings.borrow();
        findings.checked
            && findings.ledger.is_none()
            && self.ledger.health() == crate::ledger::Health::Ready
            && !self.stopping.load(Ordering::Acquire)
    }

    /// What the last round found.
    pub fn findings(&self) -> Findings {
        self.findings.borrow().clone()
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
