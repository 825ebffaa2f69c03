//! What every call passes through before its handler: the surface table, the request id, who is asking, the deadline.
//!
//! Nothing here looks at a message. A handler gets its [`Arrival`] from the request's extensions, where only this layer
//! puts one.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bursar_core::audit::Action;
use bursar_proto::REQUEST_ID_METADATA_KEY;
use bursar_proto::v1::WorkloadContext;
use http::HeaderValue;
use jiff::Timestamp;
use tokio::time::Instant;
use tonic::body::Body;
use tonic::metadata::MetadataMap;
use tonic::{Code, Request, Status};
use tower::layer::layer_fn;
use tower::{Layer, Service};

use super::surface::{self, Access, Rpc};
use super::{cut, status, unread};
use crate::broker::Broker;
use crate::call::Call;
use crate::disk::Disk;
use crate::failure::Failure;
use crate::identity::peer::Presented;
use crate::identity::token::{self, Tokens};
use crate::identity::{Caller, Method, workload};
use crate::ids::Ids;
use crate::kill::{self, Point};
use crate::membership::Membership;
use crate::pace::Pace;
use crate::server::Handshake;
use crate::telemetry::Metrics;

/// A call of a known caller, as its handler finds it.
#[derive(Debug, Clone)]
pub struct Arrival {
    pub call: Call,
    /// The action of the RPC.
    pub action: Action,
}

impl Arrival {
    /// Splits a request into what this layer established and its message.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` when nobody was established.
    pub fn of<M>(request: Request<M>) -> Result<(Self, M), Status> {
        let (_, mut extensions, message) = request.into_parts();
        match extensions.remove::<Self>() {
            Some(arrival) => Ok((arrival, message)),
            None => Err(status::of(&Failure::Unauthenticated, "")),
        }
    }
}

/// A call of an open RPC: nobody is known, but it has a name and a place that it comes from.
#[derive(Debug, Clone)]
pub(super) struct Stranger {
    pub request_id: Arc<str>,
    pub handshake: Option<Handshake>,
}

/// What the layer does.
#[derive(Debug)]
pub struct Identify {
    pub broker: Arc<Broker>,
    pub membership: Arc<Membership>,
    pub tokens: Arc<Tokens>,
    pub metrics: Metrics,
    pub disk: Arc<Disk>,
    pub pace: Arc<Pace>,
    pub ids: Ids,
    pub deadline: Duration,
    pub message_bytes: usize,
}

impl Identify {
    /// The layer.
    pub fn layer<S>(self) -> impl Layer<S, Service = Identified<S>> + Clone {
        let identify = Arc::new(self);
        layer_fn(move |inner| Identified { inner, identify: Arc::clone(&identify) })
    }
}

/// A service behind the layer.
#[derive(Debug, Clone)]
pub struct Identified<S> {
    inner: S,
    identify: Arc<Identify>,
}

impl<S> Service<http::Request<Body>> for Identified<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        // The service that was polled ready is the one to call; its clone takes its place.
        let ready = self.inner.clone();
        let inner = std::mem::replace(&mut self.inner, ready);
        let identify = Arc::clone(&self.identify);
        Box::pin(async move { Ok(identify.handle(inner, request).await) })
    }
}

impl Identify {
    async fn handle<S>(&self, mut inner: S, mut request: http::Request<Body>) -> http::Response<Body>
    where
        S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    {
        let arrived = Instant::now();
        kill::at(Point::Arrived);
        let Some(rpc) = surface::find(request.uri().path()) else {
            return unread(request, Status::unimplemented("there is no such method")).await;
        };
        let request_id = match self.request_id(request.headers()) {
            Ok(id) => id,
            Err(failure) => return unread(request, status::of(&failure, "")).await,
        };
        let mut response = match self.admit(rpc, &mut request, &request_id, arrived).await {
            Err(failure) => unread(request, status::of(&failure, &request_id)).await,
            Ok(node) => {
                let known = request.extensions().get::<Arrival>().cloned();
                let answered = tokio::time::timeout(self.deadline, inner.call(request)).await;
                let evicted = node.as_ref().and_then(|node| self.evicted_meanwhile(node));
                match (answered.map(|Ok(answered)| answered), evicted) {
                    (_, Some(failure)) => self.refuse(rpc, known, failure, &request_id).await,
                    // How tonic says that a message is over the limit: nobody has looked at it.
                    (Ok(answered), None) if code(&answered) == code_name(Code::OutOfRange) => {
                        let failure = Failure::TooLarge { limit: self.message_bytes };
                        self.refuse(rpc, known, failure, &request_id).await
                    }
                    (Ok(answered), None) => match node.filter(|_| rpc.streams) {
                        None => answered,
                        Some(node) => self.cut_with(node, &request_id, answered),
                    },
                    (Err(_), None) => self.refuse(rpc, known, Failure::Deadline, &request_id).await,
                }
            }
        };
        kill::at(Point::Answered);
        self.metrics.request(rpc.path, code(&response), arrived.elapsed());
        if let Ok(mut id) = HeaderValue::from_str(&request_id) {
            // It never comes again, so it is not to take a place in the connection's table of headers.
            id.set_sensitive(true);
            response.headers_mut().insert(REQUEST_ID_METADATA_KEY, id);
        }
        response
    }

