//! Codes, statuses and broken answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bursar_core::backend::{Backend, BackendError, ErrorKind, Operation};
use tokio::time::Instant;

use super::fake::{Fake, IsLogin, Reply, backend, path, refused, text, value};
use crate::AzureConfig;

/// A fake whose vault answers with `reply`.
async fn answering(reply: Reply) -> Fake {
    Fake::start(move |call| if call.is_login() { None } else { Some(reply.clone()) }).await
}

/// What a read ends in when the answer is `reply`.
async fn read(reply: Reply) -> (BackendError, Fake) {
    let fake = answering(reply).await;
    let error = fake.backend().read(&path("db"), None).await.err().expect("a refusal");
    (error, fake)
}

#[tokio::test]
async fn each_code_has_its_kind() {
    let table = [
        (404, "SecretNotFound", None, ErrorKind::NotFound),
        (403, "Forbidden", Some("SecretDisabled"), ErrorKind::NotFound),
        (403, "Forbidden", Some("ForbiddenByRbac"), ErrorKind::Denied),
        (403, "Forbidden", Some("ForbiddenByPolicy"), ErrorKind::Denied),
        (403, "Forbidden", Some("ForbiddenByFirewall"), ErrorKind::Denied),
        (403, "Forbidden", Some("SomethingNew"), ErrorKind::Denied),
        (403, "Forbidden", None, ErrorKind::Denied),
        (429, "Throttled", None, ErrorKind::Throttled),
        (400, "BadParameter", None, ErrorKind::Misconfigured),
        (404, "VaultNotFound", None, ErrorKind::Misconfigured),
        (500, "InternalServerError", None, ErrorKind::Unavailable),
        (409, "SomethingNew", None, ErrorKind::Misconfigured),
    ];
    for (status, code, inner, kind) in table {
        let (error, _) = read(refused(status, code, inner).expect("a reply")).await;
        assert_eq!(
            (error.kind, error.code, error.operation),
            (kind, Some(status), Operation::Read),
            "{code}"
        );
    }
}

