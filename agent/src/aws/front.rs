//! What every request passes through: is it meant for this port, who sends it, what does it ask.

use std::net::IpAddr;
use std::sync::Arc;

use axum::body::Body;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HOST};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};

use super::ask::Ask;
use super::body::{self, Given};
use super::caller::Caller;
use super::credential::{self, Manners};
use super::fault::Fault;
use super::names::Names;
use super::targets::{self, Target};
use crate::answer::{Answers, Call};
use crate::attest::Attestor;
use crate::config::{Aws, Callers};
use crate::telemetry::Metrics;

/// Answers requests.
#[derive(Debug)]
pub struct Front {
    answers: Arc<Answers>,
    pub(super) attestor: Arc<Attestor>,
    pub(super) metrics: Metrics,
    names: Names,
    callers: Callers,
}

/// What a request asks for.
pub(super) enum Wanted {
    Ping,
    /// In the way of AWS's agent.
    Get(Ask),
    /// In the way of an SDK.
    Target(Target),
}

impl Front {
    /// As `config` says.
    pub fn new(config: &Aws, answers: Arc<Answers>, attestor: Arc<Attestor>, metrics: Metrics) -> Self {
        Self { answers, attestor, metrics, names: Names::of(config), callers: config.callers }
    }

    /// Answers one request of `caller`.
    pub(super) async fn receive(&self, caller: &Caller, mut request: Request<Body>) -> Response<Body> {
        let wanted = wanted(&request);
        let operation = wanted.as_ref().map_or("other", Wanted::operation);
        let mut id = None;
        let sent = targets::gather(std::mem::take(request.body_mut())).await;
        let answered = match wanted.and_then(|wanted| Ok((wanted, sent?))) {
            Ok((Wanted::Ping, _)) => Ok(Response::new(Body::from("healthy"))),
            Ok((Wanted::Get(ask), _)) => {
                match self.admit(caller, Manners::Agent, request.headers_mut()).await {
                    Ok(call) => {
                        id = Some(call.request_id().clone());
                        self.read(&call, &ask).await.map(|given| Response::new(body::body(given.write())))
                    }
                    Err(fault) => Err(fault),
                }
            }
            Ok((Wanted::Target(target), sent)) => {
                match self.admit(caller, Manners::Sdk, request.headers_mut()).await {
                    Ok(call) => {
                        id = Some(call.request_id().clone());
                        targets::answer(self, &call, target, &sent).await.map(Response::new)
                    }
                    Err(fault) => Err(fault),
                }
            }
            Err(fault) => Err(fault),
        };
        self.metrics.aws_request(operation, answered.as_ref().map_or_else(Fault::outcome, |_| "answered"));
        let mut response = answered.unwrap_or_else(|fault| {
            let request_id = id.as_ref().and_then(|id| id.to_str().ok());
            tracing::warn!(operation, kind = fault.kind, request_id, "a request was refused");
            fault.into_response()
        });
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        if let Some(id) = id.and_then(|id| HeaderValue::from_bytes(id.as_bytes()).ok()) {
            headers.insert(REQUEST_ID, id);
        }
        response
    }

    /// Reads one secret for `call`, from the cache or from the broker, as every local caller does.
    pub(super) async fn read(&self, call: &Call, ask: &Ask) -> Result<Given, Fault> {
        let named = self.names.find(&ask.secret_id)?;
        let mut read = self.answers.read(call, ask.request(&named)?).await?;
        ask.accept(&read.version)?;
        let value = read.take_value();
        Ok(Given::new(named, ask, &read.version, value))
    }

    /// Who calls. Whatever may be a token is out of the headers when this returns, whatever it returns.
    async fn admit(&self, caller: &Caller, manners: Manners, headers: &mut HeaderMap) -> Result<Call, Fault> {
        let credential = credential::take(headers, manners)?;
        let workload = caller.workload(credential, self.callers).await?;
        Ok(Call::new(workload, headers))
    }
}

impl Wanted {
    /// As metrics name it.
    fn operation(&self) -> &'static str {
        match self {
            Self::Ping => "ping",
            Self::Get(_) => "get",
            Self::Target(target) => target.as_str(),
        }
    }
}

