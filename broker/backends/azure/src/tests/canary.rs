//! No value, secret of the application or token is in anything that can be printed.

use std::io;

use bursar_backend_http::testing::Log;
use bursar_core::backend::Backend;

use super::fake::{CLIENT_SECRET, Fake, IsLogin, Reply, backend, holding, path, text, token};
use crate::{AzureBackend, AzureConfig, Credentials, Proof, SecretReader};

const VALUE: &str = "value-canary-Jk5";
const TOKEN: &str = "token-canary-Qz7";

/// Asks `backend` for everything and writes down all that can be written down.
async fn everything_printable(backend: &AzureBackend) -> String {
    let errors = [
        backend.read(&path("db"), None).await.err(),
        backend.list(None, None, 10).await.err(),
        backend.versions(&path("db")).await.err(),
        backend.health().await.err(),
    ];
    let printed = errors.iter().flatten().map(|error| format!("{error} {error:?} {error:#?}\n"));
    printed.chain([format!("{backend:?} {backend:#?}")]).collect()
}

async fn assert_no_canary(config: AzureConfig, about: &str) {
    let shown = format!("{config:?} {config:#?}");
    let log = Log::default();
    let collecting = log.collect(&[]);
    let printed = everything_printable(&backend(config)).await;
    drop(collecting);
    let logged = log.text();
    for (name, canary) in [("value", VALUE), ("token", TOKEN), ("client's secret", CLIENT_SECRET)] {
        assert!(!shown.contains(canary), "the {name} is in the configuration's Debug, {about}");
        assert!(!printed.contains(canary), "the {name} is in an error or Debug, {about}");
        assert!(!logged.contains(canary), "the {name} is in the log, {about}");
    }
}

#[tokio::test]
async fn whatever_the_vault_answers_stays_out_of_errors_and_logs() {
    let bodies = [
        format!("garbage {VALUE}"),
        format!(r#"{{"error":{{"code":"{VALUE}","message":"{VALUE}","innererror":{{"code":"{TOKEN}"}}}}}}"#),
        format!(r#"{{"error":{{"code":"Forbidden","message":"{VALUE} {TOKEN}"}}}}"#),
        format!(r#"{{"value":"{VALUE}","id":"https://v/secrets/{VALUE}/{VALUE}"}}"#),
        format!(r#"{{"value":[{{"id":"{VALUE}"}}],"nextLink":"https://{VALUE}/"}}"#),
        format!(
            r#"{{"value":"{VALUE}","id":"https://v/secrets/db/{}","attributes":{{"enabled":false}}}}"#,
            super::fake::VERSION
        ),
    ];
    for body in bodies {
        for status in [200, 302, 400, 403, 404, 429, 500] {
            let about = format!("for status {status} with a body of {} bytes", body.len());
            let reply = Reply::With(status, "Retry-After: 3600".to_owned(), body.clone());
            let fake = Fake::start(move |call| match call.is_login() {
                true => token(TOKEN, 3600),
                false => Some(reply.clone()),
            })
            .await;
            assert_no_canary(fake.config(), &about).await;
        }
    }
}

#[tokio::test]
async fn so_does_what_whoever_gives_tokens_answers() {
    for (status, body) in [
        (200, format!("garbage {TOKEN}")),
        (200, format!(r#"{{"token_type":"{VALUE}","expires_in":9,"access_token":"{TOKEN}"}}"#)),
        (200, format!(r#"{{"token_type":"Bearer","expires_in":"{TOKEN}","access_token":"{TOKEN}"}}"#)),
        (401, format!(r#"{{"error":"{VALUE}","error_description":"{CLIENT_SECRET}","error_codes":[1]}}"#)),
        (400, format!(r#"{{"error":"invalid_client","error_description":"{TOKEN}"}}"#)),
        (500, TOKEN.to_owned()),
    ] {
        let about = format!("for status {status} to a login with a body of {} bytes", body.len());
        let fake = Fake::start(move |_| text(status, &body)).await;
        let machine = Credentials::ManagedIdentity { client_id: None, endpoint: Some(fake.address.clone()) };
        let federated = fake.application(Proof::FederatedToken(holding(TOKEN)));
        let unfit = fake.application(Proof::Certificate(holding(TOKEN)));
        let (client_id, endpoint) = (None, format!("{}/token", fake.address));
        let app = Credentials::AppIdentity { client_id, endpoint, header: holding(TOKEN) };
        for credentials in [machine, federated, unfit, app, fake.config().credentials] {
            assert_no_canary(AzureConfig { credentials, ..fake.config() }, &about).await;
        }
    }
}

#[tokio::test]
async fn a_source_that_quotes_its_content_is_not_quoted() {
    let fake = Fake::start(|_| None).await;
    let quoting = SecretReader::new("a test", || Err(io::Error::other(CLIENT_SECRET)));
    let credentials = fake.application(Proof::ClientSecret(quoting));
    assert_no_canary(AzureConfig { credentials, ..fake.config() }, "by a source that quotes").await;
}
