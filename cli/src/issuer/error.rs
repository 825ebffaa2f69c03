//! Why an issuer gave no token.

use std::path::PathBuf;

use serde::Deserialize;

/// Why an issuer gave no token. Its own words are in none of these.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IssuerError {
    #[error("the authority `{}` cannot be read", path.display())]
    Authority {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the authority `{}` holds no certificate in PEM", path.display())]
    NoCertificate { path: PathBuf },
    #[error("the way to it cannot be set up: {cause}")]
    Setup { cause: String },
    #[error("it is not reached: {cause}")]
    NotReached { cause: String },
    #[error("its certificate is not accepted: {cause}")]
    Certificate { cause: String },
    #[error("it did not answer in time")]
    Late,
    #[error("it answered more than {limit} bytes")]
    TooLong { limit: usize },
    #[error("{place} has status {status}")]
    Status { place: &'static str, status: u16 },
    #[error("{place} cannot be read")]
    Malformed { place: &'static str },
    #[error("its discovery document is that of another issuer: its `issuer` is not this one to the letter")]
    OtherIssuer,
    #[error("it offers no device grant: its discovery document has no `device_authorization_endpoint`")]
    NoDeviceGrant,
    #[error("it refused: {code}")]
    Refused { code: &'static str },
    #[error("it gave no ID token")]
    NoIdToken,
    #[error(
        "the token that it gave is no JSON Web Token that says when it ends, and no broker takes another"
    )]
    Opaque,
    #[error("nobody approved before the code ended")]
    Expired,
    #[error("somebody declined")]
    Declined,
}

impl IssuerError {
    /// What an answer other than yes says. Only codes that are known beforehand are told.
    pub(super) fn of(place: &'static str, status: u16, body: &[u8]) -> Self {
        #[derive(Deserialize)]
        struct Said {
            error: String,
        }
        match serde_json::from_slice::<Said>(body) {
            _ if status >= 500 => Self::Status { place, status },
            Ok(said) => match CODES.iter().find(|code| **code == said.error) {
                Some(&"access_denied") => Self::Declined,
                Some(&"expired_token") => Self::Expired,
                Some(code) => Self::Refused { code },
                None => Self::Status { place, status },
            },
            Err(_) => Self::Status { place, status },
        }
    }

    /// Whether the same question may be answered a moment later.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::NotReached { .. } | Self::Late => true,
            Self::Status { status, .. } => *status >= 500 || *status == 429,
            _ => false,
        }
    }
}

/// Errors of RFC 6749, section 5.2, RFC 8628, section 3.5, and RFC 8707.
const CODES: [&str; 12] = [
    "access_denied",
    "authorization_pending",
    "expired_token",
    "invalid_client",
    "invalid_grant",
    "invalid_request",
    "invalid_scope",
    "invalid_target",
    "server_error",
    "slow_down",
    "unauthorized_client",
    "unsupported_grant_type",
];

pub(super) const DISCOVERY: &str = "its discovery document";
pub(super) const OFFER: &str = "its answer to the request for a code";
pub(super) const TOKEN: &str = "its answer to the request for a token";

#[cfg(test)]
mod tests {
    use super::*;

    fn said(status: u16, body: &str) -> String {
        IssuerError::of(TOKEN, status, body.as_bytes()).to_string()
    }

    #[test]
    fn an_issuers_code_is_told_where_it_is_known_and_its_words_never() {
        let body = r#"{"error":"invalid_client","error_description":"client <b>bursar</b> unknown"}"#;
        assert_eq!(said(401, body), "it refused: invalid_client");
        assert_eq!(said(400, r#"{"error":"access_denied"}"#), "somebody declined");
        let status = "its answer to the request for a token has status 400";
        for body in [r#"{"error":"call +1 555 0100"}"#, "<html>", "", r#"{"error":{}}"#] {
            assert_eq!(said(400, body), status, "{body}");
        }
    }

    #[test]
    fn only_what_may_pass_is_asked_again() {
        assert!(IssuerError::of(TOKEN, 503, b"").may_pass());
        assert!(IssuerError::of(TOKEN, 429, b"").may_pass());
        for (status, body) in [(400, r#"{"error":"invalid_grant"}"#), (404, ""), (302, "")] {
            assert!(!IssuerError::of(TOKEN, status, body.as_bytes()).may_pass(), "{status}");
        }
    }
}
