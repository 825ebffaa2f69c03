//! Streams as a client sees them, over a real socket, beside a fake broker.

use std::time::Duration;

use bursar_proto::Reason;
use bursar_proto::sds::secret::Type;
use bursar_proto::sds::secret_discovery_service_client::SecretDiscoveryServiceClient;
use bursar_proto::sds::{self, DiscoveryRequest, DiscoveryResponse};
use prost::Message;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Streaming};
use tower::{Service, ServiceExt};

use super::exchange::{NAMES, SECRET};
use super::*;
use crate::testing::{Harness, LIMIT, Rig, eventually};

/// The socket in front of a rig.
struct Served {
    rig: Rig,
    folder: tempfile::TempDir,
    _bound: socket::Bound,
}

impl Served {
    async fn new() -> Self {
        Self::with(|_| ()).await
    }

    async fn with(limit: impl FnOnce(&mut Limits)) -> Self {
        let rig = Rig::new().await;
        let folder = tempfile::tempdir().expect("folder");
        let (listener, bound) = socket::bind(&folder.path().join("sds.sock"), 0o600).await.expect("bound");
        let mut limits = Limits {
            connections: 16,
            connections_per_user: 16,
            streams: 8,
            deadline: Duration::from_secs(10),
        };
        limit(&mut limits);
        let discovery = Discovery {
            answers: Arc::clone(&rig.answers),
            cache: Arc::clone(&rig.cache),
            upstream: Arc::clone(&rig.upstream),
            metrics: rig.metrics.clone(),
            tasks: rig.tasks.clone(),
        };
        let attestor = Arc::new(Attestor::new().expect("attestor"));
        let admission = Admission::new(limits.connections, limits.connections_per_user);
        let served = serve(listener, attestor, discovery, admission, limits);
        rig.tasks.run("sds", async move { served.await.expect("served") });
        Self { rig, folder, _bound: bound }
    }

    async fn client(&self) -> SecretDiscoveryServiceClient<Channel> {
        let address = bursar_sdk::Address::unix(self.folder.path().join("sds.sock"));
        SecretDiscoveryServiceClient::new(bursar_sdk::channel(&address, None).await.expect("channel"))
    }

    async fn stream(&self, names: &[&str]) -> Client {
        self.open(request(names, "")).await
    }

    async fn open(&self, first: DiscoveryRequest) -> Client {
        let (requests, sent) = mpsc::unbounded_channel();
        requests.send(first).expect("sent");
        let mut client = self.client().await;
        let stream = client.stream_secrets(UnboundedReceiverStream::new(sent)).await.expect("a stream");
        Client { requests, responses: stream.into_inner() }
    }

    fn put(&self, reference: &str, value: &[u8]) {
        self.rig.broker.script.state().secrets.insert(reference.to_owned(), value.to_vec());
    }

    /// As the broker does when the secret has another version.
    fn change(&self, reference: &str, value: &[u8]) {
        self.put(reference, value);
        self.rig.cache.changed(reference);
    }

    fn refuse(&self, reason: Option<Reason>) {
        self.rig.broker.script.state().refusal = reason;
    }

    /// As the broker says when a lease was revoked.
    fn end_all_leases(&self) {
        let ended: Vec<_> = {
            let mut state = self.rig.broker.script.state();
            // They stay, as nobody's, so that their ids are not given out again.
            let leases = state.leases.values_mut();
            leases.for_each(|lease| lease.instance = "nobody".to_owned());
            state.leases.keys().cloned().collect()
        };
        ended.iter().for_each(|id| self.rig.cache.ended(id));
    }
}

/// Somebody who asks for secrets.
struct Client {
    requests: mpsc::UnboundedSender<DiscoveryRequest>,
    responses: Streaming<DiscoveryResponse>,
}

impl Client {
    async fn next(&mut self) -> DiscoveryResponse {
        self.message().await.expect("a response").expect("another response")
    }

    async fn message(&mut self) -> Result<Option<DiscoveryResponse>, Status> {
        tokio::time::timeout(LIMIT, self.responses.message()).await.expect("in time")
    }

    fn say(&self, request: DiscoveryRequest) {
        self.requests.send(request).expect("sent");
    }

    /// Nothing comes for longer than a stream waits for anything.
    async fn is_silent(&mut self) -> bool {
        tokio::time::timeout(Duration::from_millis(1500), self.responses.message()).await.is_err()
    }
}

fn request(names: &[&str], nonce: &str) -> DiscoveryRequest {
    DiscoveryRequest {
        resource_names: names.iter().map(|name| (*name).to_owned()).collect(),
        response_nonce: nonce.to_owned(),
        type_url: SECRET.to_owned(),
        ..DiscoveryRequest::default()
    }
}