pub(super) fn wanted(request: &Request<Body>) -> Result<Wanted, Fault> {
    let (uri, headers) = (request.uri(), request.headers());
    is_meant_for_here(uri.authority(), headers)?;
    let is_get = request.method() == Method::GET;
    let path = uri.path();
    match (path, path.strip_prefix(BY_PATH)) {
        ("/ping", _) if is_get => Ok(Wanted::Ping),
        ("/secretsmanager/get", _) if is_get => Ask::in_query(uri).map(Wanted::Get),
        (_, Some(id)) if is_get => Ask::in_path(uri, id).map(Wanted::Get),
        ("/", _) if request.method() == Method::POST => Target::of(headers).map(Wanted::Target),
        ("/ping" | "/secretsmanager/get", _) | (_, Some(_)) => {
            let message = "this is only read, by `GET`; SDKs send `POST` to `/`";
            Err(Fault::new(StatusCode::METHOD_NOT_ALLOWED, "InvalidRequestException", message))
        }
        _ => {
            let message = "there is nothing here; ask for `/secretsmanager/get?secretId=…` or `/v1/SECRET`";
            Err(Fault::new(StatusCode::NOT_FOUND, "UnknownOperationException", message))
        }
    }
}

/// Neither passed on by a proxy for somebody else, nor sent by a browser that was told that some name of the internet is
/// an address of this machine.
fn is_meant_for_here(authority: Option<&Authority>, headers: &HeaderMap) -> Result<(), Fault> {
    if FORWARDED.iter().any(|name| headers.contains_key(*name)) {
        let message = "Forwarded: the request comes through a proxy; ask from the machine itself";
        return Err(Fault::new(StatusCode::BAD_REQUEST, "InvalidRequestException", message));
    }
    let named = headers.get(HOST).and_then(|host| host.to_str().ok()?.parse::<Authority>().ok());
    let mut hosts = authority.into_iter().chain(&named).peekable();
    if hosts.peek().is_some() && hosts.all(is_local) {
        return Ok(());
    }
    let message = "the `host` header names another machine; use `localhost` or the address of this port";
    Err(Fault::new(StatusCode::BAD_REQUEST, "InvalidRequestException", message))
}

fn is_local(authority: &Authority) -> bool {
    let host = authority.host();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

const BY_PATH: &str = "/v1/";
const FORWARDED: [&str; 2] = ["x-forwarded-for", "forwarded"];
const REQUEST_ID: &str = "x-amzn-requestid";
const MEDIA_TYPE: &str = "application/x-amz-json-1.1";

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(method: &str, uri: &str, headers: &[(&str, &str)]) -> Option<(u16, &'static str)> {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let wanted = wanted(&request.body(Body::empty()).expect("a request"));
        wanted.err().map(|fault| (fault.status.as_u16(), fault.kind))
    }

    const HERE: (&str, &str) = ("host", "127.0.0.1:2773");

    #[test]
    fn only_what_the_contract_has_is_there() {
        for path in ["/ping", "/secretsmanager/get?secretId=a", "/v1/a/b?refreshNow=1"] {
            assert_eq!(refused("GET", path, &[HERE]), None, "{path}");
            let not_allowed = Some((405, "InvalidRequestException"));
            for method in ["POST", "PUT", "DELETE", "HEAD", "OPTIONS"] {
                assert_eq!(refused(method, path, &[HERE]), not_allowed, "{method} {path}");
            }
        }
        for path in ["/", "/secretsmanager", "/v1", "/metrics", "/v2/a"] {
            assert_eq!(refused("GET", path, &[HERE]).map(|(status, _)| status), Some(404), "{path}");
        }
    }

    #[test]
    fn what_came_through_a_proxy_or_was_meant_for_another_machine_is_refused() {
        let path = "/secretsmanager/get?secretId=a";
        for good in ["localhost", "LOCALHOST:1", "127.0.0.1", "127.9.9.9:2773", "[::1]:2773"] {
            assert_eq!(refused("GET", path, &[("host", good)]), None, "{good}");
        }
        let other = Some((400, "InvalidRequestException"));
        for bad in ["evil.example", "127.0.0.1.evil.example", "169.254.169.254", "localhost.evil", "a b", ""]
        {
            assert_eq!(refused("GET", path, &[("host", bad)]), other, "{bad}");
        }
        assert_eq!(refused("GET", path, &[]), other);
        assert_eq!(refused("GET", &format!("http://evil.example{path}"), &[HERE]), other);
        for name in ["X-Forwarded-For", "Forwarded"] {
            assert_eq!(refused("GET", "/ping", &[HERE, (name, "x")]), other, "{name}");
        }
    }
}
