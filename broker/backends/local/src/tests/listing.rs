use proptest::prelude::*;

use super::*;

async fn filled(paths: &[&str]) -> Store {
    let store = Store::new();
    for path in paths {
        store.put(path, "value").await;
    }
    store
}

#[tokio::test]
async fn a_folder_lists_what_is_right_below_it() {
    let store = filled(&["a", "a/b", "a/c/d", "a/c/e", "ab", "b/x"]).await;
    assert_eq!(store.list(None, None, 100).await, ["a", "a/", "ab", "b/"]);
    assert_eq!(store.list(Some("a"), None, 100).await, ["b", "c/"]);
    assert_eq!(store.list(Some("a/c"), None, 100).await, ["d", "e"]);
}

#[tokio::test]
async fn an_unknown_folder_is_empty() {
    let store = filled(&["a/b"]).await;
    assert!(store.list(Some("absent"), None, 100).await.is_empty());
    assert!(store.list(Some("a/b"), None, 100).await.is_empty());
}

#[tokio::test]
async fn many_versions_are_one_entry() {
    let store = filled(&["a", "a", "a", "b"]).await;
    assert_eq!(store.list(None, None, 100).await, ["a", "b"]);
}

#[tokio::test]
async fn a_deleted_secret_stays_listed_since_it_can_come_back() {
    let store = filled(&["a"]).await;
    store.backend.delete(&path("a"), &[]).await.expect("deleted");
    assert_eq!(store.list(None, None, 100).await, ["a"]);
}

#[tokio::test]
async fn pages_join_without_gap_or_repeat() {
    let store = filled(&["a", "a.b", "a/b", "a0", "b/c", "b/d", "c"]).await;
    let mut pages = Vec::new();
    loop {
        let page = store.list(None, pages.last().map(String::as_str), 2).await;
        if page.is_empty() {
            break;
        }
        pages.extend(page);
    }
    assert_eq!(pages, ["a", "a.b", "a/", "a0", "b/", "c"]);
}

#[tokio::test]
async fn a_page_may_start_after_a_name_that_is_not_there() {
    let store = filled(&["a/x", "b/x", "c"]).await;
    assert_eq!(store.list(None, Some("a"), 100).await, ["a/", "b/", "c"]);
    assert_eq!(store.list(None, Some("b/zzz"), 100).await, ["c"]);
    assert!(store.list(None, Some("d"), 100).await.is_empty());
    assert!(store.list(None, None, 0).await.is_empty());
}

#[tokio::test]
async fn patterns_and_odd_letters_stand_for_themselves() {
    let odd = ["%", "%/x", "*", "[a]/x", "_/x", "a'b", "a\"b", "ключ/я", "\u{10ffff}/x", "👾"];
    let store = filled(&odd).await;
    assert_eq!(store.list(Some("%"), None, 100).await, ["x"]);
    assert_eq!(store.list(Some("_"), None, 100).await, ["x"]);
    assert_eq!(store.list(Some("ключ"), None, 100).await, ["я"]);
    assert_eq!(store.list(Some("\u{10ffff}"), None, 100).await, ["x"]);
    assert_eq!(store.list(None, None, 100).await.len(), odd.len());
    for path in odd {
        assert!(is(&store.read(path).await, b"value"), "`{path}`");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_listing_is_what_the_paths_say(
        paths in prop::collection::btree_set("[ab./0é]{1,6}", 1..12),
        limit in 1_usize..4,
    ) {
        let paths: Vec<_> = paths.iter().filter_map(|text| SecretPath::from_store(text).ok()).collect();
        let entry = |path: &SecretPath| path.as_str().split_inclusive('/').next().map(str::to_owned);
        let mut expected: Vec<_> = paths.iter().filter_map(entry).collect();
        expected.sort();
        expected.dedup();
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("runtime");
        let listed = runtime.block_on(async {
            let store = Store::new();
            for path in &paths {
                store.put(path.as_str(), "value").await;
            }
            let mut listed = Vec::new();
            while let page = store.list(None, listed.last().map(String::as_str), limit).await
                && !page.is_empty()
            {
                listed.extend(page);
            }
            listed
        });
        prop_assert_eq!(listed, expected);
    }
}
