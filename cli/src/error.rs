//! What can go wrong, and the exit code that tells a script which kind it was.

use std::fmt::Display;
use std::io;
use std::path::PathBuf;

use bursar_core::settings::Fault;
use bursar_core::tlog::{KeyError, ProofError, ReplayError};
use bursar_exec::mask::PatternsError;
use bursar_exec::{FolderError, StageError};
use bursar_proto::Reason;
use bursar_sdk::{AddressError, ConnectError};
use tonic::Code;

use crate::issuer::IssuerError;
use crate::offline::OfflineError;

/// Why a command failed. Hints are in [`crate::hint`].
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Call(#[from] bursar_sdk::Error),
    #[error("the configuration `{}` has {}:{}", path.display(), counted(faults.len(), "fault"), list(faults))]
    Configuration { path: PathBuf, faults: Vec<Fault> },
    #[error(transparent)]
    Address(#[from] AddressError),
    #[error("a certificate is given without its key, or a key without its certificate")]
    HalfAnIdentity,
    #[error("a file with a token and a command that writes one are given, and only one token can speak")]
    TwoTokens,
    #[error("{0} is missing, and without it no token can be asked for")]
    NoIssuer(&'static str),
    #[error(
        "the issuer is no address such as `https://login.example.org`, without user, password and fragment"
    )]
    IssuerAddress,
    #[error("no token came from `{issuer}`")]
    Issuer {
        issuer: String,
        #[source]
        source: IssuerError,
    },
    #[error(transparent)]
    Offline(#[from] OfflineError),
    #[error(
        "there is nowhere to put the token: it is not shown, and $XDG_RUNTIME_DIR is no folder of yours alone in memory"
    )]
    NowhereToKeep,
    #[error("the key `{}` can be read by everybody on this machine (mode {mode:03o})", path.display())]
    OpenKey { path: PathBuf, mode: u32 },
    #[error("cannot read `{}`", path.display())]
    Unreadable {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot write `{}`", path.display())]
    Unwritable {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("`{}` is larger than {limit} bytes", path.display())]
    TooLarge { path: PathBuf, limit: usize },
    #[error("`{}` is not UTF-8", path.display())]
    NotText { path: PathBuf },
    #[error("`{}` cannot be imported: {what}", path.display())]
    Import { path: PathBuf, what: String },
    #[error("the command line is wrong: {0}")]
    Usage(String),
    #[error("a secret is not shown on a terminal")]
    SecretOnTerminal,
    #[error("this needs a confirmation, and there is no terminal to ask on")]
    Unconfirmed,
    #[error("nothing was done")]
    Declined,
    #[error("{} of {dynamic} credentials stuck at their stores", stuck)]
    Stuck { stuck: u64, dynamic: u64 },
    #[error("there is no bulk revocation {id}, or not any more")]
    NoRevocation { id: u64 },
    #[error("interrupted; the broker goes on with bulk revocation {id}")]
    LeftGoing { id: u64 },
    #[error("environment `{environment}` cannot be resolved, so `{program}` was not started")]
    Unresolved {
        environment: String,
        program: String,
        #[source]
        source: bursar_sdk::Error,
    },
    #[error("`{program}` cannot be given its files")]
    Deliver {
        program: String,
        #[source]
        source: FolderError,
    },
    #[error(
        "environment `{environment}` has a variable `{variable}`, which `--as` needs for the file of another"
    )]
    Clash { environment: String, variable: String },
    #[error("cannot execute `{program}`")]
    Execute {
        program: String,
        #[source]
        source: io::Error,
    },
    #[error("cannot run `{program}`")]
    Run {
        program: String,
        #[source]
        source: io::Error,
    },
    #[error("`{program}` cannot be run with --mask")]
    Mask {
        program: String,
        #[source]
        source: PatternsError,
    },
    #[error(transparent)]
    Stage(StageError),
    #[error("the policies have {}", counted(*faults, "fault"))]
    Policies { faults: usize },
    #[error("environment `{name}` would not resolve")]
    WouldNotResolve { name: String },
    #[error("policy would deny it")]
    WouldBeDenied,
    #[error("table `{}` cannot be used: {what}", path.display())]
    Table { path: PathBuf, what: String },
    #[error("{failed} of {} not as expected", counted(*total, "decision"))]
    NotAsExpected { failed: usize, total: usize },
    #[error("the broker is not ready")]
    NotReady,
    #[error("the log does not verify")]
    Unverified {
        /// The first thing out of place, where one record shows it.
        place: Option<String>,
        #[source]
        source: ReplayError,
    },
    #[error("the export cannot be verified: {0}")]
    Export(String),
    #[error("the proof cannot be verified: {0}")]
    Proof(String),
    #[error("the record is not proven to be in the log")]
    Unproven(#[source] ProofError),
    #[error("the verifier key cannot be used")]
    VerifierKey(#[source] KeyError),
    #[error("{} of {checks} checks failed", failed)]
    Doctor { failed: usize, checks: usize },
    #[error("cannot start `{program}`")]
    Start {
        program: String,
        #[source]
        source: io::Error,
    },
    #[error("{0}")]
    Dev(String),
    #[error("cannot write the result")]
    Output(#[source] io::Error),
    #[error("cannot read the answer")]
    Input(#[source] io::Error),
    #[error("the operating system failed")]
    System(#[from] io::Error),
}

impl Error {
    /// The exit code, as sysexits.h has them.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Call(error) => of_call(error).unwrap_or(FAILED),
            Self::Unresolved { source, .. } => of_call(source).unwrap_or(CONFIGURATION),
            Self::Configuration { .. }
            | Self::Address(_)
            | Self::HalfAnIdentity
            | Self::TwoTokens
            | Self::NoIssuer(_)
            | Self::IssuerAddress
            | Self::NowhereToKeep
            | Self::Offline(_)
            | Self::OpenKey { .. }
            | Self::Deliver { .. }
            | Self::Clash { .. }
            | Self::WouldNotResolve { .. } => CONFIGURATION,
            Self::Usage(_) => USAGE,
            Self::Issuer { source, .. } => of_issuer(source),
            Self::Execute { source, .. } if source.kind() == io::ErrorKind::NotFound => NOT_FOUND,
            Self::Execute { .. } => NOT_EXECUTABLE,
            Self::Output(source) if source.kind() == io::ErrorKind::BrokenPipe => 0,
            Self::NotReady => UNAVAILABLE,
            Self::WouldBeDenied => DENIED,
            Self::LeftGoing { .. } => INTERRUPTED,
            _ => FAILED,
        }
    }

    /// Whether it may pass while one waits: nobody answers now.
    pub(crate) fn may_pass(&self) -> bool {
        self.exit_code() == UNAVAILABLE
    }
}

impl From<StageError> for Error {
    fn from(error: StageError) -> Self {
        match error {
            StageError::Execute { program, source } => Self::Execute { program, source },
            other => Self::Stage(other),
        }
    }
}

/// What the failure of a call says by itself.
fn of_call(error: &bursar_sdk::Error) -> Option<u8> {
    use bursar_sdk::Error as Call;
    match error {
        Call::Connect { source: ConnectError::CertificateRefused { .. }, .. } => Some(DENIED),
        Call::Connect {
            source:
                ConnectError::NoAuthority
                | ConnectError::NoCertificate { .. }
                | ConnectError::NoKey
                | ConnectError::Authority(_)
                | ConnectError::Identity(_)
                | ConnectError::ServerName { .. },
            ..
        } => Some(CONFIGURATION),
        Call::Token { .. } | Call::TokenCommand { .. } => Some(CONFIGURATION),
        Call::Connect { .. } | Call::Interrupted { .. } | Call::Deadline { .. } => Some(UNAVAILABLE),
        Call::Refused(refusal) => match (refusal.reason, refusal.code) {
            (Some(Reason::RegistrationMissing), _) | (_, Code::PermissionDenied | Code::Unauthenticated) => {
                Some(DENIED)
            }
            (_, Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted) => Some(UNAVAILABLE),
            _ => None,
        },
        _ => None,
    }
}

fn of_issuer(error: &IssuerError) -> u8 {
    match error {
        IssuerError::NotReached { .. } | IssuerError::Late => UNAVAILABLE,
        IssuerError::Status { status, .. } if *status >= 500 || *status == 429 => UNAVAILABLE,
        IssuerError::Declined => DENIED,
        IssuerError::Expired => FAILED,
        _ => CONFIGURATION,
    }
}

/// `1 fault`, `2 faults`.
pub(crate) fn counted<N: Display + PartialEq + From<u8>>(count: N, what: &str) -> String {
    let ending = if count == N::from(1) { "" } else { "s" };
    format!("{count} {what}{ending}")
}

fn list(faults: &[Fault]) -> String {
    faults.iter().map(|fault| format!("\n  {fault}")).collect()
}

const FAILED: u8 = 1;
const USAGE: u8 = 2;
const UNAVAILABLE: u8 = 69;
const DENIED: u8 = 77;
const CONFIGURATION: u8 = 78;
const NOT_EXECUTABLE: u8 = 126;
const NOT_FOUND: u8 = 127;
const INTERRUPTED: u8 = 130;
