//! Codes, statuses and broken answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bursar_core::backend::{Backend, BackendError, ErrorKind, Operation};
use tokio::time::Instant;

use super::fake::{Fake, OfAws, Reply, backend, config, path, refused, text, value};
use crate::AwsConfig;

/// What a read ends in when the answer is `reply`.
async fn read(reply: Reply) -> (BackendError, Fake) {
    let fake = Fake::start(move |_| Some(reply.clone())).await;
    let error = fake.backend().read(&path("db"), None).await.err().expect("a refusal");
    (error, fake)
}

#[tokio::test]
async fn each_code_has_its_kind() {
    let table = [
        ("ResourceNotFoundException", ErrorKind::NotFound),
        ("InvalidRequestException", ErrorKind::NotFound),
        ("AccessDeniedException", ErrorKind::Denied),
        ("DecryptionFailure", ErrorKind::Denied),
        ("UnrecognizedClientException", ErrorKind::Denied),
        ("ExpiredTokenException", ErrorKind::Denied),
        ("InvalidSignatureException", ErrorKind::Denied),
        ("ThrottlingException", ErrorKind::Throttled),
        ("RequestLimitExceeded", ErrorKind::Throttled),
        ("InternalServiceError", ErrorKind::Unavailable),
        ("ServiceUnavailable", ErrorKind::Unavailable),
        ("InvalidParameterException", ErrorKind::Misconfigured),
        ("ValidationException", ErrorKind::Misconfigured),
        ("SomethingNew", ErrorKind::Misconfigured),
        ("com.amazonaws.secretsmanager#AccessDeniedException", ErrorKind::Denied),
    ];
    for (code, kind) in table {
        let (error, _) = read(refused(code).expect("a reply")).await;
        assert_eq!((error.kind, error.code, error.operation), (kind, Some(400), Operation::Read), "{code}");
    }
}

#[tokio::test]
async fn without_a_code_the_status_tells() {
    let table = [
        (301, "", ErrorKind::Misconfigured),
        (400, "", ErrorKind::Misconfigured),
        (403, "<html>", ErrorKind::Denied),
        (404, "<html>", ErrorKind::Misconfigured),
        (408, "", ErrorKind::Timeout),
        (429, "", ErrorKind::Throttled),
        (500, "", ErrorKind::Unavailable),
        (503, "<html>", ErrorKind::Unavailable),
    ];
    for (status, body, kind) in table {
        let (error, _) = read(Reply::Text(status, body.to_owned())).await;
        assert_eq!((error.kind, error.code), (kind, Some(status)), "status {status} with `{body}`");
    }
}

#[tokio::test]
async fn a_read_is_repeated_when_aws_may_recover() {
    let (_, fake) = read(refused("ThrottlingException").expect("a reply")).await;
    assert_eq!(fake.count("GetSecretValue"), 3, "by Bursar's policy, and not by the SDK's as well");
}

#[tokio::test]
async fn a_throttled_answer_says_for_how_long() {
    let body = r#"{"__type":"ThrottlingException"}"#.to_owned();
    let (error, fake) = read(Reply::With(400, "Retry-After: 60".to_owned(), body)).await;
    assert_eq!((error.kind, error.retry_after), (ErrorKind::Throttled, Some(Duration::from_secs(60))));
    assert_eq!(fake.calls().len(), 1, "60 s are longer than the caller waits");
}

#[tokio::test]
async fn what_is_not_the_expected_answer_is_malformed() {
    let deep = format!(r#"{{"SecretString":{}"#, "[".repeat(100_000));
    let bad = [
        "",
        "<html>log in</html>",
        "null",
        "[]",
        "{}",
        r#"{"SecretString":5,"VersionId":"d04f2f0c-7a3b-4a8e-9a52-5b1a0e8f1c3d"}"#,
        r#"{"SecretString":"v"}"#,
        r#"{"SecretString":"v","VersionId":"a b"}"#,
        r#"{"SecretBinary":"***","VersionId":"d04f2f0c-7a3b-4a8e-9a52-5b1a0e8f1c3d"}"#,
        r#"{"SecretString":"v","VersionId":"d04f2f0c-7a3b-4a8e-9a52-5b1a0e8f1c3d""#,
        deep.as_str(),
    ];
    for body in bad {
        let (error, fake) = read(Reply::Text(200, body.to_owned())).await;
        let excerpt: String = body.chars().take(80).collect();
        assert_eq!((error.kind, error.operation), (ErrorKind::Malformed, Operation::Read), "`{excerpt}`");
        assert_eq!(fake.calls().len(), 1, "a second try would read the same: `{excerpt}`");
    }
}

#[tokio::test]
async fn an_answer_that_is_too_long_is_refused() {
    let (error, _) = read(Reply::Text(200, " ".repeat(8 * 1024 * 1024 + 1))).await;
    assert_eq!(error.kind, ErrorKind::Malformed);
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
        let config = AwsConfig { timeout: Duration::from_millis(300), ..config(&fake.address) };
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
    let thief = Fake::start(|_| value(r#""SecretString":"v""#)).await;
    let location = format!("Location: {}/", thief.address);
    let (error, _) = read(Reply::With(307, location, String::new())).await;
    assert_eq!((error.kind, thief.calls().len()), (ErrorKind::Misconfigured, 0));
}

#[tokio::test]
async fn health_is_not_asked_for_while_aws_answers_and_is_after_a_failure() {
    let down = Arc::new(AtomicBool::new(false));
    let is_down = Arc::clone(&down);
    let fake = Fake::start(move |call| match call.action() {
        _ if is_down.load(Ordering::Relaxed) => refused("InternalServiceError"),
        "ListSecrets" => text(200, r#"{"SecretList":[]}"#),
        _ => None,
    })
    .await;
    let backend = fake.backend();
    for _ in 0..3 {
        assert_eq!(backend.health().await, Ok(()));
        assert!(
            backend.read(&path("db"), None).await.is_err(),
            "no such secret, as AWS says when it is well"
        );
    }
    assert_eq!(fake.count("ListSecrets"), 1);
    down.store(true, Ordering::Relaxed);
    assert!(backend.read(&path("db"), None).await.is_err());
    for _ in 0..2 {
        assert_eq!(backend.health().await.map_err(|error| error.kind), Err(ErrorKind::Unavailable));
    }
    down.store(false, Ordering::Relaxed);
    assert_eq!(backend.health().await, Ok(()));
    assert_eq!(fake.count("ListSecrets"), 4);
}

#[tokio::test]
async fn health_is_to_be_reached_and_known() {
    let table = [
        (text(200, r#"{"SecretList":[]}"#), None),
        // It may not list, which says nothing of what it may read.
        (refused("AccessDeniedException"), None),
        (refused("UnrecognizedClientException"), Some(ErrorKind::Denied)),
        (refused("InternalServiceError"), Some(ErrorKind::Unavailable)),
        (text(200, "<html>"), Some(ErrorKind::Malformed)),
    ];
    for (reply, kind) in table {
        let about = format!("{reply:?}");
        let fake = Fake::start(move |_| reply.clone()).await;
        let health = fake.backend().health().await;
        assert_eq!(health.err().map(|error| error.kind), kind, "{about}");
    }
}
