//! The broker's own token, from a credential in Google's JSON.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bursar_core::backend::{Backend, ErrorKind, Operation};
use bursar_core::clock::TestClock;
use bursar_core::{Clock, Secret};
use data_encoding::{BASE64, BASE64URL_NOPAD};
use ring::signature::{KeyPair, RSA_PKCS1_2048_8192_SHA256, RsaKeyPair, UnparsedPublicKey};
use serde_json::{Value, json};

use super::fake::{
    Call, Fake, IsLogin, KEY, Reply, account, backend, config, json as credential, path, refused, text,
    token, value,
};
use crate::{Credentials, GcpBackend, GcpConfig, SecretReader};

/// Tokens `t1`, `t2`… one after the other, each good for so many seconds.
fn granting(seconds: u64) -> impl Fn() -> Option<Reply> {
    let made = AtomicUsize::new(0);
    move || token(&format!("t{}", made.fetch_add(1, Ordering::Relaxed) + 1), seconds)
}

async fn reads(backend: &GcpBackend) -> Result<(), (ErrorKind, Operation)> {
    backend.read(&path("db"), None).await.map(drop).map_err(|error| (error.kind, error.operation))
}

/// The tokens that secrets were read with.
fn tokens(fake: &Fake) -> Vec<String> {
    let reads = fake.calls().into_iter().filter(|call| !call.is_login());
    reads.map(|call| call.token().to_owned()).collect()
}

/// The pairs of a form, without escapes.
fn form(call: &Call) -> Vec<(String, String)> {
    let plain = |text: &str| {
        let mut parts = text.split('%');
        let mut plain = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let (byte, rest) = part.split_at(2);
            plain.push(char::from(u8::from_str_radix(byte, 16).expect("two digits")));
            plain.push_str(rest);
        }
        plain
    };
    let pair = |pair: &str| pair.split_once('=').map(|(name, value)| (plain(name), plain(value)));
    call.body.split('&').filter_map(pair).collect()
}

fn value_of(pairs: &[(String, String)], name: &str) -> String {
    pairs.iter().find(|(own, _)| own == name).map(|(_, value)| value.clone()).unwrap_or_default()
}

fn external(fake: &Fake, source: &Value) -> Value {
    json!({
        "type": "external_account", "audience": "//iam.googleapis.com/projects/1/pools/p/providers/x",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": format!("{}/sts", fake.address), "credential_source": source,
    })
}

fn from_file(path: &Path) -> SecretReader {
    let path = path.to_owned();
    SecretReader::new("a file", move || std::fs::read(&path).map(Secret::new))
}

#[tokio::test]
async fn a_service_account_signs_who_it_is_and_one_token_is_for_all() {
    let grant = granting(3600);
    let fake = Fake::start(move |call| if call.is_login() { grant() } else { value(b"v") }).await;
    let backend = fake.backend_with_key();
    for _ in 0..3 {
        assert_eq!(reads(&backend).await, Ok(()));
    }
    assert_eq!(tokens(&fake), ["t1"; 3]);

    let [login] = fake.logins().try_into().expect("one login");
    assert_eq!((login.method.as_str(), login.path()), ("POST", "/token"));
    let pairs = form(&login);
    assert_eq!(value_of(&pairs, "grant_type"), "urn:ietf:params:oauth:grant-type:jwt-bearer");
    let assertion = value_of(&pairs, "assertion");
    let (said, signature) = assertion.rsplit_once('.').expect("three parts");
    let parts: Vec<Value> = said
        .split('.')
        .map(|part| {
            serde_json::from_slice(&BASE64URL_NOPAD.decode(part.as_bytes()).expect("base64")).expect("JSON")
        })
        .collect();
    let now = TestClock::new().now().as_second();
    assert_eq!(
        parts,
        [
            json!({ "alg": "RS256", "typ": "JWT", "kid": "key-1" }),
            json!({
                "iss": "broker@shop.iam.gserviceaccount.com", "aud": format!("{}/token", fake.address),
                "scope": "https://www.googleapis.com/auth/cloud-platform", "iat": now - 10, "exp": now + 3590,
            }),
        ]
    );
    let lines: String =
        KEY.lines().skip_while(|line| !line.starts_with("---")).filter(|line| !line.contains('-')).collect();
    let key = RsaKeyPair::from_pkcs8(&BASE64.decode(lines.as_bytes()).expect("base64")).expect("key");
    let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key.public_key().as_ref());
    let signature = BASE64URL_NOPAD.decode(signature.as_bytes()).expect("base64");
    assert!(public.verify(said.as_bytes(), &signature).is_ok());
}

