//! The two calls that end in a certificate.

use bursar_core::Clock;
use bursar_core::retry::Transient;
use bursar_proto::Reason;
use bursar_proto::v1::nodes_client::NodesClient;
use bursar_proto::v1::nodes_join_request::Credential as Presented;
use bursar_proto::v1::{NodeCertificate, NodesJoinRequest, NodesRenewCertificateRequest};
use rcgen::{CertificateParams, KeyPair};
use tonic::Status;
use tonic::transport::Channel;

use super::{Credential, CredentialError};
use crate::source::SourceError;
use crate::upstream::retry_after;

/// Joins by what is `presented`, over a channel with no certificate of a node.
///
/// # Errors
/// [`CertifyError`].
pub(super) async fn join(
    channel: Channel,
    presented: Presented,
    clock: &dyn Clock,
) -> Result<Credential, CertifyError> {
    let (key, csr) = request()?;
    let request = NodesJoinRequest { credential: Some(presented), csr };
    let joined = NodesClient::new(channel).join(request).await.map_err(CertifyError::broker)?;
    issued(&key, joined.into_inner().certificate, clock)
}

/// Renews with the certificate that the channel presents.
///
/// # Errors
/// [`CertifyError`].
pub(super) async fn renew(channel: Channel, clock: &dyn Clock) -> Result<Credential, CertifyError> {
    let (key, csr) = request()?;
    let request = NodesRenewCertificateRequest { csr };
    let renewed = NodesClient::new(channel).renew_certificate(request).await.map_err(CertifyError::broker)?;
    issued(&key, renewed.into_inner().certificate, clock)
}

/// A fresh P-256 key, and the request to certify it. Names are left out: the broker gives them.
fn request() -> Result<(KeyPair, Vec<u8>), CertifyError> {
    let key = KeyPair::generate().map_err(CertifyError::Key)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    let csr = params.serialize_request(&key).map_err(CertifyError::Key)?;
    Ok((key, csr.der().to_vec()))
}

fn issued(
    key: &KeyPair,
    certificate: Option<NodeCertificate>,
    clock: &dyn Clock,
) -> Result<Credential, CertifyError> {
    let certificate = certificate.unwrap_or_default();
    let credential = Credential::new(key, &certificate.chain, &certificate.trust_bundle)?;
    if credential.is_valid(clock.now()) { Ok(credential) } else { Err(CertifyError::Over) }
}

/// Why there is no new certificate.
#[derive(Debug, thiserror::Error)]
pub enum CertifyError {
    #[error("the key cannot be made")]
    Key(#[source] rcgen::Error),
    #[error("{}", said(.0))]
    Broker(Box<Status>),
    #[error("the broker cannot be reached")]
    Connect(#[from] bursar_sdk::ConnectError),
    #[error("the certificate that the broker issued cannot be used")]
    Unusable(#[from] CredentialError),
    #[error("the certificate that the broker issued is already over; compare the clocks of both machines")]
    Over,
    #[error(
        "the broker issued a certificate for `{issued}`, but this is node `{configured}`; make a token for that name, or \
         leave `node` out where the broker knows it"
    )]
    OtherNode { issued: String, configured: String },
    #[error(
        "the certificate has ended and nothing is configured that lets this node in; configure `join_token` and start the \
         agent again"
    )]
    NoToken,
    #[error("what lets this node in cannot be read")]
    Unreadable(#[from] SourceError),
    #[error(
        "the join token was used already; make a new one with `bursar node token` and put it in its place"
    )]
    TokenSpent,
}

impl CertifyError {
    fn broker(status: Status) -> Self {
        Self::Broker(Box::new(status))
    }

    /// Whether the broker no longer takes the certificate, however long it would last: only joining again helps.
    pub(super) fn is_refusal(&self) -> bool {
        let Self::Broker(status) = self else {
            return matches!(self, Self::Connect(bursar_sdk::ConnectError::CertificateRefused { .. }));
        };
        let reason = Reason::of(status);
        matches!(reason, Some(Reason::CertificateInvalid | Reason::Unauthenticated | Reason::NodeUnknown))
            || matches!(
                bursar_sdk::ConnectError::within(&**status),
                Some(bursar_sdk::ConnectError::CertificateRefused { .. })
            )
    }

    /// Whether the broker will never take this token again.
    pub(super) fn is_of_token(&self) -> bool {
        matches!(self, Self::Broker(status) if Reason::of(status) == Some(Reason::JoinTokenInvalid))
    }
}

/// Everything passes with time: a broker comes back, an operator puts a new token in place.
impl Transient for CertifyError {
    fn is_transient(&self) -> bool {
        true
    }

    fn retry_after(&self) -> Option<std::time::Duration> {
        match self {
            Self::Broker(status) => retry_after(status),
            _ => None,
        }
    }
}

fn said(status: &Status) -> String {
    match bursar_sdk::ConnectError::within(status) {
        Some(error) => format!("the broker cannot be reached: {error}"),
        None => format!("the broker refused: {} ({:?})", status.message(), status.code()),
    }
}
