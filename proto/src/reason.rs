//! Why a call failed, in the form that programs read: the reasons of `google.rpc.ErrorInfo` in the domain
//! [`ERROR_DOMAIN`], and the gRPC code that each comes with.
//!
//! A reason is a promise to clients. New ones may be added; a client that meets one it does not know goes by the code.

use std::fmt;
use std::str::FromStr;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// The domain of every [`Reason`].
pub const ERROR_DOMAIN: &str = "bursar.dev";

/// Why a call failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// The text is no `BACKEND/PATH[#FIELD][@VERSION]`.
    ReferenceMalformed,
    /// No backend is configured under this name.
    BackendUnknown,
    /// The store has no such secret. Only told to those who may read it.
    SecretNotFound,
    /// The secret has no such field.
    FieldNotFound,
    /// The secret has no such version, or it is deleted.
    VersionNotFound,
    /// Policy does not allow it. Says nothing of whether the thing exists.
    AccessDenied,
    /// The call came without a credential that says who asks: neither a client certificate nor a token.
    Unauthenticated,
    /// The client certificate is expired, from an unknown authority, evicted, or names nobody.
    CertificateInvalid,
    /// The token is malformed, not signed by its issuer, for another audience, not valid yet, or names nobody here.
    TokenInvalid,
    /// The token has expired.
    TokenExpired,
    /// The token is by somebody whose tokens are not accepted here.
    IssuerUnknown,
    /// The token cannot be checked, since its issuer cannot be asked. Worth another try.
    IssuerUnavailable,
    /// The join token is unknown, used, expired, or bound to another address.
    JoinTokenInvalid,
    /// There is no such environment, or not at that revision.
    EnvironmentNotFound,
    /// A definition has faults; `google.rpc.BadRequest` names each.
    EnvironmentInvalid,
    /// Environments extend, or variables use, each other in a circle.
    EnvironmentCycle,
    /// The environment, or something in it, may not be kept on anybody's machine; `google.rpc.BadRequest` names what.
    EnvironmentNotKept,
    /// Somebody else changed it since the revision or version that the caller expects. Read again, then decide.
    RevisionConflict,
    /// There is no such lease, or it is not the caller's to see.
    LeaseNotFound,
    /// The lease is over, at its longest, or cannot be extended. Read the secret again.
    LeaseNotRenewable,
    /// The store cannot be reached or fails on its side. Worth another try.
    BackendUnavailable,
    /// The store is sealed: an operator has to unseal it.
    BackendSealed,
    /// The store refused the broker's own login or its rights.
    BackendDenied,
    /// The store asks for fewer calls; `google.rpc.RetryInfo` says when to try again.
    BackendThrottled,
    /// The store did not answer in time. Worth another try.
    BackendTimeout,
    /// The store gave an answer that cannot be read.
    BackendMalformed,
    /// The store can never do this as it is configured.
    BackendMisconfigured,
    /// The ledger cannot be written, so nothing is disclosed. Worth another try.
    LedgerUnavailable,
    /// The ledger's disk is full, so nothing is disclosed until an operator makes room.
    LedgerFull,
    /// The request breaks a rule of its message; the text names the field.
    RequestInvalid,
    /// The request, or its answer, is larger than the limits allow.
    RequestTooLarge,
    /// The caller, or everybody together, has too many live leases or asks too often.
    QuotaExceeded,
    /// The caller, or its network address, asks too often; `google.rpc.RetryInfo` says when to try again.
    RateLimited,
    /// The set of policies cannot be used.
    PolicyInvalid,
    /// There is no such node.
    NodeUnknown,
    /// There is no such approval, or it has ended.
    ApprovalNotFound,
    /// The caller would approve what it wants to do itself.
    OwnApproval,
    /// As many approvals are in force as there may be.
    ApprovalsFull,
    /// No registration matches the workload's selectors on this node.
    RegistrationMissing,
    /// This release does not do it yet.
    NotImplemented,
    /// The broker or agent is going down. Another one, or this one later, will answer.
    ShuttingDown,
    /// A fault of Bursar; the request id finds it in the log.
    Internal,
}

