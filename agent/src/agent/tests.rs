use std::io;
use std::sync::{Mutex, PoisonError};

use bursar_proto::v1::leases_client::LeasesClient;
use bursar_proto::v1::secrets_client::SecretsClient;
use bursar_proto::v1::secrets_watch_response::Event;
use bursar_proto::v1::{LeaseRevoked, LeasesRevokeRequest};
use tonic::Code;
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::*;
use crate::testing::{Harness, LIMIT, eventually_said};

/// Reads `kv/app` through the socket.
async fn read(channel: &Channel) -> Result<Vec<u8>, Code> {
    let read = SecretsClient::new(channel.clone()).read(Harness::read("kv/app")).await;
    let mut read = read.map_err(|status| status.code())?.into_inner();
    Ok(read.take_value().expose().to_vec())
}

/// Reads until it works, and then until the cache answers: from then on nothing is about to change.
async fn until_cached(harness: &Harness, channel: &Channel) {
    eventually_said("an answer of the cache", async || {
        let before = harness.broker.script.calls("read");
        read(channel).await.is_ok() && harness.broker.script.calls("read") == before
    })
    .await;
}

async fn until_status(channel: &Channel, wanted: ServingStatus) {
    eventually_said("another status", async || {
        let request = HealthCheckRequest { service: String::new() };
        let answer = HealthClient::new(channel.clone()).check(request).await;
        answer.is_ok_and(|answer| answer.into_inner().status() == wanted)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_joins_serves_and_stops_in_order() {
    let mut harness = Harness::start("").await;
    let channel = harness.channel().await;
    until_status(&channel, ServingStatus::Serving).await;
    assert_eq!(read(&channel).await, Ok(b"secret-value".to_vec()));
    drop(channel);
    assert!(matches!(harness.stop().await, Ok(Stop::Asked)));
    assert!(!harness.folder.path().join("run/agent.sock").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_broker_is_bridged_by_the_cache_and_found_again() {
    let mut harness = Harness::start("").await;
    let channel = harness.channel().await;
    until_cached(&harness, &channel).await;
    harness.broker.kill();
    assert_eq!(read(&channel).await, Ok(b"secret-value".to_vec()));
    harness.broker.script.state().secrets.insert("kv/app".to_owned(), b"rotated".to_vec());
    harness.broker.resume().await;
    eventually_said("the broker to be found again", async || read(&channel).await == Ok(b"rotated".to_vec()))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_at_the_broker_reaches_the_cache() {
    let mut harness = Harness::start("").await;
    let channel = harness.channel().await;
    until_cached(&harness, &channel).await;
    let lease_id = harness.broker.script.state().leases.keys().next().cloned().expect("lease");
    let revoked = LeaseRevoked { lease_id, reference: "kv/app@1".to_owned(), reason: String::new() };
    harness.broker.script.send(Event::LeaseRevoked(revoked));
    // Without the value in the cache a read fails while the broker is away.
    harness.broker.script.state().refusal = Some(bursar_proto::Reason::ShuttingDown);
    eventually_said("the value to be dropped", async || read(&channel).await == Err(Code::Unavailable)).await;
    drop(channel);
    assert!(harness.stop().await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_away_keeps_an_agent_neither_from_starting_nor_from_saying_so() {
    let mut harness = Harness::prepare().await;
    harness.broker.kill();
    harness.run("");
    let channel = harness.channel().await;
    until_status(&channel, ServingStatus::NotServing).await;
    assert_eq!(read(&channel).await, Err(Code::Unavailable));
    harness.broker.resume().await;
    until_status(&channel, ServingStatus::Serving).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_from_the_cache_are_in_the_journal_when_the_agent_has_stopped() {
    let mut harness = Harness::start("").await;
    let channel = harness.channel().await;
    until_cached(&harness, &channel).await;
    drop(channel);
    assert!(harness.stop().await.is_ok());
    let journal = &harness.broker.script.state().journal;
    assert!(journal.iter().map(|read| read.count).sum::<u64>() >= 1);
    assert!(journal.iter().all(|read| read.workload.as_ref().is_some_and(|by| by.pid == std::process::id())));
}

#[tokio::test]
async fn a_node_that_never_joined_and_cannot_is_a_failed_start() {
    let harness = Harness::prepare().await;
    let mut config = harness.config("");
    config.join = None;
    let started = run(config, Arc::new(bursar_core::SystemClock), &harness.tasks).await;
    assert!(matches!(started, Err(StartError::NeverJoined { .. })));
}

#[tokio::test]
async fn a_missing_authority_is_a_failed_start_that_names_the_file() {
    let harness = Harness::prepare().await;
    std::fs::remove_file(harness.folder.path().join("ca.pem")).expect("removed");
    let started = run(harness.config(""), Arc::new(bursar_core::SystemClock), &harness.tasks).await;
    assert!(started.err().is_some_and(|error| error.to_string().contains("ca.pem")));
}

/// Everything that is logged by anybody in this process.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_was_read_cached_and_revoked_is_in_no_log_metric_or_file() {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_env_filter("trace,hyper=warn,hyper_util=warn,h2=warn,rustls=warn")
        .with_writer(move || writer.clone())
        .finish();
    // Another test may have set one; then its filter shows less, and what it shows is looked at all the same.
    drop(tracing::subscriber::set_global_default(subscriber));
    let canary = format!("canary-{:032x}", fastrand::u128(..));
    let mut harness = Harness::prepare().await;
    harness.broker.script.state().secrets.insert("kv/app".to_owned(), canary.clone().into_bytes());
    let http = std::net::TcpListener::bind("127.0.0.1:0").and_then(|port| port.local_addr()).expect("port");
    harness.run(&format!("[http]\nlisten = '{http}'\n"));
    let channel = harness.channel().await;
    until_cached(&harness, &channel).await;
    let lease_id = harness.broker.script.state().leases.keys().next().cloned().expect("lease");
    let revoke = LeasesRevokeRequest { lease_id, ..Default::default() };
    LeasesClient::new(channel.clone()).revoke(revoke).await.expect("revoked");
    let metrics = http_get(http, "/metrics").await;
    assert!(metrics.contains("bursar_agent_reads"), "{metrics}");
    drop(channel);
    assert!(harness.stop().await.is_ok());

    let logged = lines.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
    assert!(!logged.is_empty(), "nothing was logged, so nothing was looked at");
    let mut written = vec![("metrics".to_owned(), metrics.into_bytes()), ("log".to_owned(), logged)];
    for file in std::fs::read_dir(harness.folder.path().join("data")).expect("folder") {
        let path = file.expect("file").path();
        written.push((path.display().to_string(), std::fs::read(&path).expect("read")));
    }
    for (place, bytes) in written {
        let found = bytes.windows(canary.len()).any(|window| window == canary.as_bytes());
        assert!(!found, "the canary is in {place}");
    }
}

async fn http_get(address: std::net::SocketAddr, path: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(address).await.expect("connected");
    let request = format!("GET {path} HTTP/1.1\r\nHost: agent\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("written");
    let mut answer = String::new();
    tokio::time::timeout(LIMIT, stream.read_to_string(&mut answer)).await.expect("in time").expect("read");
    answer
}