#[tokio::test]
async fn a_token_that_has_ended_is_replaced_before_it_is_used() {
    let grant = granting(0);
    let fake = Fake::start(move |call| if call.is_login() { grant() } else { value(b"v") }).await;
    let backend = fake.backend_with_key();
    assert_eq!((reads(&backend).await, reads(&backend).await), (Ok(()), Ok(())));
    assert_eq!(tokens(&fake), ["t1", "t2"]);
}

#[tokio::test]
async fn a_token_that_google_no_longer_takes_is_replaced_once() {
    let grant = granting(3600);
    let fake = Fake::start(move |call| match call.token() {
        _ if call.is_login() => grant(),
        "t1" => refused(401, "UNAUTHENTICATED"),
        _ => value(b"v"),
    })
    .await;
    let backend = fake.backend_with_key();
    assert_eq!(reads(&backend).await, Ok(()));
    assert_eq!(tokens(&fake), ["t1", "t2"]);
    assert_eq!(fake.logins().len(), 2);
}

#[tokio::test]
async fn one_that_is_refused_and_given_again_is_a_refusal() {
    let fake = Fake::start(|call| match call.is_login() {
        true => token("same", 3600),
        false => refused(401, "UNAUTHENTICATED"),
    })
    .await;
    let backend = fake.backend_with_key();
    assert_eq!(reads(&backend).await, Err((ErrorKind::Denied, Operation::Read)));
    assert_eq!((tokens(&fake).len(), fake.logins().len()), (1, 2));
    // And logins are paced from here on.
    for _ in 0..20 {
        assert!(reads(&backend).await.is_err());
    }
    assert!(fake.logins().len() <= 4, "{} logins", fake.logins().len());
}

#[tokio::test]
async fn a_right_that_is_missing_costs_no_login() {
    let fake = Fake::start(|call| match call.is_login() {
        true => token("t", 3600),
        false => refused(403, "PERMISSION_DENIED"),
    })
    .await;
    let backend = fake.backend_with_key();
    for _ in 0..3 {
        assert_eq!(reads(&backend).await, Err((ErrorKind::Denied, Operation::Read)));
    }
    assert_eq!(fake.logins().len(), 1);
}

