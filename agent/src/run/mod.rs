//! Programs that the agent keeps running with their secrets, on machines and in containers that have nothing else for that.
//!
//! There is one supervisor in Bursar, and it is `bursar run`: the agent starts it as the program's user, with nothing of
//! its own, and looks after that one process. What resolves, masks, delivers files, hears of changes and restarts the
//! program is the same as when a person types it, and the agent holds no value for it outside of its cache.
//!
//! From the configuration to a process: [`launch`] makes the command; [`life`] is one process that was started;
//! [`keep`] decides when there is another; [`board`] says how it goes.
//!
//! **No program outlives its agent.** Each `bursar run` has a pipe for its standard input, whose other end the agent alone
//! holds. When that closes, by decision or because the agent is no more, `bursar` ends the program in order, removes its
//! files and ends. That needs no right over a process of another user, which a signal would.
//!
//! **Who asks** is the process that connects, attested like every other, and besides as what the agent started it as.
//!
//! What is not done here: nothing that a program writes is read or kept, and the configuration is read once.

mod board;
mod keep;
mod launch;
mod life;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bursar_core::tasks::Tasks;
use futures_util::future::join_all;
use tokio::sync::watch;

pub use board::Board;

use crate::account::NoAccount;
use crate::attest::Attestor;
use crate::config::Run;
use crate::health::Findings;
use crate::telemetry::Metrics;
use keep::{Keeper, MARGIN};
use launch::Launch;

/// The programs of a configuration, ready to be started.
#[derive(Debug)]
pub struct Runs {
    all: Vec<Keeper>,
    /// How it goes.
    pub board: Arc<Board>,
}

impl Runs {
    /// Prepares to keep `runs` running, by the `bursar` at `cli` or the one beside this program, with secrets from `socket`.
    ///
    /// # Errors
    /// [`RunsError`].
    pub fn prepare(
        runs: &[Run],
        cli: Option<&Path>,
        socket: &Path,
        attestor: &Arc<Attestor>,
        metrics: &Metrics,
    ) -> Result<Self, RunsError> {
        let mut board = Board::default();
        let mut all = Vec::new();
        if !runs.is_empty() {
            let cli = found(cli)?;
            let socket = std::path::absolute(socket).map_err(RunsError::Nowhere)?;
            for run in runs {
                let launch = Launch::of(run, &cli, &socket)
                    .map_err(|source| RunsError::Account { run: run.name.clone(), source })?;
                let (attestor, metrics) = (Arc::clone(attestor), metrics.clone());
                all.push(Keeper { launch, attestor, metrics, place: board.place() });
            }
        }
        Ok(Self { all, board: Arc::new(board) })
    }

    /// How long it may take until all have ended once the agent goes down.
    pub fn longest_stop(&self) -> Duration {
        let longest = self.all.iter().map(|keeper| keeper.launch.run.stop_timeout + 2 * MARGIN).max();
        longest.unwrap_or_default()
    }

    /// Starts them once the agent is ready for the first time, and keeps them running until it goes down.
    pub async fn keep(self, mut findings: watch::Receiver<Findings>, tasks: &Tasks) {
        let ready = async { findings.wait_for(|findings| findings.not_ready.is_none()).await.is_ok() };
        if tasks.until_stopping(ready).await.is_some() {
            join_all(self.all.iter().map(|keeper| keeper.keep(tasks))).await;
        }
        tasks.stopping().await;
    }
}

/// The program that keeps the others running.
fn found(configured: Option<&Path>) -> Result<PathBuf, RunsError> {
    let path = match configured {
        Some(path) => path.to_owned(),
        None => std::env::current_exe().map_err(RunsError::Nowhere)?.with_file_name("bursar"),
    };
    if path.is_file() { Ok(path) } else { Err(RunsError::NoProgram { path }) }
}

/// Why programs cannot be kept running as they are configured.
#[derive(Debug, thiserror::Error)]
pub enum RunsError {
    #[error("there is no program `{}`, which keeps others running; say by `cli` where `bursar` is", path.display())]
    NoProgram { path: PathBuf },
    #[error("the user of the program `{run}` is not known")]
    Account {
        run: String,
        #[source]
        source: NoAccount,
    },
    #[error("it cannot be found out where this program is")]
    Nowhere(#[source] std::io::Error),
}