fn secrets(response: &DiscoveryResponse) -> Vec<sds::Secret> {
    let secret = |resource: &sds::Resource| {
        assert_eq!(resource.type_url, SECRET);
        sds::Secret::decode(resource.value.as_slice()).expect("a secret")
    };
    response.resources.iter().map(secret).collect()
}

/// Names and values of what is generic.
fn values(response: &DiscoveryResponse) -> Vec<(String, String)> {
    let value = |secret: sds::Secret| match &secret.r#type {
        Some(Type::GenericSecret(generic)) => {
            let bytes = generic.secret.as_ref().expect("a source").inline_bytes.clone();
            (secret.name.clone(), String::from_utf8(bytes).expect("text"))
        }
        other => panic!("it is {other:?}"),
    };
    let mut values: Vec<_> = secrets(response).into_iter().map(value).collect();
    values.sort();
    values
}

fn named(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

#[tokio::test]
async fn all_that_is_wanted_comes_at_once_and_under_who_asks() {
    let served = Served::new().await;
    served.put("kv/other", b"other-value");
    let mut client = served.stream(&["kv/app", "kv/other", "env:shop#PASSWORD"]).await;
    let first = client.next().await;
    let wanted = [
        named("env:shop#PASSWORD", "secret-value"),
        named("kv/app", "secret-value"),
        named("kv/other", "other-value"),
    ];
    assert_eq!(values(&first), wanted);
    let contexts = served.rig.broker.script.state().contexts.clone();
    let uid = format!("unix:uid:{}", rustix::process::geteuid().as_raw());
    assert!(contexts.iter().all(|context| context.selectors.contains(&uid)), "{contexts:?}");
    // An acknowledgement asks for nothing.
    client.say(request(&["kv/app", "kv/other", "env:shop#PASSWORD"], &first.nonce));
    assert!(client.is_silent().await);
}

#[tokio::test]
async fn a_change_is_told_once_and_only_what_changed() {
    let served = Served::new().await;
    served.put("kv/other", b"other-value");
    let mut client = served.stream(&["kv/app", "kv/other"]).await;
    let first = client.next().await;
    served.change("kv/app", b"new-value");
    let second = client.next().await;
    assert_eq!(values(&second), [named("kv/app", "new-value")]);
    assert!(first.version_info != second.version_info && first.nonce != second.nonce);
    // Another version with the same value is no change.
    served.rig.cache.changed("kv/app");
    assert!(client.is_silent().await);
}

#[tokio::test]
async fn what_changes_together_comes_together() {
    let served = Served::new().await;
    served.put("kv/other", b"other-value");
    let mut client = served.stream(&["kv/app", "kv/other"]).await;
    client.next().await;
    served.put("kv/app", b"a");
    served.put("kv/other", b"b");
    served.rig.cache.missed_events();
    assert_eq!(values(&client.next().await), [named("kv/app", "a"), named("kv/other", "b")]);
}

#[tokio::test]
async fn a_list_that_grows_gets_what_is_new_and_one_that_shrinks_hears_no_more() {
    let served = Served::new().await;
    served.put("kv/other", b"other-value");
    let mut client = served.stream(&["kv/app"]).await;
    let first = client.next().await;
    client.say(request(&["kv/other"], &first.nonce));
    let second = client.next().await;
    assert_eq!(values(&second), [named("kv/other", "other-value")]);
    served.change("kv/app", b"new-value");
    assert!(client.is_silent().await);
}

#[tokio::test]
async fn what_is_rejected_comes_again_when_it_is_another() {
    let served = Served::new().await;
    let mut client = served.stream(&["kv/app"]).await;
    let first = client.next().await;
    let error = Some(sds::Status { code: 3, message: "no".to_owned() });
    client.say(DiscoveryRequest { error_detail: error, ..request(&["kv/app"], &first.nonce) });
    assert!(client.is_silent().await);
    served.change("kv/app", b"new-value");
    assert_eq!(values(&client.next().await), [named("kv/app", "new-value")]);
}

#[tokio::test]
async fn a_request_that_is_out_of_date_changes_nothing() {
    let served = Served::new().await;
    let mut client = served.stream(&["kv/app"]).await;
    client.next().await;
    served.change("kv/app", b"new-value");
    let second = client.next().await;
    // Answers the first response while the second was under way.
    client.say(request(&[], "1"));
    served.change("kv/app", b"newer-value");
    assert_eq!(values(&client.next().await), [named("kv/app", "newer-value")]);
    assert_eq!(second.nonce, "2");
}

#[tokio::test]
async fn one_that_cannot_be_read_holds_up_no_other_and_comes_when_it_can_be() {
    let served = Served::new().await;
    let mut client = served.stream(&["kv/absent", "kv/app"]).await;
    assert_eq!(values(&client.next().await), [named("kv/app", "secret-value")]);
    served.put("kv/absent", b"late-value");
    assert_eq!(values(&client.next().await), [named("kv/absent", "late-value")]);
}

#[tokio::test]
async fn what_is_over_is_replaced_by_what_is_good_for_nothing_and_comes_back() {
    let served = Served::new().await;
    let mut client = served.stream(&["kv/app"]).await;
    client.next().await;
    served.refuse(Some(Reason::AccessDenied));
    served.end_all_leases();
    let withdrawn = values(&client.next().await);
    assert!(withdrawn.len() == 1 && withdrawn[0].1 != "secret-value" && withdrawn[0].1.len() == 64);
    served.refuse(None);
    assert_eq!(values(&client.next().await), [named("kv/app", "secret-value")]);
}

#[tokio::test]
async fn a_lease_that_is_replaced_in_time_is_not_noticed() {
    let served = Served::new().await;
    let mut client = served.stream(&["kv/app"]).await;
    client.next().await;
    served.end_all_leases();
    assert!(client.is_silent().await);
    assert_eq!(served.rig.broker.script.calls("read"), 2);
}

#[tokio::test]
async fn a_refusal_takes_back_what_was_given() {
    let served = Served::new().await;
    let mut client = served.stream(&["tls:kv/pair", "ca:kv/pair"]).await;
    served.put("kv/pair", &pair("old"));
    let mut first = client.next().await;
    if first.resources.len() == 1 {
        let second = client.next().await;
        first.resources.extend(second.resources.iter().cloned());
    }
    assert_eq!(first.resources.len(), 2);
    served.refuse(Some(Reason::AccessDenied));
    served.rig.cache.changed("kv/pair");
    let mut withdrawn = 0;
    while withdrawn < 2 {
        for secret in secrets(&client.next().await) {
            let shown = match &secret.r#type {
                Some(Type::TlsCertificate(tls)) => tls.certificate_chain.clone(),
                Some(Type::ValidationContext(context)) => context.trusted_ca.clone(),
                other => panic!("it is {other:?}"),
            };
            let shown = String::from_utf8(shown.expect("a source").inline_bytes.clone()).expect("text");
            assert!(shown.starts_with("-----BEGIN CERTIFICATE-----") && !shown.contains("old"), "{shown}");
            withdrawn += 1;
        }
    }
}