    /// Why a node may not have the answer to a call that it made when it still counted.
    fn evicted_meanwhile(&self, node: &Presented) -> Option<Failure> {
        let stands = self.membership.stands(node, self.broker.clock.now());
        stands.err().filter(|failure| matches!(failure, Failure::Evicted { .. }))
    }

    /// A stream that ends with the node whose connection it goes over.
    fn cut_with(
        &self,
        node: Arc<Presented>,
        request_id: &Arc<str>,
        stream: http::Response<Body>,
    ) -> http::Response<Body> {
        let membership = Arc::clone(&self.membership);
        let ended = async move { membership.ended(&node).await };
        stream.map(|body| cut::until(body, Arc::clone(request_id), ended))
    }

    /// The answer to a call that its handler did not get to end. Of a known caller it is kept in the ledger, and not
    /// waited for any longer when that is what took so long: the entry is in the queue and stays there.
    async fn refuse(
        &self,
        rpc: Rpc,
        known: Option<Arrival>,
        failure: Failure,
        request_id: &str,
    ) -> http::Response<Body> {
        let status = status::of(&failure, request_id);
        if let Some(Arrival { call, action }) = known {
            let kept = self.broker.failed(call.asks(action, rpc.path), failure);
            if tokio::time::timeout(KEEPING, kept).await.is_err() {
                tracing::warn!(request_id, "the record of a refusal is not durable yet");
            }
        }
        status.into_http()
    }

    fn request_id(&self, headers: &http::HeaderMap) -> Result<Arc<str>, Failure> {
        match own_request_id(headers) {
            Some(id) => Ok(id.into()),
            None => Ok(self.ids.next(self.broker.clock.now())?.to_string().into()),
        }
    }

    /// Lets a call in, or not. Answers the certificate of the node whose connection it came over, if it is one's.
    async fn admit(
        &self,
        rpc: Rpc,
        request: &mut http::Request<Body>,
        request_id: &Arc<str>,
        arrived: Instant,
    ) -> Result<Option<Arc<Presented>>, Failure> {
        let handshake = request.extensions().get::<Handshake>().cloned();
        // Out of the call first of all, so that it reaches no handler, whoever asks for what.
        let token = token::take(request.headers_mut());
        let action = match rpc.access {
            Access::Known(action) => action,
            Access::Open => {
                self.pace_stranger(handshake.as_ref())?;
                request.extensions_mut().insert(Stranger { request_id: Arc::clone(request_id), handshake });
                return Ok(None);
            }
        };
        let handshake = handshake.ok_or(Failure::Unauthenticated)?;
        let time = self.broker.clock.now();
        let known = match token.map_err(Failure::Token) {
            Err(failure) => Err(failure),
            // It speaks, whoever's connection it came over.
            Ok(Some(token)) => self.bearer(&token, &handshake, time).await,
            Ok(None) => self.certified(&handshake, time),
        };
        let caller = match known {
            Ok(caller) => caller,
            Err(failure) => {
                self.pace_stranger(Some(&handshake))?;
                // Paid for: whoever sends tokens without end does not fill the log with them.
                if let Failure::Token(refused) = &failure {
                    let (peer, reason) = (handshake.address, refused.as_str());
                    tracing::info!(%peer, reason, cause = %refused, "a token was refused");
                }
                return Err(failure);
            }
        };
        self.disk.admit(action)?;
        let trace_id = request.headers().get(TRACE_PARENT).and_then(trace_id);
        let mut call = Call { caller, request_id: Arc::clone(request_id), trace_id, time, arrived };
        if call.caller.facts.breaks_glass() {
            self.membership.break_glass(&handshake, &call).await?;
        }
        if let Some(failure) = self.is_from_elsewhere(&call.caller) {
            self.pace.principal(call.caller.id())?;
            let draft = call.asks(Action::Authenticate, rpc.path);
            return Err(self.broker.failed(draft, failure).await);
        }
        if let Some(context) = workload_context(request.headers())? {
            let rules = self.broker.rulebook.current();
            match workload::on_behalf(&call.caller, context, rules.policies.registrations()) {
                Ok(caller) => call.caller = Arc::new(caller),
                Err(failure) => {
                    self.pace.principal(call.caller.id())?;
                    let draft = call.asks(Action::Authenticate, rpc.path);
                    return Err(self.broker.failed(draft, failure).await);
                }
            }
        }
        self.pace.principal(call.caller.id())?;
        request.extensions_mut().insert(Arrival { call, action });
        Ok(Membership::node_of(&handshake).cloned())
    }

