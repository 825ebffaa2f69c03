//! A witness to the audit log: remembers the last checkpoint that it saw and has the broker prove that each new one only
//! adds to it.
//!
//! Whoever holds the broker's machine can rewrite its ledger and sign the result. He cannot make every node forget what
//! was signed before. A log that does not continue the one seen is therefore no fault to retry away: it is kept on disk,
//! shown by health and metrics, and stays until a person removes the file.
//!
//! The key of a log is taken from the broker when the log is first seen, over a connection that the node's own roots
//! vouch for, and must be the same ever after. A broker that cannot be asked, or does not let nodes ask, proves nothing
//! either way.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bursar_core::Explained;
use bursar_core::tlog::{
    Checkpoint, CheckpointError, Hash, HashError, KeyError, ProofError, Verifier, verify_consistency,
};
use bursar_proto::v1::audit_client::AuditClient;
use bursar_proto::v1::{AuditCheckpointRequest, AuditConsistencyProofRequest};
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};
use tonic::Code;

use crate::node::write_private;
use crate::telemetry::Metrics;
use crate::upstream::{Failure, Upstream};

/// Watches the audit logs of the brokers that the node meets.
#[derive(Debug)]
pub struct Witness {
    upstream: Arc<Upstream>,
    path: PathBuf,
    seen: tokio::sync::Mutex<Seen>,
    fault: watch::Sender<Option<String>>,
    metrics: Metrics,
}

/// What is kept on disk.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Seen {
    #[serde(default, rename = "log")]
    logs: Vec<Log>,
}

/// One broker's log.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Log {
    /// As C2SP signed-note has it. Its name is the origin of the log.
    verifier_key: String,
    /// The last checkpoint that was seen to be good.
    note: String,
    /// What was wrong with a later one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fault: Option<String>,
}

impl Witness {
    /// Takes up what was seen before.
    ///
    /// # Errors
    /// [`WitnessError::Unreadable`] and [`WitnessError::Damaged`]: a memory that is there must not be passed over.
    pub fn resume(data_dir: &Path, upstream: Arc<Upstream>, metrics: Metrics) -> Result<Self, WitnessError> {
        let path = data_dir.join(FILE);
        let seen = match std::fs::read_to_string(&path) {
            Ok(text) => toml::from_str(&text).map_err(|_| WitnessError::Damaged { path: path.clone() })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Seen::default(),
            Err(source) => return Err(WitnessError::Unreadable { path, source }),
        };
        let fault = watch::Sender::new(seen.logs.iter().find_map(|log| log.fault.clone()));
        Ok(Self { upstream, path, seen: tokio::sync::Mutex::new(seen), fault, metrics })
    }

    /// What was found to be wrong with a log, now or in an earlier run.
    pub fn fault(&self) -> Option<String> {
        self.fault.borrow().clone()
    }

