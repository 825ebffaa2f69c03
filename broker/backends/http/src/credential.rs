//! Credentials on their way into a request.
//!
//! The HTTP client wants header values and bodies of its own kind. Both are made here of [`Bytes`] that own a wiped
//! buffer, so that what the client keeps and clones is counted references to one piece of memory, wiped at the last.
//! Its own write buffer and the TLS records are beyond reach.

use std::fmt;

use bursar_core::Secret;
use bursar_core::secret;
use bytes::Bytes;
use http::HeaderValue;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// A token, as the value of an `Authorization` header.
#[derive(Clone)]
pub struct Bearer(HeaderValue);

impl Bearer {
    /// Takes what stands after `Bearer`; none when it is empty or cannot stand there.
    pub fn new(token: &Secret) -> Option<Self> {
        if token.is_empty() || !token.expose().iter().all(u8::is_ascii_graphic) {
            return None;
        }
        let mut value = Zeroizing::new(Vec::with_capacity(BEARER.len() + token.len()));
        value.extend_from_slice(BEARER);
        value.extend_from_slice(token.expose());
        header(Secret::from(value)).map(Self)
    }

    /// The header's value.
    pub fn header(&self) -> HeaderValue {
        self.0.clone()
    }
}

impl PartialEq for Bearer {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

impl fmt::Debug for Bearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bearer(..)")
    }
}

/// The value of a header that is never printed; none when it is empty or cannot be one.
pub fn header(value: Secret) -> Option<HeaderValue> {
    let mut header = HeaderValue::from_maybe_shared(body(value)).ok()?;
    header.set_sensitive(true);
    (!header.is_empty()).then_some(header)
}

/// The body of a request.
pub fn body(content: Secret) -> Bytes {
    Bytes::from_owner(Owned(content))
}

/// The body of a request that is a form (`application/x-www-form-urlencoded`).
pub fn form(pairs: &[(&str, &[u8])]) -> Bytes {
    Bytes::from_owner(secret::urlencoded(pairs.iter().copied()))
}

/// The same without the line end and blanks that files carry around a credential.
pub fn trimmed(credential: &Secret) -> Secret {
    Secret::new(credential.expose().trim_ascii().to_vec())
}

struct Owned(Secret);

impl AsRef<[u8]> for Owned {
    fn as_ref(&self) -> &[u8] {
        self.0.expose()
    }
}

const BEARER: &[u8] = b"Bearer ";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_a_header_that_is_not_printed() {
        let token = Bearer::new(&Secret::from("ey.canary".to_owned())).expect("a token");
        assert_eq!(token.header().as_bytes(), b"Bearer ey.canary");
        assert!(!format!("{token:?} {:?}", token.header()).contains("canary"));
        for bad in ["", "a b", "a\nb", "a\0", "\u{e9}"] {
            assert!(Bearer::new(&Secret::from(bad.to_owned())).is_none(), "`{}`", bad.escape_debug());
        }
    }

    #[test]
    fn a_header_is_not_printed() {
        let header = header(Secret::from("s.canary".to_owned())).expect("header");
        assert_eq!(format!("{header:?}"), "Sensitive");
    }

    #[test]
    fn what_cannot_be_a_header_is_none() {
        for bad in ["", "a\nb", "a\0"] {
            assert!(header(Secret::from(bad.to_owned())).is_none());
        }
    }

    #[test]
    fn the_line_end_of_a_file_is_no_part_of_its_credential() {
        assert!(trimmed(&Secret::from(" id\r\n".to_owned())).ct_eq(b"id"));
    }
}
