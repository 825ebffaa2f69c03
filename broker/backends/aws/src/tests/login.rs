//! The broker's own credentials.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bursar_core::backend::{Backend, ErrorKind, Operation};
use bursar_core::clock::TestClock;
use bursar_core::{Clock, Secret};

use super::fake::{
    Call, Fake, KEY, KEY_ID, OfAws, ROLE, Reply, backend, config, keys, path, refused, session, text, value,
};
use crate::{AwsBackend, AwsConfig, Credentials, SecretReader};

const WEB: &str = "AssumeRoleWithWebIdentity";
const HOUR: Duration = Duration::from_secs(3600);

fn found() -> Option<Reply> {
    value(r#""SecretString":"v""#)
}

/// New credentials for an hour, `ASIA1`, `ASIA2`… one after the other.
fn granting(action: &'static str) -> impl Fn() -> Option<Reply> {
    let made = AtomicUsize::new(0);
    let end = TestClock::new().now().checked_add(HOUR).expect("time").to_string();
    move || session(action, &format!("ASIA{}", made.fetch_add(1, Ordering::Relaxed) + 1), "secret", &end)
}

async fn reads(backend: &AwsBackend) -> Result<(), (ErrorKind, Operation)> {
    backend.read(&path("db"), None).await.map(drop).map_err(|error| (error.kind, error.operation))
}

fn from_file(path: &Path) -> SecretReader {
    let path = path.to_owned();
    SecretReader::new("a file", move || std::fs::read(&path).map(Secret::new))
}

fn file(content: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("directory");
    let path = dir.path().join("token");
    std::fs::write(&path, content).expect("written");
    (dir, path)
}

fn by_web_identity(fake: &Fake, token: &Path) -> AwsConfig {
    let credentials = Credentials::WebIdentity { role: ROLE.to_owned(), token: from_file(token) };
    AwsConfig { credentials, ..config(&fake.address) }
}

fn signers(fake: &Fake, action: &str) -> Vec<String> {
    let of_action = fake.calls().into_iter().filter(|call| call.action() == action);
    of_action.map(|call| call.key_id().to_owned()).collect()
}

#[tokio::test]
async fn credentials_that_something_else_replaced_are_read_anew_when_aws_refuses_the_old() {
    let fake =
        Fake::start(|call: &Call| match call.headers.get("x-amz-security-token").map(String::as_str) {
            Some("second") => found(),
            _ => refused("ExpiredTokenException"),
        })
        .await;
    let (_dir, token) = file("first\n");
    let key = SecretReader::new("a test", || Ok(Secret::from(KEY.to_owned())));
    let (access_key_id, session_token) = (KEY_ID.to_owned(), Some(from_file(&token)));
    let credentials = Credentials::Keys { access_key_id, secret_access_key: key, session_token };
    let backend = backend(AwsConfig { credentials, ..config(&fake.address) });
    std::fs::write(&token, "first\n").expect("written");
    assert!(backend.health().await.is_err(), "the token has ended, and there is no other");
    std::fs::write(&token, "second\n").expect("written");
    tokio::time::pause();
    // The last login was a moment ago.
    tokio::time::advance(Duration::from_secs(300)).await;
    tokio::time::resume();
    assert_eq!(reads(&backend).await, Ok(()));
}

#[tokio::test]
async fn credentials_that_stay_refused_are_not_read_again_by_each_call() {
    let fake = Fake::start(|_| refused("UnrecognizedClientException")).await;
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let credentials = keys(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        Secret::from(KEY.to_owned())
    });
    let backend = backend(AwsConfig { credentials, ..config(&fake.address) });
    for _ in 0..10 {
        assert!(matches!(reads(&backend).await, Err((ErrorKind::Denied, _))));
    }
    assert!(count.load(Ordering::Relaxed) <= 3, "{count:?} times read");
    assert_eq!(fake.count("GetSecretValue"), 10, "one call for each read");
}

