use std::time::Duration;

use super::*;

#[tokio::test]
async fn versions_count_from_one_for_each_path() {
    let store = Store::new();
    let numbers = [store.put("a", "1").await, store.put("a", "2").await, store.put("b", "1").await];
    assert_eq!(numbers, [1, 2, 1].map(Version::number));
}

#[tokio::test]
async fn the_newest_is_read_unless_a_version_is_named() {
    let store = Store::new();
    store.put("a", "old").await;
    store.put("a", "new").await;
    let newest = store.read("a").await;
    assert!(is(&newest, b"new"));
    assert_eq!(newest.ok().and_then(|fetched| fetched.version), Some(Version::number(2)));
    assert!(is(&store.read_version("a", 1).await, b"old"));
}

#[tokio::test]
async fn what_is_absent_is_not_found() {
    let store = Store::new();
    store.put("a", "value").await;
    assert_eq!(refusal(store.read("absent").await), Some(ErrorKind::NotFound));
    assert_eq!(refusal(store.read("A").await), Some(ErrorKind::NotFound));
    assert_eq!(refusal(store.read_version("a", 2).await), Some(ErrorKind::NotFound));
    for text in ["0", "01", "latest", "99999999999999999999"] {
        let version = Version::from_store(text).expect("version");
        let read = store.backend.read(&path("a"), Some(&version)).await.map_err(kind);
        assert_eq!(refusal(read), Some(ErrorKind::NotFound), "version `{text}`");
    }
    assert_eq!(store.backend.versions(&path("absent")).await.map_err(kind), Err(ErrorKind::NotFound));
}

#[tokio::test]
async fn check_and_set_writes_only_over_the_expected_version() {
    let store = Store::new();
    assert_eq!(store.put_over("a", 1).await, Err(ErrorKind::Conflict));
    assert_eq!(store.put_over("a", 0).await, Ok(Version::number(1)));
    assert_eq!(store.put_over("a", 0).await, Err(ErrorKind::Conflict));
    assert_eq!(store.put_over("a", u64::MAX).await, Err(ErrorKind::Conflict));
    assert_eq!(store.put_over("a", 1).await, Ok(Version::number(2)));
}

#[tokio::test]
async fn check_and_set_counts_a_deleted_version() {
    let store = Store::new();
    store.put("a", "value").await;
    store.backend.delete(&path("a"), &[]).await.expect("deleted");
    let put = store.backend.put(&path("a"), opaque(b"value"), PutTerms::over(0)).await.map_err(kind);
    assert_eq!(put, Err(ErrorKind::Conflict));
}

#[tokio::test]
async fn a_deleted_newest_version_does_not_uncover_the_one_before() {
    let store = Store::new();
    store.put("a", "old").await;
    store.put("a", "new").await;
    store.backend.delete(&path("a"), &[]).await.expect("deleted");
    assert_eq!(refusal(store.read("a").await), Some(ErrorKind::NotFound));
    assert!(is(&store.read_version("a", 1).await, b"old"));
}

#[tokio::test]
async fn a_deletion_can_be_taken_back() {
    let store = Store::new();
    store.put("a", "value").await;
    for versions in [vec![], vec![Version::number(1)]] {
        store.backend.delete(&path("a"), &versions).await.expect("deleted");
        assert_eq!(refusal(store.read("a").await), Some(ErrorKind::NotFound));
        store.backend.undelete(&path("a"), &versions).await.expect("undeleted");
        assert!(is(&store.read("a").await, b"value"));
    }
}

#[tokio::test]
async fn deleting_twice_is_success() {
    let store = Store::new();
    store.put("a", "value").await;
    store.backend.delete(&path("a"), &[]).await.expect("deleted");
    store.backend.delete(&path("a"), &[]).await.expect("deleted again");
}

#[tokio::test]
async fn deleting_several_versions_is_all_or_nothing() {
    let store = Store::new();
    store.put("a", "value").await;
    let some_absent = [Version::number(1), Version::number(9)];
    let deleted = store.backend.delete(&path("a"), &some_absent).await.map_err(kind);
    assert_eq!(deleted, Err(ErrorKind::NotFound));
    assert!(is(&store.read("a").await, b"value"));
}

#[tokio::test]
async fn deleting_what_is_absent_is_not_found() {
    let store = Store::new();
    let word = [Version::from_store("latest").expect("version")];
    for versions in [[].as_slice(), &[Version::number(1)], &word] {
        let deleted = store.backend.delete(&path("absent"), versions).await.map_err(kind);
        let undeleted = store.backend.undelete(&path("absent"), versions).await.map_err(kind);
        assert_eq!((deleted, undeleted), (Err(ErrorKind::NotFound), Err(ErrorKind::NotFound)));
    }
}

#[tokio::test]
async fn versions_are_listed_newest_first_with_time_and_mark() {
    let store = Store::new();
    store.put("a", "1").await;
    store.clock.advance(Duration::from_secs(90));
    store.put("a", "2").await;
    store.backend.delete(&path("a"), &[Version::number(1)]).await.expect("deleted");
    let versions = store.backend.versions(&path("a")).await.expect("versions");
    let shown: Vec<_> = versions
        .iter()
        .map(|info| (info.version.to_string(), info.created_at.map(|at| at.to_string()), info.state))
        .collect();
    let at = |text: &str| Some(text.to_owned());
    let newer = ("2".to_owned(), at("2026-01-01T00:01:30Z"), VersionState::Kept);
    let older = ("1".to_owned(), at("2026-01-01T00:00:00Z"), VersionState::Deleted);
    assert_eq!(shown, [newer, older]);
}

#[tokio::test]
async fn only_the_newest_versions_are_kept() {
    let store = Store::keeping(2);
    for value in ["1", "2", "3"] {
        store.put("a", value).await;
    }
    store.put("b", "1").await;
    assert_eq!(store.backend.versions(&path("a")).await.expect("versions").len(), 2);
    assert_eq!(refusal(store.read_version("a", 1).await), Some(ErrorKind::NotFound));
    assert!(is(&store.read_version("a", 2).await, b"2"));
    assert!(is(&store.read("b").await, b"1"));
    let undeleted = store.backend.undelete(&path("a"), &[Version::number(1)]).await.map_err(kind);
    assert_eq!(undeleted, Err(ErrorKind::NotFound), "a destroyed version cannot come back");
}

#[tokio::test]
async fn a_reopened_store_reads_back_and_counts_on() {
    let store = Store::new();
    store.put("a", "value").await;
    let file = store.file();
    let _directory = store.close();
    let again = open(&file, KEY).expect("reopened");
    assert!(is(&again.read(&path("a"), None).await.map_err(kind), b"value"));
    let next = again.put(&path("a"), opaque(b"next"), PutTerms::over(1)).await.map_err(kind);
    assert_eq!(next, Ok(Version::number(2)));
}

#[tokio::test]
async fn what_is_too_large_is_refused_with_a_code() {
    let store = Store::new();
    let too_long = opaque(&vec![0; bursar_core::secret::MAX_SIZE + 1]);
    let names: Vec<_> = (0..=bursar_core::secret::MAX_FIELDS).map(|index| index.to_string()).collect();
    let entries: Vec<_> = names.iter().map(|name| (name.as_str(), b"".as_slice())).collect();
    for data in [too_long, fields(&entries)] {
        let refused = store.backend.put(&path("a"), data, PutTerms::default()).await.expect_err("refused");
        assert_eq!((refused.kind, refused.code), (ErrorKind::Misconfigured, Some(18)));
    }
    assert_eq!(refusal(store.read("a").await), Some(ErrorKind::NotFound));
}
