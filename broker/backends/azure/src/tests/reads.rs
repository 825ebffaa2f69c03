//! What is asked and what the answers become.

use std::sync::Arc;
use std::time::Duration;

use bursar_core::backend::{Backend, ErrorKind, Fetched, Operation};
use bursar_core::clock::TestClock;
use bursar_core::{Clock, FieldName, Version};

use super::fake::{Fake, IsLogin, VERSION, backend, backend_at, path, refused, text, value};
use crate::AzureConfig;

/// What a read of a secret gives whose value is `json`.
async fn read(json: &'static str) -> Fetched {
    let fake = Fake::start(move |call| if call.is_login() { None } else { value(json, "") }).await;
    fake.backend().read(&path("db"), None).await.unwrap_or_else(|error| panic!("{error}"))
}

fn holds(fetched: &Fetched, field: Option<&str>, value: &[u8]) -> bool {
    let field = field.map(|field| FieldName::parse(field).expect("field"));
    fetched.data.select(field.as_ref()).is_ok_and(|selected| selected.ct_eq(value))
}

#[tokio::test]
async fn the_members_of_an_object_are_fields() {
    let fetched = read(r#""{\"user\":\"a\\\"da\",\"port\":5432,\"more\":{\"a\":[1, 2]}}""#).await;
    assert!(holds(&fetched, Some("user"), br#"a"da"#), "a text is its content");
    assert!(holds(&fetched, Some("port"), b"5432"), "a number is its JSON text");
    assert!(holds(&fetched, Some("more"), br#"{"a":[1, 2]}"#), "so is an object");
    assert_eq!(fetched.version, Version::from_store(VERSION).ok());
}

#[tokio::test]
async fn any_other_text_is_one_value() {
    for (json, whole) in [
        (r#""plain <&> \u00e9\n""#, "plain <&> é\n"),
        (r#""""#, ""),
        (r#""[1,2]""#, "[1,2]"),
        (r#""{\"a\":1""#, r#"{"a":1"#),
        (r#""{\"\":1}""#, r#"{"":1}"#),
    ] {
        let fetched = read(json).await;
        assert!(holds(&fetched, None, whole.as_bytes()), "{json}");
        assert!(!holds(&fetched, Some("a"), b"1"), "{json}");
    }
}

#[tokio::test]
async fn a_version_is_asked_for_by_its_id() {
    let fake = Fake::start(|call| if call.is_login() { None } else { value(r#""v""#, "") }).await;
    let backend = backend(AzureConfig { prefix: "d".to_owned(), ..fake.config() });
    for version in [None, Some(VERSION)] {
        let version = version.map(|version| Version::from_store(version).expect("version"));
        let fetched = backend.read(&path("b"), version.as_ref()).await;
        assert_eq!(fetched.ok().and_then(|fetched| fetched.version), Version::from_store(VERSION).ok());
    }
    let asked: Vec<_> = fake.reads().iter().map(|call| format!("{} {}", call.method, call.target)).collect();
    let of_version = format!("GET /secrets/db/{VERSION}?api-version=7.4");
    assert_eq!(asked, ["GET /secrets/db?api-version=7.4".to_owned(), of_version]);
    assert!(fake.reads().iter().all(|call| call.token() == "t"));
}

#[tokio::test]
async fn what_no_secret_is_served_by_is_not_asked_for() {
    let fake = Fake::start(|_| None).await;
    let backend = fake.backend();
    // Another spelling of a name is one to Key Vault; to a policy it is another path.
    for absent in ["DB", "Db", "pay/db", "a b", "a_b", "a.b", "ключ", &"a".repeat(128)] {
        let error = backend.read(&path(absent), None).await.err().expect("no such secret");
        assert_eq!((error.kind, error.operation), (ErrorKind::NotFound, Operation::Read), "`{absent}`");
        let error = backend.versions(&path(absent)).await.expect_err("no such secret");
        assert_eq!((error.kind, error.operation), (ErrorKind::NotFound, Operation::Versions), "`{absent}`");
    }
    for absent in ["1", "latest", &VERSION.to_uppercase(), "versions"] {
        let version = Version::from_store(absent).expect("version");
        let error = backend.read(&path("db"), Some(&version)).await.err().expect("no such version");
        assert_eq!(error.kind, ErrorKind::NotFound, "`{absent}`");
    }
    assert_eq!(fake.calls().len(), 0);
}

#[tokio::test]
async fn an_answer_about_something_else_is_none() {
    let other = "ffffffffffffffffffffffffffffffff";
    for id in [
        format!("https://v.vault.azure.net/secrets/other/{VERSION}"),
        format!("https://v.vault.azure.net/secrets/db/{other}"),
        format!("https://v.vault.azure.net/keys/db/{VERSION}"),
        "https://v.vault.azure.net/secrets/db".to_owned(),
        "https://v.vault.azure.net/secrets/db/latest".to_owned(),
        "db".to_owned(),
    ] {
        let body = format!(r#"{{"value":"v","id":"{id}","attributes":{{"enabled":true}}}}"#);
        let fake = Fake::start(move |call| if call.is_login() { None } else { text(200, &body) }).await;
        let asked = Version::from_store(VERSION).expect("version");
        let error = fake.backend().read(&path("db"), Some(&asked)).await.err().expect("another secret");
        assert_eq!(error.kind, ErrorKind::Malformed, "`{id}`");
    }
    let capitals = format!(r#"{{"value":"v","id":"https://v.vault.azure.net/secrets/DB/{VERSION}"}}"#);
    let fake = Fake::start(move |call| if call.is_login() { None } else { text(200, &capitals) }).await;
    assert!(fake.backend().read(&path("db"), None).await.is_ok(), "as whoever made it spelt it");
}

/// What a read ends in when the attributes are `attributes`, `offset` seconds after the epoch of the test's clock.
async fn read_with(attributes: String, offset: u64) -> Result<(), ErrorKind> {
    let id = format!("https://v.vault.azure.net/secrets/db/{VERSION}");
    let body = format!(r#"{{"value":"v","id":"{id}","attributes":{attributes}}}"#);
    let fake = Fake::start(move |call| if call.is_login() { None } else { text(200, &body) }).await;
    let clock = Arc::new(TestClock::new());
    clock.advance(Duration::from_secs(offset));
    let backend = backend_at(fake.config(), clock);
    backend.read(&path("db"), None).await.map(drop).map_err(|error| error.kind)
}

#[tokio::test]
async fn what_is_disabled_or_outside_its_time_is_not_handed_out() {
    let start = TestClock::new().now().as_second();
    let (from, to) = (start + 10, start + 20);
    for (attributes, offset, expected) in [
        (r#"{"enabled":false}"#.to_owned(), 0, Err(ErrorKind::NotFound)),
        (r#"{"enabled":true}"#.to_owned(), 0, Ok(())),
        ("{}".to_owned(), 0, Ok(())),
        (format!(r#"{{"enabled":true,"nbf":{from},"exp":{to}}}"#), 9, Err(ErrorKind::NotFound)),
        (format!(r#"{{"enabled":true,"nbf":{from},"exp":{to}}}"#), 10, Ok(())),
        (format!(r#"{{"enabled":true,"nbf":{from},"exp":{to}}}"#), 19, Ok(())),
        (format!(r#"{{"enabled":true,"nbf":{from},"exp":{to}}}"#), 20, Err(ErrorKind::NotFound)),
        (format!(r#"{{"enabled":false,"nbf":{from},"exp":{to}}}"#), 15, Err(ErrorKind::NotFound)),
        (r#"{"exp":"soon"}"#.to_owned(), 0, Err(ErrorKind::Malformed)),
    ] {
        let about = format!("{attributes} after {offset} s");
        assert_eq!(read_with(attributes, offset).await, expected, "{about}");
    }
}

#[tokio::test]
async fn an_expiry_goes_along_with_the_value() {
    let end = TestClock::new().now().as_second() + 60;
    for (attributes, expected) in [
        (format!(r#"{{"exp":{end}}}"#), jiff::Timestamp::from_second(end).ok()),
        (format!(r#"{{"exp":{}}}"#, i64::MAX), None),
        ("{}".to_owned(), None),
    ] {
        let id = format!("https://v.vault.azure.net/secrets/db/{VERSION}");
        let body = format!(r#"{{"value":"v","id":"{id}","attributes":{attributes}}}"#);
        let fake = Fake::start(move |call| if call.is_login() { None } else { text(200, &body) }).await;
        let fetched = fake.backend().read(&path("db"), None).await;
        let expires_at = fetched.map(|fetched| fetched.expires_at).map_err(|error| error.kind);
        assert_eq!(expires_at, Ok(expected), "{attributes}");
    }
}

#[tokio::test]
async fn what_key_vault_says_is_disabled_is_not_there_for_anybody() {
    let fake = Fake::start(|call| match call.is_login() {
        true => None,
        false => refused(403, "Forbidden", Some("SecretDisabled")),
    })
    .await;
    let error = fake.backend().read(&path("db"), None).await.err().expect("disabled");
    assert_eq!((error.kind, error.code), (ErrorKind::NotFound, Some(403)));
}

#[tokio::test]
async fn only_reading_tells_the_newest() {
    let fake = Fake::start(|_| None).await;
    assert_eq!(fake.backend().newest(&path("db")).await, Ok(None));
    assert_eq!(fake.calls().len(), 0);
}
