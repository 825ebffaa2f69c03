//! Sets of files that the agent delivers by itself, for programs that can do nothing but read a file.
//!
//! A set is one more reader, attested by the name that this machine's administrator gave it. It asks the same way as a
//! process that connects to the socket, so the broker decides on it, its leases are renewed, and what the cache serves is
//! journaled. What is different is that its values stay where others read them after the answer: [`delivery`] sees to it
//! that they do so no longer than they may.
//!
//! From an environment to a program: [`render`] makes contents, in memory; [`directory`] puts them where they are read;
//! [`hook`] tells the program; [`record`] tells the next agent how long they may stay. [`board`] says how it goes.
//!
//! Letting a helper of the workload ask through the socket was the alternative. Each would have to be trusted to write
//! files with the right mode, to hear of a revocation, and to be there when it comes.

pub(crate) mod board;
mod delivery;
pub(crate) mod directory;
pub(crate) mod hook;
pub(crate) mod put;
mod record;
pub(crate) mod render;

use std::path::Path;
use std::sync::Arc;

use bursar_core::{Clock, Explained};

pub use board::Board;

use crate::account::NoAccount;
use crate::answer::Answers;
use crate::attest::Attestor;
use crate::cache::Cache;
use crate::config::FileSet;
use crate::telemetry::Metrics;
use crate::upstream::Upstream;
use delivery::Delivery;
use directory::Directory;
use hook::Runner;
use record::Record;

/// What deliveries need of the agent around them.
#[derive(Debug)]
pub struct Surroundings {
    pub attestor: Arc<Attestor>,
    pub answers: Arc<Answers>,
    pub cache: Arc<Cache>,
    pub upstream: Arc<Upstream>,
    pub clock: Arc<dyn Clock>,
    pub metrics: Metrics,
}

/// The sets of a configuration, ready to be delivered.
#[derive(Debug)]
pub struct Deliveries {
    all: Vec<Delivery>,
    hooks: Vec<Runner>,
    /// Of sets that are configured no more.
    forgotten: Vec<Record>,
    /// How it goes.
    pub board: Arc<Board>,
}

impl Deliveries {
    /// Prepares to deliver `sets`. `data_dir` is the agent's own.
    ///
    /// # Errors
    /// [`FilesError`], when an owner is nobody here.
    pub fn prepare(sets: &[FileSet], data_dir: &Path, around: &Surroundings) -> Result<Self, FilesError> {
        let mut board = Board::default();
        let mut hooks = Vec::new();
        let delivery = |set: &FileSet| {
            let directory =
                Directory::of(set).map_err(|source| FilesError::Account { set: set.name.clone(), source })?;
            let place = board.place();
            let (bell, hook) = hook::of(set, &around.metrics, &place);
            hooks.extend(hook);
            Ok(Delivery {
                set: set.clone(),
                directory,
                record: Record::of(set, data_dir),
                reader: Arc::new(around.attestor.delivery(&set.name)),
                answers: Arc::clone(&around.answers),
                cache: Arc::clone(&around.cache),
                upstream: Arc::clone(&around.upstream),
                clock: Arc::clone(&around.clock),
                metrics: around.metrics.clone(),
                place,
                bell,
            })
        };
        let all = sets.iter().map(delivery).collect::<Result<_, FilesError>>()?;
        let forgotten = Record::forgotten(sets, data_dir);
        Ok(Self { all, hooks, forgotten, board: Arc::new(board) })
    }

    /// Delivers. Never ends.
    pub async fn run(self) {
        let forgotten = self.forgotten;
        let cleared = tokio::task::spawn_blocking(move || forgotten.iter().for_each(clear));
        if cleared.await.is_err() {
            tracing::error!("files of sets that are configured no more may still be there");
        }
        let deliveries = futures_util::future::join_all(self.all.iter().map(Delivery::run));
        let hooks = futures_util::future::join_all(self.hooks.into_iter().map(Runner::run));
        tokio::join!(deliveries, hooks);
        // Without a set there is nothing to wait for.
        std::future::pending::<()>().await;
    }
}

/// Removes the files of a set that is configured no more.
fn clear(record: &Record) {
    let set = record.name();
    match Directory::left_behind(record.directory()).clear() {
        Ok(_) => tracing::info!(set, "the files of a set that is configured no more were removed"),
        Err(error) => {
            let error = Explained(&error);
            return tracing::error!(
                set,
                %error,
                "files of a set that is configured no more cannot be removed"
            );
        }
    }
    if let Err(error) = record.remove() {
        tracing::warn!(set, %error, "it could not be written down that a set has no files");
    }
}

/// Why the sets cannot be delivered as they are configured.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    #[error("the owner of the set of files `{set}` is not known")]
    Account {
        set: String,
        #[source]
        source: NoAccount,
    },
}
