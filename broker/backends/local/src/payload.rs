//! The plaintext of a sealed version: one secret as bytes, and back.
//!
//! ```text
//! opaque  00, the value
//! fields  01, count: u32, then for each field, names ascending: name length: u16, name, value length: u32, value
//! ```
//! Integers are big-endian. Written by hand because a serialization library would grow buffers and leave copies of
//! values behind; here each value is in one wiped buffer of the final size, and then in its `Secret`.

use std::collections::BTreeMap;
use std::sync::Arc;

use bursar_core::secret::SecretData;
use bursar_core::{FieldName, Secret};
use ring::aead::AES_256_GCM;
use zeroize::Zeroizing;

use crate::error::Fault;

/// Writes `data` into a buffer with room for the tag that sealing appends.
pub(crate) fn encode(data: &SecretData) -> Result<Zeroizing<Vec<u8>>, Fault> {
    if data.size() > MAX_SIZE || data.field_names().count() > MAX_FIELDS {
        return Err(Fault::TooLarge);
    }
    let overhead = OPAQUE_OVERHEAD + COUNT + data.field_names().count() * FIELD_OVERHEAD;
    let mut out = Zeroizing::new(Vec::with_capacity(data.size() + overhead + AES_256_GCM.tag_len()));
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
    Ok(out)
}

/// Reads what [`encode`] wrote, and nothing else: any other byte string is [`Fault::Unreadable`].
pub(crate) fn decode(plain: &[u8]) -> Result<SecretData, Fault> {
    match plain.split_first().ok_or(Fault::Unreadable)? {
        (&OPAQUE, value) => Ok(SecretData::Opaque(secret(value))),
        (&FIELDS, rest) => fields(rest).map(SecretData::Fields),
        _ => Err(Fault::Unreadable),
    }
}

fn fields(mut rest: &[u8]) -> Result<BTreeMap<FieldName, Arc<Secret>>, Fault> {
    let mut fields = BTreeMap::new();
    let count = u32::from_be_bytes(take_array(&mut rest)?);
    for _ in 0..count {
        let length = u16::from_be_bytes(take_array(&mut rest)?);
        let name = take(&mut rest, usize::from(length))?;
        let name = std::str::from_utf8(name).ok().and_then(|name| FieldName::parse(name).ok());
        let name = name.ok_or(Fault::Unreadable)?;
        if fields.last_key_value().is_some_and(|(last, _)| *last >= name) {
            return Err(Fault::Unreadable);
        }
        let length = u32::from_be_bytes(take_array(&mut rest)?);
        let length = usize::try_from(length).map_err(|_| Fault::Unreadable)?;
        fields.insert(name, secret(take(&mut rest, length)?));
    }
    if rest.is_empty() { Ok(fields) } else { Err(Fault::Unreadable) }
}

fn secret(value: &[u8]) -> Arc<Secret> {
    Arc::new(Secret::new(value.to_vec()))
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8], Fault> {
    let (taken, left) = rest.split_at_checked(length).ok_or(Fault::Unreadable)?;
    *rest = left;
    Ok(taken)
}

fn take_array<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], Fault> {
    let (taken, left) = rest.split_first_chunk().ok_or(Fault::Unreadable)?;
    *rest = left;
    Ok(*taken)
}

fn length<T: TryFrom<usize>>(length: usize) -> Result<T, Fault> {
    T::try_from(length).map_err(|_| Fault::TooLarge)
}

/// Bytes that one version may hold, field names and values together. Beyond it, `put` answers `Misconfigured` with
/// SQLite's own code for "too big", 18.
pub const MAX_SIZE: usize = 1024 * 1024;

/// Fields that one version may hold; beyond it as for [`MAX_SIZE`].
pub const MAX_FIELDS: usize = 1024;

const OPAQUE: u8 = 0;
const FIELDS: u8 = 1;
const OPAQUE_OVERHEAD: usize = 1;
const COUNT: usize = 4;
const FIELD_OVERHEAD: usize = 2 + 4;

#[cfg(test)]
mod tests {
    use bursar_core::backend::fields_from;

    use super::*;

    fn encoded() -> Zeroizing<Vec<u8>> {
        let value = |text: &str| Secret::from(text.to_owned());
        encode(&fields_from([("b", value("two")), ("a", value("one"))]).expect("fields")).expect("encoded")
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
            assert!(decode(&whole[..end]).is_err(), "{end} bytes of {} must be refused", whole.len());
        }
        assert!(decode(&[whole.as_slice(), b"x"].concat()).is_err());
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
        let accepted: Vec<_> = bad.iter().filter(|plain| decode(plain).is_ok()).collect();
        assert!(accepted.is_empty(), "these must be refused: {accepted:?}");
    }

    #[test]
    fn the_buffer_does_not_grow() {
        let room = encoded();
        let opaque = encode(&SecretData::Opaque(secret(b"value"))).expect("encoded");
        assert!(room.capacity() >= room.len() + AES_256_GCM.tag_len());
        assert!(opaque.capacity() >= opaque.len() + AES_256_GCM.tag_len());
    }
}
