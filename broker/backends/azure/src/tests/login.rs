//! The broker's own token.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bursar_backend_http::pem_part;
use bursar_backend_http::testing::KEY;
use bursar_core::Clock;
use bursar_core::Secret;
use bursar_core::backend::{Backend, ErrorKind, Operation};
use bursar_core::clock::TestClock;
use data_encoding::BASE64URL_NOPAD;
use rcgen::{CertificateParams, KeyPair, PKCS_RSA_SHA256};
use ring::digest::{SHA256, digest};
use ring::rsa::KeyPair as RsaKeyPair;
use ring::signature::{KeyPair as _, RSA_PSS_2048_8192_SHA256, UnparsedPublicKey};
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use super::fake::{CLIENT_SECRET, Call, Fake, IsLogin, Reply, backend, path, text, token, value};
use crate::{AzureBackend, AzureConfig, Credentials, Proof, SecretReader};

const HOUR: u64 = 3600;

async fn reads(backend: &AzureBackend) -> Result<(), (ErrorKind, Operation)> {
    backend.read(&path("db"), None).await.map(drop).map_err(|error| (error.kind, error.operation))
}

/// Tokens for an hour, `t1`, `t2`… one after the other.
fn granting() -> impl Fn() -> Option<Reply> {
    let made = AtomicUsize::new(0);
    move || token(&format!("t{}", made.fetch_add(1, Ordering::Relaxed) + 1), HOUR)
}

fn unauthorized() -> Option<Reply> {
    let challenge =
        r#"WWW-Authenticate: Bearer authorization="https://evil.example/t", resource="https://evil.example""#;
    let body = r#"{"error":{"code":"Unauthorized","message":"words"}}"#;
    Some(Reply::With(401, challenge.to_owned(), body.to_owned()))
}

fn file(content: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().expect("file");
    file.write_all(content.as_bytes()).expect("written");
    file
}

fn from_file(path: &Path) -> SecretReader {
    let path = path.to_owned();
    SecretReader::new("a file", move || std::fs::read(&path).map(Secret::new))
}

async fn pass(duration: Duration) {
    tokio::time::pause();
    tokio::time::advance(duration).await;
    tokio::time::resume();
}

