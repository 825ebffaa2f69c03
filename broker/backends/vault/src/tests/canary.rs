//! No value, token or secret id is in anything that can be printed.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bursar_backend_http::testing::{Log, certificate};
use bursar_core::backend::{Backend, Leasing, StoreHandle};
use bursar_core::clock::TestClock;
use jiff::Timestamp;

use super::fake::{Fake, Reply, SECRET_ID, TOKEN, backend, config, install_provider, lease, path, plain};
use crate::{Auth, SecretReader, VaultBackend, VaultConfig};

const VALUE: &str = "value-canary-Jk5";

/// Asks `backend` for everything and writes down all that can be written down.
async fn everything_printable(backend: &VaultBackend) -> String {
    let handle = StoreHandle::new("db/creds/ro/1".to_owned());
    let (entry, credential) = (path("kv/a"), path("db/creds/ro"));
    let minute = Duration::from_secs(60);
    let errors = [
        backend.read(&entry, None).await.err(),
        backend.list(Some(&path("kv")), None, 10).await.err(),
        backend.versions(&entry).await.err(),
        backend.health().await.err(),
        backend.issue(&credential, lease(), minute).await.err(),
        backend.renew(&handle, minute).await.err(),
        backend.revoke(&handle).await.err(),
        backend.find_orphans(&credential, Timestamp::UNIX_EPOCH..Timestamp::MAX).await.err(),
    ];
    let printed = errors.iter().flatten().map(|error| format!("{error} {error:?} {error:#?}\n"));
    printed.chain([format!("{backend:?} {backend:#?}")]).collect()
}

async fn assert_no_canary(reply: impl Fn(&str) -> Option<Reply> + Send + Sync + 'static, about: &str) {
    let fake = Fake::start(move |call| reply(&call.target)).await;
    // Where the fake answers logins.
    let (mount, role) = ("approle".to_owned(), "role".to_owned());
    let jwt = SecretReader::new("a test", || Ok(SECRET_ID.to_owned().into()));
    let by_jwt = VaultConfig { auth: Auth::Jwt { mount, role, jwt }, ..config(&fake.address) };
    for config in [config(&fake.address), by_jwt] {
        let about = format!("{about}, logged in by {:?}", config.auth);
        let log = Log::default();
        let collecting = log.collect(&[]);
        let printed = everything_printable(&backend(config)).await;
        drop(collecting);
        let logged = log.text();
        for (name, canary) in [("value", VALUE), ("token", TOKEN), ("secret id or JWT", SECRET_ID)] {
            assert!(!printed.contains(canary), "the {name} is in an error or Debug, {about}");
            assert!(!logged.contains(canary), "the {name} is in the log, {about}");
        }
    }
}

#[tokio::test]
async fn whatever_the_store_answers_stays_out_of_errors_and_logs() {
    let bodies = [
        format!("garbage {VALUE}"),
        format!(r#""{VALUE}""#),
        format!(r#"{{"{VALUE}":1,"data":"{VALUE}","auth":"{VALUE}","lease_id":1}}"#),
        format!(r#"{{"data":{{"data":{{"{VALUE}\n":"{VALUE}"}},"metadata":{{"version":"{VALUE}"}}}}}}"#),
        format!(r#"{{"errors":["{VALUE}"],"data":{{"keys":"{VALUE}","versions":"{VALUE}"}}}}"#),
    ];
    for body in bodies {
        for status in [200, 302, 400, 403, 404, 429, 500, 503] {
            let about = format!("for status {status} with a body of {} bytes", body.len());
            let body = body.clone();
            let reply = move |target: &str| {
                let own = target.starts_with("/auth/") || target == "/sys/health";
                (!own).then(|| Reply::With(status, "Retry-After: 3600".to_owned(), body.clone()))
            };
            assert_no_canary(reply, &about).await;
        }
    }
}

#[tokio::test]
async fn so_do_logins_that_go_wrong() {
    let bodies = [
        format!(r#"{{"auth":{{"client_token":["{TOKEN}"],"lease_duration":"{TOKEN}","renewable":true}}}}"#),
        format!(r#"{{"auth":{{"client_token":"{TOKEN}\n","lease_duration":1,"renewable":true}}}}"#),
        format!(r#"{{"errors":["{SECRET_ID}"]}}"#),
    ];
    for body in bodies {
        for status in [200, 400, 403, 500] {
            let about = format!("for a login with status {status}");
            let body = body.clone();
            let reply =
                move |target: &str| target.contains("login").then(|| Reply::Text(status, body.clone()));
            assert_no_canary(reply, &about).await;
        }
    }
}

#[tokio::test]
async fn so_does_success() {
    let entry = format!(r#"{{"data":{{"data":{{"a":"{VALUE}"}},"metadata":{{"version":1}}}}}}"#);
    let lease = format!(r#"{{"lease_id":"l","lease_duration":9,"renewable":true,"data":{{"a":"{VALUE}"}}}}"#);
    let reply = move |target: &str| match target {
        "/kv/data/a" => Some(Reply::Text(200, entry.clone())),
        "/db/creds/ro" => Some(Reply::Text(200, lease.clone())),
        _ => None,
    };
    assert_no_canary(reply, "for calls that succeed").await;
}

#[tokio::test]
async fn a_source_that_quotes_its_content_is_not_quoted() {
    let fake = Fake::start(|_| None).await;
    let mut config = config(&fake.address);
    config.auth = Auth::Token(plain(SecretReader::new("a test", || Err(io::Error::other(SECRET_ID)))));
    let shown = format!("{config:?}");
    let log = Log::default();
    let collecting = log.collect(&[]);
    let backend = backend(config);
    let printed = everything_printable(&backend).await;
    drop(collecting);
    let logged = log.text();
    assert!(![shown, printed, logged].iter().any(|text| text.contains(SECRET_ID)));
}

#[tokio::test]
async fn a_private_key_that_cannot_be_used_is_not_quoted() {
    install_provider();
    let folder = tempfile::tempdir().expect("folder");
    let shown = certificate("broker").cert.pem();
    let certificate = folder.path().join("broker.crt");
    std::fs::write(&certificate, shown).expect("written");
    let header = "-----BEGIN PRIVATE KEY-----\n";
    for key in
        [SECRET_ID.to_owned(), format!("{header}{SECRET_ID}"), format!("{header}{SECRET_ID}\n-----END")]
    {
        let key = SecretReader::new("a test", move || Ok(key.clone().into()));
        let (mount, certificate) = ("cert".to_owned(), certificate.clone());
        let auth = Auth::Certificate { mount, role: None, certificate, key };
        let config = VaultConfig { auth, allow_plaintext: true, ..config("http://127.0.0.1:1") };
        let shown = format!("{config:?}");
        let refused = VaultBackend::new(config, Arc::new(TestClock::new())).expect_err("no key");
        let mut printed = format!("{shown} {refused} {refused:?} {refused:#?}");
        let mut cause = std::error::Error::source(&refused);
        while let Some(error) = cause {
            printed.push_str(&format!(" {error} {error:?}"));
            cause = error.source();
        }
        assert!(!printed.contains(SECRET_ID), "the key is in an error or Debug");
    }
}
