//! What is asked of the store, and what is made of its answers.

use bursar_core::backend::{Backend, ErrorKind, VersionState};
use bursar_core::{FieldName, Version};

use super::fake::{Call, Fake, backend, config, json, path};

/// The targets of all calls but the login.
fn targets(fake: &Fake) -> Vec<String> {
    let calls = fake.calls().into_iter().map(|call| call.target);
    calls.filter(|target| target != "/auth/approle/login").collect()
}

#[tokio::test]
async fn a_version_2_entry_is_read_with_its_version() {
    let body =
        r#"{"data":{"data":{"p":"a\u003cb\n","n":{"x":[1,2.50]}},"metadata":{"version":7}},"extra":1}"#;
    let fake = Fake::start(|call| (call.target == "/kv/data/a").then(|| json(200, body)).flatten()).await;
    let fetched = fake.backend().read(&path("kv/a"), None).await.expect("an entry");
    assert_eq!(fetched.version, Some(Version::number(7)));
    for (name, value) in [("p", "a<b\n"), ("n", r#"{"x":[1,2.50]}"#)] {
        let field = FieldName::parse(name).expect("field");
        let selected = fetched.data.select(Some(&field)).expect("the field");
        assert!(selected.ct_eq(value.as_bytes()), "field `{name}`");
    }
}

#[tokio::test]
async fn a_version_1_entry_has_no_version() {
    let body = r#"{"data":{"p":"v"},"lease_duration":2764800}"#;
    let fake = Fake::start(|call| (call.target == "/kv1/a/b").then(|| json(200, body)).flatten()).await;
    let fetched = fake.backend().read(&path("kv1/a/b"), None).await.expect("an entry");
    assert_eq!(fetched.version, None);
}

#[tokio::test]
async fn versions_are_asked_by_number_alone() {
    let fake = Fake::start(|_| None).await;
    let backend = fake.backend();
    for version in ["3", "0", "latest", "-1"] {
        let version = Version::from_store(version).expect("version");
        let error = backend.read(&path("kv/a"), Some(&version)).await.err().expect("absent");
        assert_eq!(error.kind, ErrorKind::NotFound, "`{version}`");
    }
    assert_eq!(targets(&fake), ["/kv/data/a?version=3"], "0 would mean the newest");
}

#[tokio::test]
async fn odd_paths_reach_the_store_escaped() {
    let fake = Fake::start(|_| None).await;
    drop(fake.backend().read(&path("kv/a b/ключ/100%/q?x#y/%2e%2e/c\\d"), None).await);
    assert_eq!(targets(&fake), ["/kv/data/a%20b/%D0%BA%D0%BB%D1%8E%D1%87/100%25/q%3Fx%23y/%252e%252e/c%5Cd"]);
}

#[tokio::test]
async fn a_path_under_no_mount_is_refused_without_a_call() {
    let fake = Fake::start(|_| None).await;
    let backend = fake.backend();
    for refused in ["sys/seal", "kv2/a", "k", "db/creds/ro"] {
        let error = backend.read(&path(refused), None).await.err().expect("refused");
        assert_eq!(error.kind, ErrorKind::Misconfigured, "`{refused}`");
    }
    let error = backend.versions(&path("kv1/a")).await.expect_err("no versions there");
    assert_eq!((error.kind, fake.calls().len()), (ErrorKind::Misconfigured, 0));
}

#[tokio::test]
async fn a_version_that_will_be_deleted_says_when() {
    let body =
        r#"{"data":{"data":{"p":"v"},"metadata":{"version":3,"deletion_time":"2027-01-01T00:00:00Z"}}}"#;
    let fake = Fake::start(|call| (call.target == "/kv/data/a").then(|| json(200, body)).flatten()).await;
    let end = fake.backend().read(&path("kv/a"), None).await.map(|fetched| fetched.expires_at);
    assert_eq!(end, Ok("2027-01-01T00:00:00Z".parse().ok()));
}

#[tokio::test]
async fn labels_are_the_custom_metadata() {
    for (written, known) in [(r#"{"owner":"payments"}"#, Some("payments")), ("null", None)] {
        let body = format!(r#"{{"data":{{"custom_metadata":{written},"versions":{{}}}}}}"#);
        let answer = move |call: &Call| (call.target == "/kv/metadata/a").then(|| json(200, &body)).flatten();
        let labels = Fake::start(answer).await.backend().labels(&path("kv/a")).await.expect("labels");
        assert_eq!(labels.get("owner").map(String::as_str), known);
    }
}

#[tokio::test]
async fn versions_come_newest_first_and_tell_which_are_deleted() {
    let body = r#"{"data":{"versions":{
        "9":{"created_time":"2025-12-01T00:00:00Z","deletion_time":"2025-12-02T00:00:00Z","destroyed":false},
        "10":{"created_time":"2025-12-03T00:00:00.5Z","deletion_time":"2027-01-01T00:00:00Z","destroyed":false},
        "11":{"created_time":"2025-12-04T00:00:00Z","deletion_time":"","destroyed":true},
        "12":{"created_time":"2025-12-05T00:00:00Z","deletion_time":"","destroyed":false}}}}"#;
    let fake = Fake::start(|call| (call.target == "/kv/metadata/a").then(|| json(200, body)).flatten()).await;
    let versions = fake.backend().versions(&path("kv/a")).await.expect("versions");
    let told: Vec<_> = versions.iter().map(|info| (info.version.as_str(), info.state)).collect();
    let (kept, deleted, destroyed) = (VersionState::Kept, VersionState::Deleted, VersionState::Destroyed);
    assert_eq!(told, [("12", kept), ("11", destroyed), ("10", kept), ("9", deleted)]);
    let ends: Vec<_> = versions.iter().map(|info| info.expires_at).collect();
    assert_eq!(ends, [None, None, "2027-01-01T00:00:00Z".parse().ok(), None]);
    assert_eq!(versions.last().and_then(|info| info.created_at), "2025-12-01T00:00:00Z".parse().ok());
}

