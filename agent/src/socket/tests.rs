use std::sync::Arc;
use std::time::Duration;

use bursar_proto::v1::audit_client::AuditClient;
use bursar_proto::v1::environments_client::EnvironmentsClient;
use bursar_proto::v1::nodes_client::NodesClient;
use bursar_proto::v1::secrets_client::SecretsClient;
use bursar_proto::v1::secrets_watch_response::Event;
use bursar_proto::v1::{
    AuditJournalRequest, AuditTailRequest, EnvironmentsGetRequest, EnvironmentsResolveRequest,
    NodesListRequest, SecretsWatchRequest, WorkloadContext,
};
use bursar_proto::{REQUEST_ID_METADATA_KEY, Reason, WORKLOAD_CONTEXT_METADATA_KEY};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Code, Request};

use super::*;
use crate::testing::{Harness, LIMIT, Rig, eventually};

/// A socket in front of a rig.
struct Served {
    rig: Rig,
    folder: tempfile::TempDir,
    _bound: Bound,
}

impl Served {
    async fn new() -> Self {
        Self::with(|_| ()).await
    }

    async fn with(limit: impl FnOnce(&mut Limits)) -> Self {
        let rig = Rig::new().await;
        let folder = tempfile::tempdir().expect("folder");
        let (listener, bound) = bind(&folder.path().join("agent.sock"), 0o600).await.expect("bound");
        let (_reporter, health) = tonic_health::server::health_reporter();
        let front = Front {
            answers: Arc::clone(&rig.answers),
            upstream: Arc::clone(&rig.upstream),
            health: health_routes(health),
            deadline: Duration::from_secs(10),
            metrics: rig.metrics.clone(),
        };
        let mut limits = Limits {
            connections: 16,
            connections_per_user: 16,
            streams: 8,
            deadline: Duration::from_secs(10),
        };
        limit(&mut limits);
        let attestor = Arc::new(Attestor::new().expect("attestor"));
        let admission = Admission::new(limits.connections, limits.connections_per_user);
        let (metrics, tasks) = (rig.metrics.clone(), rig.tasks.clone());
        let served = serve(listener, attestor, Served(Arc::new(front)), admission, limits, metrics, tasks);
        rig.tasks.run("socket", async move { served.await.expect("served") });
        Self { rig, folder, _bound: bound }
    }

    async fn connect(&self) -> UnixStream {
        UnixStream::connect(self.folder.path().join("agent.sock")).await.expect("connected")
    }

    async fn channel(&self) -> Channel {
        let address = bursar_sdk::Address::unix(self.folder.path().join("agent.sock"));
        bursar_sdk::channel(&address, None).await.expect("channel")
    }
}

/// Reads until the other side closes.
async fn is_closed(mut stream: UnixStream) -> bool {
    let mut rest = Vec::new();
    tokio::time::timeout(LIMIT, stream.read_to_end(&mut rest)).await.is_ok()
}

#[tokio::test]
async fn a_caller_is_served_as_who_it_is() {
    let served = Served::new().await;
    let mut client = SecretsClient::new(served.channel().await);
    let mut read = client.read(Harness::read("kv/app")).await.expect("read").into_inner();
    assert!(read.take_value().ct_eq(b"secret-value"));
    let contexts = served.rig.broker.script.state().contexts.clone();
    let uid = format!("unix:uid:{}", rustix::process::geteuid().as_raw());
    assert!(contexts.len() == 1 && contexts[0].selectors.contains(&uid), "{contexts:?}");
    assert_eq!(contexts[0].pid, std::process::id());
}

#[tokio::test]
async fn what_the_cache_has_no_part_in_is_passed_on_with_the_attested_context() {
    let served = Served::new().await;
    let mut client = EnvironmentsClient::new(served.channel().await);
    let mut request = Request::new(EnvironmentsGetRequest { name: "app/prod".to_owned(), revision: None });
    request.metadata_mut().insert(REQUEST_ID_METADATA_KEY, MetadataValue::from_static("mine-2"));
    let answer = client.get(request).await.expect("passed on");
    let id = answer.metadata().get(REQUEST_ID_METADATA_KEY).map(|id| id.as_bytes().to_vec());
    assert_eq!(
        (answer.get_ref().document.as_str(), id.as_deref()),
        ("passed on", Some(b"mine-2".as_slice()))
    );
    let state = served.rig.broker.script.state();
    assert_eq!(state.contexts.len(), 1);
    assert_eq!(state.request_ids, ["mine-2"]);
}

#[tokio::test]
async fn an_error_of_the_broker_arrives_with_its_reason() {
    let served = Served::new().await;
    served.rig.broker.script.state().refusal = Some(Reason::EnvironmentNotFound);
    let mut client = EnvironmentsClient::new(served.channel().await);
    let refused = client.get(EnvironmentsGetRequest::default()).await.expect_err("refused");
    assert_eq!(Reason::of(&refused), Some(Reason::EnvironmentNotFound));
}

