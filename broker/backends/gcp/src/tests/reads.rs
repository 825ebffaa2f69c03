//! What is asked and what the answers become.

use std::sync::atomic::{AtomicUsize, Ordering};

use bursar_core::backend::{Backend, ErrorKind, Fetched, Operation, VersionState};
use bursar_core::{FieldName, Version};
use serde_json::json;

use super::fake::{
    Fake, SECRETS, accessed, account, backend, config, json as json_credential, path, text, value,
};
use crate::GcpConfig;
use crate::crc32c::crc32c;

async fn read(bytes: &'static [u8]) -> Fetched {
    let fake = Fake::start(move |_| value(bytes)).await;
    fake.backend().read(&path("db"), None).await.unwrap_or_else(|error| panic!("{error}"))
}

fn holds(fetched: &Fetched, field: Option<&str>, value: &[u8]) -> bool {
    let field = field.map(|field| FieldName::parse(field).expect("field"));
    fetched.data.select(field.as_ref()).is_ok_and(|selected| selected.ct_eq(value))
}

#[tokio::test]
async fn the_members_of_an_object_are_fields() {
    let fetched = read(br#"{"user":"a\"da","port":5432,"more":{"a":[1, 2]}}"#).await;
    assert!(holds(&fetched, Some("user"), br#"a"da"#), "a text is its content");
    assert!(holds(&fetched, Some("port"), b"5432"), "a number is its JSON text");
    assert!(holds(&fetched, Some("more"), br#"{"a":[1, 2]}"#), "so is an object");
    assert_eq!(fetched.version, Some(Version::number(3)), "the answer says which, whatever was asked");
}

#[tokio::test]
async fn anything_else_is_one_value() {
    for bytes in [&b"plain"[..], b"[1,2]", br#"{"a":1"#, br#"{"":1}"#, b"\xff\x00\x7e", b"a", b"ab", b"abc"] {
        let fetched = read(bytes).await;
        assert!(holds(&fetched, None, bytes), "{bytes:?}");
        assert!(!holds(&fetched, Some("a"), b"1"), "{bytes:?}");
    }
}

#[tokio::test]
async fn escapes_of_the_answer_are_no_part_of_the_value() {
    let reply = r#"{"name":"projects/1/secrets/db/versions/3","payload":{"data":"YQ\u003d\u003d"}}"#;
    let fake = Fake::start(move |_| text(200, reply)).await;
    let fetched = fake.backend().read(&path("db"), None).await;
    assert!(fetched.is_ok_and(|fetched| holds(&fetched, None, b"a")), "and a checksum need not be there");
}

#[tokio::test]
async fn a_payload_that_was_damaged_is_asked_for_again() {
    let damaged = |times: usize| {
        let left = AtomicUsize::new(times);
        Fake::start(move |_| {
            let less = |left: usize| left.checked_sub(1);
            let damaged = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok();
            text(200, accessed(b"value", if damaged { 1 } else { crc32c(b"value") }))
        })
    };
    let once = damaged(1).await;
    let fetched = once.backend().read(&path("db"), None).await;
    assert!(fetched.is_ok_and(|fetched| holds(&fetched, None, b"value")));
    assert_eq!(once.calls().len(), 2);

    let always = damaged(usize::MAX).await;
    let error = always.backend().read(&path("db"), None).await.err().expect("a refusal");
    assert_eq!((error.kind, error.operation), (ErrorKind::Unavailable, Operation::Read));
    assert_eq!(always.calls().len(), 3);
}

#[tokio::test]
async fn a_version_is_asked_for_by_its_number_or_its_alias() {
    let fake = Fake::start(|_| {
        text(
            200,
            json!({
                "name": "projects/1/secrets/prod-pay--db/versions/7", "payload": { "data": "dg==" },
            }),
        )
    })
    .await;
    let backend = backend(GcpConfig {
        prefix: "prod-".to_owned(),
        separator: Some("--".to_owned()),
        ..config(&fake.address)
    });
    for version in [None, Some("7"), Some("blue_2")] {
        let version = version.map(|version| Version::from_store(version).expect("version"));
        let fetched = backend.read(&path("pay/db"), version.as_ref()).await;
        assert_eq!(fetched.ok().and_then(|fetched| fetched.version), Some(Version::number(7)));
    }
    let targets: Vec<_> = fake.calls().into_iter().map(|call| call.target).collect();
    let target = |version: &str| format!("{SECRETS}/prod-pay--db/versions/{version}:access");
    assert_eq!(targets, [target("latest"), target("7"), target("blue_2")]);
}

#[tokio::test]
async fn a_location_has_secrets_of_its_own() {
    let fake = Fake::start(|_| value(b"v")).await;
    let backend = backend(GcpConfig { location: Some("europe-west3".to_owned()), ..config(&fake.address) });
    assert!(backend.read(&path("db"), None).await.is_ok());
    let [call] = fake.calls().try_into().expect("one call");
    assert_eq!(call.target, "/v1/projects/shop/locations/europe-west3/secrets/db/versions/latest:access");
}

#[tokio::test]
async fn without_an_endpoint_google_is_where_google_says() {
    let parent = |location: Option<&str>| {
        let location = location.map(str::to_owned);
        let credentials = Some(json_credential(account("https://oauth2.example")));
        let config = GcpConfig { endpoint: None, location, credentials, ..config("") };
        backend(config).client.parent.to_string()
    };
    assert_eq!(parent(None), "https://secretmanager.googleapis.com/v1/projects/shop");
    assert_eq!(
        parent(Some("europe-west3")),
        "https://secretmanager.europe-west3.rep.googleapis.com/v1/projects/shop/locations/europe-west3"
    );
}

#[tokio::test]
async fn what_google_cannot_have_is_not_asked_for() {
    let fake = Fake::start(|_| value(b"v")).await;
    let backend = fake.backend();
    for absent in ["a b", "ключ", "pay/db", "db:access", "a.b"] {
        for error in [
            backend.read(&path(absent), None).await.err(),
            backend.versions(&path(absent)).await.err(),
            backend.newest(&path(absent)).await.err(),
        ] {
            assert_eq!(error.map(|error| error.kind), Some(ErrorKind::NotFound), "`{absent}`");
        }
    }
    for absent in ["0", "01", "a.b", ".."] {
        let version = Version::from_store(absent).expect("version");
        let error = backend.read(&path("db"), Some(&version)).await.err().expect("no such version");
        assert_eq!((error.kind, error.operation), (ErrorKind::NotFound, Operation::Read), "`{absent}`");
    }
    assert_eq!(fake.calls().len(), 0);
}

#[tokio::test]
async fn labels_are_those_of_the_secret() {
    let fake = Fake::start(|call| {
        assert!(call.target.ends_with("/secrets/db?fields=labels"), "{}", call.target);
        text(200, json!({ "labels": { "owner": "payments" } }))
    })
    .await;
    let labels = fake.backend().labels(&path("db")).await.expect("labels");
    assert_eq!(labels, [("owner".to_owned(), "payments".to_owned())].into());
    let fake = Fake::start(|_| text(200, json!({}))).await;
    assert!(fake.backend().labels(&path("db")).await.expect("none").is_empty());
}

#[tokio::test]
async fn versions_are_read_to_the_last_page_newest_first() {
    let fake = Fake::start(|call| {
        let version = |number: u64, state: &str| {
            json!({ "name": format!("projects/1/secrets/db/versions/{number}"), "state": state,
                    "createTime": "2026-01-02T03:04:05.250Z" })
        };
        match call.target.contains("pageToken=more%2F1") {
            false => text(
                200,
                json!({
                    "versions": [version(10, "ENABLED"), version(9, "DISABLED")], "nextPageToken": "more/1",
                }),
            ),
            true => text(
                200,
                json!({
                    "versions": [version(2, "DESTROYED"), version(1, "SOMETHING_NEW")], "nextPageToken": "",
                }),
            ),
        }
    })
    .await;
    let versions = fake.backend().versions(&path("db")).await.expect("versions");
    let told: Vec<_> = versions.iter().map(|info| (info.version.to_string(), info.state)).collect();
    let (kept, deleted, destroyed) = (VersionState::Kept, VersionState::Deleted, VersionState::Destroyed);
    let due = [("10", kept), ("9", deleted), ("2", destroyed), ("1", deleted)];
    assert_eq!(told, due.map(|(version, state)| (version.to_owned(), state)));
    let created = versions.first().and_then(|info| info.created_at);
    assert_eq!(created, "2026-01-02T03:04:05.25Z".parse().ok());
}

#[tokio::test]
async fn the_newest_is_the_one_that_a_read_gets() {
    let newest = |state: &'static str| async move {
        let fake = Fake::start(move |call| {
            assert_eq!(call.target, format!("{SECRETS}/db/versions/latest"));
            text(200, json!({ "name": "projects/1/secrets/db/versions/12", "state": state }))
        });
        fake.await.backend().newest(&path("db")).await
    };
    assert_eq!(newest("ENABLED").await, Ok(Some(Version::number(12))));
    for state in ["DISABLED", "DESTROYED"] {
        let error = newest(state).await.expect_err("it cannot be read");
        assert_eq!((error.kind, error.operation), (ErrorKind::NotFound, Operation::Newest));
    }
}
