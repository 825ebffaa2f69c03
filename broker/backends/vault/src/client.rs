//! One HTTP call to the store: no login, no repetition, no words of the store in its errors.

use bursar_backend_http::{NotReached, Plaintext, Unread};
use bursar_core::BackendName;
use bursar_core::backend::{BackendError, ErrorKind, Operation};
use bursar_core::secret::Gathered;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, StatusCode};
use reqwest::Url;
use serde::Serialize;

use crate::answer::{Answer, LONGEST_BODY};
use crate::config::{ConfigError, VaultConfig};
use crate::nodes::{Blame, Node, Nodes, Refusal};
use crate::status;
use crate::token::Token;
use crate::trust::Trust;

/// The way to one store.
pub(crate) struct Client {
    pub(crate) backend: BackendName,
    trust: Trust,
    nodes: Nodes,
    namespace: Option<HeaderValue>,
}

/// A call that can be sent more than once.
#[derive(Clone)]
pub(crate) struct Request {
    pub(crate) operation: Operation,
    method: Method,
    /// As the store writes it, without escapes.
    path: String,
    query: Vec<(&'static str, String)>,
    body: Option<Bytes>,
    /// Whether the call is about the configured namespace; `sys/health` exists only at the root.
    namespaced: bool,
}

impl Client {
    pub(crate) fn new(config: &VaultConfig) -> Result<Self, ConfigError> {
        if config.timeout.is_zero() {
            return Err(ConfigError::ZeroTimeout);
        }
        let nodes = Nodes::new(&config.addresses, Plaintext::allowed(config.allow_plaintext))?;
        let trust = Trust::new(config)?;
        let namespace = config.namespace.as_deref().map(namespace).transpose()?;
        Ok(Self { backend: config.name.clone(), trust, nodes, namespace })
    }

    /// `GET` of a path as the store writes it, without escapes.
    pub(crate) fn read(&self, operation: Operation, path: &str) -> Request {
        Request::new(operation, Method::GET, path, None)
    }

    /// `PUT` of a JSON object that holds no secret.
    pub(crate) fn update(&self, operation: Operation, path: &str, body: &impl Serialize) -> Request {
        // Objects of texts and numbers always have a JSON form.
        self.update_with(operation, path, Bytes::from(serde_json::to_vec(body).unwrap_or_default()))
    }

    /// `PUT` of a JSON text.
    pub(crate) fn update_with(&self, operation: Operation, path: &str, body: Bytes) -> Request {
        Request::new(operation, Method::PUT, path, Some(body))
    }

    /// Sends `request` and answers what the store said, if that was yes.
    #[tracing::instrument(level = "debug", skip_all, fields(backend = %self.backend, operation = %request.operation))]
    pub(crate) async fn send(
        &self,
        request: &Request,
        token: Option<&Token>,
    ) -> Result<Answer, BackendError> {
        let mut round = self.nodes.round();
        loop {
            let node = round.node();
            match self.send_to(node, request, token).await {
                Ok(answer) => return Ok(answer),
                Err(refusal) => round.go_on(node, refusal)?,
            }
        }
    }

    async fn send_to(
        &self,
        node: Node<'_>,
        request: &Request,
        token: Option<&Token>,
    ) -> Result<Answer, Refusal> {
        let Reply { status, retry_after, body } = self.exchange(node, request, token).await?;
        if status.is_success() {
            let backend = self.backend.clone();
            return Ok(Answer { backend, operation: request.operation, status: status.as_u16(), body });
        }
        let (kind, blame) = match status {
            StatusCode::SERVICE_UNAVAILABLE if self.is_sealed(node, request.operation).await => {
                (ErrorKind::Sealed, Blame::Node)
            }
            status => (status::kind(status, body.bytes()), status::blame(status)),
        };
        let error = self.error(kind, request.operation).with_code(status.as_u16());
        Err(Refusal::of(blame, BackendError { retry_after, ..error }))
    }

    /// Whether the store is reached, initialised, unsealed and able to serve. A standby is: it forwards.
    /// Codes: <https://developer.hashicorp.com/vault/api-docs/system/health>.
    pub(crate) async fn health(&self) -> Result<(), BackendError> {
        let mut round = self.nodes.round();
        loop {
            let node = round.node();
            match self.health_of(node).await {
                Ok(()) => return Ok(()),
                Err(refusal) => round.go_on(node, refusal)?,
            }
        }
    }

    async fn health_of(&self, node: Node<'_>) -> Result<(), Refusal> {
        let status = self.health_status(node, Operation::Health).await?;
        let kind = match status {
            200 | 429 | 473 => return Ok(()),
            503 => ErrorKind::Sealed,
            _ => ErrorKind::Unavailable,
        };
        Err(Refusal::of(Blame::Node, self.error(kind, Operation::Health).with_code(status)))
    }

