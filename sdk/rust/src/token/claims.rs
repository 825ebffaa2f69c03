//! When a token ends, as it says itself.

use bursar_core::Secret;
use data_encoding::BASE64URL_NOPAD;
use jiff::Timestamp;
use serde::Deserialize;
use zeroize::Zeroizing;

/// When a JSON Web Token ends, by its `exp` (RFC 7519, section 4.1.4); nothing when it is no such token or does not say.
///
/// Nothing is verified: this tells whoever holds a token when to get another. Whether it counts is for the broker.
pub fn token_ends_at(token: &Secret) -> Option<Timestamp> {
    ends(token.expose())
}

pub(super) fn ends(token: &[u8]) -> Option<Timestamp> {
    let mut parts = token.split(|byte| *byte == b'.');
    let (_header, claims, _signature) = (parts.next()?, parts.next()?, parts.next()?);
    let mut decoded = Zeroizing::new(vec![0; BASE64URL_NOPAD.decode_len(claims.len()).ok()?]);
    let length = BASE64URL_NOPAD.decode_mut(claims, &mut decoded).ok()?;
    let claims: Claims = serde_json::from_slice(decoded.get(..length)?).ok()?;
    // Parts of a second are allowed and of no account here; a number that is no time becomes one that is no timestamp.
    #[expect(clippy::cast_possible_truncation, reason = "a cast of a float saturates")]
    Timestamp::from_second(claims.exp as i64).ok()
}

#[derive(Deserialize)]
struct Claims {
    exp: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end_of(claims: &str) -> Option<i64> {
        let token = format!("e30.{}.c2ln", BASE64URL_NOPAD.encode(claims.as_bytes()));
        token_ends_at(&Secret::from(token)).map(Timestamp::as_second)
    }

    #[test]
    fn a_token_says_when_it_ends() {
        assert_eq!(end_of(r#"{"iss":"https://i","exp":1767225600,"groups":["a"]}"#), Some(1_767_225_600));
        assert_eq!(end_of(r#"{"exp":1767225600.75}"#), Some(1_767_225_600));
    }

    #[test]
    fn what_says_no_end_has_none() {
        for claims in ["{}", r#"{"exp":"soon"}"#, r#"{"exp":1e300}"#, r#"{"exp":-1e300}"#, "[]", "", "{"] {
            assert_eq!(end_of(claims), None, "{claims}");
        }
        for token in ["", "opaque", "a.b", "a.%%.c", "e30.e30"] {
            assert_eq!(token_ends_at(&Secret::from(token.to_owned())), None, "{token}");
        }
    }
}
