//! Credentials on their way into a request.
//!
//! The HTTP client wants header values and bodies of its own kind. Both are made here of [`Bytes`] that own a wiped
//! buffer, so that what the client keeps and clones is counted references to one piece of memory, wiped at the last.
//! Its own write buffer and the TLS records are beyond reach.

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
        let mut header = HeaderValue::from_maybe_shared(Bytes::from_owner(Owned(token))).ok()?;
        header.set_sensitive(true);
        (!header.is_empty()).then_some(Self(header))
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
    Some(Bytes::from_owner(Owned(Secret::from(body))))
}

/// The body of a login by the connection's own certificate.
pub(crate) fn certificate_login(role: Option<&str>) -> Option<Bytes> {
    let members: BTreeMap<_, _> = role.map(|role| ("name", role)).into_iter().collect();
    serde_json::to_vec(&members).ok().map(Bytes::from)
}

/// The same without the line end and blanks that files carry around a credential.
pub(crate) fn trimmed(credential: &Secret) -> Secret {
    Secret::new(credential.expose().trim_ascii().to_vec())
}

struct Owned(Secret);

impl AsRef<[u8]> for Owned {
    fn as_ref(&self) -> &[u8] {
        self.0.expose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_header_is_not_printed() {
        let token = Token::new(Secret::from("s.canary".to_owned())).expect("token");
        assert_eq!(format!("{:?}", token.header()), "Sensitive");
    }

    #[test]
    fn what_cannot_be_a_header_is_no_token() {
        for bad in ["", "a\nb", "a\0"] {
            assert!(Token::new(Secret::from(bad.to_owned())).is_none());
        }
    }

    #[test]
    fn a_secret_id_is_escaped_as_json() {
        let secret_id = Secret::from("q\"\u{1}".to_owned());
        let body = login(("role_id", "role"), ("secret_id", &secret_id)).expect("body");
        let parsed: serde_json::Value = serde_json::from_slice(&body).expect("json");
        assert_eq!(parsed, serde_json::json!({"role_id": "role", "secret_id": "q\"\u{1}"}));
    }

    #[test]
    fn the_line_end_of_a_file_is_no_part_of_its_credential() {
        assert!(trimmed(&Secret::from(" id\r\n".to_owned())).ct_eq(b"id"));
    }
}
