//! Versions that end: by expiry, and by being destroyed.

use std::time::Duration;

use jiff::Timestamp;

use super::files::holds;
use super::*;

async fn put_until(store: &Store, at: &str, value: &[u8], expires_at: Timestamp) {
    let terms = PutTerms { expected: None, expires_at: Some(expires_at) };
    store.backend.put(&path(at), opaque(value), terms).await.expect("put");
}

fn end() -> Timestamp {
    "2026-01-01T00:01:00Z".parse().expect("time")
}

#[tokio::test]
async fn a_version_is_read_until_it_expires() {
    let store = Store::new();
    store.put("a", "before").await;
    put_until(&store, "a", b"value", end()).await;
    store.clock.advance(Duration::from_secs(59));
    let read = store.read("a").await;
    assert!(is(&read, b"value"));
    assert_eq!(read.ok().and_then(|fetched| fetched.expires_at), Some(end()));
    store.clock.advance(Duration::from_secs(1));
    assert_eq!(refusal(store.read("a").await), Some(ErrorKind::NotFound));
    assert!(is(&store.read_version("a", 1).await, b"before"), "one that does not expire stays");
    let newest = store.backend.newest(&path("a")).await.map_err(kind);
    assert_eq!(newest, Err(ErrorKind::NotFound));
    let versions = store.backend.versions(&path("a")).await.expect("versions");
    assert_eq!(versions[0].expires_at, Some(end()));
}

#[tokio::test]
async fn an_expiry_that_was_moved_or_taken_away_does_not_open() {
    let store = Store::new();
    put_until(&store, "a", b"value", end()).await;
    for other in ["expires_at + 1", "NULL"] {
        let change = format!("UPDATE version SET expires_at = {other}");
        assert_eq!(store.raw().execute(&change, []).expect("changed"), 1);
        assert_eq!(refusal(store.read("a").await), Some(ErrorKind::Malformed), "{other}");
    }
    store.put("b", "value").await;
    let given = "UPDATE version SET expires_at = 4102444800000000 WHERE path = 'b'";
    assert_eq!(store.raw().execute(given, []).expect("changed"), 1);
    assert_eq!(refusal(store.read("b").await), Some(ErrorKind::Malformed));
}

#[tokio::test]
async fn what_is_destroyed_is_in_no_file_any_more() {
    let store = Store::new();
    store.put("a", &"first".repeat(100)).await;
    store.put("a", "second").await;
    let sealed: Vec<u8> = store
        .raw()
        .query_row("SELECT sealed FROM version WHERE number = 1", [], |row| row.get(0))
        .expect("sealed");
    store.backend.destroy(&path("a"), &[Version::number(1)]).await.expect("destroyed");
    assert_eq!(refusal(store.read_version("a", 1).await), Some(ErrorKind::NotFound));
    let undeleted = store.backend.undelete(&path("a"), &[Version::number(1)]).await.map_err(kind);
    assert_eq!(undeleted, Err(ErrorKind::NotFound));
    assert!(is(&store.read("a").await, b"second"));
    let states: Vec<_> = store.backend.versions(&path("a")).await.expect("versions");
    let states: Vec<_> = states.into_iter().map(|info| info.state).collect();
    assert_eq!(states, [VersionState::Kept, VersionState::Destroyed]);
    let directory = store.close();
    assert!(!holds(directory.path(), &sealed), "the ciphertext is still on the disk");
}

#[tokio::test]
async fn a_destroyed_secret_is_not_listed_and_goes_on_with_its_numbers() {
    let store = Store::new();
    store.put("a/gone", "1").await;
    store.put("a/gone", "2").await;
    store.put("b", "1").await;
    store.backend.destroy(&path("a/gone"), &[]).await.expect("destroyed");
    assert_eq!(store.list(None, None, 10).await, ["b"]);
    assert_eq!(refusal(store.read("a/gone").await), Some(ErrorKind::NotFound));
    assert_eq!(store.put_over("a/gone", 1).await, Err(ErrorKind::Conflict));
    assert_eq!(store.put_over("a/gone", 0).await, Ok(Version::number(3)));
    assert_eq!(store.list(None, None, 10).await, ["a/", "b"]);
    let absent = store.backend.destroy(&path("absent"), &[]).await.map_err(kind);
    assert_eq!(absent, Err(ErrorKind::NotFound));
}

#[tokio::test]
async fn all_of_the_versions_are_destroyed_or_none() {
    let store = Store::new();
    store.put("a", "value").await;
    let versions = [Version::number(1), Version::number(2)];
    let refused = store.backend.destroy(&path("a"), &versions).await.map_err(kind);
    assert_eq!(refused, Err(ErrorKind::NotFound));
    assert!(is(&store.read("a").await, b"value"));
}

#[tokio::test]
async fn a_store_of_the_first_schema_is_brought_up_to_date() {
    let store = Store::new();
    store.put("a", "old").await;
    store.put("a", "new").await;
    store.put("b", "deleted").await;
    store.backend.delete(&path("b"), &[]).await.expect("deleted");
    let file = store.file();
    let directory = store.close();
    let raw = Connection::open(&file).expect("raw connection");
    raw.execute_batch(
        "CREATE TABLE first (
             path TEXT NOT NULL COLLATE BINARY, number INTEGER NOT NULL CHECK (number > 0),
             created_at INTEGER NOT NULL, deleted INTEGER NOT NULL DEFAULT 0 CHECK (deleted IN (0, 1)),
             salt BLOB NOT NULL, sealed BLOB NOT NULL, PRIMARY KEY (path, number)) STRICT;
         INSERT INTO first SELECT path, number, created_at, state, salt, sealed FROM version;
         DROP TABLE version; DROP TABLE label;
         ALTER TABLE first RENAME TO version;
         PRAGMA user_version = 1;",
    )
    .expect("made old");
    drop(raw);
    let refused = open(&file, KEY + 1).expect_err("another key");
    assert!(matches!(refused, OpenError::WrongKey { .. }), "{refused}");
    let backend = open(&file, KEY).expect("opened");
    let read = |at: &'static str, version: Option<u64>| {
        let backend = &backend;
        async move { backend.read(&path(at), version.map(Version::number).as_ref()).await.map_err(kind) }
    };
    assert!(is(&read("a", None).await, b"new"));
    assert!(is(&read("a", Some(1)).await, b"old"));
    assert_eq!(refusal(read("b", None).await), Some(ErrorKind::NotFound));
    backend.undelete(&path("b"), &[]).await.expect("undeleted");
    assert!(is(&read("b", None).await, b"deleted"));
    drop(directory);
}
