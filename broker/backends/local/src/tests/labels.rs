use bursar_core::backend::{LabelChange, Labels};

use super::files::holds;
use super::*;

fn labels(entries: &[(&str, &str)]) -> Labels {
    entries.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn set(entries: &[(&str, &str)]) -> LabelChange {
    LabelChange { set: labels(entries), ..LabelChange::default() }
}

#[tokio::test]
async fn labels_are_sealed_and_go_with_the_secret() {
    let store = Store::new();
    store.put("a", "value").await;
    store.backend.label(&path("a"), set(&[("owner", "the payments team")])).await.expect("labelled");
    assert_eq!(
        store.backend.labels(&path("a")).await.expect("labels"),
        labels(&[("owner", "the payments team")])
    );
    assert!(!holds(store.directory.path(), b"the payments team"), "a label is in clear");
    store.backend.destroy(&path("a"), &[]).await.expect("destroyed");
    store.put("a", "another").await;
    assert!(store.backend.labels(&path("a")).await.expect("labels").is_empty());
}

#[tokio::test]
async fn labels_of_another_secret_do_not_open() {
    let store = Store::new();
    for at in ["a", "b"] {
        store.put(at, "value").await;
        store.backend.label(&path(at), set(&[("of", at)])).await.expect("labelled");
    }
    store.raw().execute("DELETE FROM label WHERE path = 'a'", []).expect("deleted");
    store.raw().execute("UPDATE label SET path = 'a'", []).expect("moved");
    let read = store.backend.labels(&path("a")).await.map_err(kind);
    assert_eq!(read, Err(ErrorKind::Malformed));
}

#[tokio::test]
async fn a_secret_has_a_bounded_number_of_labels() {
    let store = Store::new();
    store.put("a", "value").await;
    for number in 0..64 {
        store.backend.label(&path("a"), set(&[(&number.to_string(), "")])).await.expect("labelled");
    }
    let more = store.backend.label(&path("a"), set(&[("more", "")])).await.map_err(kind);
    assert_eq!(more, Err(ErrorKind::Misconfigured));
    assert_eq!(store.backend.labels(&path("a")).await.expect("labels").len(), 64);
}