#[tokio::test]
async fn a_listing_is_ordered_and_paged_whatever_the_store_does() {
    let body = r#"{"data":{"keys":["c","a/","a","b","d"]}}"#;
    let fake = Fake::start(|call| call.target.starts_with("/kv/").then(|| json(200, body)).flatten()).await;
    let listed = fake.backend().list(Some(&path("kv/team")), Some("a"), 2).await.expect("entries");
    assert_eq!(listed, ["a/", "b"]);
    assert_eq!(targets(&fake), ["/kv/metadata/team?list=true&limit=2&after=a"]);
}

#[tokio::test]
async fn the_top_is_the_mounts_and_an_empty_folder_is_empty() {
    let fake = Fake::start(|_| None).await;
    let backend = fake.backend();
    assert_eq!(backend.list(None, None, 10).await.expect("mounts"), ["db/", "kv/", "kv1/"]);
    assert_eq!(backend.list(None, Some("db/"), 1).await.expect("mounts"), ["kv/"]);
    assert_eq!(backend.list(Some(&path("kv")), None, 10).await.expect("nothing"), Vec::<String>::new());
    let elsewhere = backend.list(Some(&path("sys")), None, 10).await.expect_err("no mount");
    assert_eq!(elsewhere.kind, ErrorKind::Misconfigured);
}

#[tokio::test]
async fn the_namespace_goes_with_all_but_the_health_check() {
    let fake =
        Fake::start(|call| call.target.ends_with("/sys/health").then(|| json(200, "{}")).flatten()).await;
    let mut config = config(&format!("{}/prefix/", fake.address));
    config.namespace = Some("team-a/".to_owned());
    drop(backend(config).health().await);
    let namespaced = |call: Call| {
        (
            call.target,
            call.headers.get("x-vault-namespace").cloned(),
            call.headers.contains_key("x-vault-request"),
        )
    };
    let told: Vec<_> = fake.calls().into_iter().map(namespaced).collect();
    let named = Some("team-a/".to_owned());
    assert_eq!(
        told,
        [
            ("/prefix/v1/sys/health".to_owned(), None, true),
            ("/prefix/v1/auth/approle/login".to_owned(), named.clone(), true),
        ]
    );
}