impl Reason {
    /// Every reason, in the order of the enum.
    pub const ALL: [Self; 42] = [
        Self::ReferenceMalformed,
        Self::BackendUnknown,
        Self::SecretNotFound,
        Self::FieldNotFound,
        Self::VersionNotFound,
        Self::AccessDenied,
        Self::Unauthenticated,
        Self::CertificateInvalid,
        Self::TokenInvalid,
        Self::TokenExpired,
        Self::IssuerUnknown,
        Self::IssuerUnavailable,
        Self::JoinTokenInvalid,
        Self::EnvironmentNotFound,
        Self::EnvironmentInvalid,
        Self::EnvironmentCycle,
        Self::EnvironmentNotKept,
        Self::RevisionConflict,
        Self::LeaseNotFound,
        Self::LeaseNotRenewable,
        Self::BackendUnavailable,
        Self::BackendSealed,
        Self::BackendDenied,
        Self::BackendThrottled,
        Self::BackendTimeout,
        Self::BackendMalformed,
        Self::BackendMisconfigured,
        Self::LedgerUnavailable,
        Self::LedgerFull,
        Self::RequestInvalid,
        Self::RequestTooLarge,
        Self::QuotaExceeded,
        Self::RateLimited,
        Self::PolicyInvalid,
        Self::NodeUnknown,
        Self::ApprovalNotFound,
        Self::OwnApproval,
        Self::ApprovalsFull,
        Self::RegistrationMissing,
        Self::NotImplemented,
        Self::ShuttingDown,
        Self::Internal,
    ];

    /// The reason that `status` carries, if it carries one of ours.
    pub fn of(status: &Status) -> Option<Self> {
        let info = status.get_details_error_info()?;
        (info.domain == ERROR_DOMAIN).then(|| info.reason.parse().ok()).flatten()
    }

    /// The details that an error with this reason starts from: `ErrorInfo`, and `RequestInfo` with the request's id.
    pub fn details(self, request_id: &str) -> ErrorDetails {
        let mut details = ErrorDetails::with_error_info(self.as_str(), ERROR_DOMAIN, []);
        details.set_request_info(request_id, "");
        details
    }

    /// The gRPC code that it comes with. `UNAVAILABLE`, `DEADLINE_EXCEEDED` and `RESOURCE_EXHAUSTED` may pass
    /// with time; with the others the same call fails again.
    pub fn code(self) -> Code {
        match self {
            Self::ReferenceMalformed
            | Self::EnvironmentInvalid
            | Self::EnvironmentCycle
            | Self::RequestInvalid
            | Self::RequestTooLarge
            | Self::PolicyInvalid => Code::InvalidArgument,
            Self::BackendUnknown
            | Self::SecretNotFound
            | Self::FieldNotFound
            | Self::VersionNotFound
            | Self::EnvironmentNotFound
            | Self::LeaseNotFound
            | Self::NodeUnknown
            | Self::ApprovalNotFound => Code::NotFound,
            Self::AccessDenied | Self::RegistrationMissing | Self::OwnApproval => Code::PermissionDenied,
            Self::Unauthenticated
            | Self::CertificateInvalid
            | Self::TokenInvalid
            | Self::TokenExpired
            | Self::IssuerUnknown
            | Self::JoinTokenInvalid => Code::Unauthenticated,
            Self::RevisionConflict => Code::Aborted,
            Self::EnvironmentNotKept
            | Self::LeaseNotRenewable
            | Self::BackendSealed
            | Self::BackendDenied
            | Self::BackendMisconfigured => Code::FailedPrecondition,
            Self::IssuerUnavailable
            | Self::BackendUnavailable
            | Self::LedgerUnavailable
            | Self::ShuttingDown => Code::Unavailable,
            Self::BackendTimeout => Code::DeadlineExceeded,
            Self::BackendThrottled
            | Self::LedgerFull
            | Self::QuotaExceeded
            | Self::RateLimited
            | Self::ApprovalsFull => Code::ResourceExhausted,
            Self::NotImplemented => Code::Unimplemented,
            Self::BackendMalformed | Self::Internal => Code::Internal,
        }
    }

    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ReferenceMalformed => "REFERENCE_MALFORMED",
            Self::BackendUnknown => "BACKEND_UNKNOWN",
            Self::SecretNotFound => "SECRET_NOT_FOUND",
            Self::FieldNotFound => "FIELD_NOT_FOUND",
            Self::VersionNotFound => "VERSION_NOT_FOUND",
            Self::AccessDenied => "ACCESS_DENIED",
            Self::Unauthenticated => "UNAUTHENTICATED",
            Self::CertificateInvalid => "CERTIFICATE_INVALID",
            Self::TokenInvalid => "TOKEN_INVALID",
            Self::TokenExpired => "TOKEN_EXPIRED",
            Self::IssuerUnknown => "ISSUER_UNKNOWN",
            Self::IssuerUnavailable => "ISSUER_UNAVAILABLE",
            Self::JoinTokenInvalid => "JOIN_TOKEN_INVALID",
            Self::EnvironmentNotFound => "ENVIRONMENT_NOT_FOUND",
            Self::EnvironmentInvalid => "ENVIRONMENT_INVALID",
            Self::EnvironmentCycle => "ENVIRONMENT_CYCLE",
            Self::EnvironmentNotKept => "ENVIRONMENT_NOT_KEPT",
            Self::RevisionConflict => "REVISION_CONFLICT",
            Self::LeaseNotFound => "LEASE_NOT_FOUND",
            Self::LeaseNotRenewable => "LEASE_NOT_RENEWABLE",
            Self::BackendUnavailable => "BACKEND_UNAVAILABLE",
            Self::BackendSealed => "BACKEND_SEALED",
            Self::BackendDenied => "BACKEND_DENIED",
            Self::BackendThrottled => "BACKEND_THROTTLED",
            Self::BackendTimeout => "BACKEND_TIMEOUT",
            Self::BackendMalformed => "BACKEND_MALFORMED",
            Self::BackendMisconfigured => "BACKEND_MISCONFIGURED",
            Self::LedgerUnavailable => "LEDGER_UNAVAILABLE",
            Self::LedgerFull => "LEDGER_FULL",
            Self::RequestInvalid => "REQUEST_INVALID",
            Self::RequestTooLarge => "REQUEST_TOO_LARGE",
            Self::QuotaExceeded => "QUOTA_EXCEEDED",
            Self::RateLimited => "RATE_LIMITED",
            Self::PolicyInvalid => "POLICY_INVALID",
            Self::NodeUnknown => "NODE_UNKNOWN",
            Self::ApprovalNotFound => "APPROVAL_NOT_FOUND",
            Self::OwnApproval => "OWN_APPROVAL",
            Self::ApprovalsFull => "APPROVALS_FULL",
            Self::RegistrationMissing => "REGISTRATION_MISSING",
            Self::NotImplemented => "NOT_IMPLEMENTED",
            Self::ShuttingDown => "SHUTTING_DOWN",
            Self::Internal => "INTERNAL",
        }
    }
}

