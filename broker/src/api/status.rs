//! The one place where a failure becomes a gRPC status: fixed public text, a reason for programs, the request id.
//!
//! What a cause says beyond that (paths of files, the ledger's own error) is logged here under the request id and stays
//! here.

use std::time::Duration;

use bursar_core::Explained;
use bursar_core::backend::ErrorKind;
use bursar_core::secret::SelectError;
use bursar_proto::Reason;
use tonic::Status;
use tonic_types::StatusExt;

use crate::environment::FlattenError;
use crate::failure::{Failure, Unresolved};
use crate::identity::token::Refused;
use crate::ledger::LedgerError;

/// The status that a caller gets for `failure`.
pub fn of(failure: &Failure, request_id: &str) -> Status {
    let reason = reason(failure);
    let ours = matches!(reason, Reason::Internal | Reason::LedgerUnavailable | Reason::LedgerFull);
    // Whoever watches the disk has said so once.
    if ours && !matches!(failure, Failure::DiskLow { .. }) {
        tracing::error!(request_id, kind = failure.kind(), cause = %Explained(failure), "a request failed");
    }
    let mut details = reason.details(request_id);
    match failure {
        Failure::Document(faults) => {
            for fault in faults.iter().take(VIOLATIONS) {
                details.add_bad_request_violation(fault.key.clone(), fault.to_string());
            }
        }
        Failure::Unresolved { entries, .. } => {
            for Unresolved { reference, failure } in entries.iter().take(VIOLATIONS) {
                details.add_bad_request_violation(reference.to_string(), text(failure));
            }
        }
        Failure::MadeForLeases { entries, .. } => {
            for entry in entries.iter().take(VIOLATIONS) {
                details.add_bad_request_violation(entry.to_string(), MADE_FOR_LEASES);
            }
        }
        _ => {}
    }
    if let Some(after) = retry_after(failure) {
        details.set_retry_info(Some(after));
    }
    Status::with_error_details(reason.code(), text(failure), details)
}

/// When to ask again, where that is known.
fn retry_after(failure: &Failure) -> Option<Duration> {
    match failure {
        Failure::Backend(error) => error.retry_after,
        Failure::RateLimited { retry_after, .. } => Some(*retry_after),
        Failure::Ledger(LedgerError::Busy) => Some(BUSY_RETRY),
        Failure::Ledger(LedgerError::Quota(exceeded)) => Some(exceeded.retry_after),
        // All of it has to be had at once.
        Failure::Unresolved { entries, .. } if entries.iter().all(is_over_quota) => {
            entries.iter().filter_map(|entry| retry_after(&entry.failure)).max()
        }
        _ => None,
    }
}

fn is_over_quota(entry: &Unresolved) -> bool {
    matches!(entry.failure, Failure::Ledger(LedgerError::Quota(_)))
}

/// What the caller is told in words. A failure of the broker itself is told in fixed words.
pub(super) fn text(failure: &Failure) -> String {
    match failure {
        Failure::Ledger(LedgerError::Full) => {
            "the ledger's disk is full, so nothing is disclosed; make room on the broker's disk".to_owned()
        }
        Failure::Ledger(
            error @ (LedgerError::RevisionConflict { .. }
            | LedgerError::ProofRange { .. }
            | LedgerError::Pruned { .. }
            | LedgerError::PageToken
            | LedgerError::Quota(_)
            | LedgerError::Busy),
        ) => error.to_string(),
        Failure::Ledger(_) => "the ledger cannot be written, so nothing is disclosed; try again".to_owned(),
        Failure::Authority(_) => "no certificate could be issued; check the signing request".to_owned(),
        Failure::Time(_) => "a time is out of range".to_owned(),
        other => other.to_string(),
    }
}

