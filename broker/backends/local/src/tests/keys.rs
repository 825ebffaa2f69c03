use super::*;

#[tokio::test]
async fn a_wrong_key_is_refused_and_changes_no_byte() {
    let store = Store::new();
    store.put("a", "value").await;
    let file = store.file();
    let _directory = store.close();
    let before = std::fs::read(&file).expect("read");
    let refused = open(&file, KEY + 1).expect_err("refused");
    assert!(matches!(refused, OpenError::WrongKey { .. }), "{refused}");
    assert!(refused.to_string().starts_with("the key does not open store `"), "{refused}");
    assert!(std::fs::read(&file).expect("read") == before, "the file must be as it was");
    open(&file, KEY).expect("the right key still opens");
}

#[test]
fn a_key_of_another_length_is_refused_before_a_file_is_made() {
    let directory = tempfile::tempdir().expect("directory");
    let file = directory.path().join("store.db");
    for length in [0, 16, 31, 33] {
        let config = LocalConfig { key: Secret::new(vec![KEY; length]), ..config(&file, KEY) };
        let refused = LocalBackend::open(config).expect_err("refused");
        assert!(matches!(refused, OpenError::KeyLength { .. }), "{refused}");
    }
    assert!(!file.exists());
}

#[tokio::test]
async fn a_changed_wrapped_key_or_store_id_is_refused() {
    for column in ["id", "wrapped_key"] {
        let store = Store::new();
        let query = format!("SELECT {column} FROM store");
        let mut value: Vec<u8> = store.raw().query_row(&query, [], |row| row.get(0)).expect("column");
        value[0] ^= 1;
        store.raw().execute(&format!("UPDATE store SET {column} = ?1"), [value]).expect("tampered");
        let refused = open(&store.file(), KEY).expect_err("refused");
        assert!(matches!(refused, OpenError::WrongKey { .. }), "{column}: {refused}");
    }
}

#[tokio::test]
async fn a_store_is_bound_to_the_new_key_while_the_one_before_is_known() {
    let store = Store::new();
    store.put("a", "value").await;
    let query = "SELECT wrapped_key FROM store";
    let old: Vec<u8> = store.raw().query_row(query, [], |row| row.get(0)).expect("wrapped key");
    let file = store.file();
    let directory = store.close();
    for _ in 0..2 {
        let again = rebound(&file, KEY, KEY + 1).expect("bound, or bound already");
        again.health().await.expect("healthy");
        assert!(is(&again.read(&path("a"), None).await.map_err(kind), b"value"));
        assert!(!files::holds(directory.path(), &old), "the old wrapping is still there");
    }
    assert!(matches!(open(&file, KEY), Err(OpenError::WrongKey { .. })));
    let new = open(&file, KEY + 1).expect("open");
    assert!(is(&new.read(&path("a"), None).await.map_err(kind), b"value"));
}

#[test]
fn a_store_of_neither_key_is_refused_and_stays_as_it_is() {
    let store = Store::new();
    let file = store.file();
    let _directory = store.close();
    let before = std::fs::read(&file).expect("read");
    let refused = rebound(&file, KEY + 1, KEY + 2).expect_err("refused");
    assert!(matches!(refused, OpenError::WrongKey { .. }), "{refused}");
    assert!(std::fs::read(&file).expect("read") == before, "the file must be as it was");
    let short = LocalConfig { previous: Some(Secret::new(vec![1; 16])), ..config(&file, KEY) };
    let refused = LocalBackend::open(short).expect_err("refused");
    assert!(matches!(refused, OpenError::KeyLength { length: 16, .. }), "{refused}");
}
