//! The fake broker: how it is started, stopped and told what to answer.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bursar_core::{Clock, SystemClock};
use bursar_proto::Reason;
use bursar_proto::convert::{duration_to_wire, timestamp_to_wire};
use bursar_proto::v1::audit_server::AuditServer;
use bursar_proto::v1::environments_server::EnvironmentsServer;
use bursar_proto::v1::leases_server::LeasesServer;
use bursar_proto::v1::nodes_server::NodesServer;
use bursar_proto::v1::secrets_server::SecretsServer;
use bursar_proto::v1::secrets_watch_response::Event;
use bursar_proto::v1::{Lease, LeaseState, LocalRead, SignedCheckpoint, WorkloadContext};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::broadcast;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};

use super::services::Fake;
use super::{Authority, LIMIT};

/// A broker that answers as its [`Script`] says.
pub(crate) struct FakeBroker {
    pub(crate) authority: Arc<Authority>,
    pub(crate) script: Arc<Script>,
    address: SocketAddr,
    runtime: Option<Runtime>,
}

/// What the broker answers, and what it was asked.
pub(crate) struct Script {
    state: Mutex<State>,
    pub(super) events: broadcast::Sender<Event>,
}

pub(crate) struct State {
    /// How often each method was called.
    pub(crate) calls: BTreeMap<&'static str, usize>,
    /// Whom the agent spoke for, call by call.
    pub(crate) contexts: Vec<WorkloadContext>,
    /// What callers showed in `authorization`.
    pub(crate) authorizations: Vec<String>,
    /// The ids that calls came under.
    pub(crate) request_ids: Vec<String>,
    /// By reference.
    pub(crate) secrets: HashMap<String, Vec<u8>>,
    /// Granted at each read and renewal.
    pub(crate) ttl: Duration,
    /// The time of leases; certificates go by the real one, as TLS does.
    pub(crate) clock: Arc<dyn Clock>,
    /// Every call but those of `Nodes` fails with this.
    pub(crate) refusal: Option<Reason>,
    /// Renewals are refused as those of somebody else's lease are.
    pub(crate) unrenewable: bool,
    /// Whoever has no certificate hears events too.
    pub(crate) tells_anybody: bool,
    /// Reads wait for this.
    pub(crate) gate: Option<Arc<tokio::sync::Semaphore>>,
    pub(crate) journal: Vec<LocalRead>,
    /// A lease whose journal line is refused.
    pub(crate) unjournaled: Option<String>,
    pub(crate) token: Vec<u8>,
    /// The one that lets the node in, again and again; none when it is empty.
    pub(crate) service_account_token: Vec<u8>,
    /// How long before and after now a node's certificate is valid: the first is used first, the last again and again.
    pub(crate) lives: Vec<(Duration, Duration)>,
    /// Public keys that were certified.
    pub(crate) certified: Vec<Vec<u8>>,
    pub(crate) node: String,
    pub(crate) leases: HashMap<String, Lease>,
    /// Signed note and verifier key.
    pub(crate) checkpoint: SignedCheckpoint,
    pub(crate) proof: Vec<Vec<u8>>,
    /// The note that `Checkpoint` answers, where it is not that of the proof.
    pub(crate) newest: Option<String>,
    /// Proofs are refused with this.
    pub(crate) unproven: Option<Reason>,
}

impl FakeBroker {
    /// Starts one on a free port. The token that it takes is `join-token`, its one secret `kv/app` is `secret-value`.
    pub(crate) async fn start() -> Self {
        let state = State {
            calls: BTreeMap::new(),
            contexts: Vec::new(),
            authorizations: Vec::new(),
            request_ids: Vec::new(),
            secrets: HashMap::from([("kv/app".to_owned(), b"secret-value".to_vec())]),
            ttl: Duration::from_secs(3600),
            clock: Arc::new(SystemClock),
            refusal: None,
            unrenewable: false,
            tells_anybody: false,
            gate: None,
            journal: Vec::new(),
            unjournaled: None,
            token: b"join-token".to_vec(),
            service_account_token: Vec::new(),
            lives: vec![(Duration::from_secs(60), Duration::from_secs(24 * 3600))],
            certified: Vec::new(),
            node: "web-1".to_owned(),
            leases: HashMap::new(),
            checkpoint: SignedCheckpoint::default(),
            proof: Vec::new(),
            newest: None,
            unproven: None,
        };
        let script = Arc::new(Script { state: Mutex::new(state), events: broadcast::Sender::new(64) });
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut broker = Self { authority: Arc::new(Authority::new()), script, address, runtime: None };
        broker.resume().await;
        broker
    }

