//! What AWS's error codes and HTTP statuses mean.
//!
//! Codes: the error tables of the API references of Secrets Manager, STS, KMS and IAM, and
//! <https://docs.aws.amazon.com/secretsmanager/latest/apireference/CommonErrors.html>.

use bursar_core::backend::ErrorKind;

/// What an error code means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Meaning {
    /// The code, as it may be logged: out of this table, not out of the answer.
    pub(crate) code: &'static str,
    pub(crate) kind: ErrorKind,
    /// Whether it is the broker's credentials that were refused, and not what it asked for.
    pub(crate) of_login: bool,
}

/// What `code` means, of the codes that are known.
pub(crate) fn of_code(code: &str) -> Option<Meaning> {
    let known = |(kind, of_login, codes): &(ErrorKind, bool, &'static [&'static str])| {
        let code = codes.iter().find(|known| **known == code)?;
        Some(Meaning { code, kind: *kind, of_login: *of_login })
    };
    CODES.iter().find_map(known)
}

/// What a refusal with this status and no code that is known means.
pub(crate) fn of_status(status: u16) -> ErrorKind {
    match status {
        401 | 403 => ErrorKind::Denied,
        408 => ErrorKind::Timeout,
        429 => ErrorKind::Throttled,
        500..=599 => ErrorKind::Unavailable,
        // Redirects are not followed: they would take the signed request elsewhere.
        300..=499 => ErrorKind::Misconfigured,
        _ => ErrorKind::Malformed,
    }
}

const CODES: &[(ErrorKind, bool, &[&str])] = &[
    (
        ErrorKind::Denied,
        true,
        &[
            "AuthFailure",
            "ExpiredToken",
            "ExpiredTokenException",
            "IncompleteSignature",
            "IncompleteSignatureException",
            "InvalidAccessKeyId",
            "InvalidClientTokenId",
            "InvalidSignatureException",
            "MissingAuthenticationToken",
            "MissingAuthenticationTokenException",
            "RequestExpired",
            "SignatureDoesNotMatch",
            "UnrecognizedClientException",
        ],
    ),
    (
        ErrorKind::Denied,
        false,
        &[
            "AccessDenied",
            "AccessDeniedException",
            // KMS does not let the broker use the key of the secret.
            "DecryptionFailure",
            "IDPRejectedClaim",
            "InvalidIdentityToken",
            "NotAuthorized",
            "OptInRequired",
        ],
    ),
    // A secret that is scheduled for deletion is an invalid request; nothing else is that this backend asks for.
    (
        ErrorKind::NotFound,
        false,
        &["InvalidRequestException", "NoSuchEntity", "NotFoundException", "ResourceNotFoundException"],
    ),
    (
        ErrorKind::Throttled,
        false,
        &[
            "LimitExceededException",
            "RequestLimitExceeded",
            "RequestThrottled",
            "RequestThrottledException",
            "Throttling",
            "ThrottlingException",
            "ThrottledException",
            "TooManyRequestsException",
        ],
    ),
    (
        ErrorKind::Unavailable,
        false,
        &[
            // Somebody else changes the role at the same time.
            "ConcurrentModification",
            "IDPCommunicationError",
            "KMSInternalException",
            "KeyUnavailableException",
            "InternalError",
            "InternalFailure",
            "InternalServiceError",
            "InternalServiceErrorException",
            "ServiceFailure",
            "ServiceUnavailable",
            "ServiceUnavailableException",
        ],
    ),
    (ErrorKind::Timeout, false, &["DependencyTimeoutException", "RequestTimeout", "RequestTimeoutException"]),
    (
        ErrorKind::Misconfigured,
        false,
        &[
            "DisabledException",
            "IncorrectKeyException",
            "InvalidAction",
            "InvalidArnException",
            "InvalidCiphertextException",
            "InvalidInput",
            "InvalidKeyUsageException",
            "KMSInvalidStateException",
            // The policies of a role have no room for more.
            "LimitExceeded",
            "InvalidNextTokenException",
            "InvalidParameterException",
            "InvalidParameterValue",
            "MalformedPolicyDocument",
            "PackedPolicyTooLarge",
            "RegionDisabledException",
            "UnknownOperationException",
            "UnmodifiableEntity",
            "ValidationError",
            "ValidationException",
        ],
    ),
];
