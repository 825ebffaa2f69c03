//! Whether the agent can do its work now (promise 9).
//!
//! Ready: the node has a certificate that has not ended and is not refused, and the broker answers, or failing that, the
//! cache has something that it may serve. Worked out anew every second; nothing sets it by hand but the shutdown.

use std::sync::Arc;
use std::time::Duration;

use bursar_core::Clock;
use bursar_core::tasks::Tasks;
use tokio::sync::watch;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::cache::Cache;
use crate::files::Board;
use crate::node::Credential;
use crate::run;
use crate::telemetry::Metrics;
use crate::upstream::Upstream;
use crate::witness::Witness;

/// What is looked at.
#[derive(Debug)]
pub struct Health {
    pub credential: watch::Receiver<Option<Arc<Credential>>>,
    pub upstream: Arc<Upstream>,
    pub cache: Arc<Cache>,
    pub witness: Arc<Witness>,
    pub files: Arc<Board>,
    pub runs: Arc<run::Board>,
    pub clock: Arc<dyn Clock>,
    pub metrics: Metrics,
    pub findings: watch::Sender<Findings>,
}

/// What was found last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Findings {
    /// Why the agent is not ready; nothing when it is.
    pub not_ready: Option<&'static str>,
    /// What is wrong although it is ready.
    pub fault: Option<String>,
}

impl Default for Findings {
    fn default() -> Self {
        Self { not_ready: Some("starting"), fault: None }
    }
}

impl Health {
    /// Looks every second and tells `reporter`, until the process stops.
    pub async fn watch(&self, reporter: HealthReporter, tasks: &Tasks) {
        let mut ticks = tasks.ticks(INTERVAL);
        while ticks.next().await {
            let found = self.look();
            let ready = found.not_ready.is_none();
            self.metrics.ready.set(i64::from(ready));
            let status = if ready { ServingStatus::Serving } else { ServingStatus::NotServing };
            reporter.set_service_status("", status).await;
            let changed = self.findings.send_if_modified(|known| {
                let changed = *known != found;
                known.clone_from(&found);
                changed
            });
            if changed {
                tracing::info!(ready, why = found.not_ready, fault = found.fault, "readiness changed");
            }
        }
        self.findings.send_replace(Findings { not_ready: Some("stopping"), fault: None });
        reporter.set_service_status("", ServingStatus::NotServing).await;
    }

    /// Looks once.
    pub fn look(&self) -> Findings {
        let certified =
            self.credential.borrow().as_ref().map(|credential| credential.is_valid(self.clock.now()));
        let answers =
            self.upstream.last_answer().is_some_and(|ago| ago < RECENT) || self.cache.is_listening();
        let not_ready = match certified {
            None => Some("the node has not joined yet"),
            Some(false) => Some("the node's certificate has ended"),
            Some(true) if self.upstream.is_refused() => Some("the broker refuses the node's certificate"),
            Some(true) if !answers && !self.cache.can_serve() => Some("the broker does not answer"),
            Some(true) => None,
        };
        let failing = self.files.count().1;
        self.metrics.file_sets_failing.set(i64::try_from(failing).unwrap_or(i64::MAX));
        self.metrics.runs_failing.set(i64::try_from(self.runs.count().1).unwrap_or(i64::MAX));
        let fault = self.witness.fault().or_else(|| self.files.fault()).or_else(|| self.runs.fault());
        Findings { not_ready, fault }
    }
}

const INTERVAL: Duration = Duration::from_secs(1);
/// An answer that is older says nothing of now. Longer than the longest wait between two attempts at hearing events.
const RECENT: Duration = Duration::from_secs(90);