    /// Reads the client's own certificate anew, for a login.
    ///
    /// # Errors
    /// [`ErrorKind::Misconfigured`]; the log says why.
    pub(crate) async fn present_anew(&self) -> Result<(), BackendError> {
        match self.trust.present_anew().await {
            true => Ok(()),
            false => Err(self.error(ErrorKind::Misconfigured, Operation::Login)),
        }
    }

    pub(crate) fn error(&self, kind: ErrorKind, operation: Operation) -> BackendError {
        BackendError::new(kind, &self.backend, operation)
    }

    async fn is_sealed(&self, node: Node<'_>, operation: Operation) -> bool {
        self.health_status(node, operation).await.is_ok_and(|status| status == 503)
    }

    async fn health_status(&self, node: Node<'_>, operation: Operation) -> Result<u16, Refusal> {
        let request = Request { namespaced: false, ..self.read(operation, "sys/health") };
        self.exchange(node, &request, None).await.map(|reply| reply.status.as_u16())
    }

    async fn exchange(
        &self,
        node: Node<'_>,
        request: &Request,
        token: Option<&Token>,
    ) -> Result<Reply, Refusal> {
        let trusting = self.trust.current();
        match self.exchange_by(&trusting.http, node, request, token).await {
            // A certificate was refused, so nothing was sent: whatever it is may be tried again.
            Err(Refusal { error, .. })
                if error.kind == ErrorKind::Misconfigured && self.trust.renew(&trusting).await =>
            {
                self.exchange_by(&self.trust.current().http, node, request, token).await
            }
            other => other,
        }
    }

    async fn exchange_by(
        &self,
        http: &reqwest::Client,
        node: Node<'_>,
        request: &Request,
        token: Option<&Token>,
    ) -> Result<Reply, Refusal> {
        let mut call = http.request(request.method.clone(), request.url(node));
        // Vault's agents and proxies refuse calls without it, as a guard against forged requests.
        call = call.header(REQUEST, HeaderValue::from_static("true"));
        if let Some(token) = token {
            call = call.header(TOKEN, token.header());
        }
        if let Some(namespace) = self.namespace.as_ref().filter(|_| request.namespaced) {
            call = call.header(NAMESPACE, namespace);
        }
        if let Some(body) = &request.body {
            call = call.body(body.clone());
        }
        let not_reached = |failure| self.not_reached(request.operation, failure);
        let mut response = call.send().await.map_err(|error| not_reached(error.into()))?;
        let status = response.status();
        let retry_after = status::retry_after(response.headers());
        match bursar_backend_http::whole(&mut response, LONGEST_BODY).await {
            Ok(body) => Ok(Reply { status, retry_after, body }),
            Err(Unread::TooLong) => {
                let error = self.error(ErrorKind::Malformed, request.operation).with_code(status.as_u16());
                Err(Refusal::of(Blame::Call, error))
            }
            Err(Unread::Broken(error)) => Err(not_reached(error.into())),
        }
    }

    /// The cause of a failure below HTTP is told here, in the log: it speaks of sockets and certificates.
    fn not_reached(&self, operation: Operation, failure: NotReached) -> Refusal {
        let NotReached { kind, unsent, cause } = failure;
        let blame = if unsent { Blame::Node } else { Blame::NodeAfterAll };
        tracing::warn!(backend = %self.backend, %operation, %kind, cause, "store not reached");
        Refusal::of(blame, self.error(kind, operation))
    }
}

impl Request {
    fn new(operation: Operation, method: Method, path: &str, body: Option<Bytes>) -> Self {
        Self { operation, method, path: path.to_owned(), query: Vec::new(), body, namespaced: true }
    }

    /// The same with a query.
    pub(crate) fn with_query(mut self, name: &'static str, value: &str) -> Self {
        self.query.push((name, value.to_owned()));
        self
    }

    fn url(&self, node: Node<'_>) -> Url {
        let mut url = node.url(&self.path);
        if !self.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&self.query);
        }
        url
    }
}

struct Reply {
    status: StatusCode,
    retry_after: Option<std::time::Duration>,
    body: Gathered,
}

fn namespace(namespace: &str) -> Result<HeaderValue, ConfigError> {
    let visible = !namespace.is_empty() && namespace.bytes().all(|byte| byte.is_ascii_graphic());
    HeaderValue::from_str(namespace)
        .ok()
        .filter(|_| visible)
        .ok_or_else(|| ConfigError::Namespace { namespace: namespace.to_owned() })
}

const TOKEN: HeaderName = HeaderName::from_static("x-vault-token");
const NAMESPACE: HeaderName = HeaderName::from_static("x-vault-namespace");
const REQUEST: HeaderName = HeaderName::from_static("x-vault-request");
