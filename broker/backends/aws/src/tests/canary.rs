//! No value, key or token is in anything that can be printed.

use std::io;
use std::time::Duration;

use bursar_backend_http::testing::Log;
use bursar_core::Secret;
use bursar_core::backend::{Backend, Leasing, StoreHandle};
use jiff::Timestamp;

use super::denying::denying;
use super::fake::{Fake, KEY, KEY_ID, ROLE, Reply, backend, config, keys, lease, path};
use crate::{AwsBackend, AwsConfig, Credentials, SecretReader};

const VALUE: &str = "value-canary-Jk5";
const TOKEN: &str = "token-canary-Qz7";

/// Asks `backend` for everything and writes down all that can be written down.
async fn everything_printable(backend: &AwsBackend) -> String {
    let errors = [
        backend.read(&path("db"), None).await.err(),
        backend.list(None, None, 10).await.err(),
        backend.versions(&path("db")).await.err(),
        backend.health().await.err(),
        backend.issue(&path("sts/deploy"), lease(), Duration::from_secs(900)).await.err(),
        backend.revoke(&StoreHandle::new(format!("deploy/bursar-a/{}/{ROLE}", Timestamp::MAX))).await.err(),
    ];
    let printed = errors.iter().flatten().map(|error| format!("{error} {error:?} {error:#?}\n"));
    printed.chain([format!("{backend:?} {backend:#?}")]).collect()
}

async fn assert_no_canary(reply: Reply, about: &str) {
    let fake = Fake::start(move |_| Some(reply.clone())).await;
    let token = || SecretReader::new("a test", || Ok(TOKEN.to_owned().into()));
    let by_keys = Credentials::Keys {
        access_key_id: KEY_ID.to_owned(),
        secret_access_key: SecretReader::new("a test", || Ok(KEY.to_owned().into())),
        session_token: Some(token()),
    };
    let by_web = Credentials::WebIdentity { role: ROLE.to_owned(), token: token() };
    for (credentials, assume_role) in [(by_keys, None), (by_web, Some(ROLE.to_owned()))] {
        let config = AwsConfig { credentials, assume_role, ..denying(&fake.address) };
        let shown = format!("{config:?}");
        let log = Log::default();
        let collecting = log.collect(crate::SILENCED);
        let printed = everything_printable(&backend(config)).await;
        drop(collecting);
        let logged = log.text();
        for (name, canary) in [("value", VALUE), ("token", TOKEN), ("key", KEY)] {
            assert!(!shown.contains(canary), "the {name} is in the configuration's Debug, {about}");
            assert!(!printed.contains(canary), "the {name} is in an error or Debug, {about}");
            assert!(!logged.contains(canary), "the {name} is in the log, {about}");
        }
    }
}

#[tokio::test]
async fn whatever_aws_answers_stays_out_of_errors_and_logs() {
    let bodies = [
        format!("garbage {VALUE}"),
        format!(r#"{{"__type":"{VALUE}","Message":"{VALUE}","message":"{KEY}"}}"#),
        format!(r#"{{"__type":"AccessDeniedException","Message":"{VALUE} {TOKEN}"}}"#),
        format!(r#"{{"SecretString":"{VALUE}","VersionId":"{VALUE}!"}}"#),
        format!(r#"{{"SecretString":"{VALUE}","VersionId":"{VALUE}"}}"#),
        format!(r#"{{"SecretList":"{VALUE}","Versions":"{VALUE}"}}"#),
        format!(
            "<ErrorResponse><Error><Code>{VALUE}</Code><Message>{VALUE}</Message></Error></ErrorResponse>"
        ),
    ];
    for body in bodies {
        for status in [200, 302, 400, 403, 429, 500] {
            let about = format!("for status {status} with a body of {} bytes", body.len());
            let reply = Reply::With(status, "Retry-After: 3600".to_owned(), body.clone());
            assert_no_canary(reply, &about).await;
        }
    }
}

#[tokio::test]
async fn so_does_a_session() {
    let end = "2026-01-01T01:00:00Z";
    for action in ["AssumeRole", "AssumeRoleWithWebIdentity"] {
        let made = super::fake::session(action, "ASIANEW", VALUE, end).expect("a reply");
        assert_no_canary(made, action).await;
    }
}

#[tokio::test]
async fn a_source_that_quotes_its_content_is_not_quoted() {
    let fake = Fake::start(|_| None).await;
    let credentials = Credentials::Keys {
        access_key_id: KEY_ID.to_owned(),
        secret_access_key: SecretReader::new("a test", || Err(io::Error::other(KEY))),
        session_token: None,
    };
    let log = Log::default();
    let collecting = log.collect(crate::SILENCED);
    let printed = everything_printable(&backend(AwsConfig { credentials, ..config(&fake.address) })).await;
    drop(collecting);
    assert!(!printed.contains(KEY) && !log.text().contains(KEY));
}

#[tokio::test]
async fn a_key_that_is_no_text_is_not_quoted() {
    let fake = Fake::start(|_| None).await;
    let credentials = keys(|| Secret::new([KEY.as_bytes(), b"\xff"].concat()));
    let log = Log::default();
    let collecting = log.collect(crate::SILENCED);
    let backend = backend(AwsConfig { credentials, ..config(&fake.address) });
    let printed = everything_printable(&backend).await;
    drop(collecting);
    assert!(!printed.contains(KEY) && !log.text().contains(KEY));
}