/// A name that is no [`Reason`] of this release.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no reason `{0}`")]
pub struct UnknownReason(String);

impl FromStr for Reason {
    type Err = UnknownReason;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|reason| reason.as_str() == name)
            .ok_or_else(|| UnknownReason(name.to_owned()))
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back() {
        for reason in Reason::ALL {
            assert_eq!(reason.as_str().parse(), Ok(reason));
        }
    }

    #[test]
    fn names_are_those_of_the_variants() {
        let variant = |reason: Reason| format!("{reason:?}").to_uppercase();
        for reason in Reason::ALL {
            assert_eq!(reason.as_str().replace('_', ""), variant(reason));
        }
    }

    #[test]
    fn no_variant_is_missing_from_the_list() {
        for (place, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, place);
        }
        assert_eq!(Reason::Internal as usize, Reason::ALL.len() - 1, "put a new variant before `Internal`");
    }

    #[test]
    fn a_status_carries_its_reason_and_request_id() {
        let reason = Reason::BackendSealed;
        let status = Status::with_error_details(reason.code(), "sealed", reason.details("r-1"));
        assert_eq!(Reason::of(&status), Some(reason));
        assert_eq!(status.get_details_request_info().map(|info| info.request_id), Some("r-1".to_owned()));
    }

    #[test]
    fn a_reason_of_another_domain_is_not_ours() {
        let details = ErrorDetails::with_error_info("INTERNAL", "example.org", []);
        assert_eq!(Reason::of(&Status::with_error_details(Code::Internal, "", details)), None);
    }

    #[test]
    fn a_reason_of_a_later_release_is_none() {
        let details = ErrorDetails::with_error_info("MOON_IN_THE_WAY", ERROR_DOMAIN, []);
        assert_eq!(Reason::of(&Status::with_error_details(Code::Internal, "", details)), None);
    }

    #[test]
    fn a_status_without_details_has_none() {
        assert_eq!(Reason::of(&Status::internal("plain")), None);
    }
}