#[tokio::test]
async fn what_an_earlier_stream_gave_is_taken_back_when_it_may_not_be_read_any_more() {
    let served = Served::new().await;
    served.refuse(Some(Reason::AccessDenied));
    let mut never_had_it = served.stream(&["kv/app"]).await;
    let first = DiscoveryRequest { version_info: "7".to_owned(), ..request(&["kv/app"], "") };
    let mut resumed = served.open(first).await;
    assert_eq!(values(&resumed.next().await)[0].1.len(), 64);
    assert!(never_had_it.is_silent().await);
}

#[tokio::test]
async fn what_is_given_stays_while_the_broker_is_away() {
    let mut served = Served::new().await;
    let mut client = served.stream(&["kv/app"]).await;
    client.next().await;
    served.rig.broker.kill();
    served.rig.cache.listening(false);
    served.rig.cache.missed_events();
    assert!(client.is_silent().await);
    served.put("kv/app", b"new-value");
    served.rig.broker.resume().await;
    assert_eq!(values(&client.next().await), [named("kv/app", "new-value")]);
}

#[tokio::test]
async fn what_the_cache_serves_is_journaled() {
    let served = Served::new().await;
    let mut first = served.stream(&["kv/app"]).await;
    first.next().await;
    let mut second = served.stream(&["kv/app"]).await;
    assert_eq!(values(&second.next().await), [named("kv/app", "secret-value")]);
    assert_eq!(served.rig.broker.script.calls("read"), 1);
    eventually("the second answer is in the journal", || served.rig.journal.len() == 1).await;
}

#[tokio::test]
async fn a_name_that_is_none_ends_the_stream_and_says_which() {
    let served = Served::new().await;
    let mut client = served.stream(&["kv/app", "default"]).await;
    let refused = client.message().await.expect_err("refused");
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("`default`"), "{}", refused.message());
    assert_eq!(served.rig.broker.script.calls("read"), 0);
}

