//! Credentials on their way into a request.

use std::collections::BTreeMap;
use std::str;

use bursar_core::Secret;
use bytes::Bytes;
use http::HeaderValue;
use serde::{Serialize, Serializer};
use zeroize::Zeroizing;

/// A token of the store, as a header that is never printed.
pub(crate) struct Token(HeaderValue);

impl Token {
    /// Takes a token; none when it is empty or cannot be a header.
    pub(crate) fn new(token: Secret) -> Option<Self> {
        bursar_backend_http::header(token).map(Self)
    }

    pub(crate) fn header(&self) -> HeaderValue {
        self.0.clone()
    }
}

/// The body of a login: whose it is, and what proves that. Each is a member of a JSON object and its name; none when
/// the proof is empty or not UTF-8.
pub(crate) fn login(who: (&'static str, &str), proof: (&'static str, &Secret)) -> Option<Bytes> {
    struct Members<'a>([(&'static str, &'a str); 2]);
    impl Serialize for Members<'_> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_map(self.0)
        }
    }
    let (name, proof) = proof;
    let proof = str::from_utf8(proof.expose()).ok().filter(|proof| !proof.is_empty())?;
    // A character takes at most six in JSON: the buffer never grows, so it leaves no copy behind.
    let mut body = Zeroizing::new(Vec::with_capacity(6 * (who.1.len() + proof.len()) + 64));
    serde_json::to_writer(&mut *body, &Members([who, (name, proof)])).ok()?;
    Some(bursar_backend_http::body(Secret::from(body)))
}

/// The body of a login by the connection's own certificate.
pub(crate) fn certificate_login(role: Option<&str>) -> Option<Bytes> {
    let members: BTreeMap<_, _> = role.map(|role| ("name", role)).into_iter().collect();
    serde_json::to_vec(&members).ok().map(Bytes::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_id_is_escaped_as_json() {
        let secret_id = Secret::from("q\"\u{1}".to_owned());
        let body = login(("role_id", "role"), ("secret_id", &secret_id)).expect("body");
        let parsed: serde_json::Value = serde_json::from_slice(&body).expect("json");
        assert_eq!(parsed, serde_json::json!({"role_id": "role", "secret_id": "q\"\u{1}"}));
    }
}
