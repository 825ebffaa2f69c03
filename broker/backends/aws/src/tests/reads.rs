//! What is asked and what the answers become.

use bursar_core::backend::{Backend, ErrorKind, Fetched, Operation};
use bursar_core::{FieldName, Version};
use serde_json::{Value, json};

use super::fake::{Fake, OfAws, VERSION, backend, config, path, text, value};
use crate::AwsConfig;

/// What a read of a secret gives whose value is `member`.
async fn read(member: &'static str) -> Fetched {
    let fake = Fake::start(move |_| value(member)).await;
    fake.backend().read(&path("db"), None).await.unwrap_or_else(|error| panic!("{error}"))
}

fn holds(fetched: &Fetched, field: Option<&str>, value: &[u8]) -> bool {
    let field = field.map(|field| FieldName::parse(field).expect("field"));
    fetched.data.select(field.as_ref()).is_ok_and(|selected| selected.ct_eq(value))
}

#[tokio::test]
async fn the_members_of_an_object_are_fields() {
    let fetched =
        read(r#""SecretString":"{\"user\":\"a\\\"da\",\"port\":5432,\"more\":{\"a\":[1, 2]}}""#).await;
    assert!(holds(&fetched, Some("user"), br#"a"da"#), "a text is its content");
    assert!(holds(&fetched, Some("port"), b"5432"), "a number is its JSON text");
    assert!(holds(&fetched, Some("more"), br#"{"a":[1, 2]}"#), "so is an object");
    assert_eq!(fetched.version, Version::from_store(VERSION).ok());
}

#[tokio::test]
async fn any_other_text_is_one_value() {
    for (member, whole) in [
        (r#""SecretString":"plain <&> \u00e9""#, "plain <&> é"),
        (r#""SecretString":"""#, ""),
        (r#""SecretString":"[1,2]""#, "[1,2]"),
        (r#""SecretString":"{\"a\":1""#, r#"{"a":1"#),
        (r#""SecretString":"{\"\":1}""#, r#"{"":1}"#),
    ] {
        let fetched = read(member).await;
        assert!(holds(&fetched, None, whole.as_bytes()), "{member}");
        assert!(!holds(&fetched, Some("a"), b"1"), "{member}");
    }
}

#[tokio::test]
async fn bytes_are_one_value() {
    assert!(holds(&read(r#""SecretBinary":"/wB+""#).await, None, b"\xff\x00\x7e"));
}

#[tokio::test]
async fn a_version_is_asked_for_by_its_id_or_its_stage() {
    let fake = Fake::start(|_| value(r#""SecretString":"v""#)).await;
    let config = AwsConfig { prefix: "prod/".to_owned(), ..config(&fake.address) };
    let backend = backend(config);
    for version in [None, Some(VERSION), Some("AWSPREVIOUS")] {
        let version = version.map(|version| Version::from_store(version).expect("version"));
        let fetched = backend.read(&path("pay/db"), version.as_ref()).await;
        assert_eq!(fetched.ok().and_then(|fetched| fetched.version), Version::from_store(VERSION).ok());
    }
    let bodies: Vec<Value> =
        fake.calls().iter().map(|call| serde_json::from_str(&call.body).expect("JSON")).collect();
    let name = "prod/pay/db";
    assert_eq!(
        bodies,
        [
            json!({ "SecretId": name }),
            json!({ "SecretId": name, "VersionId": VERSION }),
            json!({ "SecretId": name, "VersionStage": "AWSPREVIOUS" }),
        ]
    );
}

#[tokio::test]
async fn what_aws_cannot_have_is_not_asked_for() {
    let fake = Fake::start(|_| None).await;
    let backend = fake.backend();
    for absent in ["a b", "ключ", "arn:aws:secretsmanager:eu-central-1:1:secret:a"] {
        let error = backend.read(&path(absent), None).await.err().expect("no such secret");
        assert_eq!((error.kind, error.operation), (ErrorKind::NotFound, Operation::Read), "`{absent}`");
    }
    for of_roles in ["sts/deploy", "sts/other", "sts"] {
        let error = backend.read(&path(of_roles), None).await.err().expect("no static secret");
        assert_eq!(error.kind, ErrorKind::Misconfigured, "`{of_roles}`");
        assert!(backend.versions(&path(of_roles)).await.is_err(), "`{of_roles}`");
    }
    assert_eq!(fake.calls().len(), 0);
}

#[tokio::test]
async fn without_roles_their_folder_is_as_any_other() {
    let fake = Fake::start(|_| value(r#""SecretString":"v""#)).await;
    let backend = backend(AwsConfig { roles: [].into(), ..config(&fake.address) });
    assert!(backend.read(&path("sts/deploy"), None).await.is_ok());
    assert!(backend.leasing().is_none() && !backend.capabilities().leasing);
}

#[tokio::test]
async fn versions_are_read_to_the_last_page() {
    let fake = Fake::start(|call| {
        let page = |id: char, date: u32, next: &str| {
            let id = id.to_string().repeat(32);
            let version = format!(r#"{{"VersionId":"{id}","CreatedDate":{date}.25,"VersionStages":[]}}"#);
            text(200, &format!(r#"{{"Versions":[{version}]{next}}}"#))
        };
        match call.body.contains("NextToken") {
            false => page('a', 1, r#","NextToken":"more""#),
            true => page('b', 2, r#","NextToken":"""#),
        }
    })
    .await;
    let versions = fake.backend().versions(&path("db")).await.expect("versions");
    let names: Vec<_> = versions.iter().map(|info| info.version.as_str().to_owned()).collect();
    assert_eq!(names, ["b".repeat(32), "a".repeat(32)]);
    let created = versions.first().and_then(|info| info.created_at);
    assert_eq!(created, "1970-01-01T00:00:02.25Z".parse().ok());
    assert!(fake.calls().iter().all(|call| call.body.contains(r#""IncludeDeprecated":true"#)));
}

#[tokio::test]
async fn the_newest_is_the_one_that_a_read_gets() {
    let newest = |members: &'static str| async move {
        let fake = Fake::start(move |call| {
            assert_eq!(call.action(), "DescribeSecret");
            text(200, &format!(r#"{{"Name":"db"{members}}}"#))
        });
        fake.await.backend().newest(&path("db")).await
    };
    let staged = r#","VersionIdsToStages":{"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa":["AWSPENDING"],
        "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb":["blue","AWSCURRENT"]}"#;
    assert_eq!(newest(staged).await, Ok(Version::from_store(&"b".repeat(32)).ok()));
    assert_eq!(newest("").await, Ok(None));
    let deleted = newest(r#","DeletedDate":1.5"#).await.expect_err("marked for deletion");
    assert_eq!((deleted.kind, deleted.operation), (ErrorKind::NotFound, Operation::Newest));
}