    /// Starts it again where it was.
    pub(crate) async fn resume(&mut self) {
        let (cert, key) = self.authority.server();
        let tls = ServerTlsConfig::new()
            .identity(Identity::from_pem(cert, key))
            .client_ca_root(Certificate::from_pem(&self.authority.root_pem))
            .client_auth_optional(true);
        let fake = Fake { script: Arc::clone(&self.script), authority: Arc::clone(&self.authority) };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("runtime");
        let address = self.address;
        let (bound, ready) = tokio::sync::oneshot::channel();
        drop(runtime.spawn(async move {
            let listener = listen(address).await;
            bound.send(listener.local_addr().expect("address")).expect("waiting");
            let server = Server::builder()
                .tls_config(tls)
                .expect("tls")
                .add_service(NodesServer::new(fake.clone()))
                .add_service(SecretsServer::new(fake.clone()))
                .add_service(EnvironmentsServer::new(fake.clone()))
                .add_service(LeasesServer::new(fake.clone()))
                .add_service(AuditServer::new(fake));
            server.serve_with_incoming(TcpListenerStream::new(listener)).await.expect("served");
        }));
        self.address = ready.await.expect("bound");
        self.runtime = Some(runtime);
    }

    /// Ends it with all its connections, as a kill does.
    pub(crate) fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    /// Keeps it from doing anything until the answer is dropped: connections are neither closed nor answered.
    pub(crate) async fn freeze(&self) -> std::sync::mpsc::Sender<()> {
        let (thaw, frozen) = std::sync::mpsc::channel();
        let (begun, stopped) = tokio::sync::oneshot::channel();
        let runtime = self.runtime.as_ref().expect("running");
        // Its one thread.
        drop(runtime.spawn(async move {
            begun.send(()).expect("waiting");
            frozen.recv().expect_err("nothing is sent");
        }));
        stopped.await.expect("frozen");
        thaw
    }

    pub(crate) fn url(&self) -> String {
        format!("https://localhost:{}", self.address.port())
    }
}

impl Drop for FakeBroker {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Script {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn calls(&self, method: &str) -> usize {
        self.state().calls.get(method).copied().unwrap_or_default()
    }

    /// Sends an event to everybody who listens.
    pub(crate) fn send(&self, event: Event) {
        self.events.send(event).expect("somebody listens");
    }
}

impl State {
    pub(super) fn lease(&mut self, reference: &str, context: Option<&WorkloadContext>) -> Lease {
        let instance = context.map(|context| context.instance.clone()).unwrap_or_default();
        let identity = context.map(|context| context.selectors.join(",")).unwrap_or_default();
        let known = self.leases.values().find(|lease| {
            lease.instance == instance && lease.reference == reference && lease.principal == identity
        });
        let id = known.map_or_else(|| format!("lease-{}", self.leases.len()), |lease| lease.id.clone());
        let lease =
            Lease { id, reference: reference.to_owned(), principal: identity, instance, ..Lease::default() };
        self.grant(lease)
    }

    pub(super) fn grant(&mut self, lease: Lease) -> Lease {
        let now = self.clock.now();
        let lease = Lease {
            state: LeaseState::Active.into(),
            renewed_at: Some(timestamp_to_wire(now)),
            expires_at: Some(timestamp_to_wire(now + self.ttl)),
            ttl: Some(duration_to_wire(self.ttl)),
            renewable: true,
            ..lease
        };
        self.leases.insert(lease.id.clone(), lease.clone());
        lease
    }
}

/// A broker that was killed a moment ago may not have let go of its port yet.
async fn listen(address: SocketAddr) -> TcpListener {
    let begun = tokio::time::Instant::now();
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => return listener,
            Err(error) => assert!(begun.elapsed() < LIMIT, "the port stays taken: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
