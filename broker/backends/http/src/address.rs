//! Where a store is.

use reqwest::Url;

use crate::client::Plaintext;

/// Reads an address: `https://HOST[:PORT][/PATH]`.
///
/// # Errors
/// [`AddressError`]. It does not show the address, which may hold a password.
pub fn address(text: &str, plaintext: Plaintext) -> Result<Url, AddressError> {
    let url = Url::parse(text).map_err(|_| AddressError::NotAUrl)?;
    match (url.scheme(), plaintext) {
        ("https", _) | ("http", Plaintext::Allowed) => {}
        ("http", Plaintext::Refused) => return Err(AddressError::Plaintext),
        _ => return Err(AddressError::NotAUrl),
    }
    let extras = [url.password(), url.query(), url.fragment()];
    if !url.username().is_empty() || extras.iter().any(Option::is_some) {
        return Err(AddressError::Extras);
    }
    Ok(url)
}

/// An address that no store can be at, or should be called at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    #[error("the address is no URL such as `https://store.example`")]
    NotAUrl,
    #[error(
        "the address holds a user name, password, query or fragment; leave only scheme, host, port and path"
    )]
    Extras,
    #[error(
        "the address is not https; to send credentials and secrets in the clear, set `allow_plaintext = true`"
    )]
    Plaintext,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> Option<AddressError> {
        address(text, Plaintext::Refused).err()
    }

    #[test]
    fn plaintext_has_to_be_asked_for() {
        assert_eq!(fault("http://store.example"), Some(AddressError::Plaintext));
        assert!(address("http://store.example", Plaintext::Allowed).is_ok());
        assert_eq!(fault("https://store.example:8200/path"), None);
    }

    #[test]
    fn what_is_no_address_of_a_store_is_refused() {
        for text in ["", "store.example", "store:8200", "ftp://store.example", "https://", "unix:/run/s"] {
            assert_eq!(fault(text), Some(AddressError::NotAUrl), "`{text}`");
        }
    }

    #[test]
    fn an_address_has_no_credentials_and_no_extras() {
        for text in ["https://user:pw@s.example", "https://u@s.example", "https://s/?a=b", "https://s/#f"] {
            assert_eq!(fault(text), Some(AddressError::Extras), "`{text}`");
        }
    }
}
