//! What an agent keeps through a restart, so that one that starts again while the broker is away can bridge the outage as
//! the one before it could. Off unless configured.
//!
//! It is one file, sealed ([`seal`]) with a key that is elsewhere ([`key`]): what the cache may serve in an outage, the
//! names that workloads ask under, and the lines of the journal that the broker does not have. No token is in it, and no
//! key of the node. It is bound to the node and to the boot, since processes are known by numbers that begin anew with each.
//!
//! What comes back is worth less than what was there: see `cache::kept`. It is served only where the broker cannot be asked,
//! and no longer than its lease. The file is written anew within a second of word that something is over, so that what was
//! taken back does not come back; and the keyring knows which file was the last, so that an older one does not either.
//!
//! A file that cannot be used, whatever the reason, is worth nothing and removed: the agent says why, starts empty, and
//! asks the broker like any agent that is new.

mod file;
mod key;
mod record;
mod seal;
#[cfg(test)]
mod tests;
#[cfg(feature = "testing")]
mod trial;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bursar_core::{Clock, Explained, Secret};
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use tokio::sync::watch;

pub use file::{FileFault, Unusable};
pub use key::KeyFault;
#[cfg(feature = "testing")]
pub use trial::{sealed, taken_up};

use crate::attest::Attestor;
use crate::cache::Cache;
use crate::config::StateSettings;
use crate::journal::Journal;
use crate::node::Credential;
use crate::telemetry::Metrics;
use file::StateFile;
use key::{Keeping, StateKey};
use record::{Beginning, Reading};
use seal::{Closed, Head, Opener, Sealer};

/// Keeps the state of one agent.
#[derive(Debug)]
pub struct State {
    around: Surroundings,
    file: StateFile,
    keeping: Keeping,
    last: Mutex<Last>,
}

/// Whose state it is.
#[derive(Debug)]
pub struct Surroundings {
    pub cache: Arc<Cache>,
    pub journal: Arc<Journal>,
    pub attestor: Arc<Attestor>,
    /// Says which node it is. Before it has joined there is nothing to keep.
    pub credential: watch::Receiver<Option<Arc<Credential>>>,
    pub clock: Arc<dyn Clock>,
    pub metrics: Metrics,
}

/// What was written last.
#[derive(Debug, Default)]
struct Last {
    number: u64,
    /// Of what is in the file; nothing where that is not known.
    marks: Option<[u8; 32]>,
}

impl State {
    /// In the directory of `settings`, which is made where it is missing. Blocks.
    ///
    /// # Errors
    /// [`StateError`]: the key cannot be had, or the directory is no place for a state.
    pub fn open(settings: StateSettings, around: Surroundings) -> Result<Self, StateError> {
        let file = StateFile::in_directory(&settings.directory, settings.bytes)?;
        let unusable = |source| StateError::Key { source };
        let keeping = Keeping::of(settings.key, &settings.directory).map_err(unusable)?;
        // Whether there can be a key at all is found out before it is needed.
        keeping.key().map_err(unusable)?;
        Ok(Self { around, file, keeping, last: Mutex::default() })
    }

    /// Takes up what was kept, before any event of the broker has arrived. Whatever is wrong with it, the agent starts.
    /// Blocks.
    pub fn resume(&self) {
        let outcome = match self.take_up() {
            Ok(None) => return,
            Ok(Some(Resumed { answers, lines })) => {
                tracing::info!(answers, lines, "what was kept through the restart is taken up");
                "resumed"
            }
            Err(why) => {
                tracing::warn!(
                    error = %Explained(&why),
                    path = %self.file.path().display(),
                    "what was kept is not taken up; the agent starts with nothing in memory"
                );
                // It would be looked at again, and is good for nothing.
                self.file.remove();
                "discarded"
            }
        };
        self.around.metrics.state_resumed(outcome);
    }

