//! Reads that come together.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use bursar_core::backend::{Backend, BackendError, ErrorKind, Fetched};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::fake::{Call, Fake, OfAws, Reply, VERSION, path, refused, text, value};
use crate::AwsBackend;

const BATCH: &str = "BatchGetSecretValue";
const ONE: &str = "GetSecretValue";

fn names(call: &Call) -> Vec<String> {
    let body: Value = serde_json::from_str(&call.body).expect("JSON");
    let names = body.get("SecretIdList").and_then(Value::as_array).cloned().unwrap_or_default();
    names.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Every secret is its own name, but for those that begin with `no` and those that are left out.
fn answer(call: &Call) -> Option<Reply> {
    match call.action() {
        BATCH => {
            let (refused, there): (Vec<_>, Vec<_>) = names(call)
                .into_iter()
                .filter(|name| name != "left-out")
                .partition(|name| name.starts_with("no"));
            let value = |name: &String| json!({ "Name": name, "VersionId": VERSION, "SecretString": name });
            let error = |name: &String| json!({ "SecretId": name, "ErrorCode": "AccessDeniedException", "Message": "m" });
            let body = json!({
                "SecretValues": there.iter().map(value).collect::<Vec<_>>(),
                "Errors": refused.iter().map(error).collect::<Vec<_>>(),
            });
            text(200, &body.to_string())
        }
        _ => value(r#""SecretString":"alone""#),
    }
}

fn is(fetched: &Result<Fetched, BackendError>, value: &str) -> bool {
    let whole = fetched.as_ref().ok().and_then(|fetched| fetched.data.select(None).ok());
    whole.is_some_and(|whole| whole.ct_eq(value.as_bytes()))
}

async fn poll_once(future: &mut Pin<Box<impl Future>>) {
    poll_fn(|context| {
        assert!(future.as_mut().poll(context).is_pending());
        Poll::Ready(())
    })
    .await;
}

#[tokio::test]
async fn reads_that_come_together_are_one_call_and_each_gets_its_own() {
    let fake = Fake::start(answer).await;
    let backend = fake.backend();
    let (a, b, no, left_out) = (path("a"), path("b"), path("no"), path("left-out"));
    let read = |path| backend.read(path, None);
    let (a, b, no, left_out) = tokio::join!(read(&a), read(&b), read(&no), read(&left_out));
    assert!(is(&a, "a") && is(&b, "b"));
    assert_eq!(no.err().map(|error| error.kind), Some(ErrorKind::Denied));
    assert!(is(&left_out, "alone"), "what the answer does not speak of is asked for by itself");
    assert_eq!((fake.count(BATCH), fake.count(ONE)), (1, 1));
}

#[tokio::test]
async fn a_read_that_comes_alone_is_made_alone() {
    let fake = Fake::start(answer).await;
    let backend = fake.backend();
    for _ in 0..2 {
        assert!(is(&backend.read(&path("a"), None).await, "alone"));
    }
    assert_eq!((fake.count(BATCH), fake.count(ONE)), (0, 2));
}

#[tokio::test]
async fn no_call_has_more_names_than_aws_takes() {
    let fake = Fake::start(answer).await;
    let backend: Arc<AwsBackend> = Arc::new(fake.backend());
    let mut reads = JoinSet::new();
    for number in 0..45 {
        let backend = Arc::clone(&backend);
        reads.spawn(async move {
            let name = format!("secret-{number}");
            is(&backend.read(&path(&name), None).await, &name)
        });
    }
    assert!(reads.join_all().await.iter().all(|own| *own));
    let mut sizes: Vec<_> = fake.calls().iter().map(|call| names(call).len()).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [5, 20, 20]);
}

#[tokio::test]
async fn a_leader_that_hangs_up_leaves_nobody_waiting() {
    let fake = Fake::start(answer).await;
    let backend = fake.backend();
    let (one, other, third) = (path("a"), path("b"), path("c"));
    let mut leader = Box::pin(backend.read(&one, None));
    let mut follower = Box::pin(backend.read(&other, None));
    poll_once(&mut leader).await;
    poll_once(&mut follower).await;
    drop(leader);
    assert!(is(&follower.await, "alone"));
    // Nor does one that hangs up while it asks.
    let mut leader = Box::pin(backend.read(&one, None));
    let mut follower = Box::pin(backend.read(&third, None));
    poll_once(&mut leader).await;
    poll_once(&mut follower).await;
    poll_once(&mut leader).await;
    drop(leader);
    assert!(is(&follower.await, "alone"));
}

#[tokio::test]
async fn a_broker_that_may_not_ask_for_several_asks_for_each() {
    let fake = Fake::start(|call| match call.action() {
        BATCH => refused("AccessDeniedException"),
        _ => answer(call),
    })
    .await;
    let backend = fake.backend();
    let (a, b) = (path("a"), path("b"));
    for _ in 0..3 {
        let (a, b) = tokio::join!(backend.read(&a, None), backend.read(&b, None));
        assert!(is(&a, "alone") && is(&b, "alone"));
    }
    assert_eq!((fake.count(BATCH), fake.count(ONE)), (1, 6), "and does not try again each time");
}

#[tokio::test]
async fn a_failure_is_everybodys() {
    let fake = Fake::start(|_| refused("ThrottlingException")).await;
    let backend = fake.backend();
    let (a, b) = (path("a"), path("b"));
    let (a, b) = tokio::join!(backend.read(&a, None), backend.read(&b, None));
    assert_eq!([a, b].map(|read| read.err().map(|error| error.kind)), [Some(ErrorKind::Throttled); 2]);
    assert_eq!((fake.count(BATCH), fake.count(ONE)), (3, 0), "repeated by Bursar's policy, once for both");
}
