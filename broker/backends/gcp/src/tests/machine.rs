//! The broker's own token, from what a machine offers.

use std::io;

use bursar_core::backend::{Backend, ErrorKind, Operation};

use super::fake::{Fake, account, backend, config, json, path, reader, text, token, value};
use crate::{Credentials, GcpConfig, Machine, SecretReader};

/// `/token` and the metadata server give different tokens.
async fn fake() -> Fake {
    Fake::start(|call| match call.path() {
        "/token" => token("of-key", 3600),
        "/computeMetadata/v1/instance/service-accounts/default/token" => token("of-machine", 3600),
        _ => value(b"v"),
    })
    .await
}

fn failing(kind: io::ErrorKind) -> SecretReader {
    SecretReader::new("a test", move || Err(kind.into()))
}

/// With which token a read is made.
async fn token_of(
    fake: &Fake,
    named: Option<SecretReader>,
    left: Option<SecretReader>,
) -> Result<String, (ErrorKind, Operation)> {
    let machine = Machine { named, left, metadata: fake.host().to_owned() };
    let backend =
        backend(GcpConfig { credentials: Some(Credentials::Machine(machine)), ..config(&fake.address) });
    backend.read(&path("db"), None).await.map_err(|error| (error.kind, error.operation))?;
    Ok(fake.calls().last().map(|call| call.token().to_owned()).unwrap_or_default())
}

#[tokio::test]
async fn a_file_that_is_named_comes_first_and_must_be_there() {
    let fake = fake().await;
    let key = || Some(reader(account(&fake.address).to_string()));
    assert_eq!(token_of(&fake, key(), None).await.as_deref(), Ok("of-key"));
    let refused = Err((ErrorKind::Misconfigured, Operation::Login));
    assert_eq!(token_of(&fake, Some(failing(io::ErrorKind::NotFound)), key()).await, refused);
}

#[tokio::test]
async fn a_file_that_was_left_comes_next_where_it_is() {
    let fake = fake().await;
    let key = reader(account(&fake.address).to_string());
    assert_eq!(token_of(&fake, None, Some(key)).await.as_deref(), Ok("of-key"));
    let absent = failing(io::ErrorKind::NotFound);
    assert_eq!(token_of(&fake, None, Some(absent)).await.as_deref(), Ok("of-machine"));
    let refused = Err((ErrorKind::Misconfigured, Operation::Login));
    assert_eq!(token_of(&fake, None, Some(failing(io::ErrorKind::PermissionDenied))).await, refused);
}

#[tokio::test]
async fn the_metadata_server_comes_last_and_is_asked_as_it_wants_to_be() {
    let fake = fake().await;
    assert_eq!(token_of(&fake, None, None).await.as_deref(), Ok("of-machine"));
    let call = fake.logins().into_iter().next().expect("a call");
    assert_eq!(call.headers.get("metadata-flavor").map(String::as_str), Some("Google"));
}

#[tokio::test]
async fn a_machine_without_an_account_or_a_metadata_server_has_no_token() {
    let none = Fake::start(|_| text(404, "no service account")).await;
    assert_eq!(token_of(&none, None, None).await, Err((ErrorKind::Misconfigured, Operation::Login)));
    let machine = Machine { named: None, left: None, metadata: "bursar.invalid".to_owned() };
    let config = GcpConfig { credentials: Some(Credentials::Machine(machine)), ..config(&none.address) };
    let error = backend(config).read(&path("db"), None).await.err().expect("nobody there");
    assert_eq!((error.kind, error.operation), (ErrorKind::Unavailable, Operation::Login));
}

#[tokio::test]
async fn what_the_machine_serves_may_come_in_the_clear_and_google_may_not() {
    let fake = fake().await;
    let machine = Machine { named: None, left: None, metadata: fake.host().to_owned() };
    let read = |credentials| async {
        let config = GcpConfig { credentials: Some(credentials), ..config("https://127.0.0.1:1") };
        let backend = backend(GcpConfig { allow_plaintext: false, ..config });
        let error = backend.read(&path("db"), None).await.err().expect("nobody there");
        (error.kind, error.operation)
    };
    let told = read(Credentials::Machine(machine)).await;
    assert_eq!(told, (ErrorKind::Unavailable, Operation::Read), "the token came");
    let told = read(json(account(&fake.address))).await;
    assert_eq!(told, (ErrorKind::Misconfigured, Operation::Login), "a token endpoint without TLS");
}
