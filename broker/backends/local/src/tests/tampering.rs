use super::*;

/// Every byte that the store keeps beside a value, one flipped at a time.
#[tokio::test]
async fn a_flipped_byte_is_an_error_and_never_another_value() {
    let store = Store::new();
    store.put("a", "value").await;
    for (column, length) in [("salt", 32), ("sealed", 1 + 5 + 16)] {
        let original: Vec<u8> = column_of(&store, column, "a");
        assert_eq!(original.len(), length);
        for at in 0..length {
            let mut flipped = original.clone();
            flipped[at] ^= 1;
            replace(&store, column, &flipped);
            assert_eq!(refusal(store.read("a").await), Some(ErrorKind::Malformed), "{column} byte {at}");
        }
        replace(&store, column, &original);
    }
    assert!(is(&store.read("a").await, b"value"));
}

#[tokio::test]
async fn a_row_of_another_length_is_an_error() {
    let store = Store::new();
    store.put("a", "value").await;
    let sealed = column_of(&store, "sealed", "a");
    let longer = [sealed.as_slice(), b"x"].concat();
    for (column, value) in
        [("sealed", &sealed[..15]), ("sealed", b""), ("sealed", &longer), ("salt", b""), ("salt", &[0; 33])]
    {
        replace(&store, column, value);
        assert_eq!(refusal(store.read("a").await), Some(ErrorKind::Malformed), "{column}");
    }
}

#[tokio::test]
async fn rows_that_swap_their_paths_do_not_open() {
    let store = Store::new();
    store.put("a", "of a").await;
    store.put("b", "of b").await;
    swap(&store, "UPDATE version SET path = CASE path WHEN 'a' THEN '-b' ELSE '-a' END");
    store.raw().execute("UPDATE version SET path = substr(path, 2)", []).expect("renamed");
    assert_eq!(refusal(store.read("a").await), Some(ErrorKind::Malformed));
    assert_eq!(refusal(store.read("b").await), Some(ErrorKind::Malformed));
}

#[tokio::test]
async fn an_older_version_cannot_pass_for_a_newer_one() {
    let store = Store::new();
    store.put("a", "leaked").await;
    store.put("a", "rotated").await;
    swap(&store, "DELETE FROM version WHERE number = 2");
    swap(&store, "UPDATE version SET number = 2");
    assert_eq!(refusal(store.read("a").await), Some(ErrorKind::Malformed));
}

#[tokio::test]
async fn a_row_of_another_store_does_not_open() {
    let (store, other) = (Store::new(), Store::new());
    store.put("a", "here").await;
    other.put("a", "there").await;
    replace(&store, "salt", &column_of(&other, "salt", "a"));
    replace(&store, "sealed", &column_of(&other, "sealed", "a"));
    assert_eq!(refusal(store.read("a").await), Some(ErrorKind::Malformed));
}

#[tokio::test]
async fn a_time_that_cannot_be_is_an_error() {
    let store = Store::new();
    store.put("a", "value").await;
    swap(&store, "UPDATE version SET created_at = 9223372036854775807");
    assert_eq!(store.backend.versions(&path("a")).await.map_err(kind), Err(ErrorKind::Malformed));
}

#[tokio::test]
async fn a_missing_table_is_an_error() {
    let store = Store::new();
    store.put("a", "value").await;
    swap(&store, "DROP TABLE version");
    assert!(store.read("a").await.is_err());
}

#[tokio::test]
async fn health_notices_that_the_file_is_of_another_key() {
    let (store, other) = (Store::new(), Store::new());
    store.backend.health().await.expect("healthy");
    let (salt, proof): (Vec<u8>, Vec<u8>) = other
        .raw()
        .query_row("SELECT proof_salt, proof FROM store", [], |row| Ok((row.get(0)?, row.get(1)?)))
        .expect("proof");
    store.raw().execute("UPDATE store SET proof_salt = ?1, proof = ?2", [salt, proof]).expect("replaced");
    assert_eq!(store.backend.health().await.map_err(kind), Err(ErrorKind::Sealed));
}

#[tokio::test]
async fn an_error_names_no_path_and_no_value() {
    let store = Store::new();
    store.put("path-canary", "value-canary").await;
    replace(&store, "salt", &[0; 32]);
    let error = store.backend.read(&path("path-canary"), None).await.err().expect("refused");
    let shown = format!("{error} {error:?}");
    assert_eq!(error.to_string(), "backend `local` gave an answer that cannot be read on read");
    assert!(!shown.contains("canary"), "{shown}");
}

fn column_of(store: &Store, column: &str, at: &str) -> Vec<u8> {
    let query = format!("SELECT {column} FROM version WHERE path = ?1");
    store.raw().query_row(&query, [at], |row| row.get(0)).expect("column")
}

fn replace(store: &Store, column: &str, value: &[u8]) {
    let changed = store.raw().execute(&format!("UPDATE version SET {column} = ?1"), [value]);
    assert_eq!(changed, Ok(1));
}

fn swap(store: &Store, statement: &str) {
    store.raw().execute(statement, []).expect("tampered");
}
