//! Which secrets there are.

use bursar_core::backend::{Backend, ErrorKind};
use serde_json::Value;

use super::fake::{Call, Fake, Reply, backend, config, path, text};
use crate::AwsConfig;

fn names(names: &[&str], next: Option<&str>) -> Option<Reply> {
    let names: Vec<_> = names.iter().map(|name| format!(r#"{{"ARN":"a","Name":"{name}"}}"#)).collect();
    let next = next.map(|next| format!(r#","NextToken":"{next}""#)).unwrap_or_default();
    text(200, &format!(r#"{{"SecretList":[{}]{next}}}"#, names.join(",")))
}

fn filter(call: &Call) -> Value {
    let body: Value = serde_json::from_str(&call.body).expect("JSON");
    body.pointer("/Filters/0/Values/0").cloned().unwrap_or_default()
}

#[tokio::test]
async fn a_folder_is_made_of_names_in_their_order() {
    let fake = Fake::start(|call| match call.body.contains("NextToken") {
        false => names(&["p/team/c", "p/team/a/deep", "p/team/d/e/f"], Some("more")),
        true => names(&["p/team/b", "p/team/a", "p/team/d/x", "p/team//odd", "p/team/", "p/teams/z"], None),
    })
    .await;
    let backend = backend(AwsConfig { prefix: "p/".to_owned(), ..config(&fake.address) });
    let team = path("team");
    let all = backend.list(Some(&team), None, 10).await.expect("entries");
    assert_eq!(all, ["a", "a/", "b", "c", "d/"]);
    assert_eq!(backend.list(Some(&team), Some("a"), 2).await.expect("entries"), ["a/", "b"]);
    assert!(fake.calls().iter().all(|call| filter(call) == "p/team/"));
}

#[tokio::test]
async fn the_top_has_the_folder_of_the_roles() {
    let fake = Fake::start(|_| names(&["z", "sts/hidden", "a/b"], None)).await;
    let backend = fake.backend();
    assert_eq!(backend.list(None, None, 10).await.expect("entries"), ["a/", "sts/", "z"]);
    assert_eq!(fake.calls().first().map(filter), Some(Value::Null), "without a prefix nothing is filtered");
    assert_eq!(backend.list(Some(&path("sts")), None, 10).await.expect("roles"), ["deploy"]);
    assert_eq!(backend.list(Some(&path("sts/deploy")), None, 10).await.expect("none"), Vec::<String>::new());
    assert_eq!(fake.calls().len(), 1, "roles are known without asking");
}

#[tokio::test]
async fn a_folder_that_aws_cannot_have_is_empty() {
    let fake = Fake::start(|_| None).await;
    let listed = fake.backend().list(Some(&path("a b")), None, 10).await.expect("nothing");
    assert!(listed.is_empty() && fake.calls().is_empty());
}

#[tokio::test]
async fn a_list_without_an_end_is_given_up() {
    let fake = Fake::start(|_| names(&["a"], Some("more"))).await;
    let error = fake.backend().list(None, None, 10).await.expect_err("too many");
    assert_eq!((error.kind, fake.calls().len()), (ErrorKind::Misconfigured, 100));
}
