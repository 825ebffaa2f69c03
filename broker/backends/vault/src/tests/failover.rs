//! A store of several nodes.

use std::time::Duration;

use bursar_core::backend::{Backend, ErrorKind, Leasing};
use tokio::net::TcpListener;

use super::fake::{Fake, Reply, backend, config, json, lease, path};
use crate::{VaultBackend, VaultConfig};

const ENTRY: &str = r#"{"data":{"data":{"a":"b"},"metadata":{"version":1}}}"#;
const CREDENTIAL: &str =
    r#"{"lease_id":"db/creds/ro/1","lease_duration":60,"renewable":true,"data":{"u":"v"}}"#;

/// A node that has one entry and makes one credential.
async fn serving() -> Fake {
    Fake::start(|call| match call.target.as_str() {
        "/kv/data/a" => json(200, ENTRY),
        "/db/creds/ro" => json(200, CREDENTIAL),
        _ => None,
    })
    .await
}

/// A node that answers everything by `reply`.
async fn answering(reply: Reply) -> Fake {
    Fake::start(move |_| Some(reply.clone())).await
}

fn over(addresses: &[&str]) -> VaultBackend {
    let addresses = addresses.iter().map(ToString::to_string).collect();
    backend(VaultConfig { addresses, timeout: Duration::from_secs(2), ..config("") })
}

/// An address at which nothing listens.
async fn nowhere() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    format!("http://{}", listener.local_addr().expect("address"))
}

#[tokio::test]
async fn a_node_that_is_gone_costs_one_try() {
    let (gone, serves) = (nowhere().await, serving().await);
    let backend = over(&[&gone, &serves.address]);
    backend.issue(&path("db/creds/ro"), lease(), Duration::from_secs(60)).await.expect("a credential");
    backend.read(&path("kv/a"), None).await.expect("an entry");
    assert_eq!((serves.count("/db/creds/ro"), serves.count("/kv/data/a")), (1, 1));
    assert_eq!(serves.count("/auth/approle/login"), 1, "a token is good at each node");
}

#[tokio::test]
async fn what_a_node_refuses_before_it_does_anything_is_asked_of_another() {
    for reply in
        [Reply::Text(503, String::new()), Reply::Text(472, String::new()), Reply::Text(307, String::new())]
    {
        let (refuses, serves) = (answering(reply.clone()).await, serving().await);
        let backend = over(&[&refuses.address, &serves.address]);
        let issued = backend.issue(&path("db/creds/ro"), lease(), Duration::from_secs(60)).await;
        assert!(issued.is_ok(), "{reply:?}: {:?}", issued.err());
        let asked = refuses.calls().len();
        backend.read(&path("kv/a"), None).await.expect("an entry");
        backend.health().await.expect("one node serves");
        assert_eq!(refuses.calls().len(), asked, "{reply:?}: it was asked again");
    }
}

#[tokio::test]
async fn what_a_node_may_have_done_is_not_asked_of_another() {
    for reply in [Reply::Text(502, String::new()), Reply::Raw(Vec::new())] {
        let logs_in = Fake::start(move |call| match call.target.as_str() {
            "/db/creds/ro" => Some(reply.clone()),
            _ => None,
        });
        let (breaks, serves) = (logs_in.await, serving().await);
        let backend = over(&[&breaks.address, &serves.address]);
        let creation = path("db/creds/ro");
        let first = backend.issue(&creation, lease(), Duration::from_secs(60)).await;
        assert_eq!(first.err().expect("broken off").kind, ErrorKind::Unavailable);
        assert_eq!(serves.count("/db/creds/ro"), 0);
        backend.issue(&creation, lease(), Duration::from_secs(60)).await.expect("the other is asked next");
    }
}

#[tokio::test]
async fn a_read_that_breaks_off_at_one_node_is_read_at_another() {
    let hangs = Fake::start(|call| (call.target == "/kv/data/a").then_some(Reply::Raw(Vec::new()))).await;
    let serves = serving().await;
    over(&[&hangs.address, &serves.address]).read(&path("kv/a"), None).await.expect("an entry");
    assert_eq!((hangs.count("/kv/data/a"), serves.count("/kv/data/a")), (1, 1));
}

#[tokio::test]
async fn a_refusal_of_the_call_is_the_same_at_each_node() {
    let refuses = Fake::start(|call| (call.target == "/kv/data/a").then(|| json(404, "")).flatten()).await;
    let other = serving().await;
    let error = over(&[&refuses.address, &other.address]).read(&path("kv/a"), None).await.err();
    assert_eq!(error.expect("not found").kind, ErrorKind::NotFound);
    assert!(other.calls().is_empty());
}

#[tokio::test]
async fn where_no_node_serves_each_was_asked() {
    let nodes =
        [answering(Reply::Text(503, String::new())).await, answering(Reply::Text(503, String::new())).await];
    let error = over(&[&nodes[0].address, &nodes[1].address]).health().await.expect_err("sealed");
    assert_eq!(error.kind, ErrorKind::Sealed);
    assert_eq!(nodes.map(|node| node.count("/sys/health")), [1, 1]);
}
