//! Issuing, renewing, revoking and searching.

use std::time::Duration;

use bursar_core::FieldName;
use bursar_core::backend::{Backend, ErrorKind, Leasing, Removal, StoreHandle};
use jiff::Timestamp;

use super::fake::{Call, Fake, Reply, json, lease, path};

const HOUR: Duration = Duration::from_secs(3600);
const LOOKUP: &str = "/sys/leases/lookup";

fn handle(id: &str) -> StoreHandle {
    StoreHandle::new(id.to_owned())
}

#[tokio::test]
async fn a_credential_comes_with_its_lease() {
    let body = r#"{"lease_id":"db/creds/ro/1","lease_duration":60,"renewable":true,"data":{"u":"v"}}"#;
    let fake = Fake::start(|call| (call.target == "/db/creds/ro").then(|| json(200, body)).flatten()).await;
    let backend = fake.backend();
    let issued = backend.issue(&path("db/creds/ro"), lease(), HOUR).await.expect("a credential");
    assert_eq!(issued.handle.as_str(), "db/creds/ro/1");
    assert_eq!((issued.ttl, issued.renewable), (Duration::from_secs(60), true));
    assert_eq!(issued.data.field_names().map(FieldName::as_str).collect::<Vec<_>>(), ["u"]);
}

#[tokio::test]
async fn an_issue_is_never_repeated() {
    for reply in [Reply::Text(500, String::new()), Reply::Text(429, String::new()), Reply::Raw(Vec::new())] {
        let fake = Fake::start(move |call| (call.target == "/db/creds/ro").then(|| reply.clone())).await;
        assert!(fake.backend().issue(&path("db/creds/ro"), lease(), HOUR).await.is_err());
        assert_eq!(fake.count("/db/creds/ro"), 1);
    }
}

#[tokio::test]
async fn what_has_no_lease_is_no_credential() {
    let body = r#"{"lease_id":"","lease_duration":60,"renewable":false,"data":{"u":"v"}}"#;
    let fake = Fake::start(|call| (call.target == "/db/x").then(|| json(200, body)).flatten()).await;
    let error = fake.backend().issue(&path("db/x"), lease(), HOUR).await.err().expect("no lease");
    assert_eq!(error.kind, ErrorKind::Misconfigured);
}

#[tokio::test]
async fn only_paths_of_leasing_mounts_are_issued() {
    let fake = Fake::start(|_| None).await;
    let backend = fake.backend();
    for refused in ["kv/a", "kv1/a", "sys/x", "db"] {
        let error = backend.issue(&path(refused), lease(), HOUR).await.err().expect("refused");
        assert_eq!(error.kind, ErrorKind::Misconfigured, "`{refused}`");
    }
    assert!(backend.is_leased(&path("db/creds/ro")) && !backend.is_leased(&path("kv/a")));
    assert!(backend.leasing().is_some() && fake.calls().is_empty());
}