#[tokio::test]
async fn an_application_shows_its_secret_once_for_all_calls() {
    let fake = Fake::start(|call| if call.is_login() { None } else { value(r#""v""#, "") }).await;
    let backend = fake.backend();
    for _ in 0..3 {
        assert_eq!(reads(&backend).await, Ok(()));
    }
    let [login] = fake.logins().try_into().expect("one login");
    assert_eq!(
        (login.method.as_str(), login.target.as_str()),
        ("POST", "/contoso.example/oauth2/v2.0/token")
    );
    let scope = "scope=https%3A%2F%2Fvault.azure.net%2F.default";
    let sent =
        format!("grant_type=client_credentials&client_id=client&{scope}&client_secret={CLIENT_SECRET}");
    assert_eq!(login.body, sent);
    assert_eq!(login.token(), "");
}

#[tokio::test]
async fn a_federated_token_is_read_anew_at_each_login() {
    let grant = granting();
    let fake = Fake::start(move |call: &Call| match (call.is_login(), call.token()) {
        (true, _) => grant(),
        (_, "t1") => unauthorized(),
        _ => value(r#""v""#, ""),
    })
    .await;
    let assertion = file("jwt.one\n");
    let proof = Proof::FederatedToken(from_file(assertion.path()));
    let backend = backend(AzureConfig { credentials: fake.application(proof), ..fake.config() });
    assert_eq!(reads(&backend).await, Ok(()), "by the second login");
    std::fs::write(assertion.path(), "jwt.two").expect("written");
    pass(Duration::from_secs(HOUR)).await;
    assert_eq!(reads(&backend).await, Ok(()));
    let shown: Vec<_> = fake
        .logins()
        .iter()
        .map(|login| login.body.rsplit_once("&client_assertion=").map(|(_, jwt)| jwt.to_owned()))
        .collect();
    assert_eq!(shown, ["jwt.one", "jwt.one", "jwt.two"].map(|jwt| Some(jwt.to_owned())));
    let kind = "client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer";
    assert!(fake.logins().iter().all(|login| login.body.contains(kind)));
}

#[tokio::test]
async fn the_service_of_the_machine_is_asked_for_the_identity_that_is_configured() {
    let end = TestClock::new().now().as_second() + 7200;
    for (client_id, query) in [(None, ""), (Some("identity".to_owned()), "&client_id=identity")] {
        // As it writes them: numbers in texts, and the end instead of how long.
        let body = format!(r#"{{"access_token":"t","expires_on":"{end}","token_type":"Bearer"}}"#);
        let fake =
            Fake::start(move |call| if call.is_login() { text(200, &body) } else { value(r#""v""#, "") })
                .await;
        let endpoint = Some(fake.address.clone());
        let credentials = Credentials::ManagedIdentity { client_id, endpoint };
        let backend = backend(AzureConfig { credentials, ..fake.config() });
        assert_eq!(reads(&backend).await, Ok(()));
        pass(Duration::from_secs(5900)).await;
        assert_eq!(reads(&backend).await, Ok(()));
        let [login] = fake.logins().try_into().expect("one login in the first five sixths of two hours");
        let at =
            "/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https%3A%2F%2Fvault.azure.net";
        assert_eq!((login.method.as_str(), login.target), ("GET", format!("{at}{query}")));
        assert_eq!(login.headers.get("metadata").map(String::as_str), Some("true"));
    }
}

#[tokio::test]
async fn a_vault_has_no_say_in_where_a_token_comes_from_and_what_for() {
    let grant = granting();
    let fake = Fake::start(move |call| if call.is_login() { grant() } else { unauthorized() }).await;
    let backend = fake.backend();
    assert_eq!(reads(&backend).await, Err((ErrorKind::Denied, Operation::Read)));
    let logins = fake.logins();
    assert_eq!((logins.len(), fake.reads().len()), (2, 2), "one new token, and then no more");
    assert!(logins.iter().all(|login| login.target.starts_with("/contoso.example/")));
    assert!(
        logins.iter().all(|login| login.body.contains("vault.azure.net") && !login.body.contains("evil"))
    );
}

#[tokio::test]
async fn a_token_that_ends_during_a_run_is_replaced_by_one_login() {
    let grant = granting();
    let fake = Fake::start(move |call: &Call| match (call.is_login(), call.token()) {
        (true, _) => grant(),
        (_, "t1") => unauthorized(),
        _ => value(r#""v""#, ""),
    })
    .await;
    let backend = fake.backend();
    let read = || reads(&backend);
    let all = tokio::join!(read(), read(), read(), read(), read());
    assert_eq!(all, (Ok(()), Ok(()), Ok(()), Ok(()), Ok(())));
    assert_eq!(fake.logins().len(), 2);
}

#[tokio::test]
async fn a_token_is_replaced_before_its_end_and_kept_when_that_fails() {
    let (grant, logins) = (granting(), AtomicUsize::new(0));
    let fake = Fake::start(move |call: &Call| match call.is_login() {
        true => match logins.fetch_add(1, Ordering::Relaxed) {
            1 => text(500, "{}"),
            _ => grant(),
        },
        false => value(r#""v""#, ""),
    })
    .await;
    let backend = fake.backend();
    assert_eq!(reads(&backend).await, Ok(()));
    pass(Duration::from_secs(51 * 60)).await;
    assert_eq!(reads(&backend).await, Ok(()));
    pass(Duration::from_secs(120)).await;
    assert_eq!(reads(&backend).await, Ok(()));
    let tokens: Vec<_> = fake.reads().iter().map(|call| call.token().to_owned()).collect();
    assert_eq!(
        tokens,
        ["t1", "t1", "t2"],
        "the login nine minutes before the end failed, and was tried again"
    );
}

#[tokio::test]
async fn a_token_that_stays_refused_costs_few_logins() {
    let fake = Fake::start(|call| if call.is_login() { None } else { unauthorized() }).await;
    let backend = fake.backend();
    for _ in 0..10 {
        assert!(matches!(reads(&backend).await, Err((ErrorKind::Denied, _))));
    }
    assert!(fake.logins().len() <= 3, "{} logins", fake.logins().len());
    assert_eq!(fake.reads().len(), 10, "one call for each read");
}

#[tokio::test]
async fn a_login_that_fails_is_told_as_one_and_not_tried_by_each_call() {
    let table = [
        (401, r#"{"error":"invalid_client","error_codes":[7000215]}"#, ErrorKind::Denied),
        (400, r#"{"error":"unauthorized_client","error_codes":[700016]}"#, ErrorKind::Denied),
        (400, r#"{"error":"invalid_request","error_codes":[90002]}"#, ErrorKind::Misconfigured),
        (400, r#"{"error":"invalid_scope","error_codes":[500011]}"#, ErrorKind::Misconfigured),
        (400, r#"{"error":"something_new"}"#, ErrorKind::Misconfigured),
        (400, "<html>", ErrorKind::Misconfigured),
        (403, "<html>", ErrorKind::Denied),
        (429, "", ErrorKind::Throttled),
        (503, r#"{"error":"temporarily_unavailable"}"#, ErrorKind::Unavailable),
        (500, "<html>", ErrorKind::Unavailable),
        (302, "", ErrorKind::Misconfigured),
        (201, "{}", ErrorKind::Malformed),
    ];
    for (status, body, kind) in table {
        let fake = Fake::start(move |_| text(status, body)).await;
        let backend = fake.backend();
        for _ in 0..3 {
            assert_eq!(reads(&backend).await, Err((kind, Operation::Login)), "{status} {body}");
        }
        // A read whose login may recover is tried again, but waits for its turn with the login.
        assert!(fake.logins().len() <= 3 && fake.reads().is_empty(), "{status} {body}");
    }
}

#[tokio::test]
async fn the_service_of_the_machine_says_what_it_lacks() {
    let table = [
        (
            400,
            r#"{"error":"invalid_request","error_description":"Identity not found"}"#,
            ErrorKind::Misconfigured,
        ),
        (404, "", ErrorKind::Unavailable),
        (410, "", ErrorKind::Unavailable),
        (429, "", ErrorKind::Throttled),
        (500, "", ErrorKind::Unavailable),
    ];
    for (status, body, kind) in table {
        let fake = Fake::start(move |_| text(status, body)).await;
        let credentials =
            Credentials::ManagedIdentity { client_id: None, endpoint: Some(fake.address.clone()) };
        let backend = backend(AzureConfig { credentials, ..fake.config() });
        assert_eq!(reads(&backend).await, Err((kind, Operation::Login)), "{status} {body}");
    }
}

#[tokio::test]
async fn what_is_no_token_is_malformed() {
    for body in [
        "",
        "<html>",
        "{}",
        r#"{"token_type":"Bearer","expires_in":3600}"#,
        r#"{"token_type":"Bearer","access_token":"t"}"#,
        r#"{"token_type":"Bearer","expires_in":3600,"access_token":""}"#,
        r#"{"token_type":"Bearer","expires_in":3600,"access_token":5}"#,
        r#"{"token_type":"Bearer","expires_in":3600,"access_token":"a\nb"}"#,
        r#"{"token_type":"Bearer","expires_in":0,"access_token":"t"}"#,
        r#"{"token_type":"Bearer","expires_in":-1,"access_token":"t"}"#,
        r#"{"token_type":"Bearer","expires_in":"soon","access_token":"t"}"#,
        r#"{"token_type":"Bearer","expires_on":"1","access_token":"t"}"#,
        r#"{"token_type":"pop","expires_in":3600,"access_token":"t"}"#,
    ] {
        let fake = Fake::start(move |_| text(200, body)).await;
        assert_eq!(reads(&fake.backend()).await, Err((ErrorKind::Malformed, Operation::Login)), "`{body}`");
    }
}

#[tokio::test]
async fn a_credential_that_cannot_be_read_is_a_fault_of_the_configuration() {
    let fake = Fake::start(|_| None).await;
    let (empty, absent) = (file(" \n"), file("").path().to_owned());
    for source in [empty.path(), absent.as_path()] {
        for proof in [Proof::ClientSecret(from_file(source)), Proof::FederatedToken(from_file(source))] {
            let backend = backend(AzureConfig { credentials: fake.application(proof), ..fake.config() });
            assert_eq!(reads(&backend).await, Err((ErrorKind::Misconfigured, Operation::Login)));
        }
    }
    assert_eq!(fake.calls().len(), 0);
}

#[tokio::test]
async fn many_callers_log_in_once() {
    let fake = Fake::start(|call| if call.is_login() { None } else { value(r#""v""#, "") }).await;
    let backend = Arc::new(fake.backend());
    let read = || reads(&backend);
    let all = tokio::join!(read(), read(), read(), read(), read());
    assert_eq!(all, (Ok(()), Ok(()), Ok(()), Ok(()), Ok(())));
    assert_eq!(fake.logins().len(), 1);
}

#[tokio::test]
async fn a_login_that_hangs_is_a_timeout() {
    let fake = Fake::start(|_| Some(Reply::Silence)).await;
    let config = AzureConfig { timeout: Duration::from_millis(300), ..fake.config() };
    assert_eq!(reads(&backend(config)).await, Err((ErrorKind::Timeout, Operation::Login)));
}

/// A certificate with its key, and the SHA-256 of the former as Entra ID names it.
fn certificate() -> (String, String) {
    let key = KeyPair::from_pkcs8_pem_and_sign_algo(KEY, &PKCS_RSA_SHA256).expect("key");
    let certificate =
        CertificateParams::new(Vec::new()).expect("name").self_signed(&key).expect("certificate");
    let thumbprint = BASE64URL_NOPAD.encode(digest(&SHA256, certificate.der()).as_ref());
    (format!("{}{KEY}", certificate.pem()), thumbprint)
}

fn assertion(login: &Call) -> &str {
    login.body.rsplit_once("&client_assertion=").map(|(_, jwt)| jwt).unwrap_or_default()
}

#[tokio::test]
async fn an_application_signs_who_it_is_with_the_key_of_its_certificate() {
    let (pem, thumbprint) = certificate();
    let fake = Fake::start(|call| if call.is_login() { None } else { value(r#""v""#, "") }).await;
    let place = file(&pem);
    let credentials = fake.application(Proof::Certificate(from_file(place.path())));
    let backend = backend(AzureConfig { credentials, ..fake.config() });
    assert_eq!(reads(&backend).await, Ok(()));
    let [login] = fake.logins().try_into().expect("one login");
    let (said, signature) = assertion(&login).rsplit_once('.').expect("three parts");
    let part = |part: &str| BASE64URL_NOPAD.decode(part.as_bytes()).expect("base64");
    let parts: Vec<Value> =
        said.split('.').map(|text| serde_json::from_slice(&part(text)).expect("JSON")).collect();
    let now = TestClock::new().now().as_second();
    let jti = parts.get(1).and_then(|claims| claims.get("jti")).and_then(Value::as_str).expect("an id");
    let aud = format!("{}/contoso.example/oauth2/v2.0/token", fake.address);
    let claims = json!({
        "aud": aud, "iss": "client", "sub": "client", "jti": jti, "nbf": now - 10, "iat": now - 10, "exp": now + 300,
    });
    assert_eq!(parts, [json!({ "alg": "PS256", "typ": "JWT", "x5t#S256": thumbprint }), claims]);
    assert_eq!(jti.len(), 32);
    let key = RsaKeyPair::from_pkcs8(&pem_part(&pem.into(), "PRIVATE KEY").expect("a key")).expect("key");
    let public = UnparsedPublicKey::new(&RSA_PSS_2048_8192_SHA256, key.public_key().as_ref());
    assert!(public.verify(said.as_bytes(), &part(signature)).is_ok());
}

#[tokio::test]
async fn a_certificate_is_read_anew_and_what_is_none_is_not_shown() {
    let (pem, _) = certificate();
    let fake = Fake::start(|call| if call.is_login() { token("t", 0) } else { value(r#""v""#, "") }).await;
    let place = file("");
    let config = || {
        let credentials = fake.application(Proof::Certificate(from_file(place.path())));
        AzureConfig { credentials, ..fake.config() }
    };
    let (certificate, key) = pem.split_once("-----END CERTIFICATE-----").expect("two parts");
    for unfit in ["no PEM", &format!("{certificate}-----END CERTIFICATE-----"), key] {
        std::fs::write(place.path(), unfit).expect("written");
        assert_eq!(reads(&backend(config())).await, Err((ErrorKind::Misconfigured, Operation::Login)));
    }
    assert_eq!(fake.calls().len(), 0);

    std::fs::write(place.path(), &pem).expect("written");
    let backend = backend(config());
    assert_eq!(reads(&backend).await, Err((ErrorKind::Malformed, Operation::Login)), "a token for no time");
    let shown = fake.logins();
    assert!(shown.iter().all(|login| !login.body.contains("PRIVATE")) && !shown.is_empty());
}

#[tokio::test]
async fn the_platform_of_an_app_is_shown_its_header() {
    let end = TestClock::new().now().as_second() + 7200;
    let body = format!(r#"{{"access_token":"t","expires_on":"{end}","resource":"r","token_type":"Bearer"}}"#);
    let fake =
        Fake::start(move |call| if call.is_login() { text(200, &body) } else { value(r#""v""#, "") }).await;
    let credentials = |header: &'static str| Credentials::AppIdentity {
        client_id: Some("identity".to_owned()),
        endpoint: format!("{}/msi/token", fake.address),
        header: SecretReader::new("a test", move || Ok(Secret::from(header.to_owned()))),
    };
    let good = backend(AzureConfig { credentials: credentials("header-canary-Ts4"), ..fake.config() });
    assert_eq!(reads(&good).await, Ok(()));
    let [login] = fake.logins().try_into().expect("one login");
    let query = "api-version=2019-08-01&resource=https%3A%2F%2Fvault.azure.net&client_id=identity";
    assert_eq!((login.method.as_str(), login.target), ("GET", format!("/msi/token?{query}")));
    assert_eq!(login.headers.get("x-identity-header").map(String::as_str), Some("header-canary-Ts4"));
    let unfit = backend(AzureConfig { credentials: credentials("a\nb"), ..fake.config() });
    assert_eq!(reads(&unfit).await, Err((ErrorKind::Misconfigured, Operation::Login)));
}
