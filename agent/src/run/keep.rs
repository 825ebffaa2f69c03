//! Keeps one program running: starts it, sees it end, decides whether it starts again, and ends it with the agent.

use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use bursar_core::Explained;
use bursar_core::retry::Retry;
use bursar_core::tasks::Tasks;
use tokio::time::{Instant, sleep, sleep_until};

use super::board::Place;
use super::launch::Launch;
use super::life::Life;
use crate::attest::Attestor;
use crate::config::Restart;
use crate::telemetry::Metrics;

/// Keeps one program running.
#[derive(Debug)]
pub(super) struct Keeper {
    pub(super) launch: Launch,
    pub(super) attestor: Arc<Attestor>,
    pub(super) metrics: Metrics,
    pub(super) place: Place,
}

/// What became of a program that was to run.
enum Outcome {
    /// It was not started, or ended otherwise than well.
    Failed,
    /// With exit code 0.
    Done,
    /// The agent goes down.
    Stopped,
}

impl Keeper {
    /// Ends when the program is not to be started any more, or the agent goes down and the program is gone.
    pub(super) async fn keep(&self, tasks: &Tasks) {
        // Lives in a row that were short.
        let mut short = 0_u32;
        loop {
            let failed = match self.once(tasks, &mut short).await {
                Outcome::Failed => true,
                Outcome::Done => false,
                Outcome::Stopped => return,
            };
            self.place.is_good(!failed);
            let again = match self.launch.run.restart {
                Restart::Always => true,
                Restart::OnFailure => failed,
                Restart::Never => false,
            };
            if !again {
                tracing::info!(run = self.launch.run.name, "a program is not started again, as configured");
                return;
            }
            short = short.saturating_add(1);
            if tasks.until_stopping(sleep(Retry::BACKGROUND.delay(short))).await.is_none() {
                return;
            }
        }
    }

    async fn once(&self, tasks: &Tasks, short: &mut u32) -> Outcome {
        let run = &self.launch.run.name;
        let mut life = match Life::start(&self.launch, &self.attestor).await {
            Ok(life) => life,
            Err(error) => {
                self.metrics.run("not_started");
                let error = Explained(&error);
                tracing::warn!(run, %error, "a program was not started; it is tried again if so configured");
                return Outcome::Failed;
            }
        };
        self.metrics.run("started");
        self.metrics.runs_running.inc();
        tracing::info!(run, pid = life.pid(), "a program was started");
        let steady = Instant::now() + STEADY;
        let outcome = loop {
            tokio::select! {
                status = life.ended() => break self.ended(status),
                _ = tasks.stopping() => {
                    let in_order = life.stop(self.launch.run.stop_timeout + MARGIN).await;
                    self.metrics.run(if in_order { "stopped" } else { "killed" });
                    tracing::info!(run, in_order, "a program was stopped");
                    break Outcome::Stopped;
                }
                () = sleep_until(steady), if *short > 0 => {
                    *short = 0;
                    self.place.is_good(true);
                }
            }
        };
        self.metrics.runs_running.dec();
        outcome
    }

    fn ended(&self, status: Option<ExitStatus>) -> Outcome {
        let run = &self.launch.run.name;
        let text = status.map(|status| status.to_string());
        if status.is_some_and(|status| status.success()) {
            self.metrics.run("ended");
            tracing::info!(run, status = text, "a program ended");
            Outcome::Done
        } else {
            self.metrics.run("failed");
            tracing::warn!(run, status = text, "a program ended with a failure");
            Outcome::Failed
        }
    }
}

/// One that has run for so long is well again.
const STEADY: Duration = Duration::from_secs(30);
/// `bursar` kills the program when its time is over, removes its files and ends.
pub(super) const MARGIN: Duration = Duration::from_secs(5);