#[tokio::test]
async fn more_names_than_a_stream_has_are_refused() {
    let served = Served::new().await;
    let names: Vec<_> = (0..=NAMES).map(|count| format!("kv/{count}")).collect();
    let mut client = served.stream(&names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    assert_eq!(client.message().await.expect_err("refused").code(), Code::ResourceExhausted);
    assert!(served.rig.broker.script.state().calls.is_empty());
}

#[tokio::test]
async fn a_request_that_is_too_large_ends_its_stream_and_no_other() {
    let served = Served::new().await;
    let mut good = served.stream(&["kv/app"]).await;
    good.next().await;
    let mut client = served.stream(&[&"x".repeat(1024 * 1024)]).await;
    assert!(!matches!(client.message().await, Ok(Some(_))));
    served.change("kv/app", b"new-value");
    assert_eq!(values(&good.next().await), [named("kv/app", "new-value")]);
}

#[tokio::test]
async fn half_a_request_ends_its_stream_and_no_other() {
    let served = Served::new().await;
    let mut good = served.stream(&["kv/app"]).await;
    good.next().await;
    let address = bursar_sdk::Address::unix(served.folder.path().join("sds.sock"));
    let mut channel = bursar_sdk::channel(&address, None).await.expect("channel");
    for half in ["\0\0\0", "\0\0\0\0\u{9}\u{1a}"] {
        let call = http::Request::post(STREAM).header("content-type", "application/grpc");
        let call = call.body(tonic::body::Body::new(half.to_owned())).expect("a request");
        channel.ready().await.expect("ready").call(call).await.expect("an answer");
    }
    eventually("one stream is left", || served.rig.metrics.sds_streams.get() == 1).await;
    served.change("kv/app", b"new-value");
    assert_eq!(values(&good.next().await), [named("kv/app", "new-value")]);
}

#[tokio::test]
async fn somebody_who_says_nothing_costs_nothing_and_is_forgotten() {
    let served = Served::new().await;
    let (requests, sent) = mpsc::unbounded_channel::<DiscoveryRequest>();
    let mut client = served.client().await;
    let stream = client.stream_secrets(UnboundedReceiverStream::new(sent)).await.expect("a stream");
    eventually("the stream is open", || served.rig.metrics.sds_streams.get() == 1).await;
    drop((requests, stream, client));
    eventually("the stream is gone", || served.rig.metrics.sds_streams.get() == 0).await;
    assert!(served.rig.broker.script.state().calls.is_empty());
}

#[tokio::test]
async fn connections_have_the_places_that_the_agents_own_socket_has() {
    let served = Served::with(|limits| (limits.connections, limits.connections_per_user) = (1, 1)).await;
    let mut client = served.stream(&["kv/app"]).await;
    client.next().await;
    let mut other = UnixStream::connect(served.folder.path().join("sds.sock")).await.expect("connected");
    let closed = tokio::time::timeout(LIMIT, other.read_to_end(&mut Vec::new())).await;
    assert!(closed.is_ok(), "a connection without a place was kept");
}

#[tokio::test]
async fn what_is_fetched_is_all_or_nothing() {
    let served = Served::new().await;
    let mut client = served.client().await;
    let fetched = client.fetch_secrets(request(&["kv/app"], "")).await.expect("fetched").into_inner();
    assert_eq!(values(&fetched), [named("kv/app", "secret-value")]);
    let refused = client.fetch_secrets(request(&["kv/app", "kv/absent"], "")).await.expect_err("refused");
    assert_eq!(Reason::of(&refused), Some(Reason::SecretNotFound));
    let refused = client.fetch_secrets(request(&["tls:kv/app"], "")).await.expect_err("refused");
    assert!(refused.message().contains("no private key") && !refused.message().contains("secret-value"));
}

#[tokio::test]
async fn deltas_are_refused_with_what_to_do() {
    let served = Served::new().await;
    let requests = tokio_stream::iter([DeltaDiscoveryRequest {}]);
    let refused = served.client().await.delta_secrets(requests).await.map(drop).expect_err("refused");
    assert_eq!(refused.code(), Code::Unimplemented);
    assert!(refused.message().contains("api_type: GRPC"));
}

#[tokio::test]
async fn what_is_no_call_of_this_service_is_refused() {
    let served = Served::new().await;
    let address = bursar_sdk::Address::unix(served.folder.path().join("sds.sock"));
    let channel = bursar_sdk::channel(&address, None).await.expect("channel");
    let mut secrets = bursar_proto::v1::secrets_client::SecretsClient::new(channel);
    let refused = secrets.read(Harness::read("kv/app")).await.expect_err("refused");
    assert_eq!(refused.code(), Code::Unimplemented);
    assert!(served.rig.broker.script.state().calls.is_empty());
}

/// A key and a certificate, as a store has them.
fn pair(name: &str) -> Vec<u8> {
    let block = |label: &str| format!("-----BEGIN {label}-----\n{name}\n-----END {label}-----");
    serde_json::json!({ "key": block("PRIVATE KEY"), "cert": block("CERTIFICATE"), "ca": block("CERTIFICATE") })
        .to_string()
        .into_bytes()
}