#[tokio::test]
async fn a_renewal_says_what_was_granted() {
    let body = r#"{"lease_id":"l","lease_duration":30,"renewable":true}"#;
    let fake =
        Fake::start(|call| (call.target == "/sys/leases/renew").then(|| json(200, body)).flatten()).await;
    let granted = fake.backend().renew(&handle("l"), HOUR).await;
    assert_eq!(granted, Ok(Duration::from_secs(30)));
    let sent = fake.calls().pop().map(|call| (call.method, call.body));
    assert_eq!(sent, Some(("PUT".to_owned(), r#"{"lease_id":"l","increment":3600}"#.to_owned())));
}

/// A store that refuses renewals and revocations by 400, and knows of the lease or not.
async fn refusing(known: bool) -> Fake {
    let found = r#"{"data":{"issue_time":"2026-01-01T00:00:00Z"}}"#;
    Fake::start(move |call| match call.target.as_str() {
        "/sys/leases/renew" | "/sys/leases/revoke" => json(400, r#"{"errors":["invalid lease"]}"#),
        LOOKUP if known => json(200, found),
        LOOKUP => json(400, r#"{"errors":["invalid lease"]}"#),
        _ => None,
    })
    .await
}

#[tokio::test]
async fn a_lease_that_is_gone_is_not_found_by_a_renewal() {
    let error = refusing(false).await.backend().renew(&handle("l"), HOUR).await.expect_err("gone");
    assert_eq!(error.kind, ErrorKind::NotFound);
}

#[tokio::test]
async fn a_lease_that_cannot_be_renewed_is_told_from_one_that_is_gone() {
    let error = refusing(true).await.backend().renew(&handle("l"), HOUR).await.expect_err("refused");
    assert_eq!(error.kind, ErrorKind::Misconfigured);
}

#[tokio::test]
async fn to_revoke_a_lease_that_is_gone_is_success() {
    assert_eq!(refusing(false).await.backend().revoke(&handle("l")).await, Ok(Removal::Gone));
    let fake =
        Fake::start(|call| (call.target == "/sys/leases/revoke").then(|| json(204, "")).flatten()).await;
    assert_eq!(fake.backend().revoke(&handle("l")).await, Ok(Removal::Gone));
    assert_eq!(fake.calls().pop().map(|call| call.body).as_deref(), Some(r#"{"lease_id":"l","sync":true}"#));
}

#[tokio::test]
async fn a_revocation_that_the_engine_could_not_make_is_no_success() {
    let error = refusing(true).await.backend().revoke(&handle("l")).await.expect_err("still there");
    assert_eq!(error.kind, ErrorKind::Misconfigured);
    let fake =
        Fake::start(|call| (call.target == "/sys/leases/revoke").then(|| json(500, "{}")).flatten()).await;
    let error = fake.backend().revoke(&handle("l")).await.expect_err("the engine failed");
    assert_eq!((error.kind, fake.count("/sys/leases/revoke")), (ErrorKind::Unavailable, 1));
}

fn since() -> Timestamp {
    "2026-01-01T12:00:00Z".parse().expect("time")
}

#[tokio::test]
async fn orphans_are_the_leases_of_the_path_that_are_not_older() {
    let fake = Fake::start(|call: &Call| match call.target.as_str() {
        "/sys/leases/lookup/db/creds/ro%20x?list=true" => {
            json(200, r#"{"data":{"keys":["old","new","gone","edge","longer/"]}}"#)
        }
        LOOKUP if call.body.contains("/gone") => json(400, r#"{"errors":["invalid lease"]}"#),
        LOOKUP if call.body.contains("/old") => {
            json(200, r#"{"data":{"issue_time":"2026-01-01T11:59:59.9Z"}}"#)
        }
        LOOKUP if call.body.contains("/edge") => {
            json(200, r#"{"data":{"issue_time":"2026-01-01T12:00:00Z"}}"#)
        }
        LOOKUP => json(200, r#"{"data":{"issue_time":"2026-01-01T13:00:00.000000001+01:00"}}"#),
        _ => None,
    })
    .await;
    let found =
        fake.backend().find_orphans(&path("db/creds/ro x"), since()..Timestamp::MAX).await.expect("orphans");
    let mut ids: Vec<_> = found.iter().map(StoreHandle::as_str).collect();
    ids.sort_unstable();
    assert_eq!(ids, ["db/creds/ro x/edge", "db/creds/ro x/new"]);
    assert_eq!(fake.count(LOOKUP), 4);
}

#[tokio::test]
async fn a_path_without_leases_has_no_orphans() {
    let fake = Fake::start(|_| None).await;
    assert_eq!(
        fake.backend().find_orphans(&path("db/creds/ro"), since()..Timestamp::MAX).await,
        Ok(Vec::new())
    );
}

#[tokio::test]
async fn a_search_that_cannot_be_finished_finds_nothing_rather_than_a_part() {
    let fake = Fake::start(|call: &Call| match call.target.as_str() {
        "/sys/leases/lookup/db/creds/ro?list=true" => json(200, r#"{"data":{"keys":["a","b"]}}"#),
        LOOKUP if call.body.contains("/b") => json(405, "{}"),
        LOOKUP => json(200, r#"{"data":{"issue_time":"2026-01-01T13:00:00Z"}}"#),
        _ => None,
    })
    .await;
    assert!(fake.backend().find_orphans(&path("db/creds/ro"), since()..Timestamp::MAX).await.is_err());
}

#[tokio::test]
async fn a_search_over_too_many_leases_is_not_begun() {
    let keys = format!(r#"{{"data":{{"keys":["k"{}]}}}}"#, r#","k""#.repeat(20_000));
    let fake =
        Fake::start(move |call| call.target.ends_with("?list=true").then(|| json(200, &keys)).flatten());
    let fake = fake.await;
    let error = fake
        .backend()
        .find_orphans(&path("db/creds/ro"), since()..Timestamp::MAX)
        .await
        .expect_err("too many");
    assert_eq!((error.kind, fake.count(LOOKUP)), (ErrorKind::Misconfigured, 0));
}
