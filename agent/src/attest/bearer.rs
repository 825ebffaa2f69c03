//! A token that speaks for a local caller, as its pod was given it.
//!
//! The agent believes nothing that it says: the broker verifies it, at each call that goes there, and what the cache keeps
//! of the answers is found by the token's digest. So a token that the broker never believed finds nothing here.

use std::fmt;

use bursar_core::Secret;
use bursar_proto::limits;

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use sha2::{Digest, Sha256};
use tonic::codegen::Bytes;
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};
use zeroize::Zeroizing;

/// A token, wiped when nobody needs it any more.
pub struct Bearer {
    token: Secret,
    digest: [u8; 32],
}

impl Bearer {
    /// Takes the token out of a call, so that nothing behind this meets it.
    ///
    /// # Errors
    /// [`NoBearer`].
    pub fn take(headers: &mut HeaderMap) -> Result<Option<Self>, NoBearer> {
        let several = headers.get_all(AUTHORIZATION).iter().nth(1).is_some();
        match headers.remove(AUTHORIZATION) {
            None => Ok(None),
            Some(_) if several => Err(NoBearer),
            Some(header) => Self::read(&header).map(Some),
        }
    }

    fn read(header: &HeaderValue) -> Result<Self, NoBearer> {
        let (scheme, token) = header.as_bytes().split_at_checked(SCHEME.len()).ok_or(NoBearer)?;
        if !scheme.eq_ignore_ascii_case(SCHEME) {
            return Err(NoBearer);
        }
        Self::of(Secret::new(token.to_vec()))
    }

    /// A token that came in some other way than in a header.
    ///
    /// # Errors
    /// [`NoBearer`].
    pub fn of(token: Secret) -> Result<Self, NoBearer> {
        let bytes = token.expose();
        let is_token =
            (1..=limits::BEARER_TOKEN).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic);
        let digest = Sha256::digest(bytes).into();
        is_token.then_some(Self { token, digest }).ok_or(NoBearer)
    }

    /// SHA-256 of the token.
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// Shows it to the broker.
    ///
    /// # Errors
    /// [`NoBearer`], for what is no header, which [`Bearer::take`] lets through in no case.
    pub fn attach(&self, metadata: &mut MetadataMap) -> Result<(), NoBearer> {
        // Of its final size, so that it does not grow and leave a copy behind.
        let mut value = Zeroizing::new(Vec::with_capacity(SCHEME.len() + self.token.len()));
        value.extend_from_slice(SCHEME);
        value.extend_from_slice(self.token.expose());
        let value = MetadataValue::<Ascii>::try_from(Bytes::from_owner(value));
        let mut value = value.map_err(|_| NoBearer)?;
        value.set_sensitive(true);
        metadata.insert(AUTHORIZATION.as_str(), value);
        Ok(())
    }
}

impl fmt::Debug for Bearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bearer").finish_non_exhaustive()
    }
}

/// What a caller sent is no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the `authorization` header is not one `Bearer` token of at most 16 KiB")]
pub struct NoBearer;

const SCHEME: &[u8] = b"Bearer ";

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(values: &[&[u8]]) -> HeaderMap {
        let values = values.iter().map(|value| HeaderValue::from_bytes(value).expect("a header"));
        values.map(|value| (AUTHORIZATION, value)).collect()
    }

    #[test]
    fn a_token_is_taken_out_passed_on_as_it_was_and_never_printed() {
        let mut headers = headers(&[b"bearer ey.can.ary"]);
        let bearer = Bearer::take(&mut headers).expect("good").expect("there");
        assert!(headers.is_empty() && !format!("{bearer:?}").contains("can"));
        let mut metadata = MetadataMap::new();
        bearer.attach(&mut metadata).expect("a header");
        let sent = metadata.get("authorization").expect("sent");
        assert_eq!(
            (sent.to_str().expect("text"), format!("{sent:?}")),
            ("Bearer ey.can.ary", "Sensitive".to_owned())
        );
    }

    #[test]
    fn what_is_no_token_is_refused() {
        let long = [SCHEME, &vec![b'x'; limits::BEARER_TOKEN + 1]].concat();
        for bad in [b"".as_slice(), b"Bearer ", b"Bearer a b", b"Basic eDp5", b"Bearer \xff", &long] {
            assert_eq!(Bearer::take(&mut headers(&[bad])).err(), Some(NoBearer), "{}", bad.len());
        }
        let mut two = headers(&[b"Bearer a", b"Bearer b"]);
        assert_eq!(Bearer::take(&mut two).err(), Some(NoBearer));
        assert!(two.is_empty() && matches!(Bearer::take(&mut two), Ok(None)));
    }
}
