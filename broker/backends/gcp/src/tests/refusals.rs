//! Codes, statuses and broken answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bursar_core::backend::{Backend, BackendError, ErrorKind, Operation};
use serde_json::json;
use tokio::time::Instant;

use super::fake::{Fake, Reply, backend, config, path, refused, text, value};
use crate::GcpConfig;

/// What a read ends in when the answer is `reply`.
async fn read(reply: Reply) -> (BackendError, Fake) {
    let fake = Fake::start(move |_| Some(reply.clone())).await;
    let error = fake.backend().read(&path("db"), None).await.err().expect("a refusal");
    (error, fake)
}

#[tokio::test]
async fn each_code_has_its_kind() {
    let table = [
        (404, "NOT_FOUND", ErrorKind::NotFound),
        (400, "FAILED_PRECONDITION", ErrorKind::NotFound),
        (403, "PERMISSION_DENIED", ErrorKind::Denied),
        (401, "UNAUTHENTICATED", ErrorKind::Denied),
        (429, "RESOURCE_EXHAUSTED", ErrorKind::Throttled),
        (500, "INTERNAL", ErrorKind::Unavailable),
        (503, "UNAVAILABLE", ErrorKind::Unavailable),
        (409, "ABORTED", ErrorKind::Unavailable),
        (504, "DEADLINE_EXCEEDED", ErrorKind::Timeout),
        (400, "INVALID_ARGUMENT", ErrorKind::Misconfigured),
        (400, "SOMETHING_NEW", ErrorKind::Misconfigured),
    ];
    for (status, code, kind) in table {
        let (error, _) = read(refused(status, code).expect("a reply")).await;
        assert_eq!(
            (error.kind, error.code, error.operation),
            (kind, Some(status), Operation::Read),
            "{code}"
        );
    }
}

