use std::collections::BTreeMap;

use super::*;

fn put(data: Option<Data>) -> LocalStorePutRequest {
    LocalStorePutRequest { data, ..Default::default() }
}

fn put_fields(fields: BTreeMap<String, Vec<u8>>) -> LocalStorePutRequest {
    put(Some(Data::Fields(SecretFields { fields })))
}

fn one_field(name: &str, value: &[u8]) -> BTreeMap<String, Vec<u8>> {
    BTreeMap::from([(name.to_owned(), value.to_vec())])
}

#[test]
fn a_value_leaves_its_message_once() {
    let value = wire_bytes(&Secret::new(b"v".to_vec()));
    let mut response = SecretsReadResponse { value, version: String::new(), lease: None, age: None };
    assert!(response.take_value().ct_eq(b"v"));
    assert!(response.take_value().is_empty());
}

#[test]
fn a_token_leaves_both_of_its_messages() {
    let token = || b"t".to_vec();
    let mut created =
        NodesCreateJoinTokenResponse { token: token(), expires_at: None, spiffe_id: String::new() };
    assert!(created.take_token().ct_eq(b"t"));
    let mut join = NodesJoinRequest { credential: Some(Credential::Token(token())), csr: Vec::new() };
    assert!(matches!(join.take_credential(), Ok(JoinCredential::Token(token)) if token.ct_eq(b"t")));
    assert!(matches!(join.take_credential(), Err(WireError::Missing { .. })));
}

#[test]
fn a_token_that_is_longer_than_any_lets_nobody_in() {
    let long = Credential::ServiceAccountToken(vec![b'x'; limits::BEARER_TOKEN + 1]);
    let mut join = NodesJoinRequest { credential: Some(long), csr: Vec::new() };
    assert!(matches!(join.take_credential(), Err(WireError::TooLarge { .. })));
}

#[test]
fn what_a_resolved_entry_holds_leaves_it() {
    let mut variable = ResolvedVariable::default();
    variable.value = b"v".to_vec();
    let mut file = ResolvedFile::default();
    file.contents = b"c".to_vec();
    assert!(variable.take_value().ct_eq(b"v") && file.take_contents().ct_eq(b"c"));
}

#[test]
fn one_value_reads_back() {
    let data = SecretData::Opaque(Arc::new(Secret::new(b"v".to_vec())));
    let read = put(Some(Data::from(&data))).take_data();
    assert!(matches!(read, Ok(SecretData::Opaque(value)) if value.ct_eq(b"v")));
}

#[test]
fn fields_read_back() {
    let name = FieldName::parse("pass word").expect("name");
    let data = SecretData::Fields(BTreeMap::from([(name.clone(), Arc::new(Secret::new(b"v".to_vec())))]));
    let read = put(Some(Data::from(&data))).take_data().expect("data");
    assert!(read.select(Some(&name)).is_ok_and(|value| value.ct_eq(b"v")));
}

#[test]
fn nothing_to_put_is_refused() {
    assert_eq!(put(None).take_data().err(), Some(WireError::Missing { field: "data" }));
    assert_eq!(put_fields(BTreeMap::new()).take_data().err(), Some(WireError::Missing { field: "fields" }));
}

#[test]
fn a_field_without_a_name_is_refused_and_taken_off_the_message() {
    let mut request = put_fields(one_field("", b"v"));
    assert!(matches!(request.take_data().err(), Some(WireError::Reference { field: "fields", .. })));
    assert!(request.data.is_none());
}

#[test]
fn the_largest_value_passes_and_one_byte_more_does_not() {
    let value = |len| put(Some(Data::Value(vec![0; len]))).take_data().err();
    assert_eq!(value(limits::VALUE), None);
    assert_eq!(value(limits::VALUE + 1), Some(WireError::TooLarge { field: "value" }));
}

#[test]
fn fields_are_measured_together() {
    let mut fields = one_field("a", &vec![0; limits::VALUE]);
    assert_eq!(put_fields(fields.clone()).take_data().err(), None);
    fields.insert("b".to_owned(), vec![0]);
    assert_eq!(put_fields(fields).take_data().err(), Some(WireError::TooLarge { field: "fields" }));
}

#[test]
fn too_many_fields_are_refused() {
    let fields = (0..=limits::FIELDS).map(|number| (number.to_string(), Vec::new())).collect();
    assert_eq!(put_fields(fields).take_data().err(), Some(WireError::TooLarge { field: "fields" }));
}
