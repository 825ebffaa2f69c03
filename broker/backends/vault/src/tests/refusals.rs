//! Status codes and broken answers.

use std::time::Duration;

use bursar_core::backend::{Backend, BackendError, ErrorKind, Operation};
use tokio::time::Instant;

use super::fake::{Call, Fake, Reply, backend, config, json, path};

/// What a read of `kv/a` ends in when the store answers `reply` to it.
async fn read(reply: Reply) -> (BackendError, Fake) {
    let fake = Fake::start(move |call| (call.target == "/kv/data/a").then(|| reply.clone())).await;
    let error = fake.backend().read(&path("kv/a"), None).await.err().expect("a refusal");
    (error, fake)
}

#[tokio::test]
async fn each_status_has_its_kind() {
    let none = r#"{"errors":[]}"#;
    let why = r#"{"errors":["why"]}"#;
    let table = [
        (204, "", ErrorKind::Malformed),
        (301, "", ErrorKind::Misconfigured),
        (307, "", ErrorKind::Unavailable),
        (400, why, ErrorKind::Misconfigured),
        (403, why, ErrorKind::Denied),
        (404, none, ErrorKind::NotFound),
        (404, "", ErrorKind::NotFound),
        (404, r#"{"data":{"data":null,"metadata":{"version":1}}}"#, ErrorKind::NotFound),
        (404, why, ErrorKind::Misconfigured),
        (405, why, ErrorKind::Misconfigured),
        (412, why, ErrorKind::Unavailable),
        (429, why, ErrorKind::Throttled),
        (472, "", ErrorKind::Unavailable),
        (473, "", ErrorKind::Unavailable),
        (500, why, ErrorKind::Unavailable),
        (502, "<html>", ErrorKind::Unavailable),
        (503, why, ErrorKind::Unavailable),
    ];
    for (status, body, kind) in table {
        let (error, _) = read(Reply::Text(status, body.to_owned())).await;
        let got = (error.kind, error.code, error.operation);
        assert_eq!(got, (kind, Some(status), Operation::Read), "status {status} with `{body}`");
    }
}

#[tokio::test]
async fn a_sealed_store_is_told_from_an_overloaded_one() {
    let fake = Fake::start(|call| match call.target.as_str() {
        "/kv/data/a" | "/sys/health" => json(503, r#"{"errors":["Vault is sealed"]}"#),
        _ => None,
    })
    .await;
    let error = fake.backend().read(&path("kv/a"), None).await.err().expect("sealed");
    assert_eq!((error.kind, fake.count("/kv/data/a")), (ErrorKind::Sealed, 1));
}

#[tokio::test]
async fn a_read_is_repeated_when_the_store_may_recover() {
    let (_, fake) = read(Reply::Text(500, String::new())).await;
    assert_eq!(fake.count("/kv/data/a"), 3);
}

#[tokio::test]
async fn a_throttled_answer_says_for_how_long() {
    let (error, fake) = read(Reply::With(429, "Retry-After: 60".to_owned(), String::new())).await;
    assert_eq!(error.retry_after, Some(Duration::from_secs(60)));
    assert_eq!(fake.count("/kv/data/a"), 1, "60 s are longer than the caller waits");
}

#[tokio::test]
async fn an_absurd_wait_is_cut_to_an_hour() {
    let (error, _) =
        read(Reply::With(429, "Retry-After: 18446744073709551615".to_owned(), String::new())).await;
    assert_eq!(error.retry_after, Some(Duration::from_secs(3600)));
}

#[tokio::test]
async fn what_is_not_the_expected_json_is_malformed() {
    let deep = format!(r#"{{"data":{}"#, "[".repeat(100_000));
    let bad = [
        "",
        "<html>hello</html>",
        "null",
        "[]",
        "{}",
        r#"{"data":null}"#,
        r#"{"data":{"data":"text","metadata":{"version":1}}}"#,
        r#"{"data":{"data":{"a":"b"},"metadata":{"version":"one"}}}"#,
        r#"{"data":{"data":{"a":"\ud800"},"metadata":{"version":1}}}"#,
        r#"{"data":{"data":{"":"b"},"metadata":{"version":1}}}"#,
        r#"{"data":{"data":{"a":"b"},"metadata":{"version":1}}"#,
        deep.as_str(),
    ];
    for body in bad {
        let (error, fake) = read(Reply::Text(200, body.to_owned())).await;
        let excerpt: String = body.chars().take(80).collect();
        assert_eq!((error.kind, error.code), (ErrorKind::Malformed, Some(200)), "`{excerpt}`");
        assert_eq!(fake.count("/kv/data/a"), 1, "a second try would read the same: `{excerpt}`");
    }
}

#[tokio::test]
async fn an_answer_that_is_too_long_is_refused() {
    let (error, _) = read(Reply::Text(200, " ".repeat(4 * 1024 * 1024 + 1))).await;
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
async fn a_store_that_never_answers_is_timed_out_once() {
    let fake = Fake::start(|call| (call.target == "/kv/data/a").then_some(Reply::Silence)).await;
    let mut config = config(&fake.address);
    config.timeout = Duration::from_millis(300);
    let start = Instant::now();
    let error = backend(config).read(&path("kv/a"), None).await.err().expect("a timeout");
    assert_eq!((error.kind, fake.count("/kv/data/a")), (ErrorKind::Timeout, 1));
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_refused_connection_is_unavailable() {
    let fake = Fake::start(|_| None).await;
    let address = fake.address.clone();
    drop(fake);
    let error = backend(config(&address)).read(&path("kv/a"), None).await.err().expect("nobody there");
    assert_eq!((error.kind, error.operation), (ErrorKind::Unavailable, Operation::Login));
}

#[tokio::test]
async fn a_redirect_does_not_take_the_token_elsewhere() {
    let thief = Fake::start(|_| None).await;
    let location = format!("Location: {}/v1/kv/data/a", thief.address);
    let (error, _) = read(Reply::With(302, location, String::new())).await;
    assert_eq!((error.kind, thief.calls().len()), (ErrorKind::Misconfigured, 0));
}

#[tokio::test]
async fn health_tells_what_keeps_the_store_from_answering() {
    let table = [
        (200, None),
        (429, None),
        (473, None),
        (472, Some(ErrorKind::Unavailable)),
        (501, Some(ErrorKind::Unavailable)),
        (503, Some(ErrorKind::Sealed)),
    ];
    for (status, kind) in table {
        let script = move |call: &Call| (call.target == "/sys/health").then(|| json(status, "{}")).flatten();
        let health = Fake::start(script).await.backend().health().await;
        assert_eq!(health.err().map(|error| error.kind), kind, "status {status}");
    }
}

#[tokio::test]
async fn health_needs_a_login_that_works() {
    let fake = Fake::start(|call| match call.target.as_str() {
        "/auth/approle/login" => json(400, r#"{"errors":["invalid role or secret ID"]}"#),
        _ => None,
    })
    .await;
    let error = fake.backend().health().await.expect_err("no login");
    assert_eq!((error.kind, error.operation), (ErrorKind::Denied, Operation::Login));
}