#[tokio::test]
async fn a_login_that_fails_is_told_by_its_kind() {
    let error = |status, error: &str| text(status, json!({ "error": error, "error_description": "words" }));
    let table = [
        (error(400, "invalid_grant"), ErrorKind::Denied, 1),
        (error(401, "invalid_client"), ErrorKind::Denied, 1),
        (error(400, "invalid_scope"), ErrorKind::Misconfigured, 1),
        (error(503, "temporarily_unavailable"), ErrorKind::Unavailable, 3),
        (text(403, "<html>"), ErrorKind::Denied, 1),
        (text(400, "<html>"), ErrorKind::Misconfigured, 1),
        (text(302, ""), ErrorKind::Misconfigured, 1),
        (text(500, ""), ErrorKind::Unavailable, 3),
        (text(200, "<html>"), ErrorKind::Malformed, 1),
        (text(200, "{}"), ErrorKind::Malformed, 1),
        (text(200, r#"{"access_token":5,"expires_in":3600}"#), ErrorKind::Malformed, 1),
        (text(200, r#"{"access_token":"a\nb","expires_in":3600}"#), ErrorKind::Malformed, 1),
        (text(200, r#"{"access_token":"t","expires_in":-1}"#), ErrorKind::Malformed, 1),
        (Some(Reply::With(429, "Retry-After: 60".to_owned(), String::new())), ErrorKind::Throttled, 1),
        (Some(Reply::Raw(Vec::new())), ErrorKind::Unavailable, 3),
    ];
    for (reply, kind, most) in table {
        let about = format!("{reply:?}");
        let fake = Fake::start(move |call| if call.is_login() { reply.clone() } else { value(b"v") }).await;
        assert_eq!(reads(&fake.backend_with_key()).await, Err((kind, Operation::Login)), "{about}");
        let logins = fake.logins().len();
        assert!((1..=most).contains(&logins), "{logins} logins: {about}");
        assert_eq!(tokens(&fake).len(), 0, "{about}");
    }
}

#[tokio::test]
async fn a_token_endpoint_that_hangs_costs_one_timeout() {
    let fake = Fake::start(|call| if call.is_login() { Some(Reply::Drips) } else { value(b"v") }).await;
    let config = GcpConfig {
        timeout: Duration::from_millis(300),
        credentials: Some(credential(account(&fake.address))),
        ..config(&fake.address)
    };
    assert_eq!(reads(&backend(config)).await, Err((ErrorKind::Timeout, Operation::Login)));
    assert_eq!(fake.logins().len(), 1);
}

#[tokio::test]
async fn a_credential_that_cannot_be_used_is_a_fault_of_the_configuration() {
    let fake = Fake::start(|_| token("t", 3600)).await;
    let mut weak = account(&fake.address);
    weak["private_key"] = json!("-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n");
    let mut broken = account(&fake.address);
    broken["private_key"] = json!("no key");
    let mut elsewhere = account(&fake.address);
    elsewhere["token_uri"] = json!("ftp://example.org");
    for bad in [json!({}), json!("text"), weak, broken, elsewhere, json!({ "type": "api_key" })] {
        let config = GcpConfig { credentials: Some(credential(bad.clone())), ..config(&fake.address) };
        assert_eq!(reads(&backend(config)).await, Err((ErrorKind::Misconfigured, Operation::Login)), "{bad}");
    }
    assert_eq!(fake.calls().len(), 0);
}

#[tokio::test]
async fn a_key_that_was_replaced_is_read_when_google_refuses_the_old() {
    let dir = tempfile::tempdir().expect("directory");
    let file = dir.path().join("key.json");
    let fake = Fake::start(|call| match call.path() {
        "/token" => text(400, json!({ "error": "invalid_grant" })),
        "/new" => token("t", 3600),
        _ => value(b"v"),
    })
    .await;
    std::fs::write(&file, account(&fake.address).to_string()).expect("written");
    let config =
        GcpConfig { credentials: Some(Credentials::Json(from_file(&file))), ..config(&fake.address) };
    let backend = backend(config);
    assert_eq!(reads(&backend).await, Err((ErrorKind::Denied, Operation::Login)));
    let mut replaced = account(&fake.address);
    replaced["token_uri"] = json!(format!("{}/new", fake.address));
    std::fs::write(&file, replaced.to_string()).expect("written");
    let patience = tokio::time::timeout(Duration::from_secs(30), async {
        while reads(&backend).await.is_err() {
            tokio::task::yield_now().await;
        }
    });
    assert!(patience.await.is_ok(), "the next login was not tried");
}

#[tokio::test]
async fn a_person_who_has_logged_in_is_a_refresh_token_and_the_quota_of_a_project() {
    let fake = Fake::start(|call| if call.is_login() { token("t", 3600) } else { value(b"v") }).await;
    let user = json!({
        "type": "authorized_user", "client_id": "id", "client_secret": "s&cret", "refresh_token": "1//r+",
        "token_uri": format!("{}/token", fake.address), "quota_project_id": "quota",
    });
    let config = GcpConfig { credentials: Some(credential(user)), ..config(&fake.address) };
    assert_eq!(reads(&backend(config)).await, Ok(()));
    let [login, read] = fake.calls().try_into().expect("two calls");
    let due = [
        ("grant_type", "refresh_token"),
        ("client_id", "id"),
        ("client_secret", "s&cret"),
        ("refresh_token", "1//r+"),
    ];
    assert_eq!(form(&login), due.map(|(name, value)| (name.to_owned(), value.to_owned())));
    assert_eq!(read.headers.get("x-goog-user-project").map(String::as_str), Some("quota"));
}

#[tokio::test]
async fn another_providers_token_is_exchanged_as_it_is_now() {
    let dir = tempfile::tempdir().expect("directory");
    let file = dir.path().join("token");
    std::fs::write(&file, "subject-1\n").expect("written");
    let grant = granting(0);
    let fake = Fake::start(move |call| if call.is_login() { grant() } else { value(b"v") }).await;
    let config = GcpConfig {
        credentials: Some(credential(external(&fake, &json!({ "file": file })))),
        ..config(&fake.address)
    };
    let backend = backend(config);
    assert_eq!(reads(&backend).await, Ok(()));
    std::fs::write(&file, "subject-2").expect("written");
    assert_eq!(reads(&backend).await, Ok(()));
    let logins = fake.logins();
    let forms: Vec<_> = logins.iter().map(form).collect();
    let subjects: Vec<_> = forms.iter().map(|form| value_of(form, "subject_token")).collect();
    assert_eq!(subjects, ["subject-1", "subject-2"]);
    let first = forms.first().expect("a form");
    assert_eq!(value_of(first, "grant_type"), "urn:ietf:params:oauth:grant-type:token-exchange");
    assert_eq!(value_of(first, "audience"), "//iam.googleapis.com/projects/1/pools/p/providers/x");
    assert_eq!(value_of(first, "subject_token_type"), "urn:ietf:params:oauth:token-type:jwt");
}

#[tokio::test]
async fn it_may_be_a_member_of_what_a_url_answers_and_act_as_a_service_account() {
    let end = TestClock::new().now().checked_add(Duration::from_secs(3600)).expect("time").to_string();
    let fake = Fake::start(move |call| match call.path() {
        "/identity" => text(200, json!({ "access_token": "subject" })),
        "/sts" => token("federated", 3600),
        "/as:generateAccessToken" => text(200, json!({ "accessToken": "own", "expireTime": end })),
        _ => value(b"v"),
    })
    .await;
    let mut credential_of = external(
        &fake,
        &json!({
            "url": format!("{}/identity?resource=r", fake.address), "headers": { "Metadata": "True" },
            "format": { "type": "json", "subject_token_field_name": "access_token" },
        }),
    );
    credential_of["service_account_impersonation_url"] =
        json!(format!("{}/as:generateAccessToken", fake.address));
    let config = GcpConfig { credentials: Some(credential(credential_of)), ..config(&fake.address) };
    assert_eq!(reads(&backend(config)).await, Ok(()));
    let [identity, exchange, impersonation, read] = fake.calls().try_into().expect("four calls");
    assert_eq!(identity.target, "/identity?resource=r");
    assert_eq!(identity.headers.get("metadata").map(String::as_str), Some("True"));
    assert_eq!(value_of(&form(&exchange), "subject_token"), "subject");
    assert_eq!((impersonation.token(), read.token()), ("federated", "own"));
}

#[tokio::test]
async fn without_another_providers_token_there_is_none() {
    let fake = Fake::start(|call| (call.path() == "/sts").then(|| token("t", 3600)).flatten()).await;
    let empty = tempfile::NamedTempFile::new().expect("file");
    for (source, kind) in [
        (json!({ "file": "/nowhere/token" }), ErrorKind::Misconfigured),
        (json!({ "file": empty.path() }), ErrorKind::Misconfigured),
        (json!({ "url": format!("{}/absent", fake.address) }), ErrorKind::Misconfigured),
        (json!({ "url": "http://bursar.invalid/" }), ErrorKind::Unavailable),
    ] {
        let config =
            GcpConfig { credentials: Some(credential(external(&fake, &source))), ..config(&fake.address) };
        assert_eq!(reads(&backend(config)).await, Err((kind, Operation::Login)), "{source}");
    }
}
