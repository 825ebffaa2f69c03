//! No value, key or token is in anything that can be printed.

use std::io;

use bursar_backend_http::testing::Log;
use bursar_core::Secret;
use bursar_core::backend::Backend;
use serde_json::{Value, json};

use super::fake::{Fake, IsLogin, KEY, Reply, account, backend, config, json as credential, path, token};
use crate::{Credentials, GcpBackend, GcpConfig, SecretReader};

const VALUE: &str = "value-canary-Jk5";
const TOKEN: &str = "token-canary-Qz7";
const SUBJECT: &str = "subject-canary-Lw2";
/// A line of the key: nobody prints less of one.
const KEY_LINE: usize = 64;

/// Asks `backend` for everything and writes down all that can be written down.
async fn everything_printable(backend: &GcpBackend) -> String {
    let errors = [
        backend.read(&path("db"), None).await.err(),
        backend.list(None, None, 10).await.err(),
        backend.versions(&path("db")).await.err(),
        backend.newest(&path("db")).await.err(),
        backend.health().await.err(),
    ];
    let printed = errors.iter().flatten().map(|error| format!("{error} {error:?} {error:#?}\n"));
    printed.chain([format!("{backend:?} {backend:#?}")]).collect()
}

fn key_line() -> &'static str {
    KEY.lines().find(|line| line.len() == KEY_LINE && !line.contains('-')).expect("a line")
}

/// Where a credential is wrong, or what it gets is, nothing of it is told.
async fn assert_no_canary(reply: Reply, login: Option<Reply>, about: &str) {
    let fake = Fake::start(move |call| match &login {
        Some(login) if call.is_login() => Some(login.clone()),
        _ => Some(reply.clone()),
    })
    .await;
    let external = json!({
        "type": "external_account", "audience": "a", "subject_token_type": "t",
        "token_url": format!("{}/sts", fake.address), "credential_source": { "url": format!("{}/s", fake.address) },
    });
    let user = json!({
        "type": "authorized_user", "client_id": "c", "client_secret": SUBJECT, "refresh_token": SUBJECT,
        "token_uri": format!("{}/token", fake.address),
    });
    for credentials in [credential(account(&fake.address)), credential(external), credential(user)] {
        let config = GcpConfig { credentials: Some(credentials), ..config(&fake.address) };
        let shown = format!("{config:?}");
        let log = Log::default();
        let collecting = log.collect(&[]);
        let printed = everything_printable(&backend(config)).await;
        drop(collecting);
        let logged = log.text();
        for (name, canary) in [("value", VALUE), ("token", TOKEN), ("subject", SUBJECT), ("key", key_line())]
        {
            assert!(!shown.contains(canary), "the {name} is in the configuration's Debug, {about}");
            assert!(!printed.contains(canary), "the {name} is in an error or Debug, {about}");
            assert!(!logged.contains(canary), "the {name} is in the log, {about}");
        }
    }
}

#[tokio::test]
async fn whatever_google_answers_stays_out_of_errors_and_logs() {
    let name = "projects/1/secrets/db/versions/3";
    let status = |code: &str| json!({ "error": { "status": code, "message": VALUE, "details": [{ "reason": VALUE }] } });
    let bodies = [
        format!("garbage {VALUE} {TOKEN}"),
        status(VALUE).to_string(),
        status("PERMISSION_DENIED").to_string(),
        json!({ "error": TOKEN, "error_description": VALUE }).to_string(),
        json!({ "name": VALUE, "payload": { "data": VALUE, "dataCrc32c": VALUE } }).to_string(),
        json!({ "name": name, "payload": { "data": VALUE } }).to_string(),
        json!({ "secrets": VALUE, "versions": VALUE, "access_token": [TOKEN] }).to_string(),
        json!({ "access_token": format!("{TOKEN}\n"), "expires_in": VALUE }).to_string(),
    ];
    for body in bodies {
        for status in [200, 302, 400, 401, 403, 429, 500] {
            let about = format!("for status {status} with a body of {} bytes", body.len());
            let reply = Reply::With(status, "Retry-After: 3600".to_owned(), body.clone());
            assert_no_canary(reply.clone(), None, &about).await;
            assert_no_canary(reply, token(TOKEN, 3600), &about).await;
        }
    }
}

#[tokio::test]
async fn a_credential_that_quotes_or_lacks_is_not_quoted() {
    let quoting = SecretReader::new("a test", || Err(io::Error::other(SUBJECT)));
    let members = |member: &str, value: Value| {
        let mut account = account("http://127.0.0.1:1");
        account[member] = value;
        credential(account)
    };
    let bad = [
        Credentials::Json(quoting),
        Credentials::Json(SecretReader::new("a test", || Ok(Secret::from(SUBJECT.to_owned())))),
        members("type", json!(SUBJECT)),
        members("private_key", json!(format!("{SUBJECT}{}", key_line()))),
        members("token_uri", json!(format!("http://{SUBJECT}@host/"))),
    ];
    for credentials in bad {
        let log = Log::default();
        let collecting = log.collect(&[]);
        let config = GcpConfig { credentials: Some(credentials), ..config("http://127.0.0.1:1") };
        let printed = everything_printable(&backend(config)).await;
        drop(collecting);
        for canary in [SUBJECT, key_line()] {
            assert!(!printed.contains(canary) && !log.text().contains(canary));
        }
    }
}
