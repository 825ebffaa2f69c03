//! A token of Entra ID, on its way from one answer into many requests.

use bursar_core::Secret;
use http::HeaderValue;
use zeroize::Zeroizing;

/// A token, as a header that is never printed.
pub(crate) struct Token {
    token: Secret,
    header: HeaderValue,
}

impl Token {
    /// Takes a token; none when it is empty or cannot be a header.
    pub(crate) fn new(token: Secret) -> Option<Self> {
        if token.is_empty() || !token.expose().iter().all(u8::is_ascii_graphic) {
            return None;
        }
        let mut bearer = Zeroizing::new(Vec::with_capacity(BEARER.len() + token.len()));
        bearer.extend_from_slice(BEARER);
        bearer.extend_from_slice(token.expose());
        let header = bursar_backend_http::header(Secret::from(bearer))?;
        Some(Self { token, header })
    }

    pub(crate) fn header(&self) -> HeaderValue {
        self.header.clone()
    }
}

impl PartialEq for Token {
    fn eq(&self, other: &Self) -> bool {
        self.token.ct_eq(other.token.expose())
    }
}

const BEARER: &[u8] = b"Bearer ";

#[cfg(test)]
mod tests {
    use super::*;

    fn token(text: &str) -> Option<Token> {
        Token::new(Secret::from(text.to_owned()))
    }

    #[test]
    fn a_token_is_a_header_that_is_not_printed() {
        let header = token("ey.canary").expect("token").header();
        assert_eq!(
            (header.as_bytes(), format!("{header:?}").as_str()),
            (&b"Bearer ey.canary"[..], "Sensitive")
        );
    }

    #[test]
    fn what_cannot_be_a_header_is_no_token() {
        for bad in ["", "a\nb", "a b", "a\0", "ключ"] {
            assert!(token(bad).is_none(), "`{bad}`");
        }
    }
}
