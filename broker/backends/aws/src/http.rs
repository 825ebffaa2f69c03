//! The SDK's way to the network: the HTTP client that the other stores are reached by.
//!
//! A body is read whole, up to a limit, into a buffer that is wiped; the SDK parses it there.

use std::path::Path;
use std::time::Duration;

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use bursar_backend_http::{Authorities, Plaintext, SetupError, Unread};
use bursar_core::secret::Gathered;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, header};
use reqwest::Url;
use zeroize::Zeroizing;

use crate::config::ConfigError;

/// An HTTP client for the SDK. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Http {
    client: reqwest::Client,
}

impl Http {
    /// Reads `ca_file`.
    pub(crate) fn new(ca_file: Option<&Path>, plaintext: Plaintext) -> Result<Self, ConfigError> {
        let authorities = ca_file.map(Authorities::read).transpose()?;
        let client = bursar_backend_http::client(authorities.as_ref(), plaintext)?;
        let client = client.build().map_err(SetupError::from)?;
        Ok(Self { client })
    }

    /// Sends a request that was not made by the SDK.
    pub(crate) async fn send(&self, request: HttpRequest) -> Result<HttpResponse, ConnectorError> {
        exchange(self.client.clone(), None, request).await
    }
}

/// Checks an endpoint.
pub(crate) fn check(endpoint: &str, plaintext: Plaintext) -> Result<(), ConfigError> {
    let url = bursar_backend_http::address(endpoint, plaintext)?;
    if url.path() == "/" { Ok(()) } else { Err(ConfigError::EndpointWithPath) }
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
    let body = match bursar_backend_http::whole(&mut response, LONGEST_BODY).await {
        Ok(body) => body,
        Err(Unread::Broken(error)) => return Err(not_reached(error)),
        Err(too_long) => return Err(ConnectorError::other(too_long.into(), None)),
    };
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

/// A request or response that one side cannot express.
type Unfit = Box<dyn std::error::Error + Send + Sync>;

const SESSION_TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");
/// The longest answers are a page of 100 descriptions of secrets, and 20 values of 64 KiB, escaped.
const LONGEST_BODY: usize = 8 * 1024 * 1024;
