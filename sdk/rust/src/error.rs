//! What a call can come to besides an answer. The texts say what happened; what to do about it is for whoever shows
//! them, by [`Refusal::reason`] and the kind of [`ConnectError`].

use std::error::Error as StdError;
use std::path::PathBuf;
use std::time::Duration;

use bursar_proto::convert::WireError;
use bursar_proto::{REQUEST_ID_METADATA_KEY, Reason};
use tonic::{Code, Status, TimeoutExpired};
use tonic_types::StatusExt;

use crate::address::Address;
use crate::connect::ConnectError;
use crate::token::TokenCommandError;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The request was never sent.
    #[error("cannot connect to `{address}`")]
    Connect {
        address: Address,
        #[source]
        source: ConnectError,
    },
    /// The request was never sent.
    #[error("cannot read the token `{}`", path.display())]
    Token {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// The request was never sent.
    #[error("the token command `{program}` gave no token")]
    TokenCommand {
        program: String,
        #[source]
        source: TokenCommandError,
    },
    /// The request may have been carried out: the connection broke before the answer.
    #[error("the connection to `{address}` broke before the answer came")]
    Interrupted {
        address: Address,
        #[source]
        source: Status,
    },
    /// The request may have been carried out.
    #[error("`{address}` did not answer within {} s", limit.as_secs())]
    Deadline { address: Address, limit: Duration },
    /// Broker or agent said no.
    #[error("{}", .0.message)]
    Refused(Box<Refusal>),
    /// The answer breaks the rules of the API.
    #[error("the answer of `{address}` cannot be read")]
    Malformed {
        address: Address,
        #[source]
        source: WireError,
    },
}

/// How broker or agent said no.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The kind of failure, where `reason` says no more.
    pub code: Code,
    /// Why. Absent when something between client and broker answered, or the reason is of a later release.
    pub reason: Option<Reason>,
    /// The same in words.
    pub message: String,
    /// Finds the request in the broker's log and ledger.
    pub request_id: Option<String>,
    /// The faults one by one, where there can be several.
    pub violations: Vec<Violation>,
    /// How long to leave the server alone.
    pub retry_after: Option<Duration>,
}

/// One of several faults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// What is at fault: a key path, a reference.
    pub field: String,
    /// How.
    pub description: String,
}

impl Error {
    /// The refusal, where broker or agent said no.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            _ => None,
        }
    }

    /// The reason that broker or agent gave.
    pub fn reason(&self) -> Option<Reason> {
        self.refusal().and_then(|refusal| refusal.reason)
    }

    pub(crate) fn of(status: Status, address: &Address, limit: Duration) -> Self {
        let address = address.clone();
        // What tonic makes up itself has a cause; what came over the wire has none.
        match status.source() {
            None => Self::Refused(Box::new(Refusal::of(&status))),
            Some(cause) if is_timeout(cause) => Self::Deadline { address, limit },
            Some(cause) => match ConnectError::within(cause) {
                Some(source) => Self::Connect { address, source },
                None => Self::Interrupted { address, source: status },
            },
        }
    }

    /// Whether the same call may succeed a moment later.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Interrupted { .. } => true,
            Self::Refused(refusal) if refusal.retry_after.is_none() => refusal.code == Code::Unavailable,
            _ => self.had_no_effect_and_may_pass(),
        }
    }

    /// Whether the same call may succeed some time later, for work that can wait.
    pub(crate) fn may_pass_in_time(&self) -> bool {
        match self {
            Self::Deadline { .. } => true,
            Self::Refused(refusal) if refusal.retry_after.is_some() => true,
            Self::Refused(refusal) => {
                matches!(refusal.code, Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted)
            }
            _ => self.may_pass(),
        }
    }

    /// Whether the call certainly changed nothing, and may succeed a moment later: it was never sent, or the server
    /// says when to send it again.
    pub(crate) fn had_no_effect_and_may_pass(&self) -> bool {
        match self {
            Self::Connect { source, .. } => source.may_pass(),
            Self::Refused(refusal) => refusal.retry_after.is_some_and(|wait| wait <= PATIENCE),
            Self::Token { .. }
            | Self::TokenCommand { .. }
            | Self::Interrupted { .. }
            | Self::Deadline { .. }
            | Self::Malformed { .. } => false,
        }
    }
}

impl Refusal {
    fn of(status: &Status) -> Self {
        let details = status.get_error_details();
        let noted = details.request_info().map(|info| info.request_id.clone());
        let header = || Some(status.metadata().get(REQUEST_ID_METADATA_KEY)?.to_str().ok()?.to_owned());
        let violations = details.bad_request().map(|bad| bad.field_violations.as_slice()).unwrap_or_default();
        Self {
            code: status.code(),
            reason: Reason::of(status),
            message: message(status),
            request_id: noted.filter(|id| !id.is_empty()).or_else(header),
            violations: violations
                .iter()
                .map(|one| Violation { field: one.field.clone(), description: one.description.clone() })
                .collect(),
            retry_after: details.retry_info().and_then(|info| info.retry_delay),
        }
    }
}

fn message(status: &Status) -> String {
    match status.message() {
        "" => status.code().description().to_owned(),
        message => message.to_owned(),
    }
}

fn is_timeout(cause: &(dyn StdError + 'static)) -> bool {
    cause.is::<TimeoutExpired>() || cause.source().is_some_and(is_timeout)
}

/// A server that wants to be left alone for longer than anybody waits for an answer is not asked again.
const PATIENCE: Duration = Duration::from_secs(5);
