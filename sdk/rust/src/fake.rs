//! A broker for tests: grants leases by the rules, on tokio's clock, over a pipe in memory.

mod environments;

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bursar_core::lease::{LeaseState, TtlBound};
use bursar_core::{LeaseId, SpiffeId};
use bursar_proto::convert::duration_to_wire;
use bursar_proto::v1::environments_server::EnvironmentsServer;
use bursar_proto::v1::leases_server::{Leases, LeasesServer};
use bursar_proto::v1::secrets_server::{Secrets, SecretsServer};
use bursar_proto::v1::secrets_watch_response::Event;
use bursar_proto::{Reason, v1};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use tokio::io::DuplexStream;
use tokio::sync::broadcast;
use tokio::time::Instant;
use tokio_stream::wrappers::{BroadcastStream, UnboundedReceiverStream};
use tokio_stream::{Stream, StreamExt};
use tonic::transport::{Endpoint, Server, Uri};
use tonic::{Request, Response, Status};
use tonic_types::StatusExt;

use crate::{Address, Client, Lease, Reference};

/// What the broker does, and what was asked of it.
pub(crate) struct State {
    /// The value of a static secret; a dynamic one is `credential-N`.
    pub(crate) value: &'static str,
    pub(crate) dynamic: bool,
    pub(crate) ttl: Duration,
    /// From issue to the last possible end.
    pub(crate) max_life: Duration,
    /// Every call is refused like this.
    pub(crate) refusal: Option<(Reason, Option<Duration>)>,
    /// Renewals are refused like this.
    pub(crate) renewal_refusal: Option<Reason>,
    /// No call is answered.
    pub(crate) silent: bool,
    pub(crate) calls: u32,
    pub(crate) reads: u32,
    pub(crate) renewals: u32,
    /// How many leases were granted.
    pub(crate) issued: u32,
    /// How many reads came while a credential was live: a broker that forgot the lease would make a second one.
    pub(crate) reads_while_live: u32,
    /// What is told; nobody may listen where there is none.
    events: Option<broadcast::Sender<Event>>,
    start: Instant,
    issued_at: Instant,
    renewed_at: Instant,
    end: Instant,
}

/// Shared with the test, which changes it while it serves.
#[derive(Clone)]
pub(crate) struct Fake(Arc<Mutex<State>>);

impl Fake {
    pub(crate) fn new(dynamic: bool) -> Self {
        let now = Instant::now();
        Self(Arc::new(Mutex::new(State {
            value: "one",
            dynamic,
            ttl: Duration::from_secs(100),
            max_life: Duration::from_secs(100_000),
            refusal: None,
            renewal_refusal: None,
            silent: false,
            calls: 0,
            reads: 0,
            renewals: 0,
            issued: 0,
            reads_while_live: 0,
            events: None,
            start: now,
            issued_at: now,
            renewed_at: now,
            end: now,
        })))
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no test panics while it holds the lock")
    }

    /// Lets clients listen, to what is sent here.
    pub(crate) fn events(&self) -> broadcast::Sender<Event> {
        self.state().events.insert(broadcast::Sender::new(1024)).clone()
    }

    /// Serves until the client is dropped.
    pub(crate) fn client(&self) -> Client {
        let (dial, dialled) = tokio::sync::mpsc::unbounded_channel::<DuplexStream>();
        let server = Server::builder()
            .add_service(SecretsServer::new(self.clone()))
            .add_service(LeasesServer::new(self.clone()))
            .add_service(EnvironmentsServer::new(self.clone()));
        let incoming = UnboundedReceiverStream::new(dialled).map(Ok::<_, std::io::Error>);
        drop(bursar_core::tasks::Tasks::new().finish(server.serve_with_incoming(incoming)));
        let connect = tower::service_fn(move |_: Uri| {
            let (near, far) = tokio::io::duplex(64 * 1024);
            let accepted = dial.send(far).is_ok();
            let refused = || std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
            std::future::ready(if accepted { Ok(TokioIo::new(near)) } else { Err(refused()) })
        });
        let channel = Endpoint::from_static("http://fake").connect_with_connector_lazy(connect);
        Client::over(channel, Address::unix("/fake"))
    }

    async fn arrive(&self) -> Result<(), Status> {
        let (silent, refusal) = {
            let mut state = self.state();
            state.calls += 1;
            (state.silent, state.refusal)
        };
        if silent {
            std::future::pending::<()>().await;
        }
        refusal.map_or(Ok(()), |(reason, wait)| Err(refused(reason, wait)))
    }
}

pub(crate) fn refused(reason: Reason, wait: Option<Duration>) -> Status {
    let mut details = reason.details("r-1");
    if wait.is_some() {
        details.set_retry_info(wait);
    }
    Status::with_error_details(reason.code(), format!("refused: {reason}"), details)
}

