//! As much of a client for the cluster's API server as the webhook needs: get, create and replace single objects, and list
//! pods in pages.
//!
//! A connection for each call: there are a few in ten seconds, trust and token are read anew for each, and nothing has to
//! notice that a connection died. kube's own client was the alternative: it brings a reader of kubeconfigs, a second HTTP
//! client and its own policy of repeating, for six calls.
//!
//! An object is replaced under the version that was read, so that whoever was slower hears it ([`ApiError::Conflict`]) and
//! reads again. Nothing is repeated here: every caller comes back by itself in a few seconds.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use bursar_core::Secret;
use bursar_core::secret::Gathered;
use http::header::{ACCEPT, CONTENT_TYPE, DATE, HOST};
use http::{HeaderValue, Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use jiff::fmt::rfc2822;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tonic::metadata::MetadataMap;
use zeroize::Zeroizing;

use crate::attest::Bearer;
use crate::config::ApiServer;
use crate::source;
use crate::telemetry::webhook::Metrics;

/// Asks the API server.
#[derive(Debug)]
pub(super) struct Api {
    server: ApiServer,
    metrics: Metrics,
    /// What the API server's clock said last, and when that was heard.
    time: Mutex<Option<(Timestamp, Instant)>>,
}

impl Api {
    pub(super) fn new(server: ApiServer, metrics: Metrics) -> Self {
        Self { server, metrics, time: Mutex::default() }
    }

    /// The time by the API server's clock; nothing before its first answer. It judges certificates by that clock and by no
    /// other.
    pub(super) fn now(&self) -> Option<Timestamp> {
        let heard = *self.time.lock().unwrap_or_else(PoisonError::into_inner);
        let (said, heard) = heard?;
        said.checked_add(heard.elapsed()).ok()
    }

    /// The object at `path`, if there is one.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>, ApiError> {
        match self.call(Method::GET, path, None).await {
            Ok(found) => Ok(Some(found)),
            Err(ApiError::NotFound) => Ok(None),
            Err(other) => Err(other),
        }
    }

    /// Makes an object in the list at `path`.
    pub(super) async fn create<T: Serialize + DeserializeOwned>(
        &self,
        path: &str,
        object: &T,
    ) -> Result<T, ApiError> {
        self.call(Method::POST, path, Some(written(object)?)).await
    }

    /// Puts another in the place of the object at `path`. Its `resourceVersion` says which.
    pub(super) async fn replace<T: Serialize + DeserializeOwned>(
        &self,
        path: &str,
        object: &T,
    ) -> Result<T, ApiError> {
        self.call(Method::PUT, path, Some(written(object)?)).await
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<Zeroizing<Vec<u8>>>,
    ) -> Result<T, ApiError> {
        let asked = tokio::time::timeout(DEADLINE, self.ask(method, path, body)).await;
        let answered =
            asked.unwrap_or_else(|_| Err(ApiError::Unreachable("it does not answer within 10 s".into())));
        self.metrics.call(answered.as_ref().map_or_else(ApiError::outcome, |_| "ok"));
        let answer = answered?;
        // The words of the parser may quote what is in the object.
        serde_json::from_slice(answer.bytes()).map_err(|_| ApiError::Malformed)
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<Zeroizing<Vec<u8>>>,
    ) -> Result<Gathered, ApiError> {
        let request = self.request(method, path, body)?;
        let stream = self.connect().await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(unreachable)?;
        let answer = async {
            let answer = sender.send_request(request).await.map_err(unreachable)?;
            let (parts, mut body) = answer.into_parts();
            let mut gathered = Gathered::up_to(LONGEST);
            while let Some(frame) =
                std::future::poll_fn(|cx| std::pin::Pin::new(&mut body).poll_frame(cx)).await
            {
                let frame = frame.map_err(unreachable)?;
                if frame.data_ref().is_some_and(|piece| !gathered.push(piece)) {
                    return Err(ApiError::Malformed);
                }
            }
            Ok((parts, gathered))
        };
        let (mut answer, mut connection) = (std::pin::pin!(answer), std::pin::pin!(connection));
        let (parts, gathered) = tokio::select! {
            biased;
            answer = &mut answer => answer?,
            // What was read of the answer before the end still counts.
            ended = &mut connection => match ended {
                Ok(()) => answer.await?,
                Err(error) => return Err(unreachable(error)),
            },
        };
        self.hear(parts.headers.get(DATE));
        match parts.status {
            status if status.is_success() => Ok(gathered),
            StatusCode::NOT_FOUND => Err(ApiError::NotFound),
            StatusCode::CONFLICT => Err(ApiError::Conflict),
            status => Err(ApiError::Refused { status }),
        }
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<Zeroizing<Vec<u8>>>,
    ) -> Result<Request<Body>, ApiError> {
        let token =
            source::projected(&self.server.token_file).map_err(|error| ApiError::Account(error.into()))?;
        let mut shown = MetadataMap::new();
        let bearer = Bearer::of(token).and_then(|bearer| bearer.attach(&mut shown));
        bearer.map_err(|error| ApiError::Account(error.into()))?;
        let length = body.as_ref().map_or(0, |body| body.len());
        // Wiped when it has been sent.
        let body = body.map_or_else(Body::empty, |body| Body::from(axum::body::Bytes::from_owner(body)));
        let request = Request::builder().method(method).uri(path).header(HOST, &self.server.host);
        let request = request.header(http::header::CONTENT_LENGTH, length);
        let request = request.header(ACCEPT, JSON).header(CONTENT_TYPE, JSON).body(body);
        let mut request = request.map_err(unreachable)?;
        request.headers_mut().extend(shown.into_headers());
        Ok(request)
    }

    async fn connect(&self) -> Result<tokio_rustls::client::TlsStream<TcpStream>, ApiError> {
        let pem = source::public(&self.server.ca_file).map_err(|error| ApiError::Account(error.into()))?;
        let mut roots = RootCertStore::empty();
        for root in CertificateDer::pem_slice_iter(&pem) {
            let root = root.map_err(|error| ApiError::Account(error.into()))?;
            roots.add(root).map_err(|error| ApiError::Account(error.into()))?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.map_err(unreachable)?.with_root_certificates(roots).with_no_client_auth();
        let name = ServerName::try_from(self.server.host.clone()).map_err(unreachable)?;
        let stream =
            TcpStream::connect((self.server.host.as_str(), self.server.port)).await.map_err(unreachable)?;
        TlsConnector::from(Arc::new(config)).connect(name, stream).await.map_err(unreachable)
    }

    fn hear(&self, date: Option<&HeaderValue>) {
        // "GMT" is an obsolete zone of RFC 2822, and all that HTTP has (RFC 9110, section 5.6.7).
        let said = date.and_then(|date| rfc2822::DateTimeParser::new().parse_timestamp(date.as_bytes()).ok());
        if let Some(said) = said {
            *self.time.lock().unwrap_or_else(PoisonError::into_inner) = Some((said, Instant::now()));
        }
    }
}

fn written(object: &impl Serialize) -> Result<Zeroizing<Vec<u8>>, ApiError> {
    serde_json::to_vec(object).map(Zeroizing::new).map_err(|_| ApiError::Malformed)
}

fn unreachable(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ApiError {
    ApiError::Unreachable(error.into())
}

/// A value of a Secret, out of what kube's types keep it in.
pub(super) fn taken(
    data: &mut std::collections::BTreeMap<String, k8s_openapi::ByteString>,
    key: &str,
) -> Option<Secret> {
    data.remove(key).map(|value| Secret::new(value.0))
}

/// Why the API server did not do what it was asked for. Says nothing of what it wrote.
#[derive(Debug, thiserror::Error)]
pub(super) enum ApiError {
    #[error("the API server cannot be reached")]
    Unreachable(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("what the webhook's account asks the API server with cannot be used")]
    Account(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("there is no such object")]
    NotFound,
    #[error("somebody else changed the object meanwhile")]
    Conflict,
    #[error(
        "the API server refused: status {status}; docs/kubernetes.md says what the webhook's account has to be allowed"
    )]
    Refused { status: StatusCode },
    #[error("the API server's answer cannot be read")]
    Malformed,
}

impl ApiError {
    fn outcome(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "unreachable",
            Self::Conflict => "conflict",
            Self::NotFound => "ok",
            Self::Account(_) | Self::Refused { .. } | Self::Malformed => "refused",
        }
    }
}

const JSON: &str = "application/json";
const DEADLINE: Duration = Duration::from_secs(10);
/// In bytes: of one object, or a page of pods.
const LONGEST: usize = 32 * 1024 * 1024;