#[tokio::test]
async fn a_reason_tells_a_project_that_cannot_be_read_from_a_right_that_is_missing() {
    for (reason, kind) in [
        ("SERVICE_DISABLED", ErrorKind::Misconfigured),
        ("CONSUMER_INVALID", ErrorKind::Misconfigured),
        ("IAM_PERMISSION_DENIED", ErrorKind::Denied),
        ("SOMETHING_NEW", ErrorKind::Denied),
    ] {
        let info = json!({ "@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason });
        let body = json!({ "error": { "code": 403, "status": "PERMISSION_DENIED", "details": [info] } });
        let (error, fake) = read(Reply::Text(403, body.to_string())).await;
        assert_eq!(error.kind, kind, "{reason}");
        assert_eq!(fake.backend().health().await.is_ok(), kind == ErrorKind::Denied, "{reason}");
    }
}

#[tokio::test]
async fn without_a_code_the_status_tells() {
    let table = [
        (301, "", ErrorKind::Misconfigured),
        (400, "", ErrorKind::Misconfigured),
        (401, "<html>", ErrorKind::Denied),
        (403, "<html>", ErrorKind::Denied),
        (404, "<html>", ErrorKind::Misconfigured),
        (408, "", ErrorKind::Timeout),
        (429, r#"{"error":"too many"}"#, ErrorKind::Throttled),
        (500, "", ErrorKind::Unavailable),
        (502, "<html>", ErrorKind::Unavailable),
        (503, r#"{"error":{"status":7}}"#, ErrorKind::Unavailable),
    ];
    for (status, body, kind) in table {
        let (error, _) = read(Reply::Text(status, body.to_owned())).await;
        assert_eq!((error.kind, error.code), (kind, Some(status)), "status {status} with `{body}`");
    }
}

#[tokio::test]
async fn a_read_is_repeated_when_google_may_recover() {
    let (_, fake) = read(refused(503, "UNAVAILABLE").expect("a reply")).await;
    assert_eq!(fake.calls().len(), 3);
    let (_, fake) = read(refused(403, "PERMISSION_DENIED").expect("a reply")).await;
    assert_eq!(fake.calls().len(), 1);
}

#[tokio::test]
async fn a_throttled_answer_says_for_how_long() {
    let retry = json!({ "@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "59.2s" });
    let body = json!({ "error": { "code": 429, "status": "RESOURCE_EXHAUSTED", "details": [{}, retry] } })
        .to_string();
    for reply in [
        Reply::With(429, "Retry-After: 60".to_owned(), String::new()),
        Reply::Text(429, body.clone()),
        Reply::With(429, "Retry-After: 1".to_owned(), body),
    ] {
        let about = format!("{reply:?}");
        let (error, fake) = read(reply).await;
        let minute = Some(Duration::from_secs(60));
        assert_eq!((error.kind, error.retry_after), (ErrorKind::Throttled, minute), "{about}");
        assert_eq!(fake.calls().len(), 1, "60 s are longer than the caller waits");
    }
}

#[tokio::test]
async fn what_is_not_the_expected_answer_is_malformed() {
    let name = "projects/1/secrets/db/versions/3";
    let deep = format!(r#"{{"name":"{name}","payload":{}"#, "[".repeat(100_000));
    let answer = |payload: &str| format!(r#"{{"name":"{name}","payload":{payload}}}"#);
    let bad = [
        String::new(),
        "<html>log in</html>".to_owned(),
        "null".to_owned(),
        "[]".to_owned(),
        "{}".to_owned(),
        answer("{}"),
        answer(r#"{"data":5}"#),
        answer(r#"{"data":null}"#),
        answer(r#"{"data":"***"}"#),
        answer(r#"{"data":"YQ"}"#),
        answer(r#"{"data":"YQ==","dataCrc32c":"-1"}"#),
        answer(r#"{"data":"YQ==","dataCrc32c":{}}"#),
        answer(r#"{"data":"YQ=="}"#).replace("/db/", "/other/"),
        answer(r#"{"data":"YQ=="}"#).replace("versions/3", "versions/latest"),
        answer(r#"{"data":"YQ=="}"#).trim_end_matches('}').to_owned(),
        deep,
    ];
    for body in bad {
        let excerpt: String = body.chars().take(80).collect();
        let (error, fake) = read(Reply::Text(200, body)).await;
        assert_eq!((error.kind, error.operation), (ErrorKind::Malformed, Operation::Read), "`{excerpt}`");
        assert_eq!(fake.calls().len(), 1, "a second try would read the same: `{excerpt}`");
    }
}

#[tokio::test]
async fn so_are_lists_and_versions_and_health() {
    for body in ["<html>", "[]", r#"{"versions":[{"name":"x"}],"secrets":[{}],"name":"x"}"#] {
        let fake = Fake::start(move |_| text(200, body)).await;
        let backend = fake.backend();
        for error in [
            backend.list(None, None, 1).await.err(),
            backend.versions(&path("db")).await.err(),
            backend.newest(&path("db")).await.err(),
        ] {
            assert_eq!(error.map(|error| error.kind), Some(ErrorKind::Malformed), "`{body}`");
        }
    }
}

#[tokio::test]
async fn an_answer_that_is_too_long_is_refused() {
    let (error, fake) = read(Reply::Text(200, " ".repeat(4 * 1024 * 1024 + 1))).await;
    assert_eq!((error.kind, fake.calls().len()), (ErrorKind::Malformed, 1));
}

#[tokio::test]
async fn what_is_no_http_is_no_answer() {
    for bytes in [&b""[..], b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"] {
        let (error, _) = read(Reply::Raw(bytes.to_vec())).await;
        assert_eq!((error.kind, error.code), (ErrorKind::Unavailable, None));
    }
}

#[tokio::test]
async fn a_service_that_never_ends_its_answer_is_timed_out_once() {
    for reply in [Reply::Silence, Reply::Drips] {
        let fake = Fake::start(move |_| Some(reply.clone())).await;
        let config = GcpConfig { timeout: Duration::from_millis(300), ..config(&fake.address) };
        let start = Instant::now();
        let error = backend(config).read(&path("db"), None).await.err().expect("a timeout");
        assert_eq!((error.kind, fake.calls().len()), (ErrorKind::Timeout, 1));
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    }
}

#[tokio::test]
async fn nobody_there_is_unavailable() {
    let fake = Fake::start(|_| None).await;
    let address = fake.address.clone();
    drop(fake);
    for nowhere in [address.as_str(), "http://bursar.invalid"] {
        let error = backend(config(nowhere)).read(&path("db"), None).await.err().expect("nobody there");
        assert_eq!((error.kind, error.operation), (ErrorKind::Unavailable, Operation::Read), "{nowhere}");
    }
}

#[tokio::test]
async fn a_redirect_does_not_take_the_request_elsewhere() {
    let thief = Fake::start(|_| value(b"v")).await;
    let location = format!("Location: {}/", thief.address);
    let (error, _) = read(Reply::With(307, location, String::new())).await;
    assert_eq!((error.kind, thief.calls().len()), (ErrorKind::Misconfigured, 0));
}

#[tokio::test]
async fn health_is_not_asked_for_while_google_answers_and_is_after_a_failure() {
    let down = Arc::new(AtomicBool::new(false));
    let is_down = Arc::clone(&down);
    let fake = Fake::start(move |call| match call.path().ends_with("/secrets") {
        _ if is_down.load(Ordering::Relaxed) => refused(503, "UNAVAILABLE"),
        true => text(200, "{}"),
        false => None,
    })
    .await;
    let asked = || fake.calls().iter().filter(|call| call.target.contains("pageSize=1&")).count();
    let backend = fake.backend();
    for _ in 0..3 {
        assert_eq!(backend.health().await, Ok(()));
        assert!(
            backend.read(&path("db"), None).await.is_err(),
            "no such secret, as Google says when it is well"
        );
    }
    assert_eq!(asked(), 1);
    down.store(true, Ordering::Relaxed);
    assert!(backend.read(&path("db"), None).await.is_err());
    for _ in 0..2 {
        assert_eq!(backend.health().await.map_err(|error| error.kind), Err(ErrorKind::Unavailable));
    }
    down.store(false, Ordering::Relaxed);
    assert_eq!(backend.health().await, Ok(()));
    assert_eq!(asked(), 4);
}

#[tokio::test]
async fn a_page_to_log_in_at_is_no_sign_that_google_is_well() {
    let fake = Fake::start(|_| text(200, "<html>log in</html>")).await;
    let backend = fake.backend();
    assert!(backend.read(&path("db"), None).await.is_err());
    assert_eq!(backend.health().await.map_err(|error| error.kind), Err(ErrorKind::Malformed));
}

#[tokio::test]
async fn health_is_to_be_reached_and_known() {
    let table = [
        (text(200, "{}"), None),
        // It may not list, which says nothing of what it may read.
        (refused(403, "PERMISSION_DENIED"), None),
        (refused(401, "UNAUTHENTICATED"), Some(ErrorKind::Denied)),
        (refused(503, "UNAVAILABLE"), Some(ErrorKind::Unavailable)),
        (text(403, "<html>"), Some(ErrorKind::Denied)),
        (text(200, "<html>"), Some(ErrorKind::Malformed)),
    ];
    for (reply, kind) in table {
        let about = format!("{reply:?}");
        let fake = Fake::start(move |_| reply.clone()).await;
        let health = fake.backend().health().await;
        assert_eq!(health.err().map(|error| error.kind), kind, "{about}");
    }
}