#[tokio::test]
async fn without_a_code_the_status_tells() {
    let table = [
        (301, "", ErrorKind::Misconfigured),
        (400, "", ErrorKind::Misconfigured),
        (403, "<html>", ErrorKind::Denied),
        (404, "<html>", ErrorKind::Misconfigured),
        (404, r#"{"error":{}}"#, ErrorKind::Misconfigured),
        (408, "", ErrorKind::Timeout),
        (429, "", ErrorKind::Throttled),
        (500, "", ErrorKind::Unavailable),
        (503, "<html>", ErrorKind::Unavailable),
        (204, "", ErrorKind::Malformed),
    ];
    for (status, body, kind) in table {
        let (error, _) = read(Reply::Text(status, body.to_owned())).await;
        assert_eq!((error.kind, error.code), (kind, Some(status)), "status {status} with `{body}`");
    }
}

#[tokio::test]
async fn a_read_is_repeated_when_the_vault_may_recover() {
    let (_, fake) = read(refused(503, "ServiceUnavailable", None).expect("a reply")).await;
    assert_eq!((fake.reads().len(), fake.logins().len()), (3, 1));
}

#[tokio::test]
async fn a_throttled_answer_says_for_how_long() {
    let body = r#"{"error":{"code":"Throttled"}}"#.to_owned();
    let (error, fake) = read(Reply::With(429, "Retry-After: 60".to_owned(), body)).await;
    assert_eq!((error.kind, error.retry_after), (ErrorKind::Throttled, Some(Duration::from_secs(60))));
    assert_eq!(fake.reads().len(), 1, "60 s are longer than the caller waits");
}

#[tokio::test]
async fn what_is_not_the_expected_answer_is_malformed() {
    let deep = format!(r#"{{"value":{}"#, "[".repeat(100_000));
    let id = r#""id":"https://v.vault.azure.net/secrets/db/0123456789abcdef0123456789abcdef""#;
    let with = |members: &str| format!("{{{members}}}");
    let bad = [
        String::new(),
        "<html>log in</html>".to_owned(),
        "null".to_owned(),
        "[]".to_owned(),
        "{}".to_owned(),
        with(id),
        with(&format!(r#""value":5,{id}"#)),
        with(&format!(r#""value":null,{id}"#)),
        with(&format!(r#""value":"\ud83d",{id}"#)),
        with(r#""value":"v""#),
        with(&format!(r#""value":"v",{id},"attributes":[]"#)),
        format!(r#"{{"value":"v",{id}"#),
        deep,
    ];
    for body in bad {
        let excerpt: String = body.chars().take(80).collect();
        let (error, fake) = read(Reply::Text(200, body)).await;
        assert_eq!((error.kind, error.operation), (ErrorKind::Malformed, Operation::Read), "`{excerpt}`");
        assert_eq!(fake.reads().len(), 1, "a second try would read the same: `{excerpt}`");
    }
}

#[tokio::test]
async fn a_list_that_is_none_is_malformed() {
    for body in ["", "<html>", "{}", r#"{"value":5}"#, r#"{"value":[{}]}"#, r#"{"value":[],"nextLink":5}"#] {
        let fake = answering(Reply::Text(200, body.to_owned())).await;
        let backend = fake.backend();
        let error = backend.list(None, None, 10).await.expect_err("no list");
        assert_eq!((error.kind, error.operation), (ErrorKind::Malformed, Operation::List), "`{body}`");
        let error = backend.versions(&path("db")).await.expect_err("no list");
        assert_eq!((error.kind, error.operation), (ErrorKind::Malformed, Operation::Versions), "`{body}`");
    }
}

#[tokio::test]
async fn a_page_with_more_than_was_asked_for_is_malformed() {
    let item = r#"{"id":"https://v.vault.azure.net/secrets/db"}"#;
    let body = format!(r#"{{"value":[{}],"nextLink":null}}"#, [item; 26].join(","));
    let error = answering(Reply::Text(200, body)).await.backend().list(None, None, 10).await.expect_err("26");
    assert_eq!((error.kind, error.operation), (ErrorKind::Malformed, Operation::List));
}

#[tokio::test]
async fn an_answer_that_is_too_long_is_refused() {
    let (error, _) = read(Reply::Text(200, " ".repeat(1024 * 1024 + 1))).await;
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
async fn a_vault_that_never_ends_its_answer_is_timed_out_once() {
    for reply in [Reply::Silence, Reply::Drips] {
        let fake = answering(reply).await;
        let config = AzureConfig { timeout: Duration::from_secs(1), ..fake.config() };
        let start = Instant::now();
        let error = backend(config).read(&path("db"), None).await.err().expect("a timeout");
        assert_eq!((error.kind, fake.reads().len()), (ErrorKind::Timeout, 1));
        assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
    }
}

#[tokio::test]
async fn nobody_there_is_unavailable() {
    let fake = Fake::start(|_| None).await;
    for nowhere in ["https://127.0.0.1:1", "https://bursar.invalid"] {
        let config = AzureConfig { vault: nowhere.to_owned(), ..fake.config() };
        let error = backend(config).read(&path("db"), None).await.err().expect("nobody there");
        assert_eq!((error.kind, error.operation), (ErrorKind::Unavailable, Operation::Read), "{nowhere}");
    }
}

#[tokio::test]
async fn a_redirect_does_not_take_the_token_elsewhere() {
    let thief = Fake::start(|_| value(r#""v""#, "")).await;
    let location = format!("Location: {}/secrets/db", thief.address);
    let (error, _) = read(Reply::With(307, location, String::new())).await;
    assert_eq!((error.kind, thief.calls().len()), (ErrorKind::Misconfigured, 0));
}

#[tokio::test]
async fn health_is_not_asked_for_while_the_vault_answers_and_is_after_a_failure() {
    let down = Arc::new(AtomicBool::new(false));
    let is_down = Arc::clone(&down);
    let fake = Fake::start(move |call| match (call.is_login(), call.target.starts_with("/secrets?")) {
        (true, _) => None,
        _ if is_down.load(Ordering::Relaxed) => refused(500, "InternalServerError", None),
        (_, true) => text(200, r#"{"value":[],"nextLink":null}"#),
        _ => None,
    })
    .await;
    let lists = || fake.reads().iter().filter(|call| call.target.starts_with("/secrets?")).count();
    let backend = fake.backend();
    for _ in 0..3 {
        assert_eq!(backend.health().await, Ok(()));
        assert!(
            backend.read(&path("db"), None).await.is_err(),
            "no such secret, as a vault says when it is well"
        );
    }
    assert_eq!(lists(), 1);
    down.store(true, Ordering::Relaxed);
    assert!(backend.read(&path("db"), None).await.is_err());
    for _ in 0..2 {
        assert_eq!(backend.health().await.map_err(|error| error.kind), Err(ErrorKind::Unavailable));
    }
    down.store(false, Ordering::Relaxed);
    assert_eq!(backend.health().await, Ok(()));
    assert_eq!(lists(), 4);
}

#[tokio::test]
async fn health_is_to_be_reached_and_known() {
    let table = [
        (text(200, r#"{"value":[],"nextLink":null}"#), None),
        // It may not list, which says nothing of what it may read.
        (refused(403, "Forbidden", Some("ForbiddenByRbac")), None),
        (refused(403, "Forbidden", Some("ForbiddenByFirewall")), Some(ErrorKind::Denied)),
        (refused(401, "Unauthorized", None), Some(ErrorKind::Denied)),
        (text(403, "<html>"), Some(ErrorKind::Denied)),
        (refused(500, "InternalServerError", None), Some(ErrorKind::Unavailable)),
        (text(200, "<html>"), Some(ErrorKind::Malformed)),
    ];
    for (reply, kind) in table {
        let about = format!("{reply:?}");
        let health = answering(reply.expect("a reply")).await.backend().health().await;
        assert_eq!(health.err().map(|error| error.kind), kind, "{about}");
    }
}
