use serde_json::json;

use super::*;

const RSA: &str = include_str!("../testdata/rsa.json");

fn rsa() -> (Value, Vec<(String, Vec<u8>)>) {
    let data: Value = serde_json::from_str(RSA).expect("JSON");
    let signatures = data["signatures"].as_object().expect("signatures");
    let decoded =
        |text: &Value| BASE64URL_NOPAD.decode(text.as_str().expect("text").as_bytes()).expect("base64");
    let signatures = signatures.iter().map(|(name, text)| (name.clone(), decoded(text))).collect();
    (data["keys"][0].clone(), signatures)
}

fn set(keys: &[Value]) -> Option<KeySet> {
    KeySet::parse(json!({ "keys": keys }).to_string().as_bytes())
}

fn token(algorithm: &str, kid: &str, signature: &[u8]) -> Jws<'static> {
    let algorithm = Algorithm::parse(algorithm).expect("an algorithm");
    Jws {
        algorithm,
        kid: kid.to_owned(),
        claims: Map::new(),
        signed: b"signed",
        signature: signature.to_vec(),
    }
}

fn with(key: &Value, name: &str, value: Value) -> Value {
    let mut key = key.clone();
    key[name] = value;
    key
}

#[test]
fn every_rsa_signature_is_checked_as_what_it_is() {
    let (key, signatures) = rsa();
    let set = set(&[key]).expect("a set");
    assert_eq!(signatures.len(), 6);
    for (name, _) in &signatures {
        for (made_as, signature) in &signatures {
            let wanted = if name == made_as { Ok(()) } else { Err(Refused::Signature) };
            assert_eq!(set.verify(&token(name, "rsa", signature)), wanted, "{made_as} as {name}");
        }
    }
}

#[test]
fn a_key_that_says_its_algorithm_takes_no_other() {
    let (key, signatures) = rsa();
    let set = set(&[with(&key, "alg", json!("RS256"))]).expect("a set");
    for (name, signature) in &signatures {
        let wanted = if name == "RS256" { Ok(()) } else { Err(Refused::KeyOther) };
        assert_eq!(set.verify(&token(name, "rsa", signature)), wanted, "{name}");
    }
}

#[test]
fn a_token_does_not_choose_what_its_key_is() {
    let (key, signatures) = rsa();
    let set = set(&[key]).expect("a set");
    for other in ["ES256", "ES384", "EdDSA"] {
        assert_eq!(set.verify(&token(other, "rsa", &signatures[0].1)), Err(Refused::KeyOther), "{other}");
    }
}

#[test]
fn numbers_with_zeros_in_front_are_numbers() {
    let (key, signatures) = rsa();
    let n = BASE64URL_NOPAD.decode(key["n"].as_str().expect("n").as_bytes()).expect("base64");
    let padded = with(&key, "n", json!(BASE64URL_NOPAD.encode(&[&[0], n.as_slice()].concat())));
    let (name, signature) = &signatures[0];
    assert_eq!(set(&[padded]).expect("a set").verify(&token(name, "rsa", signature)), Ok(()));
}

#[test]
fn a_key_of_another_name_is_not_tried() {
    let (key, signatures) = rsa();
    let (name, signature) = &signatures[0];
    let set = set(&[key]).expect("a set");
    assert_eq!(set.verify(&token(name, "other", signature)), Err(Refused::KeyUnknown));
}

#[test]
fn keys_that_are_for_something_else_are_left_out() {
    let (key, _) = rsa();
    let left_out = [
        with(&key, "use", json!("enc")),
        with(&key, "key_ops", json!(["encrypt"])),
        with(&key, "alg", json!("HS256")),
        with(&key, "alg", json!("none")),
        with(&key, "kid", Value::Null),
        with(&key, "n", json!("not base64!")),
        json!({ "kty": "oct", "kid": "rsa", "k": "c2VjcmV0" }),
        json!({ "kty": "EC", "crv": "P-256", "kid": "rsa", "x": "AA", "y": "AA" }),
        json!({ "kty": "EC", "crv": "secp256k1", "kid": "rsa", "x": "AA", "y": "AA" }),
    ];
    for key in left_out {
        assert_eq!(set(std::slice::from_ref(&key)), None, "{key}");
    }
}

#[test]
fn what_is_no_set_is_none() {
    for bad in ["", "[]", "{}", r#"{"keys":{}}"#, r#"{"keys":[]}"#, r#"{"keys":[1]}"#] {
        assert_eq!(KeySet::parse(bad.as_bytes()), None, "`{bad}`");
    }
    let (key, _) = rsa();
    assert_eq!(set(&vec![key; MAX_KEYS + 1]), None);
}