    /// Looks at the log whenever `signed` says that there is more of it, and every ten minutes, but not more often than
    /// once a minute: a busy broker signs many times a second. Never ends.
    pub async fn watch(&self, signed: &Notify) {
        loop {
            // A broker may sign without telling.
            drop(tokio::time::timeout(ASK_AGAIN, signed.notified()).await);
            match self.check().await {
                Ok(()) => self.metrics.checkpoint("consistent"),
                Err(error) if error.is_fault() => self.metrics.checkpoint("unproven"),
                Err(error) => {
                    self.metrics.checkpoint("unknown");
                    tracing::warn!(
                        error = %Explained(&error),
                        "the audit log could not be checked"
                    );
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Asks for the newest checkpoint, and for the proof that it continues the one seen last.
    ///
    /// # Errors
    /// [`WitnessError`].
    pub async fn check(&self) -> Result<(), WitnessError> {
        let ask = |channel| async { AuditClient::new(channel).checkpoint(AuditCheckpointRequest {}).await };
        let newest =
            self.upstream.ask(ask).await.map_err(WitnessError::Unasked)?.checkpoint.unwrap_or_default();
        let claimed = Verifier::parse(&newest.verifier_key)?;
        let mut seen = self.seen.lock().await;
        match seen.place(claimed.name()).cloned() {
            Some(log) => {
                let outcome = self.compare(&log, newest.note).await;
                self.settle(&mut seen, &log, outcome)
            }
            None => {
                // Never seen: it is good if it is signed as it says.
                Checkpoint::open(&newest.note, &claimed)?;
                tracing::info!(origin = claimed.name(), "a log is witnessed from now on");
                seen.add(
                    Log { verifier_key: newest.verifier_key, note: newest.note, fault: None },
                    &self.path,
                )
            }
        }
    }

    /// Answers the note that is to be remembered from now on.
    async fn compare(&self, log: &Log, newest: String) -> Result<String, WitnessError> {
        let verifier = Verifier::parse(&log.verifier_key)?;
        let known = Checkpoint::open(&log.note, &verifier)?.head();
        let head = Checkpoint::open(&newest, &verifier)?.head();
        if head.size <= known.size {
            verify_consistency(&known, &head, &[])?;
            return Ok(newest);
        }
        // The log may have grown meanwhile, so the proof comes with the checkpoint that it leads to.
        let question = AuditConsistencyProofRequest { old_size: known.size, new_size: None };
        let ask = |channel| async { AuditClient::new(channel).consistency_proof(question).await };
        let proof = self.upstream.ask(ask).await.map_err(WitnessError::unproven)?;
        let note = proof.checkpoint.unwrap_or_default().note;
        if note.lines().next() != Some(verifier.name()) {
            return Err(WitnessError::OtherLog);
        }
        let head = Checkpoint::open(&note, &verifier)?.head();
        let hashes = proof.hashes.iter().map(|hash| Hash::try_from(hash.as_slice()));
        verify_consistency(&known, &head, &hashes.collect::<Result<Vec<_>, _>>()?)?;
        Ok(note)
    }

    fn settle(
        &self,
        seen: &mut Seen,
        log: &Log,
        outcome: Result<String, WitnessError>,
    ) -> Result<(), WitnessError> {
        let Some(place) = seen.logs.iter_mut().find(|place| place.verifier_key == log.verifier_key) else {
            return Ok(());
        };
        match outcome {
            Ok(note) if note == place.note => Ok(()),
            Ok(note) => {
                place.note = note;
                seen.store(&self.path)
            }
            Err(error) if error.is_fault() => {
                tracing::error!(
                    error = %Explained(&error),
                    known = log.note,
                    "the broker's audit log does not continue the one that this node has seen: history was changed"
                );
                let fault = format!(
                    "the broker's audit log does not continue the one seen before ({error}); find out why, then remove \
                     `{}` on this node and start the agent again",
                    self.path.display()
                );
                place.fault = Some(fault.clone());
                self.fault.send_replace(Some(fault));
                seen.store(&self.path)?;
                Err(error)
            }
            Err(error) => Err(error),
        }
    }
}

impl Seen {
    /// The log of `origin`.
    fn place(&self, origin: &str) -> Option<&Log> {
        self.logs.iter().find(|log| log.verifier_key.split('+').next() == Some(origin))
    }

    fn add(&mut self, log: Log, path: &Path) -> Result<(), WitnessError> {
        if self.logs.len() == MAX_LOGS {
            return Err(WitnessError::TooMany);
        }
        self.logs.push(log);
        self.store(path)
    }

    fn store(&self, path: &Path) -> Result<(), WitnessError> {
        let text = toml::to_string(self).map_err(|_| WitnessError::Damaged { path: path.to_owned() })?;
        write_private(path, &[text.as_bytes()]).map_err(WitnessError::Unwritable)
    }
}

/// Why a checkpoint was not seen to be good.
#[derive(Debug, thiserror::Error)]
pub enum WitnessError {
    #[error("`{}` cannot be read", path.display())]
    Unreadable {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("`{}` is damaged; find out how, then remove it", path.display())]
    Damaged { path: PathBuf },
    #[error("the checkpoint cannot be kept")]
    Unwritable(#[source] crate::node::CredentialError),
    #[error("the broker could not be asked")]
    Unasked(#[source] Failure),
    #[error("the broker gives no proof")]
    Unproven(#[source] Failure),
    #[error("another broker answered the second question than the first")]
    OtherLog,
    #[error("the broker's key cannot be read")]
    Key(#[from] KeyError),
    #[error("{0}")]
    Checkpoint(#[from] CheckpointError),
    #[error("{0}")]
    Hash(#[from] HashError),
    #[error("{0}")]
    Proof(#[from] ProofError),
    #[error("this node has met {MAX_LOGS} logs already")]
    TooMany,
}

impl WitnessError {
    /// A broker that answers and does not prove has something to hide, unless it does not talk to nodes about this.
    fn unproven(failure: Failure) -> Self {
        let Failure::Answered(status) = &failure else { return Self::Unasked(failure) };
        match status.code() {
            Code::PermissionDenied | Code::Unauthenticated | Code::Unimplemented => Self::Unasked(failure),
            _ if !failure.is_final() => Self::Unasked(failure),
            _ => Self::Unproven(failure),
        }
    }

    /// Whether it tells against the log.
    pub fn is_fault(&self) -> bool {
        matches!(self, Self::Unproven(_) | Self::Checkpoint(_) | Self::Hash(_) | Self::Proof(_))
    }
}

const FILE: &str = "checkpoints.toml";
const ASK_AGAIN: Duration = Duration::from_secs(600);
const PAUSE: Duration = Duration::from_secs(60);
/// Brokers of one trust domain are few.
const MAX_LOGS: usize = 64;

#[cfg(test)]
mod tests;
