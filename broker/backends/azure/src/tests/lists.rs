//! Which secrets there are, and which versions.

use std::sync::Arc;

use bursar_core::backend::{Backend, ErrorKind, Operation, VersionState};
use bursar_core::clock::TestClock;
use bursar_core::{Clock, SecretPath};

use super::fake::{Call, Fake, IsLogin, Reply, backend, backend_at, path, text};
use crate::AzureConfig;

fn page(items: &[String], next: Option<&str>) -> Option<Reply> {
    let next = next.map_or("null".to_owned(), |next| format!("\"{next}\""));
    text(200, &format!(r#"{{"value":[{}],"nextLink":{next}}}"#, items.join(",")))
}

fn secret(name: &str) -> String {
    format!(r#"{{"id":"https://v.vault.azure.net/secrets/{name}","attributes":{{"enabled":true}}}}"#)
}

/// Where the second page of the list is that `call` asks for, at its own host.
fn second(call: &Call) -> String {
    let host = call.headers.get("host").expect("a host");
    let path = call.target.split('?').next().expect("a path");
    format!("https://{host}{path}?api-version=7.4&$skiptoken=more")
}

#[tokio::test]
async fn secrets_are_listed_in_their_order_below_the_prefix() {
    let fake = Fake::start(|call| match (call.is_login(), call.target.contains("skiptoken")) {
        (true, _) => None,
        (_, false) => page(&["p-c", "p-A", "other"].map(secret), Some(&second(call))),
        (_, true) => page(&["p-b", "p-d", "p-"].map(secret), None),
    })
    .await;
    let backend = backend(AzureConfig { prefix: "p-".to_owned(), ..fake.config() });
    assert_eq!(backend.list(None, None, 10).await.expect("entries"), ["a", "b", "c", "d"]);
    assert_eq!(backend.list(None, Some("a"), 2).await.expect("entries"), ["b", "c"]);
    let asked: Vec<_> = fake.reads().into_iter().take(2).map(|call| call.target).collect();
    assert_eq!(asked, ["/secrets?api-version=7.4&maxresults=25", "/secrets?api-version=7.4&$skiptoken=more"]);
}

#[tokio::test]
async fn a_separator_makes_folders() {
    let names =
        ["p-top", "p-team--c", "p-team--a--deep", "P-Team--A", "p-team--d--e--f", "p-teams--z", "p-team--"];
    let fake = Fake::start(move |call| match call.is_login() {
        true => None,
        false => page(&names.map(secret), None),
    })
    .await;
    let separator = Some("--".to_owned());
    let backend = backend(AzureConfig { prefix: "p-".to_owned(), separator, ..fake.config() });
    let team = path("team");
    assert_eq!(backend.list(Some(&team), None, 10).await.expect("entries"), ["a", "a/", "c", "d/"]);
    assert_eq!(backend.list(Some(&team), Some("a"), 1).await.expect("entries"), ["a/"]);
    assert_eq!(backend.list(None, None, 10).await.expect("entries"), ["team/", "teams/", "top"]);
}

#[tokio::test]
async fn without_one_a_folder_is_empty() {
    let fake = Fake::start(|_| None).await;
    let listed = fake.backend().list(Some(&path("team")), None, 10).await.expect("nothing");
    assert!(listed.is_empty() && fake.calls().is_empty());
}

#[tokio::test]
async fn a_list_without_an_end_is_given_up() {
    let fake = Fake::start(|call| match call.is_login() {
        true => None,
        false => page(&[secret("a")], Some(&second(call))),
    })
    .await;
    let error = fake.backend().list(None, None, 10).await.expect_err("too many");
    assert_eq!((error.kind, fake.reads().len()), (ErrorKind::Misconfigured, 400));
}

#[tokio::test]
async fn a_list_that_goes_on_elsewhere_is_not_followed() {
    let thief = Fake::start(|_| page(&[secret("a")], None)).await;
    let elsewhere = thief.address.clone();
    for link in [
        format!("{elsewhere}/secrets?api-version=7.4&$skiptoken=more"),
        elsewhere.replace("https://", "http://") + "/secrets",
        "/secrets?$skiptoken=more".to_owned(),
        "http://169.254.169.254/secrets".to_owned(),
    ] {
        let next = link.clone();
        let fake = Fake::start(move |call| match call.is_login() {
            true => None,
            false => page(&[secret("a")], Some(&next)),
        })
        .await;
        let error = fake.backend().list(None, None, 10).await.expect_err("elsewhere");
        assert_eq!((error.kind, error.operation), (ErrorKind::Malformed, Operation::List), "{link}");
        let error = fake.backend().versions(&path("db")).await.expect_err("elsewhere");
        assert_eq!((error.kind, error.operation), (ErrorKind::Malformed, Operation::Versions), "{link}");
    }
    assert_eq!(thief.calls().len(), 0, "the token was carried elsewhere");
}

fn version(digit: char, created: i64, more: &str) -> String {
    let id = digit.to_string().repeat(32);
    format!(
        r#"{{"id":"https://v.vault.azure.net/secrets/db/{id}","attributes":{{"created":{created}{more}}}}}"#
    )
}

#[tokio::test]
async fn versions_go_from_the_newest_to_the_oldest() {
    let start = TestClock::new().now().as_second();
    let fake = Fake::start(move |call| match (call.is_login(), call.target.contains("skiptoken")) {
        (true, _) => None,
        (_, false) => {
            let expired = format!(r#","enabled":true,"exp":{start}"#);
            let items = [version('a', 1, r#","enabled":false"#), version('b', 3, &expired), secret("db")];
            page(&items, Some(&second(call)))
        }
        (_, true) => {
            let early = version('d', 2, &format!(r#","nbf":{}"#, start + 1));
            page(&[version('c', 2, r#","enabled":true"#), early], None)
        }
    })
    .await;
    let backend = backend_at(fake.config(), Arc::new(TestClock::new()));
    let listed = backend.versions(&path("db")).await.expect("versions");
    let told: Vec<_> = listed
        .iter()
        .map(|info| (info.version.as_str().chars().next(), info.created_at, info.state))
        .collect();
    let at = |second: i64| jiff::Timestamp::from_second(second).ok();
    let kept = VersionState::Kept;
    assert_eq!(
        told,
        [
            (Some('b'), at(3), kept),
            (Some('d'), at(2), VersionState::Deleted),
            (Some('c'), at(2), kept),
            (Some('a'), at(1), VersionState::Deleted)
        ]
    );
    let readable: String = listed
        .iter()
        .filter(|info| info.is_readable(TestClock::new().now()))
        .filter_map(|info| info.version.as_str().chars().next())
        .collect();
    assert_eq!(readable, "c", "one has expired, one is disabled, one is not valid yet");
    let asked: Vec<_> = fake.reads().into_iter().map(|call| call.target).collect();
    assert_eq!(asked.first().map(String::as_str), Some("/secrets/db/versions?api-version=7.4&maxresults=25"));
}

#[tokio::test]
async fn no_versions_are_no_secret() {
    let fake = Fake::start(|call| if call.is_login() { None } else { page(&[], None) }).await;
    let absent: SecretPath = path("absent");
    let error = fake.backend().versions(&absent).await.expect_err("no such secret");
    assert_eq!(error.kind, ErrorKind::NotFound);
}

#[tokio::test]
async fn the_tags_of_the_newest_version_are_the_labels_of_a_secret() {
    let tagged = |digit, created, tags: &str| {
        let version = version(digit, created, "");
        format!(r#"{},"tags":{tags}}}"#, version.strip_suffix('}').expect("an object"))
    };
    let items = [
        tagged('b', 2, r#"{"team":"pay","env":"prod"}"#),
        tagged('a', 1, r#"{"team":"old"}"#),
        tagged('c', 0, "null"),
    ];
    let fake = Fake::start(move |call| if call.is_login() { None } else { page(&items, None) }).await;
    let labels = fake.backend().labels(&path("db")).await.expect("labels");
    assert_eq!(
        labels,
        [("env", "prod"), ("team", "pay")].map(|(name, value)| (name.into(), value.into())).into()
    );
    let absent = Fake::start(|call| if call.is_login() { None } else { page(&[], None) }).await;
    let error = absent.backend().labels(&path("db")).await.expect_err("no such secret");
    assert_eq!((error.kind, error.operation), (ErrorKind::NotFound, Operation::Labels));
}