#[tokio::test]
async fn the_token_of_a_web_identity_is_read_anew_at_each_login() {
    let grant = granting(WEB);
    let fake = Fake::start(move |call: &Call| match (call.action(), call.key_id()) {
        (WEB, _) => grant(),
        (_, "ASIA1") => refused("ExpiredTokenException"),
        _ => found(),
    })
    .await;
    let (_dir, token) = file("jwt-one\n");
    let backend = backend(by_web_identity(&fake, &token));
    assert_eq!(backend.health().await.map_err(|error| error.kind), Ok(()), "by the second login");
    std::fs::write(&token, "jwt-two").expect("written");
    assert_eq!(reads(&backend).await, Ok(()));
    let logins: Vec<_> = fake.calls().into_iter().filter(|call| call.action() == WEB).collect();
    assert_eq!(logins.len(), 2);
    for login in logins {
        assert_eq!(login.key_id(), "", "a token needs no signature");
        assert!(login.body.contains("WebIdentityToken=jwt-one"), "without the line's end");
    }
}

#[tokio::test]
async fn a_role_is_taken_on_with_the_credentials_of_the_source() {
    let grant = granting("AssumeRole");
    let fake = Fake::start(move |call: &Call| match call.action() {
        "AssumeRole" => grant(),
        _ => found(),
    })
    .await;
    let assume_role = Some("arn:aws:iam::210987654321:role/reader".to_owned());
    let backend = backend(AwsConfig { assume_role, ..config(&fake.address) });
    for _ in 0..3 {
        assert_eq!(reads(&backend).await, Ok(()));
    }
    assert_eq!(signers(&fake, "AssumeRole"), [KEY_ID], "once for all calls");
    assert_eq!(signers(&fake, "GetSecretValue"), ["ASIA1"; 3]);
}

#[tokio::test]
async fn credentials_are_replaced_before_their_end_and_kept_when_that_fails() {
    let grant = granting(WEB);
    let logins = AtomicUsize::new(0);
    let fake = Fake::start(move |call: &Call| match call.action() {
        WEB => match logins.fetch_add(1, Ordering::Relaxed) {
            1 => text(500, "<ErrorResponse/>"),
            _ => grant(),
        },
        _ => found(),
    })
    .await;
    let (_dir, token) = file("jwt");
    let backend = backend(by_web_identity(&fake, &token));
    for _ in 0..3 {
        assert_eq!(reads(&backend).await, Ok(()));
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(51 * 60)).await;
        tokio::time::resume();
        assert_eq!(reads(&backend).await, Ok(()));
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(120)).await;
        tokio::time::resume();
    }
    let keys = signers(&fake, "GetSecretValue");
    // The second login failed nine minutes before the end of the first, and was tried again.
    assert_eq!(keys.get(..3).unwrap_or_default(), ["ASIA1", "ASIA1", "ASIA2"]);
}

#[tokio::test]
async fn a_login_that_fails_is_told_as_one_and_not_tried_by_each_call() {
    let body = "<ErrorResponse><Error><Code>AccessDenied</Code></Error></ErrorResponse>";
    let fake = Fake::start(move |_| text(403, body)).await;
    let (_dir, token) = file("jwt");
    let backend = backend(by_web_identity(&fake, &token));
    for _ in 0..10 {
        assert_eq!(reads(&backend).await, Err((ErrorKind::Denied, Operation::Login)));
    }
    assert_eq!((fake.count(WEB), fake.count("GetSecretValue")), (1, 0));
}

#[tokio::test]
async fn a_credential_that_cannot_be_read_is_a_fault_of_the_configuration() {
    let fake = Fake::start(|_| None).await;
    let (dir, empty) = file(" \n");
    let binary = dir.path().join("binary");
    std::fs::write(&binary, b"\xff").expect("written");
    for token in [empty, binary, dir.path().join("absent")] {
        let backend = backend(by_web_identity(&fake, &token));
        let expected = Err((ErrorKind::Misconfigured, Operation::Login));
        assert_eq!(reads(&backend).await, expected, "{}", token.display());
    }
    assert_eq!(fake.calls().len(), 0);
}

#[tokio::test]
async fn many_callers_log_in_once() {
    let grant = granting(WEB);
    let fake = Fake::start(move |call: &Call| if call.action() == WEB { grant() } else { found() }).await;
    let (_dir, token) = file("jwt");
    let backend = backend(by_web_identity(&fake, &token));
    let read = || reads(&backend);
    let all = tokio::join!(read(), read(), read(), read(), read());
    assert_eq!(all, (Ok(()), Ok(()), Ok(()), Ok(()), Ok(())));
    assert_eq!(fake.count(WEB), 1);
}
