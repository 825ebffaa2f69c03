use super::super::{Change, LedgerError, ObjectKind, Outcome};
use super::{Fixture, first, spiffe, within};

#[tokio::test]
async fn revisions_count_up_and_a_stale_write_is_refused() {
    let fixture = Fixture::new();
    assert_eq!(put(&fixture, "a", b"one", Some(0)).await.expect("first"), 1);
    assert_eq!(put(&fixture, "a", b"two", Some(1)).await.expect("second"), 2);
    let stale = put(&fixture, "a", b"three", Some(1)).await;
    assert!(matches!(stale, Err(LedgerError::RevisionConflict { expected: 1, found: 2 })), "{stale:?}");
    assert_eq!(put(&fixture, "a", b"three", None).await.expect("unconditional"), 3);
    let object =
        within(fixture.ledger.object(ObjectKind::Environment, "a")).await.expect("answer").expect("object");
    assert_eq!((object.revision, object.body.as_slice()), (3, b"three".as_slice()));
    assert_eq!(object.updated_by, spiffe("spiffe://example.org/user/ada"));
}

#[tokio::test]
async fn what_must_not_exist_and_does_is_a_conflict() {
    let fixture = Fixture::new();
    put(&fixture, "a", b"one", None).await.expect("first");
    let taken = put(&fixture, "a", b"two", Some(0)).await;
    assert!(matches!(taken, Err(LedgerError::RevisionConflict { expected: 0, found: 1 })), "{taken:?}");
}

#[tokio::test]
async fn history_keeps_what_was_replaced_and_removed() {
    let fixture = Fixture::new();
    for body in [b"one", b"two"] {
        put(&fixture, "a", body, None).await.expect("write");
    }
    remove(&fixture, ObjectKind::Environment, "a").await.expect("removal");
    assert_eq!(put(&fixture, "a", b"new", Some(0)).await.expect("write"), 3);
    let history = |page| within(fixture.ledger.object_history(ObjectKind::Environment, "a", page));
    let page = history(first(1)).await.expect("history");
    assert_eq!(page.items.iter().map(|object| object.revision).collect::<Vec<_>>(), [2]);
    let next = super::super::Page { token: page.next, ..first(1) };
    let page = history(next).await.expect("history");
    assert_eq!(page.items.iter().map(|object| object.revision).collect::<Vec<_>>(), [1]);
    assert_eq!(page.next, None);
}

#[tokio::test]
async fn what_is_not_there_cannot_be_removed() {
    let fixture = Fixture::new();
    let missing = remove(&fixture, ObjectKind::JoinToken, "t1").await;
    assert!(matches!(missing, Err(LedgerError::ObjectMissing { .. })), "{missing:?}");
}

#[tokio::test]
async fn kinds_are_apart_and_lists_go_by_name() {
    let fixture = Fixture::new();
    for name in ["b", "a", "c"] {
        put(&fixture, name, b"x", None).await.expect("write");
    }
    let by = spiffe("spiffe://example.org/user/ada");
    let token = Change::PutObject {
        kind: ObjectKind::JoinToken,
        name: "a".to_owned(),
        body: b"hash".to_vec(),
        expected: None,
        by,
        at: fixture.now(),
    };
    fixture.change(token).await.expect("token");
    let page = within(fixture.ledger.objects(ObjectKind::Environment, first(2))).await.expect("list");
    assert_eq!(page.items.iter().map(|object| object.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    let next = super::super::Page { token: page.next, ..first(2) };
    let page = within(fixture.ledger.objects(ObjectKind::Environment, next)).await.expect("list");
    assert_eq!((page.items.len(), page.next), (1, None));
    assert_eq!(within(fixture.ledger.object(ObjectKind::Key, "a")).await.expect("answer"), None);
}

#[tokio::test]
async fn debug_output_shows_no_body() {
    let fixture = Fixture::new();
    put(&fixture, "a", b"canary-body", None).await.expect("write");
    let object = within(fixture.ledger.object(ObjectKind::Environment, "a")).await.expect("answer");
    let change = Change::PutObject {
        kind: ObjectKind::Key,
        name: "k".to_owned(),
        body: b"canary-body".to_vec(),
        expected: None,
        by: spiffe("spiffe://example.org/user/ada"),
        at: fixture.now(),
    };
    let shown = format!(
        "{object:?} {change:?} {:?}",
        fixture.activation(super::new_id(fixture.now()), "canary-handle", fixture.now())
    );
    assert!(!shown.contains("canary") && !shown.contains("99, 97, 110"), "{shown}");
}

async fn put(fixture: &Fixture, name: &str, body: &[u8], expected: Option<u64>) -> Result<u64, LedgerError> {
    let change = Change::PutObject {
        kind: ObjectKind::Environment,
        name: name.to_owned(),
        body: body.to_vec(),
        expected,
        by: spiffe("spiffe://example.org/user/ada"),
        at: fixture.now(),
    };
    match fixture.change(change).await? {
        Outcome::Put { revision } => Ok(revision),
        other => panic!("{other:?}"),
    }
}

async fn remove(fixture: &Fixture, kind: ObjectKind, name: &str) -> Result<Outcome, LedgerError> {
    fixture.change(Change::RemoveObject { kind, name: name.to_owned(), expected: None }).await
}