    /// The address pays for a call of somebody who is not known, and for one whose credential does not hold.
    fn pace_stranger(&self, handshake: Option<&Handshake>) -> Result<(), Failure> {
        handshake.map_or(Ok(()), |handshake| self.pace.stranger(handshake.address.ip()))
    }

    /// Whoever a token names, and the node whose agent passed it on, if one did. That one has to count, too.
    async fn bearer(
        &self,
        token: &HeaderValue,
        handshake: &Handshake,
        time: Timestamp,
    ) -> Result<Arc<Caller>, Failure> {
        let node = Membership::node_of(handshake);
        node.map_or(Ok(()), |node| self.membership.stands(node, time))?;
        let bearer = self.tokens.caller(token, handshake.address, time).await.map_err(Failure::Token)?;
        Ok(match node {
            None => bearer,
            Some(node) => Arc::new(bearer.by_way_of(node.caller.id())),
        })
    }

    /// Whether a token was passed on by another node than that of its pod: somebody took it there.
    fn is_from_elsewhere(&self, caller: &Caller) -> Option<Failure> {
        let (account, node) = (caller.account.as_ref()?, caller.facts.node.as_ref()?);
        let elsewhere = !self.membership.rules.is_at_home(account, node);
        elsewhere.then(|| Failure::OtherNode { node: node.to_string() })
    }

    /// Whoever the certificate of the connection names.
    fn certified(&self, handshake: &Handshake, time: Timestamp) -> Result<Arc<Caller>, Failure> {
        let known = self.membership.caller(handshake, time);
        // Those that count were counted when they shook hands.
        if let (Err(failure), Some(_)) = (&known, &handshake.peer) {
            self.metrics.authentication(Method::Mtls.as_str(), failure.kind());
        }
        known
    }
}

/// The answer to a call whose message nobody looks at.
async fn unread(request: http::Request<Body>, refusal: Status) -> http::Response<Body> {
    unread::read_off(request.into_body()).await;
    refusal.into_http()
}

/// Looks before it copies: nearly every call of a client that speaks for itself has no such header.
fn workload_context(headers: &http::HeaderMap) -> Result<Option<WorkloadContext>, Failure> {
    if !headers.contains_key(bursar_proto::WORKLOAD_CONTEXT_METADATA_KEY) {
        return Ok(None);
    }
    Ok(WorkloadContext::of(&MetadataMap::from_headers(headers.clone()))?)
}

/// The caller's own request id, where it is one.
fn own_request_id(headers: &http::HeaderMap) -> Option<&str> {
    let text = headers.get(REQUEST_ID_METADATA_KEY)?.to_str().ok()?;
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (!text.is_empty() && text.len() <= 64 && text.bytes().all(allowed)).then_some(text)
}

/// The trace id of a W3C `traceparent` header.
fn trace_id(header: &HeaderValue) -> Option<Arc<str>> {
    let id = header.to_str().ok()?.split('-').nth(1)?;
    (id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit())).then(|| id.into())
}

/// The name of the status code of an answer. One that is still streaming has none yet and counts as begun well.
fn code(response: &http::Response<Body>) -> &'static str {
    let code = Status::from_header_map(response.headers()).map_or(Code::Ok, |status| status.code());
    code_name(code)
}

fn code_name(code: Code) -> &'static str {
    use Code as C;
    match code {
        C::Ok => "ok",
        C::Cancelled => "cancelled",
        C::Unknown => "unknown",
        C::InvalidArgument => "invalid_argument",
        C::DeadlineExceeded => "deadline_exceeded",
        C::NotFound => "not_found",
        C::AlreadyExists => "already_exists",
        C::PermissionDenied => "permission_denied",
        C::ResourceExhausted => "resource_exhausted",
        C::FailedPrecondition => "failed_precondition",
        C::Aborted => "aborted",
        C::OutOfRange => "out_of_range",
        C::Unimplemented => "unimplemented",
        C::Internal => "internal",
        C::Unavailable => "unavailable",
        C::DataLoss => "data_loss",
        C::Unauthenticated => "unauthenticated",
    }
}

/// How long an answer that is late already waits for its record.
const KEEPING: Duration = Duration::from_secs(1);
const TRACE_PARENT: &str = "traceparent";
