//! Keys that KMS wraps.

use bursar_core::Secret;
use bursar_core::backend::{Backend, ErrorKind, Operation};
use data_encoding::BASE64;

use super::fake::{Call, Fake, OfAws, text};
use crate::AwsBackend;

const KEY: &str = "alias/bursar";

async fn unwrapped(backend: &AwsBackend, wrapped: &str) -> Result<Secret, (ErrorKind, Operation)> {
    let wrapping = backend.wrapping().expect("it has keys");
    wrapping.unwrap_key(KEY, wrapped, "here").await.map_err(|error| (error.kind, error.operation))
}

#[tokio::test]
async fn a_call_names_the_key_and_the_context() {
    let fake = Fake::start(|call: &Call| match call.action() {
        "Encrypt" => text(200, &format!(r#"{{"CiphertextBlob":"{}"}}"#, BASE64.encode(b"wrapped"))),
        _ => text(200, &format!(r#"{{"Plaintext":"{}"}}"#, BASE64.encode(b"plain"))),
    })
    .await;
    let backend = fake.backend();
    let plain = Secret::new(b"plain".to_vec());
    let wrapped = backend.wrapping().expect("it has keys").wrap_key(KEY, &plain, "here").await;
    let wrapped = wrapped.expect("wrapped");
    assert_eq!(wrapped, BASE64.encode(b"wrapped"));
    assert!(unwrapped(&backend, &wrapped).await.is_ok_and(|opened| opened.ct_eq(b"plain")));
    for call in fake.calls() {
        assert!(call.body.contains(r#""KeyId":"alias/bursar""#), "{}", call.action());
        assert!(call.body.contains(r#""EncryptionContext":{"bursar":"here"}"#), "{}", call.action());
    }
}

#[tokio::test]
async fn what_kms_refuses_is_told_apart() {
    for (status, code, kind) in [
        (400, "AccessDeniedException", ErrorKind::Denied),
        (400, "NotFoundException", ErrorKind::NotFound),
        (400, "DisabledException", ErrorKind::Misconfigured),
        (400, "InvalidCiphertextException", ErrorKind::Misconfigured),
        (400, "IncorrectKeyException", ErrorKind::Misconfigured),
        (500, "KMSInternalException", ErrorKind::Unavailable),
    ] {
        let body = format!(r#"{{"__type":"{code}","message":"canary"}}"#);
        let fake = Fake::start(move |_| text(status, &body)).await;
        let refused = unwrapped(&fake.backend(), &BASE64.encode(b"wrapped")).await.err();
        assert_eq!(refused, Some((kind, Operation::UnwrapKey)), "{code}");
    }
}

#[tokio::test]
async fn what_no_key_has_wrapped_is_not_sent_and_an_answer_without_a_key_is_none() {
    let fake = Fake::start(|_| text(200, "{}")).await;
    let backend = fake.backend();
    let refused = unwrapped(&backend, "no base64!").await.err();
    assert_eq!(refused, Some((ErrorKind::Misconfigured, Operation::UnwrapKey)));
    assert!(fake.calls().is_empty());
    let refused = unwrapped(&backend, &BASE64.encode(b"wrapped")).await.err();
    assert_eq!(refused, Some((ErrorKind::Malformed, Operation::UnwrapKey)));
}