impl State {
    /// The live lease, extended, or a new one.
    fn grant(&mut self) {
        let now = Instant::now();
        if self.issued == 0 || self.end <= now {
            self.issued += 1;
            self.issued_at = now;
            self.end = now;
        }
        self.renewed_at = now;
        self.end = (now + self.ttl).min(self.issued_at + self.max_life);
    }

    fn lease(&self) -> v1::Lease {
        let at = |instant: Instant| {
            Timestamp::constant(1_767_225_600, 0).checked_add(instant - self.start).expect("a time")
        };
        let lease = Lease {
            id: LeaseId::from_bytes([u8::try_from(self.issued).expect("few leases"); 16]),
            reference: Reference::parse("local/db@1").expect("reference"),
            principal: SpiffeId::parse("spiffe://example.org/workload/shop").expect("id"),
            node: None,
            instance: String::new(),
            environment: None,
            state: LeaseState::Active,
            dynamic: self.dynamic,
            issued_at: at(self.issued_at),
            renewed_at: at(self.renewed_at),
            expires_at: at(self.end),
            max_expires_at: None,
            renewable: true,
            ttl_bound: TtlBound::Policy,
            attempts: 0,
            last_error: None,
            reason: None,
        };
        lease.into()
    }

    fn response(&mut self) -> v1::SecretsReadResponse {
        self.reads += 1;
        self.reads_while_live += u32::from(self.issued > 0 && Instant::now() < self.end);
        self.grant();
        let mut response = v1::SecretsReadResponse::default();
        response.value =
            if self.dynamic { format!("credential-{}", self.issued) } else { self.value.to_owned() }.into();
        response.version = "1".to_owned();
        response.lease = Some(self.lease());
        response.age = Some(duration_to_wire(Duration::from_secs(3)));
        response
    }
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl Secrets for Fake {
    async fn read(&self, _: Request<v1::SecretsReadRequest>) -> Answer<v1::SecretsReadResponse> {
        self.arrive().await?;
        Ok(Response::new(self.state().response()))
    }

    async fn batch_read(
        &self,
        request: Request<v1::SecretsBatchReadRequest>,
    ) -> Answer<v1::SecretsBatchReadResponse> {
        self.arrive().await?;
        let mut state = self.state();
        let responses = request.get_ref().requests.iter().map(|_| state.response()).collect();
        Ok(Response::new(v1::SecretsBatchReadResponse { responses }))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<v1::SecretsWatchResponse, Status>> + Send>>;

    async fn watch(&self, _: Request<v1::SecretsWatchRequest>) -> Answer<Self::WatchStream> {
        let events = self.state().events.as_ref().map(broadcast::Sender::subscribe);
        let events = events.ok_or_else(|| refused(Reason::NotImplemented, None))?;
        let message = |event| v1::SecretsWatchResponse { position: None, time: None, event: Some(event) };
        Ok(Response::new(Box::pin(
            BroadcastStream::new(events).filter_map(move |event| Some(Ok(message(event.ok()?)))),
        )))
    }
}

#[tonic::async_trait]
impl Leases for Fake {
    async fn renew(&self, _: Request<v1::LeasesRenewRequest>) -> Answer<v1::LeasesRenewResponse> {
        self.arrive().await?;
        let mut state = self.state();
        state.renewals += 1;
        if let Some(reason) = state.renewal_refusal {
            return Err(refused(reason, None));
        }
        if state.end <= Instant::now() {
            return Err(refused(Reason::LeaseNotRenewable, None));
        }
        state.grant();
        Ok(Response::new(v1::LeasesRenewResponse { lease: Some(state.lease()) }))
    }

    async fn revoke(&self, _: Request<v1::LeasesRevokeRequest>) -> Answer<v1::LeasesRevokeResponse> {
        self.arrive().await?;
        let mut state = self.state();
        state.end = Instant::now();
        Ok(Response::new(v1::LeasesRevokeResponse { lease: Some(state.lease()) }))
    }

    async fn get(&self, _: Request<v1::LeasesGetRequest>) -> Answer<v1::LeasesGetResponse> {
        Err(refused(Reason::NotImplemented, None))
    }

    async fn list(&self, _: Request<v1::LeasesListRequest>) -> Answer<v1::LeasesListResponse> {
        Err(refused(Reason::NotImplemented, None))
    }

    async fn revoke_many(
        &self,
        _: Request<v1::LeasesRevokeManyRequest>,
    ) -> Answer<v1::LeasesRevokeManyResponse> {
        Err(refused(Reason::NotImplemented, None))
    }

    async fn revocations(
        &self,
        _: Request<v1::LeasesRevocationsRequest>,
    ) -> Answer<v1::LeasesRevocationsResponse> {
        Err(refused(Reason::NotImplemented, None))
    }

    async fn top(&self, _: Request<v1::LeasesTopRequest>) -> Answer<v1::LeasesTopResponse> {
        Err(refused(Reason::NotImplemented, None))
    }
}
