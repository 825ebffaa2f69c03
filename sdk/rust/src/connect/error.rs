//! Why there is no connection, told apart as finely as what to do about it differs.

use std::error::Error as StdError;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::CertificateError;

/// Why there is no connection.
///
/// Causes are shared, so that the error can be taken out of tonic's, which only lend it.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    #[error("no certificate authority is given, and without one nobody can tell who answers")]
    NoAuthority,
    #[error("the {what} is not PEM with at least one certificate")]
    NoCertificate { what: &'static str },
    #[error("the client's key is not PEM with a private key")]
    NoKey,
    #[error("the certificate authority cannot be used")]
    Authority(#[source] rustls::Error),
    #[error("the client certificate and its key cannot be used together")]
    Identity(#[source] rustls::Error),
    #[error("`{name}` is neither a DNS name nor an IP address")]
    ServerName { name: String },
    #[error("the name `{host}` has no address")]
    Unresolved {
        host: String,
        #[source]
        source: Arc<io::Error>,
    },
    #[error("nobody listens there")]
    NobodyListens,
    #[error("there is no socket `{}`", path.display())]
    SocketMissing { path: PathBuf },
    #[error("this user may not use the socket `{}`", path.display())]
    SocketForbidden { path: PathBuf },
    #[error("there was no answer within {} s", limit.as_secs())]
    TimedOut { limit: Duration },
    #[error("the server's certificate has expired")]
    ServerExpired,
    #[error("the server's certificate is not valid yet")]
    ServerNotYetValid,
    #[error("the server's certificate is from an authority that is not the one given")]
    ServerUnknownAuthority,
    #[error("the server's certificate is for another name")]
    ServerOtherName,
    #[error("the server refused the client certificate: {alert}")]
    CertificateRefused {
        /// The name of the TLS alert (RFC 8446, section 6.2).
        alert: String,
    },
    #[error("TLS failed")]
    Tls(#[source] rustls::Error),
    #[error("the connection failed")]
    Io(#[source] Arc<io::Error>),
    #[error("the connection broke as soon as it was made: {cause}")]
    Broken { cause: String },
}

impl ConnectError {
    /// The reason why there is no connection, where `error` says that there is none.
    pub fn within(error: &(dyn StdError + 'static)) -> Option<Self> {
        causes(error).find_map(|cause| match cause.downcast_ref::<Self>() {
            Some(found) => Some(found.clone()),
            None => certificate_alert(&cause.to_string()),
        })
    }

    /// Whether the same connection may be made a moment later: somebody restarts, a name server is slow. What a
    /// certificate or a configuration lacks, waiting does not bring.
    pub fn may_pass(&self) -> bool {
        matches!(
            self,
            Self::Unresolved { .. }
                | Self::NobodyListens
                | Self::SocketMissing { .. }
                | Self::TimedOut { .. }
                | Self::Io(_)
                | Self::Broken { .. }
        )
    }

    pub(super) fn broken(error: &(dyn StdError + 'static)) -> Self {
        let cause = causes(error).last().map(ToString::to_string).unwrap_or_default();
        Self::Broken { cause }
    }

    pub(super) fn of_io(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::ConnectionRefused => Self::NobodyListens,
            _ => Self::Io(Arc::new(error)),
        }
    }

    pub(super) fn of_socket(path: &Path, error: io::Error) -> Self {
        let path = path.to_owned();
        match error.kind() {
            ErrorKind::NotFound => Self::SocketMissing { path },
            ErrorKind::PermissionDenied => Self::SocketForbidden { path },
            _ => Self::of_io(error),
        }
    }

    pub(super) fn of_tls(error: io::Error) -> Self {
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match tls {
            Some(rustls::Error::InvalidCertificate(fault)) => Self::of_server_certificate(fault),
            Some(rustls::Error::AlertReceived(alert)) => certificate_alert(&format!("{ALERT}{alert:?}"))
                .unwrap_or_else(|| Self::Tls(rustls::Error::AlertReceived(*alert))),
            Some(other) => Self::Tls(other.clone()),
            None => Self::of_io(error),
        }
    }

    fn of_server_certificate(fault: &CertificateError) -> Self {
        match fault {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::ServerExpired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                Self::ServerNotYetValid
            }
            // Another authority of the same name shows as a signature that does not fit.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => Self::ServerUnknownAuthority,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                Self::ServerOtherName
            }
            other => Self::Tls(rustls::Error::InvalidCertificate(other.clone())),
        }
    }
}

/// An error and what lies below it.
fn causes<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |error| (*error).source())
}

/// In TLS 1.3 the client is done before the server has looked at its certificate: a refusal comes as an alert in place
/// of the first answer, and h2 keeps of it only its text.
fn certificate_alert(text: &str) -> Option<ConnectError> {
    let (_, alert) = text.split_once(ALERT)?;
    let alert = alert.split(|character: char| !character.is_ascii_alphanumeric()).next()?;
    let about_certificates = CERTIFICATE_ALERTS.contains(&alert);
    about_certificates.then(|| ConnectError::CertificateRefused { alert: alert.to_owned() })
}

/// How rustls begins the text of an alert that it received.
const ALERT: &str = "received fatal alert: ";

/// The alerts by which a server refuses a client's certificate (RFC 8446, section 6.2), as rustls names them. A
/// certificate by another authority of the same name shows as a signature that does not fit, `DecryptError`.
const CERTIFICATE_ALERTS: [&str; 10] = [
    "DecryptError",
    "NoCertificate",
    "BadCertificate",
    "UnsupportedCertificate",
    "CertificateRevoked",
    "CertificateExpired",
    "CertificateUnknown",
    "UnknownCA",
    "AccessDenied",
    "CertificateRequired",
];
