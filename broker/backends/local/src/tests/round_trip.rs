use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

#[tokio::test]
async fn a_value_of_the_largest_size_comes_back() {
    let store = Store::new();
    let value: Vec<u8> = (0..bursar_core::secret::MAX_SIZE).map(|index| (index % 251) as u8).collect();
    store.backend.put(&path("a"), opaque(&value), PutTerms::default()).await.expect("put");
    assert!(is(&store.read("a").await, &value));
}

#[tokio::test]
async fn binary_and_empty_values_come_back() {
    let store = Store::new();
    let binary: Vec<u8> = (0..=255).collect();
    let data = fields(&[("binary", &binary), ("empty", b"")]);
    store.backend.put(&path("a"), data, PutTerms::default()).await.expect("put");
    let read = store.read("a").await;
    assert!(field_is(&read, "binary", &binary) && field_is(&read, "empty", b""));
}

#[tokio::test]
async fn an_opaque_value_and_a_set_without_fields_stay_what_they_are() {
    let store = Store::new();
    store.backend.put(&path("opaque"), opaque(b""), PutTerms::default()).await.expect("put");
    store.backend.put(&path("fields"), fields(&[]), PutTerms::default()).await.expect("put");
    let opaque = store.read("opaque").await.map(|fetched| matches!(fetched.data, SecretData::Opaque(_)));
    let fields = store.read("fields").await.map(|fetched| matches!(fetched.data, SecretData::Fields(_)));
    assert_eq!((opaque, fields), (Ok(true), Ok(true)));
}

fn segment() -> impl Strategy<Value = String> {
    "[^/\\p{Cc}]{1,12}".prop_filter("a segment", |text| text != "." && text != "..")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_fields_under_any_path_come_back(
        segments in prop::collection::vec(segment(), 1..4),
        entries in prop::collection::btree_map("[^\\p{Cc}]{1,20}", prop::collection::vec(any::<u8>(), 0..200), 0..6),
    ) {
        let at = path(&segments.join("/"));
        let expected: BTreeMap<String, Vec<u8>> = entries;
        let borrowed: Vec<_> = expected.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("runtime");
        let read = runtime.block_on(async {
            let store = Store::new();
            store.backend.put(&at, fields(&borrowed), PutTerms::default()).await.expect("put");
            store.backend.read(&at, None).await.map_err(kind)
        });
        let names: Vec<_> = read.iter().flat_map(|fetched| fetched.data.field_names()).map(FieldName::as_str).collect();
        prop_assert!(names.iter().copied().eq(expected.keys().map(String::as_str)));
        prop_assert!(expected.iter().all(|(name, value)| field_is(&read, name, value)));
    }
}
