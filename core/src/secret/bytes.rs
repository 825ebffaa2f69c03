//! One secret as bytes, to be sealed and kept, and back. What was sealed once must open for ever: the form never changes.
//!
//! ```text
//! opaque  00, the value
//! fields  01, count: u32, then for each field, names ascending: name length: u16, name, value length: u32, value
//! ```
//! Integers are big-endian. Written by hand because a serialization library would grow buffers and leave copies of
//! values behind; here each value is in one wiped buffer of the final size, and then in its `Secret`.

use std::collections::BTreeMap;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::{Secret, SecretData};
use crate::reference::FieldName;

impl SecretData {
    /// The secret as bytes, in a buffer that has room for `spare` more, such as the tag that a cipher appends.
    ///
    /// # Errors
    /// [`BytesError::TooLarge`] beyond [`MAX_SIZE`] or [`MAX_FIELDS`].
    pub fn to_bytes(&self, spare: usize) -> Result<Zeroizing<Vec<u8>>, BytesError> {
        if self.size() > MAX_SIZE || self.field_names().count() > MAX_FIELDS {
            return Err(BytesError::TooLarge);
        }
        let overhead = OPAQUE_OVERHEAD + COUNT + self.field_names().count() * FIELD_OVERHEAD;
        let mut out = Zeroizing::new(Vec::with_capacity(self.size() + overhead + spare));
        write(self, &mut out)?;
        Ok(out)
    }

    /// Reads what [`SecretData::to_bytes`] wrote, and nothing else.
    ///
    /// # Errors
    /// [`BytesError::Unreadable`] for any other bytes.
    pub fn from_bytes(plain: &[u8]) -> Result<Self, BytesError> {
        match plain.split_first().ok_or(BytesError::Unreadable)? {
            (&OPAQUE, value) => Ok(Self::Opaque(secret(value))),
            (&FIELDS, rest) => fields(rest).map(Self::Fields),
            _ => Err(BytesError::Unreadable),
        }
    }
}

/// Why a secret is not to be had as bytes, or bytes are no secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BytesError {
    #[error("the secret has more than {MAX_SIZE} bytes or {MAX_FIELDS} fields")]
    TooLarge,
    #[error("the bytes are not those of a secret")]
    Unreadable,
}

fn write(data: &SecretData, out: &mut Vec<u8>) -> Result<(), BytesError> {
    match data {
        SecretData::Opaque(value) => {
            out.push(OPAQUE);
            out.extend_from_slice(value.expose());
        }
        SecretData::Fields(fields) => {
            out.push(FIELDS);
            out.extend_from_slice(&length::<u32>(fields.len())?.to_be_bytes());
            for (name, value) in fields {
                out.extend_from_slice(&length::<u16>(name.as_str().len())?.to_be_bytes());
                out.extend_from_slice(name.as_str().as_bytes());
                out.extend_from_slice(&length::<u32>(value.len())?.to_be_bytes());
                out.extend_from_slice(value.expose());
            }
        }
    }
    Ok(())
}

fn fields(mut rest: &[u8]) -> Result<BTreeMap<FieldName, Arc<Secret>>, BytesError> {
    let mut fields = BTreeMap::new();
    let count = u32::from_be_bytes(take_array(&mut rest)?);
    for _ in 0..count {
        let length = u16::from_be_bytes(take_array(&mut rest)?);
        let name = take(&mut rest, usize::from(length))?;
        let name = std::str::from_utf8(name).ok().and_then(|name| FieldName::parse(name).ok());
        let name = name.ok_or(BytesError::Unreadable)?;
        if fields.last_key_value().is_some_and(|(last, _)| *last >= name) {
            return Err(BytesError::Unreadable);
        }
        let length = u32::from_be_bytes(take_array(&mut rest)?);
        let length = usize::try_from(length).map_err(|_| BytesError::Unreadable)?;
        fields.insert(name, secret(take(&mut rest, length)?));
    }
    if rest.is_empty() { Ok(fields) } else { Err(BytesError::Unreadable) }
}

fn secret(value: &[u8]) -> Arc<Secret> {
    Arc::new(Secret::new(value.to_vec()))
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8], BytesError> {
    let (taken, left) = rest.split_at_checked(length).ok_or(BytesError::Unreadable)?;
    *rest = left;
    Ok(taken)
}

fn take_array<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], BytesError> {
    let (taken, left) = rest.split_first_chunk().ok_or(BytesError::Unreadable)?;
    *rest = left;
    Ok(*taken)
}

fn length<T: TryFrom<usize>>(length: usize) -> Result<T, BytesError> {
    T::try_from(length).map_err(|_| BytesError::TooLarge)
}

/// Bytes that one secret may hold, field names and values together.
pub const MAX_SIZE: usize = 1024 * 1024;

/// Fields that one secret may have.
pub const MAX_FIELDS: usize = 1024;

const OPAQUE: u8 = 0;
const FIELDS: u8 = 1;
const OPAQUE_OVERHEAD: usize = 1;
const COUNT: usize = 4;
const FIELD_OVERHEAD: usize = 2 + 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::fields_from;

    fn encoded() -> Zeroizing<Vec<u8>> {
        let value = |text: &str| Secret::from(text.to_owned());
        let data = fields_from([("b", value("two")), ("a", value("one"))]).expect("fields");
        data.to_bytes(SPARE).expect("bytes")
    }

    #[test]
    fn fields_are_written_in_order_of_their_names() {
        let expected = b"\x01\0\0\0\x02\0\x01a\0\0\0\x03one\0\x01b\0\0\0\x03two";
        assert_eq!(encoded().as_slice(), expected);
    }

    #[test]
    fn every_shorter_or_longer_input_is_refused() {
        let whole = encoded();
        for end in 0..whole.len() {
            assert!(
                SecretData::from_bytes(&whole[..end]).is_err(),
                "{end} bytes of {} must be refused",
                whole.len()
            );
        }
        assert!(SecretData::from_bytes(&[whole.as_slice(), b"x"].concat()).is_err());
    }

    #[test]
    fn unknown_forms_unordered_names_and_wild_counts_are_refused() {
        let bad: [&[u8]; 5] = [
            b"\x02value",
            b"\x01\xff\xff\xff\xff",
            b"\x01\0\0\0\x02\0\x01b\0\0\0\0\0\x01a\0\0\0\0",
            b"\x01\0\0\0\x02\0\x01a\0\0\0\0\0\x01a\0\0\0\0",
            b"\x01\0\0\0\x01\0\x01\xff\0\0\0\0",
        ];
        let accepted: Vec<_> = bad.iter().filter(|plain| SecretData::from_bytes(plain).is_ok()).collect();
        assert!(accepted.is_empty(), "these must be refused: {accepted:?}");
    }

    #[test]
    fn the_buffer_does_not_grow() {
        let room = encoded();
        let opaque = SecretData::Opaque(secret(b"value")).to_bytes(SPARE).expect("bytes");
        assert!(room.capacity() >= room.len() + SPARE);
        assert!(opaque.capacity() >= opaque.len() + SPARE);
    }

    const SPARE: usize = 16;
}
