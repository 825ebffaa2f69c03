//! Which secrets there are.

use bursar_core::backend::{Backend, ErrorKind};
use serde_json::json;

use super::fake::{Fake, Reply, backend, config, path, text};
use crate::GcpConfig;

fn ids(ids: &[&str], next: &str) -> Option<Reply> {
    let secret = |id: &&str| json!({ "name": format!("projects/4711/secrets/{id}") });
    let secrets: Vec<_> = ids.iter().map(secret).collect();
    text(200, json!({ "secrets": secrets, "nextPageToken": next }))
}

#[tokio::test]
async fn a_folder_is_made_of_ids_in_their_order() {
    let fake = Fake::start(|call| match call.target.contains("pageToken") {
        false => ids(&["p-team--c", "p-team--a--deep", "p-team--d--e--f"], "more"),
        true => {
            ids(&["p-team--b", "p-team--a", "p-team--d--x", "p-team----odd", "p-team--", "p-teams--z"], "")
        }
    })
    .await;
    let backend = backend(GcpConfig {
        prefix: "p-".to_owned(),
        separator: Some("--".to_owned()),
        ..config(&fake.address)
    });
    let listed = backend.list(Some(&path("team")), None, 10).await;
    assert_eq!(listed, Ok(["a", "a/", "b", "c", "d/"].map(str::to_owned).into()));
    let listed = backend.list(Some(&path("team")), Some("a/"), 2).await;
    assert_eq!(listed, Ok(["b", "c"].map(str::to_owned).into()));
    let targets: Vec<_> = fake.calls().into_iter().map(|call| call.target).collect();
    assert!(
        targets.iter().all(
            |target| target.contains("filter=name%3Ap-team&") || target.ends_with("filter=name%3Ap-team")
        ),
        "{targets:?}"
    );
}

#[tokio::test]
async fn without_a_separator_the_list_is_flat() {
    let fake = Fake::start(|_| ids(&["b--c", "a", "other"], "")).await;
    let backend = fake.backend();
    assert_eq!(backend.list(None, None, 10).await, Ok(["a", "b--c", "other"].map(str::to_owned).into()));
    assert_eq!(backend.list(Some(&path("b")), None, 10).await, Ok(Vec::new()));
    assert_eq!(fake.calls().len(), 1, "there are no folders to ask for");
    assert!(!fake.calls().iter().any(|call| call.target.contains("filter")));
}

#[tokio::test]
async fn an_empty_project_has_no_secrets() {
    let fake = Fake::start(|_| text(200, "{}")).await;
    assert_eq!(fake.backend().list(None, None, 10).await, Ok(Vec::new()));
}

#[tokio::test]
async fn a_list_without_an_end_is_refused() {
    let fake = Fake::start(|_| ids(&["a"], "more")).await;
    let error = fake.backend().list(None, None, 10).await.expect_err("no end");
    assert_eq!(error.kind, ErrorKind::Misconfigured);
    assert_eq!(fake.calls().len(), 20);
}