#[tokio::test]
async fn a_caller_that_states_who_it_is_is_refused() {
    let served = Served::new().await;
    let mut client = SecretsClient::new(served.channel().await);
    for value in [&b""[..], b"\xff\xff"] {
        let mut request = Request::new(Harness::read("kv/app"));
        request.metadata_mut().insert_bin(WORKLOAD_CONTEXT_METADATA_KEY, MetadataValue::from_bytes(value));
        let refused = client.read(request).await.expect_err("refused");
        assert_eq!(Reason::of(&refused), Some(Reason::RequestInvalid));
    }
    let mut request = Request::new(EnvironmentsGetRequest::default());
    let root = WorkloadContext { selectors: vec!["unix:uid:0".to_owned()], instance: String::new(), pid: 1 };
    root.attach(request.metadata_mut()).expect("attached");
    let refused = EnvironmentsClient::new(served.channel().await).get(request).await.expect_err("refused");
    assert_eq!(Reason::of(&refused), Some(Reason::RequestInvalid));
    assert!(served.rig.broker.script.state().calls.is_empty());
}

#[tokio::test]
async fn what_only_nodes_do_is_refused_before_it_leaves_the_machine() {
    let served = Served::new().await;
    let channel = served.channel().await;
    let nodes = NodesClient::new(channel.clone()).list(NodesListRequest::default()).await.map(drop);
    let journal = AuditClient::new(channel).journal(AuditJournalRequest::default()).await.map(drop);
    for refused in [nodes, journal] {
        assert_eq!(Reason::of(&refused.expect_err("refused")), Some(Reason::AccessDenied));
    }
    assert!(served.rig.broker.script.state().calls.is_empty());
}

#[tokio::test]
async fn a_copy_to_be_kept_is_refused_before_it_leaves_the_machine() {
    let served = Served::new().await;
    let mut client = EnvironmentsClient::new(served.channel().await);
    let request = EnvironmentsResolveRequest {
        name: "app/prod".to_owned(),
        offline: true,
        ..EnvironmentsResolveRequest::default()
    };
    let refused = client.resolve(request).await.expect_err("refused");
    assert_eq!(Reason::of(&refused), Some(Reason::EnvironmentNotKept));
    assert!(served.rig.broker.script.state().contexts.is_empty(), "the broker was asked");
}

#[tokio::test]
async fn streams_are_passed_on_as_streams() {
    let served = Served::new().await;
    let mut client = AuditClient::new(served.channel().await);
    let mut records = client.tail(AuditTailRequest::default()).await.expect("passed on").into_inner();
    assert!(records.message().await.expect("ended in order").is_none());
}

#[tokio::test]
async fn whoever_got_a_secret_hears_of_it_after_the_cache_let_go_and_nobody_else_does() {
    let served = Served::new().await;
    let mut client = SecretsClient::new(served.channel().await);
    let mut events = client.watch(SecretsWatchRequest { after: None }).await.expect("watch").into_inner();
    let first = events.message().await.expect("event").and_then(|message| message.event);
    assert!(matches!(first, Some(Event::Resync(_))), "{first:?}");

    let read = client.read(Harness::read("kv/app")).await.expect("read").into_inner();
    let lease = read.lease.clone().expect("lease");
    served.rig.cache.changed("kv/other");
    served.rig.cache.changed("kv/app");
    served.rig.cache.ended("01ARZ3NDEKTSV4RRFFQ69G5FAV");
    served.rig.cache.ended(&lease.id);
    let second = events.message().await.expect("event").and_then(|message| message.event);
    assert!(
        matches!(&second, Some(Event::VersionChanged(changed)) if changed.reference == "kv/app"),
        "{second:?}"
    );
    let third = events.message().await.expect("event").and_then(|message| message.event);
    assert!(
        matches!(&third, Some(Event::LeaseRevoked(revoked)) if revoked.lease_id == lease.id),
        "{third:?}"
    );

    served.rig.cache.missed_events();
    let fourth = events.message().await.expect("event").and_then(|message| message.event);
    assert!(matches!(fourth, Some(Event::Resync(_))), "{fourth:?}");
    assert_eq!(served.rig.broker.script.calls("watch"), 0, "the broker is asked once, by the agent");
}

#[tokio::test]
async fn with_the_broker_away_a_call_that_is_passed_on_fails_as_unavailable() {
    let mut served = Served::new().await;
    served.rig.broker.kill();
    let mut client = EnvironmentsClient::new(served.channel().await);
    let refused = client.get(EnvironmentsGetRequest::default()).await.expect_err("refused");
    assert_eq!(refused.code(), Code::Unavailable);
}

