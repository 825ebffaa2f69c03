//! Credentials on their way into a request.
//!
//! The HTTP client wants header values and bodies of its own kind. Both are made here of [`Bytes`] that own a wiped
//! buffer, so that what the client keeps and clones is counted references to one piece of memory, wiped at the last.
//! Its own write buffer and the TLS records are beyond reach.

use bursar_core::Secret;
use bytes::Bytes;
use http::HeaderValue;

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

#[cfg(test)]
mod tests {
    use super::*;

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
