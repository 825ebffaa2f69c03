//! The SDK's way to the network: the HTTP client that the other stores are reached by.
//!
//! What AWS's own client crate would bring is refused here on purpose: proxies, redirects and repetition. A body is read
//! whole, up to a limit, into a buffer that is wiped; the SDK parses it there.

use std::path::Path;
use std::time::Duration;

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use bursar_core::secret::Gathered;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, header};
use reqwest::{Certificate, Url, redirect};
use rustls::crypto::CryptoProvider;
use zeroize::Zeroizing;

use crate::config::ConfigError;

/// An HTTP client for the SDK. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Http {
    client: reqwest::Client,
}

/// Whether calls may go out in the clear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plaintext {
    Refused,
    /// The services that hand credentials to containers and instances speak it, on addresses of the machine's own.
    Allowed,
}

impl Http {
    /// Reads `ca_file`.
    pub(crate) fn new(ca_file: Option<&Path>, plaintext: Plaintext) -> Result<Self, ConfigError> {
        if CryptoProvider::get_default().is_none() {
            return Err(ConfigError::NoTlsProvider);
        }
        let mut client = reqwest::Client::builder()
            .tls_backend_rustls()
            .https_only(plaintext == Plaintext::Refused)
            .redirect(redirect::Policy::none())
            // `HTTPS_PROXY` would send secrets to whoever sets the environment.
            .no_proxy()
            .retry(reqwest::retry::never())
            .referer(false);
        if let Some(path) = ca_file {
            let pem = std::fs::read(path)
                .map_err(|source| ConfigError::CaFile { path: path.to_owned(), source })?;
            let certificates = Certificate::from_pem_bundle(&pem).ok();
            let certificates = certificates.filter(|certificates| !certificates.is_empty());
            client = client.tls_certs_only(
                certificates.ok_or_else(|| ConfigError::NoCertificate { path: path.to_owned() })?,
            );
        }
        let client = client.build().map_err(|source| ConfigError::Client { source })?;
        Ok(Self { client })
    }
}

/// Checks an endpoint.
pub(crate) fn check(endpoint: &str, allow_plaintext: bool) -> Result<(), ConfigError> {
    let url = Url::parse(endpoint).map_err(|_| ConfigError::NotAUrl)?;
    match url.scheme() {
        "https" => {}
        "http" if allow_plaintext => {}
        "http" => return Err(ConfigError::Plaintext),
        _ => return Err(ConfigError::NotAUrl),
    }
    let extras = [url.password(), url.query(), url.fragment()];
    if url.path() != "/" || !url.username().is_empty() || extras.iter().any(Option::is_some) {
        return Err(ConfigError::EndpointWithExtras);
    }
    Ok(())
}

impl HttpClient for Http {
    fn http_connector(&self, settings: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        let limits = [settings.connect_timeout(), settings.read_timeout()];
        let limit = limits.into_iter().flatten().reduce(Duration::saturating_add);
        SharedHttpConnector::new(Connector { client: self.client.clone(), limit })
    }
}

#[derive(Debug)]
struct Connector {
    client: reqwest::Client,
    limit: Option<Duration>,
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        HttpConnectorFuture::new(exchange(self.client.clone(), self.limit, request))
    }
}

async fn exchange(
    client: reqwest::Client,
    limit: Option<Duration>,
    request: HttpRequest,
) -> Result<HttpResponse, ConnectorError> {
    let request = outgoing(&client, limit, &request).map_err(ConnectorError::user)?;
    let mut response = client.execute(request).await.map_err(not_reached)?;
    let mut body = Gathered::up_to(LONGEST_BODY);
    while let Some(piece) = response.chunk().await.map_err(not_reached)? {
        if !body.push(&piece) {
            return Err(ConnectorError::other(Box::new(TooLong), None));
        }
    }
    incoming(&response, body).map_err(|error| ConnectorError::other(error, None))
}

/// A request of the SDK for the HTTP client.
fn outgoing(
    client: &reqwest::Client,
    limit: Option<Duration>,
    request: &HttpRequest,
) -> Result<reqwest::Request, Unfit> {
    let method = Method::from_bytes(request.method().as_bytes())?;
    // It can hold the token of a login.
    let body = Zeroizing::new(request.body().bytes().unwrap_or_default().to_vec());
    let mut call = client.request(method, Url::parse(request.uri())?).body(Bytes::from_owner(body));
    for (name, value) in request.headers() {
        let (name, mut value) = (HeaderName::from_bytes(name.as_bytes())?, HeaderValue::from_str(value)?);
        value.set_sensitive(name == header::AUTHORIZATION || name == SESSION_TOKEN);
        call = call.header(name, value);
    }
    if let Some(limit) = limit {
        call = call.timeout(limit);
    }
    Ok(call.build()?)
}

/// A response for the SDK, whose body is the buffer that was filled.
fn incoming(response: &reqwest::Response, body: Gathered) -> Result<HttpResponse, Unfit> {
    let body = SdkBody::from(Bytes::from_owner(body.into_bytes()));
    let mut incoming = HttpResponse::new(response.status().as_u16().try_into()?, body);
    for (name, value) in response.headers() {
        // A value that is no text means nothing to the SDK.
        if let Ok(value) = value.to_str() {
            incoming.headers_mut().try_append(name.as_str().to_owned(), value.to_owned())?;
        }
    }
    Ok(incoming)
}

fn not_reached(error: reqwest::Error) -> ConnectorError {
    let error = error.without_url();
    if error.is_timeout() { ConnectorError::timeout(error.into()) } else { ConnectorError::io(error.into()) }
}

/// A body that is longer than any answer.
#[derive(Debug, thiserror::Error)]
#[error("the answer is too long")]
pub(crate) struct TooLong;

/// A request or response that one side cannot express.
type Unfit = Box<dyn std::error::Error + Send + Sync>;

const SESSION_TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");
/// The longest answers are a page of 100 descriptions of secrets, and 20 values of 64 KiB, escaped.
const LONGEST_BODY: usize = 8 * 1024 * 1024;
