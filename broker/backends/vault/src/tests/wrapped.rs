//! Credentials of the broker's own that are handed over wrapped.

use std::sync::atomic::{AtomicUsize, Ordering};

use bursar_core::Secret;
use bursar_core::backend::{Backend, ErrorKind, Operation};

use super::fake::{Call, Fake, Reply, SECRET_ID, TOKEN, backend, config, granted, json, path};
use crate::{Auth, Credential, SecretReader, VaultBackend, VaultConfig};

const LOOKUP: &str = "/sys/wrapping/lookup";
const UNWRAP: &str = "/sys/wrapping/unwrap";
const LOGIN: &str = "/auth/approle/login";
const ENTRY: &str = r#"{"data":{"data":{"a":"b"},"metadata":{"version":1}}}"#;
const WRAPPED_AT: &str = "auth/approle/role/bursar/secret-id";

/// A store that has wrapped [`SECRET_ID`] so many times, and does not know the first token that it grants.
async fn wrapping(times: usize) -> Fake {
    let (used, logins) = (AtomicUsize::new(0), AtomicUsize::new(0));
    Fake::start(move |call: &Call| {
        let known = call.headers.get("x-vault-token").is_some_and(|token| token == "t2");
        let spent = || json(400, r#"{"errors":["wrapping token is not valid or does not exist"]}"#);
        match call.target.as_str() {
            LOOKUP if used.load(Ordering::Relaxed) < times => looked_up(),
            UNWRAP if used.fetch_add(1, Ordering::Relaxed) < times => {
                json(200, &format!(r#"{{"data":{{"secret_id":"{SECRET_ID}","secret_id_accessor":"a"}}}}"#))
            }
            LOOKUP | UNWRAP => spent(),
            LOGIN => granted(&format!("t{}", logins.fetch_add(1, Ordering::Relaxed) + 1), 3600, true),
            _ if known => json(200, ENTRY),
            _ => json(403, "{}"),
        }
    })
    .await
}

fn looked_up() -> Option<Reply> {
    json(200, &format!(r#"{{"data":{{"creation_path":"{WRAPPED_AT}","creation_ttl":60}}}}"#))
}

fn handed(token: impl Fn() -> &'static str + Send + Sync + 'static) -> Credential {
    let reader = SecretReader::new("a test", move || Ok(Secret::from(token().to_owned())));
    Credential { reader, wrapping_path: Some(WRAPPED_AT.to_owned()) }
}

fn by_secret_id(address: &str, secret_id: Credential) -> VaultBackend {
    let (mount, role_id) = ("approle".to_owned(), "role".to_owned());
    backend(VaultConfig { auth: Auth::AppRole { mount, role_id, secret_id }, ..config(address) })
}

#[tokio::test]
async fn what_is_unwrapped_once_is_good_for_every_login() {
    let fake = wrapping(1).await;
    let backend = by_secret_id(&fake.address, handed(|| "hvs.wrapping-1"));
    backend.read(&path("kv/a"), None).await.expect("an entry");
    let calls = fake.calls();
    let logins: Vec<_> = calls.iter().filter(|call| call.target == LOGIN).collect();
    assert_eq!(logins.len(), 2);
    assert!(logins.iter().all(|login| login.body.contains(SECRET_ID)));
    assert_eq!((fake.count(LOOKUP), fake.count(UNWRAP)), (1, 1));
    let unwrap = calls.iter().find(|call| call.target == UNWRAP).expect("a call");
    assert_eq!(unwrap.headers.get("x-vault-token").map(String::as_str), Some("hvs.wrapping-1"));
}

#[tokio::test]
async fn a_token_that_somebody_used_before_is_denied() {
    let fake = Fake::start(|call| (call.target == LOOKUP).then(|| json(400, "{}")).flatten()).await;
    let error = by_secret_id(&fake.address, handed(|| "hvs.taken")).read(&path("kv/a"), None).await.err();
    let error = error.expect("denied");
    assert_eq!((error.kind, error.operation), (ErrorKind::Denied, Operation::Login));
    assert_eq!((fake.count(UNWRAP), fake.count(LOGIN)), (0, 0));
}

#[tokio::test]
async fn what_was_wrapped_elsewhere_is_not_unwrapped() {
    let elsewhere = r#"{"data":{"creation_path":"auth/approle/role/eve/secret-id"}}"#;
    let fake = Fake::start(move |call| (call.target == LOOKUP).then(|| json(200, elsewhere)).flatten()).await;
    let error = by_secret_id(&fake.address, handed(|| "hvs.eve")).read(&path("kv/a"), None).await.err();
    assert_eq!(error.expect("denied").kind, ErrorKind::Denied);
    assert_eq!((fake.count(UNWRAP), fake.count(LOGIN)), (0, 0));
}

#[tokio::test]
async fn another_token_is_unwrapped_when_one_is_handed_over() {
    let fake = wrapping(2).await;
    let reads = AtomicUsize::new(0);
    let each = move || if reads.fetch_add(1, Ordering::Relaxed) == 0 { "hvs.first" } else { "hvs.second" };
    by_secret_id(&fake.address, handed(each)).read(&path("kv/a"), None).await.expect("an entry");
    assert_eq!((fake.count(LOGIN), fake.count(UNWRAP)), (2, 2));
}

#[tokio::test]
async fn a_token_may_be_what_is_wrapped() {
    let fake = Fake::start(|call| match call.target.as_str() {
        LOOKUP => looked_up(),
        UNWRAP => json(200, &format!(r#"{{"auth":{{"client_token":"{TOKEN}"}}}}"#)),
        _ => None,
    })
    .await;
    let auth = Auth::Token(handed(|| "hvs.wrapping-1"));
    backend(VaultConfig { auth, ..config(&fake.address) }).health().await.expect("logged in");
}