fn reason(failure: &Failure) -> Reason {
    match failure {
        Failure::Denied | Failure::NotAdmitted(_) => Reason::AccessDenied,
        Failure::Unauthenticated => Reason::Unauthenticated,
        Failure::Certificate(_) => Reason::CertificateInvalid,
        Failure::Evicted { .. } | Failure::Expired => Reason::CertificateInvalid,
        Failure::Token(Refused::Expired) => Reason::TokenExpired,
        Failure::Token(Refused::IssuerUnknown) => Reason::IssuerUnknown,
        Failure::Token(refused) if refused.may_pass() => Reason::IssuerUnavailable,
        Failure::Token(_) | Failure::OtherNode { .. } => Reason::TokenInvalid,
        Failure::Unregistered(_) => Reason::RegistrationMissing,
        Failure::Reference(_) => Reason::ReferenceMalformed,
        Failure::BackendUnknown(_) => Reason::BackendUnknown,
        Failure::NotRotatable(_) => Reason::BackendMisconfigured,
        Failure::SecretNotFound(reference) if reference.version.is_some() => Reason::VersionNotFound,
        Failure::SecretNotFound(_) => Reason::SecretNotFound,
        Failure::Field { fault: SelectError::NotUtf8 { .. }, .. } => Reason::RequestInvalid,
        Failure::Field { .. } => Reason::FieldNotFound,
        Failure::Backend(error) => backend_reason(error.kind),
        Failure::Ledger(error) => ledger_reason(error),
        Failure::LeaseNotFound(_) => Reason::LeaseNotFound,
        Failure::NotRenewable { .. } => Reason::LeaseNotRenewable,
        Failure::EnvironmentNotFound(_) => Reason::EnvironmentNotFound,
        Failure::Flatten(FlattenError::Cycle { .. }) => Reason::EnvironmentCycle,
        Failure::Document(_) | Failure::Flatten(_) | Failure::Render(_) => Reason::EnvironmentInvalid,
        Failure::Unresolved { entries, .. } => match entries.as_slice() {
            [Unresolved { failure, .. }] => reason(failure),
            entries if entries.iter().all(|entry| matches!(entry.failure, Failure::Denied)) => {
                Reason::AccessDenied
            }
            entries if entries.iter().all(is_over_quota) => Reason::QuotaExceeded,
            _ => Reason::EnvironmentInvalid,
        },
        Failure::NotOffline(_) | Failure::MadeForLeases { .. } => Reason::EnvironmentNotKept,
        Failure::Policy(_) => Reason::PolicyInvalid,
        Failure::JoinToken(_) => Reason::JoinTokenInvalid,
        Failure::NodeUnknown(_) => Reason::NodeUnknown,
        Failure::ApprovalNotFound(_) => Reason::ApprovalNotFound,
        Failure::OwnApproval => Reason::OwnApproval,
        Failure::ApprovalsFull { .. } => Reason::ApprovalsFull,
        Failure::Invalid { .. } | Failure::Wire(_) | Failure::Authority(_) | Failure::Time(_) => {
            Reason::RequestInvalid
        }
        Failure::TooLarge { .. } => Reason::RequestTooLarge,
        Failure::Kept(_) => Reason::Internal,
        Failure::DiskLow { .. } => Reason::LedgerFull,
        Failure::RateLimited { .. } => Reason::RateLimited,
        Failure::Deadline => Reason::BackendTimeout,
        Failure::NotBuilt(_) => Reason::NotImplemented,
        Failure::Stopping => Reason::ShuttingDown,
    }
}

fn backend_reason(kind: ErrorKind) -> Reason {
    match kind {
        ErrorKind::NotFound => Reason::SecretNotFound,
        ErrorKind::Conflict => Reason::RevisionConflict,
        ErrorKind::Denied => Reason::BackendDenied,
        ErrorKind::Throttled => Reason::BackendThrottled,
        ErrorKind::Unavailable => Reason::BackendUnavailable,
        ErrorKind::Sealed => Reason::BackendSealed,
        ErrorKind::Timeout => Reason::BackendTimeout,
        ErrorKind::Malformed => Reason::BackendMalformed,
        ErrorKind::Misconfigured => Reason::BackendMisconfigured,
    }
}

fn ledger_reason(error: &LedgerError) -> Reason {
    match error {
        LedgerError::Full => Reason::LedgerFull,
        LedgerError::Quota(_) => Reason::QuotaExceeded,
        LedgerError::RevisionConflict { .. } => Reason::RevisionConflict,
        LedgerError::ProofRange { .. } | LedgerError::Pruned { .. } | LedgerError::PageToken => {
            Reason::RequestInvalid
        }
        LedgerError::LeaseMissing { .. }
        | LedgerError::NotActive { .. }
        | LedgerError::IllegalTransition { .. } => Reason::LeaseNotRenewable,
        _ => Reason::LedgerUnavailable,
    }
}

/// Details travel in a trailer, whose size clients limit.
const VIOLATIONS: usize = 20;
const MADE_FOR_LEASES: &str = "its store makes it for each lease";
const BUSY_RETRY: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use bursar_core::Reference;
    use tonic::Code;

    use super::*;
    use crate::ledger::{HolderKind, Limit, QuotaExceeded};

    fn over_quota(reference: &str, seconds: u64) -> Unresolved {
        let exceeded = QuotaExceeded {
            of: HolderKind::Backend,
            holder: "vault".to_owned(),
            limit: Limit::IssuedPerMinute(60),
            retry_after: Duration::from_secs(seconds),
        };
        let reference = Reference::parse(reference).expect("reference");
        Unresolved { reference, failure: Failure::Ledger(LedgerError::Quota(exceeded)) }
    }

    fn unresolved(entries: Vec<Unresolved>) -> Status {
        of(&Failure::Unresolved { name: "shop".to_owned(), entries }, "request-1")
    }

    #[test]
    fn an_environment_that_meets_a_quota_is_told_so_and_when_all_of_it_may_be_had() {
        let status = unresolved(vec![over_quota("vault/a", 3), over_quota("vault/b", 7)]);
        assert_eq!(
            (status.code(), Reason::of(&status)),
            (Code::ResourceExhausted, Some(Reason::QuotaExceeded))
        );
        let wait = status.get_details_retry_info().and_then(|info| info.retry_delay);
        assert_eq!(wait, Some(Duration::from_secs(7)));
    }

    #[test]
    fn an_environment_that_cannot_be_had_for_other_reasons_too_is_not_told_to_wait() {
        let denied = Unresolved {
            reference: Reference::parse("vault/b").expect("reference"),
            failure: Failure::Denied,
        };
        let status = unresolved(vec![over_quota("vault/a", 3), denied]);
        assert_eq!(Reason::of(&status), Some(Reason::EnvironmentInvalid));
        assert!(status.get_details_retry_info().is_none());
    }
}
