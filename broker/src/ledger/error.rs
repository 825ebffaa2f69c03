//! How opening the ledger, and asking it, can fail.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use bursar_core::lease::LeaseEvent;
use bursar_core::tlog::{CheckpointError, NoteError, Verifier};
use bursar_core::{LeaseId, LeaseState};

use super::entry::ObjectKind;
use super::quota::QuotaExceeded;

/// Why the ledger was not opened. Each is for an operator to act on before the broker can start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("cannot prepare the ledger's file `{}`; the broker must own it and its folder", path.display())]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(
        "the ledger `{place}` is open in another process; one broker keeps one ledger: stop the other one"
    )]
    InUse { place: String },
    #[error("`{place}` is no ledger of a broker; check the configured path")]
    NotALedger { place: String },
    #[error(
        "the ledger `{place}` has schema {found}, and this broker knows {supported} and older; start the newer broker that \
         wrote it"
    )]
    NewerSchema { place: String, found: i64, supported: i64 },
    #[error(
        "the ledger `{place}` has schema {found}, and this looks at {wanted}; start this broker on it once, which brings it \
         up"
    )]
    OlderSchema { place: String, found: i64, wanted: i64 },
    #[error(
        "the ledger `{place}` is damaged: {what}; restore it from a backup, and keep what is damaged to find out what \
         happened"
    )]
    Corrupt { place: String, what: String },
    #[error(
        "the ledger belongs to `{found}`, and this broker is `{configured}`; check `data_dir`, `trust_domain` and `name`"
    )]
    OtherOrigin { found: String, configured: String },
    #[error(
        "the ledger was signed by another key than `{signer}`; restore the key that signed it, or the ledger of this key"
    )]
    OtherSigner { signer: String },
    #[error(
        "the ledger `{place}` belongs to the trust domain `{found}`, and this broker is of `{configured}`; check \
         `trust_domain`, or name another database"
    )]
    OtherDomain { place: String, found: String, configured: String },
    #[error(
        "another process writes the log `{origin}` in the ledger `{place}`; give each broker a `name` of its own, or stop the \
         other one"
    )]
    Held { place: String, origin: String },
    #[error(
        "the ledger `{place}` has no table `{table}`, or this user has no right to it; restore it from a backup, or grant it"
    )]
    TableMissing { place: String, table: String },
    #[error(
        "in the ledger `{place}` the broker's user may not {right} in `{table}`; run `GRANT {right} ON {table} TO` that user"
    )]
    Privilege { place: String, right: &'static str, table: String },
    #[error(
        "in `{place}` the broker's user may not make the ledger's tables, or not use them; as an administrator run \
         `CREATE SCHEMA bursar AUTHORIZATION` that user"
    )]
    Denied { place: String },
    #[error("the ledger `{place}` cannot be opened; {hint}")]
    Unreachable {
        place: String,
        hint: &'static str,
        #[source]
        source: Arc<dyn Error + Send + Sync>,
    },
    #[error("the ledger is signing already")]
    SigningAlready,
    #[error("the ledger `{place}` cannot be read")]
    Unreadable {
        place: String,
        #[source]
        source: LedgerError,
    },
    #[error("cannot start a thread for the ledger")]
    Thread(#[source] io::Error),
}

impl OpenError {
    /// What reading the end of the log met.
    pub(super) fn of_head(place: &dyn fmt::Display, error: LedgerError) -> Self {
        let place = place.to_string();
        match error {
            LedgerError::Corrupt { what } => Self::Corrupt { place, what },
            source => Self::Unreadable { place, source },
        }
    }

    /// What is wrong with the signature of the stored head `note`, checked with the key of `verifier`.
    pub(super) fn of_note(
        place: &dyn fmt::Display,
        note: &str,
        verifier: &Verifier,
        error: CheckpointError,
    ) -> Self {
        // A key has another id under another name, so a broker that was renamed looks like another key.
        let origin = note.lines().next().unwrap_or_default();
        match error {
            CheckpointError::Note(NoteError::UnknownSigner { .. }) if origin != verifier.name() => {
                Self::OtherOrigin { found: origin.to_owned(), configured: verifier.name().to_owned() }
            }
            CheckpointError::Note(NoteError::UnknownSigner { .. }) | CheckpointError::Foreign { .. } => {
                Self::OtherSigner { signer: verifier.to_string() }
            }
            other => Self::Corrupt { place: place.to_string(), what: other.to_string() },
        }
    }
}

/// Why the ledger did not do what was asked. Nothing of the entry happened, except under [`LedgerError::Closed`] and
/// [`LedgerError::Uncertain`], where the answer was lost.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LedgerError {
    #[error("the ledger's disk is full; nothing is issued until there is space again")]
    Full,
    #[error("the ledger cannot be reached ({})", kind.as_str())]
    Unavailable {
        kind: FailureKind,
        #[source]
        source: Arc<dyn Error + Send + Sync>,
    },
    #[error("the ledger is closed")]
    Closed,
    #[error(
        "the ledger cannot be reached, and whether it took the entry is not known yet; nothing is issued until it is"
    )]
    Uncertain,
    #[error("the ledger has more waiting than it takes; try again")]
    Busy,
    #[error("the ledger does not sign yet, so it takes nothing")]
    NotSigning,
    #[error("there is no lease `{id}`")]
    LeaseMissing { id: LeaseId },
    #[error("there is a lease `{id}` already")]
    LeaseExists { id: LeaseId },
    #[error("the lease `{id}` is {} and not active", state.as_str())]
    NotActive { id: LeaseId, state: LeaseState },
    #[error("the lease `{id}` is {}, where `{event:?}` cannot happen", state.as_str())]
    IllegalTransition { id: LeaseId, state: LeaseState, event: LeaseEvent },
    #[error(transparent)]
    Quota(QuotaExceeded),
    #[error("there is no {} `{name}`", kind.as_str())]
    ObjectMissing { kind: ObjectKind, name: String },
    #[error("revision {expected} was expected, and {found} is there; read it again (0: none)")]
    RevisionConflict { expected: u64, found: u64 },
    #[error("the page token is none that this list gave; start again without one")]
    PageToken,
    #[error("no proof from {old} to {new} records: the log has {size}")]
    ProofRange { old: u64, new: u64, size: u64 },
    #[error(
        "the audit records before {first} were pruned, so there are none from {from} on; begin at {first}, and find the \
         older ones where a sink put them"
    )]
    Pruned { from: u64, first: u64 },
    #[error("the ledger is damaged: {what}; restore it from a backup")]
    Corrupt { what: String },
}

/// What the last commit met: whether the ledger takes entries now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    Ready,
    /// The disk is full. [`super::Ledger::probe`] finds out when it no longer is.
    Full,
    Failed(FailureKind),
}

/// How the disk or the engine failed. Low in cardinality: a metric label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FailureKind {
    /// A read, write or sync failed.
    Io,
    /// Somebody else holds the database's locks.
    Locked,
    /// The file may not be written.
    ReadOnly,
    /// What was read is not what was written.
    Damaged,
    /// There is no connection to the database.
    Unreachable,
    /// Another process writes the log of this broker.
    Fenced,
    /// Anything else; the log of the broker has the cause.
    Engine,
}

impl FailureKind {
    /// The name in metrics and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Io => "i/o error",
            Self::Locked => "locked",
            Self::ReadOnly => "read-only",
            Self::Damaged => "damaged",
            Self::Unreachable => "unreachable",
            Self::Fenced => "taken over",
            Self::Engine => "engine error",
        }
    }
}
