use std::os::unix::fs::PermissionsExt;

use super::*;

#[tokio::test]
async fn no_value_and_no_field_name_is_on_disk() {
    let store = Store::keeping(2);
    let (value, field) = (b"canary-value-6f1d9b".as_slice(), "canary-field-0c77e2");
    for _ in 0..5 {
        store.backend.put(&path("a"), fields(&[(field, value)]), PutTerms::default()).await.expect("put");
        store.backend.put(&path("b"), opaque(value), PutTerms::default()).await.expect("put");
    }
    store.backend.delete(&path("a"), &[]).await.expect("deleted");
    store.backend.read(&path("b"), None).await.expect("read");
    let clean = |directory: &Path| !holds(directory, value) && !holds(directory, field.as_bytes());
    assert!(
        store.directory.path().join("store.db-wal").exists(),
        "the write-ahead log must be looked at too"
    );
    assert!(clean(store.directory.path()), "while open");
    let directory = store.close();
    assert!(clean(directory.path()), "once closed");
}

#[tokio::test]
async fn a_destroyed_version_is_gone_once_the_store_is_closed() {
    let store = Store::keeping(1);
    store.put("a", "old").await;
    let query = "SELECT sealed FROM version";
    let sealed: Vec<u8> = store.raw().query_row(query, [], |row| row.get(0)).expect("sealed");
    assert!(holds(store.directory.path(), &sealed), "the search must find what is there");
    store.put("a", "new").await;
    let directory = store.close();
    assert!(!holds(directory.path(), &sealed));
}

#[tokio::test]
async fn a_closed_store_is_one_file() {
    let store = Store::new();
    store.put("a", "value").await;
    store.read("a").await.expect("read");
    let directory = store.close();
    let names: Vec<_> = entries(directory.path())
        .iter()
        .filter_map(|entry| entry.file_name().map(ToOwned::to_owned))
        .collect();
    assert_eq!(names, ["store.db"]);
}

#[tokio::test]
async fn only_the_owner_reads_what_is_made() {
    let top = tempfile::tempdir().expect("directory");
    let directory = top.path().join("state/bursar");
    let backend = open(&directory.join("store.db"), KEY).expect("open");
    backend.put(&path("a"), opaque(b"value"), PutTerms::default()).await.expect("put");
    let mode = |path: &Path| path.metadata().expect("metadata").permissions().mode() & 0o777;
    assert_eq!((mode(&top.path().join("state")), mode(&directory)), (0o700, 0o700));
    let made = entries(&directory);
    assert_eq!(made.len(), 3, "database, write-ahead log and its index: {made:?}");
    for file in made {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
}

#[test]
fn connections_sync_each_commit_and_overwrite_what_they_free() {
    let store = Store::new();
    let number = |connection: &Connection, pragma: &str| -> i64 {
        connection.query_row(&format!("PRAGMA {pragma}"), [], |row| row.get(0)).expect("pragma")
    };
    let writer = crate::file::connect(&store.file()).expect("writer");
    let reader = crate::file::connect_reader(&store.file()).expect("reader");
    let full = 2;
    assert_eq!((number(&writer, "synchronous"), number(&writer, "secure_delete")), (full, 1));
    assert_eq!((number(&writer, "query_only"), number(&reader, "query_only")), (0, 1));
    let journal: String = reader.query_row("PRAGMA journal_mode", [], |row| row.get(0)).expect("pragma");
    assert_eq!(journal, "wal");
}

#[test]
fn a_file_that_others_may_read_is_refused() {
    let store = Store::new();
    let file = store.file();
    for mode in [0o640, 0o604, 0o620] {
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).expect("mode");
        let refused = open(&file, KEY).expect_err("refused");
        assert!(matches!(refused, OpenError::TooOpen { .. }), "{mode:o}: {refused}");
    }
}

#[test]
fn a_newer_schema_is_refused_and_both_versions_named() {
    let store = Store::new();
    store.raw().pragma_update(None, "user_version", 99).expect("version");
    let refused = open(&store.file(), KEY).expect_err("refused").to_string();
    assert!(refused.contains("has schema 99, and this program knows 2;"), "{refused}");
}

#[test]
fn other_files_are_refused_and_left_as_they_are() {
    let directory = tempfile::tempdir().expect("directory");
    let (database, text) = (directory.path().join("other.db"), directory.path().join("notes.txt"));
    Connection::open(&database).and_then(|it| it.execute_batch("CREATE TABLE t (x)")).expect("database");
    std::fs::write(&text, "notes ".repeat(1000)).expect("written");
    for file in [database, text] {
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("mode");
        let before = std::fs::read(&file).expect("read");
        let refused = open(&file, KEY).expect_err("refused");
        assert!(matches!(refused, OpenError::Foreign { .. }), "{refused}");
        assert!(std::fs::read(&file).expect("read") == before, "{} changed", file.display());
    }
}

#[test]
fn a_store_whose_maker_died_before_the_first_table_is_made_anew() {
    let directory = tempfile::tempdir().expect("directory");
    let file = directory.path().join("store.db");
    crate::file::prepare(&file).expect("prepared");
    drop(open(&file, KEY).expect("made"));
    open(&file, KEY).expect("reopened");
}

#[test]
fn a_place_where_no_file_can_be_is_named() {
    let directory = tempfile::tempdir().expect("directory");
    let refused = open(directory.path(), KEY).expect_err("a directory is no store");
    assert!(refused.to_string().contains(&*directory.path().to_string_lossy()), "{refused}");
    std::fs::write(directory.path().join("file"), "").expect("written");
    let refused = open(&directory.path().join("file/store.db"), KEY).expect_err("below a file");
    assert!(matches!(refused, OpenError::File { .. }), "{refused}");
}

#[test]
fn a_name_that_looks_like_an_address_is_a_name() {
    let directory = tempfile::tempdir().expect("directory");
    let file = directory.path().join("file:store.db?mode=memory");
    drop(open(&file, KEY).expect("open"));
    assert!(file.metadata().expect("metadata").len() > 0);
}

#[test]
fn debug_shows_names_only() {
    let store = Store::new();
    let shown = format!("{:?} {:?}", store.backend, config(&store.file(), KEY));
    assert!(shown.contains("`local`") && shown.contains("store.db"), "{shown}");
    assert!(!shown.contains("key") && !shown.contains("Secret"), "{shown}");
}

/// Whether a file below `directory` holds `bytes`.
pub(super) fn holds(directory: &Path, bytes: &[u8]) -> bool {
    let holds = |file: &PathBuf| {
        let content = std::fs::read(file).expect("read");
        content.windows(bytes.len()).any(|window| window == bytes)
    };
    entries(directory).iter().any(holds)
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).expect("directory");
    entries.map(|entry| entry.expect("entry").path()).collect()
}