    /// Writes what there is every few seconds, and within one of word that something is over. Never ends.
    pub async fn keep(self: &Arc<Self>) {
        let mut news = self.around.cache.news();
        loop {
            tokio::select! {
                () = tokio::time::sleep(INTERVAL) => {}
                // The sender lives in the cache, which outlives this.
                _ = news.changed() => {}
            }
            let state = Arc::clone(self);
            // One that panics has written nothing; the next tries again.
            drop(tokio::task::spawn_blocking(move || state.write()).await);
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Writes what there is, if it is not in the file already. Blocks.
    pub fn write(&self) {
        let Some(node) =
            self.around.credential.borrow().as_ref().map(|credential| credential.id().to_string())
        else {
            return;
        };
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let journal = self.around.journal.waiting();
        let mut marks = Sha256::new();
        for (key, mark) in self.around.cache.marks() {
            marks.update(key);
            marks.update(mark.to_be_bytes());
        }
        for line in &journal {
            marks.update(line.read.lease_id.as_bytes());
            marks.update(line.read.count.to_be_bytes());
        }
        let marks: [u8; 32] = marks.finalize().into();
        if last.marks == Some(marks) {
            return;
        }
        match self.write_anew(node, journal, &mut last) {
            Ok(()) => last.marks = Some(marks),
            Err(error) => {
                last.marks = None;
                // What it has may be over by now.
                self.file.remove();
                self.around.metrics.state_written("failed");
                tracing::warn!(
                    error = %Explained(&error),
                    "what is in memory cannot be kept; after a restart the agent has nothing until it reaches the broker"
                );
            }
        }
    }

    fn write_anew(
        &self,
        node: String,
        journal: Vec<crate::journal::Waiting>,
        last: &mut Last,
    ) -> Result<(), StateError> {
        let key = self.keeping.key().map_err(|source| StateError::Key { source })?;
        let number = key.written.unwrap_or_default().max(last.number).saturating_add(1);
        let head = Head { boot: self.around.attestor.boot().to_owned(), node, number };
        let (sealed, answers) = self.seal(&key, &head, journal)?;
        self.file.write(&sealed)?;
        // Only now: a crash in between leaves a file that is newer than the keyring knows, and none that is older.
        self.keeping.written(&key, number).map_err(|source| StateError::Key { source })?;
        last.number = number;
        self.around.metrics.state_written("written");
        self.around.metrics.state_answers.set(i64::try_from(answers).unwrap_or(i64::MAX));
        self.around.metrics.state_bytes.set(i64::try_from(sealed.len()).unwrap_or(i64::MAX));
        Ok(())
    }

    fn seal(
        &self,
        key: &StateKey,
        head: &Head,
        journal: Vec<crate::journal::Waiting>,
    ) -> Result<(Vec<u8>, usize), StateError> {
        let cache = &self.around.cache;
        let closed = |Closed| StateError::Seal;
        let mut sealer = Sealer::new(&key.key, head).map_err(closed)?;
        let (wall, since_boot) = self.around.now();
        let beginning = Beginning::new(wall, since_boot, cache.lent(), journal);
        sealer.add(beginning.written(), false).map_err(closed)?;
        let mut left_out = 0_usize;
        let answers = cache.each_kept(|kept| {
            let piece = record::written(&kept);
            if sealer.len().saturating_add(piece.len()) > self.file.limit() {
                left_out += 1;
                return Ok(());
            }
            sealer.add(piece, false)
        });
        let answers = answers.map_err(closed)?.saturating_sub(left_out);
        if left_out > 0 {
            tracing::warn!(left_out, "not all that is in memory can be kept; `state.bytes` says how much is");
        }
        // The end, by which a file that was cut off is known.
        sealer.add(zeroize::Zeroizing::new(Vec::new()), true).map_err(closed)?;
        Ok((sealer.finish(), answers))
    }

    /// Takes up what is in the file; nothing, when there is none.
    fn take_up(&self) -> Result<Option<Resumed>, Unusable> {
        let Some(sealed) = self.file.read()? else { return Ok(None) };
        let (head, ..) = Head::read(&sealed).ok_or(Unusable::NoState)?;
        if head.boot != self.around.attestor.boot() {
            return Err(Unusable::OtherBoot);
        }
        let node = self.around.credential.borrow().as_ref().map(|credential| credential.id().to_string());
        if node.as_deref() != Some(&head.node) {
            return Err(Unusable::OtherNode { node: head.node });
        }
        let key = self.keeping.key()?;
        if key.written.is_some_and(|written| head.number < written) {
            return Err(Unusable::Older);
        }
        let resumed = self.around.open_all(&key.key, &sealed).map_err(|Closed| Unusable::Closed)?;
        self.last.lock().unwrap_or_else(PoisonError::into_inner).number = head.number;
        Ok(Some(resumed))
    }
}

impl Surroundings {
    /// All of it is opened before any of it is taken up.
    fn open_all(&self, key: &Secret, sealed: &[u8]) -> Result<Resumed, Closed> {
        let mut opener = Opener::new(key, sealed)?;
        let beginning = opener.next()?.and_then(|piece| Beginning::read(&piece)).ok_or(Closed)?;
        let mut reading = Reading::new(&self.attestor);
        let mut answers = Vec::new();
        while let Some(piece) = opener.next()? {
            if !piece.is_empty() {
                answers.push(reading.read(&piece).ok_or(Closed)?);
            }
        }
        let ago = self.since(&beginning);
        let (lent, waiting) = beginning.content();
        let resumed = Resumed {
            lines: waiting.len(),
            answers: answers
                .into_iter()
                .map(|kept| self.cache.take_up(kept, ago))
                .filter(|taken| *taken)
                .count(),
        };
        lent.into_iter().for_each(|lent| self.cache.lend(lent, ago));
        self.journal.take_up(waiting);
        Ok(resumed)
    }

    /// How long ago something was kept, by the clock that says more.
    fn since(&self, beginning: &Beginning) -> Duration {
        let (wall, since_boot) = self.now();
        let by_wall = u64::try_from(wall.saturating_sub(beginning.wall)).unwrap_or_default();
        Duration::from_nanos(by_wall.max(since_boot.saturating_sub(beginning.since_boot)))
    }

    /// Nanoseconds since 1970, which can be set, and since the machine started, asleep or not, which cannot.
    fn now(&self) -> (i64, u64) {
        let wall = i64::try_from(self.clock.now().duration_since(Timestamp::UNIX_EPOCH).as_nanos());
        let boot = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let seconds = u64::try_from(boot.tv_sec).unwrap_or_default();
        let nanos = u64::try_from(boot.tv_nsec).unwrap_or_default();
        (wall.unwrap_or(i64::MAX), seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
    }
}

struct Resumed {
    answers: usize,
    lines: usize,
}

/// Why nothing can be kept.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("the key of the state cannot be had")]
    Key {
        #[source]
        source: KeyFault,
    },
    #[error("the state has no place")]
    File(#[from] FileFault),
    #[error("the state could not be sealed")]
    Seal,
}

/// Between two writings, where nothing is over.
const INTERVAL: Duration = Duration::from_secs(5);
/// After each.
const PAUSE: Duration = Duration::from_millis(500);