#[tokio::test]
async fn a_message_that_is_too_large_is_refused_and_the_connection_lives() {
    let served = Served::new().await;
    let mut client = SecretsClient::new(served.channel().await);
    let large = "r".repeat(5 * 1024 * 1024);
    assert!(client.read(Harness::read(&large)).await.is_err());
    assert!(client.read(Harness::read("kv/app")).await.is_ok());
}

#[tokio::test]
async fn headers_that_are_too_large_are_refused() {
    let served = Served::new().await;
    let mut request = Request::new(Harness::read("kv/app"));
    let long = "x".repeat(64 * 1024);
    request.metadata_mut().insert("x-long", long.parse().expect("header"));
    assert!(SecretsClient::new(served.channel().await).read(request).await.is_err());
    assert_eq!(served.rig.broker.script.calls("read"), 0);
}

#[tokio::test]
async fn a_connection_without_a_place_is_closed_and_a_place_that_is_given_back_is_used() {
    let served = Served::with(|limits| (limits.connections, limits.connections_per_user) = (1, 1)).await;
    let first = served.channel().await;
    SecretsClient::new(first.clone()).read(Harness::read("kv/app")).await.expect("served");
    assert!(is_closed(served.connect().await).await);
    drop(first);
    eventually("the place is given back", || served.rig.metrics.open_connections.get() == 0).await;
    assert!(SecretsClient::new(served.channel().await).read(Harness::read("kv/app")).await.is_ok());
}

#[tokio::test]
async fn a_caller_that_says_nothing_or_half_of_the_first_words_loses_its_place() {
    let served = Served::new().await;
    let silent = served.connect().await;
    let mut half = served.connect().await;
    half.write_all(b"PRI * HT").await.expect("written");
    let (silent, half) = tokio::join!(is_closed(silent), is_closed(half));
    assert!(silent && half);
}

#[tokio::test]
async fn a_caller_that_speaks_something_else_is_closed_at_once() {
    let served = Served::new().await;
    let mut stream = served.connect().await;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: agent\r\n\r\n").await.expect("written");
    assert!(is_closed(stream).await);
}

#[tokio::test]
async fn the_agent_answers_for_its_own_health() {
    let served = Served::new().await;
    let mut client = tonic_health::pb::health_client::HealthClient::new(served.channel().await);
    let answer = client.check(tonic_health::pb::HealthCheckRequest { service: String::new() }).await;
    assert!(answer.is_ok());
    assert!(served.rig.broker.script.state().calls.is_empty());
}

#[tokio::test]
async fn an_unknown_method_is_refused() {
    let served = Served::new().await;
    let mut grpc = tonic::client::Grpc::new(served.channel().await);
    grpc.ready().await.expect("ready");
    let codec = tonic_prost::ProstCodec::<EnvironmentsGetRequest, EnvironmentsGetRequest>::default();
    let path = http::uri::PathAndQuery::from_static("/bursar.v1.Secrets/Steal");
    let request = Request::new(EnvironmentsGetRequest::default());
    let refused = grpc.unary(request, path, codec).await.expect_err("refused");
    assert_eq!(refused.code(), Code::Unimplemented);
}

/// A call with these values of `authorization`.
fn showing<M>(message: M, values: &[&'static str]) -> Request<M> {
    let mut request = Request::new(message);
    for value in values {
        request.metadata_mut().append("authorization", MetadataValue::from_static(value));
    }
    request
}

#[tokio::test]
async fn a_token_goes_to_the_broker_in_the_place_of_what_the_agent_saw() {
    let served = Served::new().await;
    let channel = served.channel().await;
    let read = showing(Harness::read("kv/app"), &["Bearer a.b.c"]);
    SecretsClient::new(channel.clone()).read(read).await.expect("read");
    let passed_on = showing(EnvironmentsGetRequest::default(), &["bearer a.b.c"]);
    EnvironmentsClient::new(channel).get(passed_on).await.expect("passed on");
    let state = served.rig.broker.script.state();
    assert_eq!(
        (state.authorizations.as_slice(), state.contexts.len()),
        (["Bearer a.b.c"; 2].map(str::to_owned).as_slice(), 0)
    );
}

#[tokio::test]
async fn what_is_no_token_reaches_neither_cache_nor_broker() {
    let served = Served::new().await;
    let mut client = SecretsClient::new(served.channel().await);
    client.read(Harness::read("kv/app")).await.expect("read");
    for values in [&["Basic eDp5"][..], &["Bearer "], &["Bearer a b"], &["Bearer a", "Bearer a"]] {
        let refused = client.read(showing(Harness::read("kv/app"), values)).await.expect_err("refused");
        assert_eq!(Reason::of(&refused), Some(Reason::TokenInvalid), "{values:?}");
    }
    assert_eq!(served.rig.broker.script.calls("read"), 1);
}
