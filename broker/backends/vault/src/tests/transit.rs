//! Keys that a transit engine wraps.

use bursar_core::Secret;
use bursar_core::backend::{Backend, ErrorKind, Operation};
use data_encoding::BASE64;

use super::fake::{Call, Fake, json};
use crate::VaultBackend;

async fn unwrapped(backend: &VaultBackend, key: &str) -> Result<Secret, (ErrorKind, Operation)> {
    let wrapping = backend.wrapping().expect("it has keys");
    wrapping.unwrap_key(key, "vault:v1:x", "here").await.map_err(|error| (error.kind, error.operation))
}

#[tokio::test]
async fn a_key_is_wrapped_with_its_context_and_opened_again() {
    let fake = Fake::start(|call: &Call| match call.target.as_str() {
        "/team/transit/encrypt/bursar" => json(200, r#"{"data":{"ciphertext":"vault:v1:x"}}"#),
        "/team/transit/decrypt/bursar" => {
            json(200, &format!(r#"{{"data":{{"plaintext":"{}"}}}}"#, BASE64.encode(b"plain")))
        }
        _ => None,
    })
    .await;
    let backend = fake.backend();
    let plain = Secret::new(b"plain".to_vec());
    let wrapping = backend.wrapping().expect("it has keys");
    let wrapped = wrapping.wrap_key("team/transit/bursar", &plain, "here").await;
    assert_eq!(wrapped.as_deref(), Ok("vault:v1:x"));
    let opened = unwrapped(&backend, "team/transit/bursar").await;
    assert!(opened.is_ok_and(|opened| opened.ct_eq(b"plain")));
    let context = format!(r#""associated_data":"{}""#, BASE64.encode(b"here"));
    let calls = fake.calls().into_iter().filter(|call| call.target.contains("transit"));
    assert_eq!(calls.filter(|call| call.body.contains(&context)).count(), 2);
}

#[tokio::test]
async fn what_is_no_key_is_refused_without_a_call_and_nothing_is_made_of_a_strange_answer() {
    let fake = Fake::start(|call: &Call| match call.target.as_str() {
        "/transit/decrypt/bursar" => json(200, r#"{"data":{"plaintext":"no base64!"}}"#),
        "/transit/decrypt/other" => json(400, r#"{"errors":["cipher: message authentication failed"]}"#),
        _ => None,
    })
    .await;
    let backend = fake.backend();
    for no_key in ["bursar", "transit/", "/bursar"] {
        let refused = unwrapped(&backend, no_key).await.err();
        assert_eq!(refused, Some((ErrorKind::Misconfigured, Operation::UnwrapKey)), "`{no_key}`");
    }
    assert!(fake.calls().is_empty());
    let refused = unwrapped(&backend, "transit/bursar").await.err();
    assert_eq!(refused, Some((ErrorKind::Malformed, Operation::UnwrapKey)));
    let refused = unwrapped(&backend, "transit/other").await.err();
    assert_eq!(refused, Some((ErrorKind::Misconfigured, Operation::UnwrapKey)));
}
