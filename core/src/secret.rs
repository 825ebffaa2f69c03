//! The one type that secret values live in.
//!
//! Invariant: a value that enters a [`Secret`] is wiped when the last owner drops it, and leaves it by one call,
//! [`Secret::expose`], that `grep` finds. The type has no `Debug`, `Display`, `Clone` or `Serialize`, so a struct
//! that holds one cannot derive them either: forgetting is a compile error, not a leak. Share it by `Arc<Secret>`.
//!
//! `secrecy::SecretString` was refused: it is `Clone`, and growing the `String` inside it leaves copies behind.
//!
//! None of these compiles:
//!
//! ```compile_fail,E0277
//! println!("{:?}", bursar_core::Secret::from(String::new()));
//! ```
//! ```compile_fail,E0277
//! println!("{}", bursar_core::Secret::from(String::new()));
//! ```
//! ```compile_fail,E0599
//! let copy = bursar_core::Secret::from(String::new()).clone();
//! ```
//! ```compile_fail,E0277
//! serde_json::to_string(&bursar_core::Secret::from(String::new()));
//! ```
//! ```compile_fail,E0369
//! bursar_core::Secret::from(String::new()) == bursar_core::Secret::from(String::new());
//! ```

mod bytes;
mod forms;
mod gathered;
pub mod json;
mod reader;
mod urlencoded;

use std::collections::BTreeMap;
use std::hash::Hasher;
use std::sync::Arc;

use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

pub use bytes::{BytesError, MAX_FIELDS, MAX_SIZE};
pub use forms::{Form, FormKind, forms};
pub use gathered::Gathered;
pub use reader::SecretReader;
pub use urlencoded::urlencoded;

use crate::reference::FieldName;

/// Secret bytes, wiped on drop. Never grows, so never leaves a copy behind in a reallocation.
#[expect(missing_debug_implementations, reason = "formatting a secret must not compile")]
pub struct Secret(Box<[u8]>);

impl Secret {
    /// Takes the bytes of `value`; spare capacity is wiped before it is given back to the allocator.
    pub fn new(mut value: Vec<u8>) -> Self {
        if value.len() == value.capacity() {
            return Self(value.into_boxed_slice());
        }
        let exact = Box::from(value.as_slice());
        value.zeroize();
        Self(exact)
    }

    /// Makes a secret of `len` bytes that `fill` writes in place, so that no other buffer ever held them.
    ///
    /// # Errors
    /// Those of `fill`; what it wrote until then is wiped.
    pub fn try_filled<E>(len: usize, fill: impl FnOnce(&mut [u8]) -> Result<(), E>) -> Result<Self, E> {
        let mut secret = Self(vec![0; len].into_boxed_slice());
        fill(&mut secret.0)?;
        Ok(secret)
    }

    /// The bytes. The only exit: whoever calls it answers for where they go.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Length in bytes. Public knowledge: errors and metrics may name it.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether both hold the same bytes, in a time that depends on their lengths alone.
    pub fn ct_eq(&self, other: &[u8]) -> bool {
        self.0.ct_eq(other).into()
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl From<String> for Secret {
    fn from(value: String) -> Self {
        Self::new(value.into_bytes())
    }
}

impl From<Zeroizing<Vec<u8>>> for Secret {
    fn from(mut value: Zeroizing<Vec<u8>>) -> Self {
        Self::new(std::mem::take(&mut *value))
    }
}

/// What a store keeps under one path: a single value, or named fields.
#[derive(Clone)]
#[expect(missing_debug_implementations, reason = "holds secrets; use `field_names` to say what is there")]
pub enum SecretData {
    /// One value without structure.
    Opaque(Arc<Secret>),
    /// Named values, as a Vault key-value entry or a JSON object has them.
    Fields(BTreeMap<FieldName, Arc<Secret>>),
}

impl SecretData {
    /// The value that a reference means: the field it names, or the whole.
    ///
    /// The whole of [`SecretData::Fields`] is a JSON object with the fields in order of their names; a field that
    /// is not UTF-8 cannot be part of one.
    ///
    /// # Errors
    /// [`SelectError`], which names fields and never values.
    pub fn select(&self, field: Option<&FieldName>) -> Result<Arc<Secret>, SelectError> {
        match (self, field) {
            (Self::Opaque(value), None) => Ok(Arc::clone(value)),
            (Self::Opaque(_), Some(field)) => Err(SelectError::NoFields { field: field.clone() }),
            (Self::Fields(fields), Some(field)) => fields
                .get(field)
                .map(Arc::clone)
                .ok_or_else(|| SelectError::UnknownField { field: field.clone() }),
            (Self::Fields(fields), None) => json_object(fields).map(Arc::new),
        }
    }

    /// Whether [`SecretData::select`] would answer; makes nothing.
    ///
    /// # Errors
    /// Those of [`SecretData::select`].
    pub fn check(&self, field: Option<&FieldName>) -> Result<(), SelectError> {
        match (self, field) {
            (Self::Fields(fields), None) => {
                fields.iter().try_for_each(|(name, value)| text(name, value).map(drop))
            }
            _ => self.select(field).map(drop),
        }
    }

    /// The names of the fields, none for an opaque value.
    pub fn field_names(&self) -> impl Iterator<Item = &FieldName> {
        match self {
            Self::Opaque(_) => None,
            Self::Fields(fields) => Some(fields.keys()),
        }
        .into_iter()
        .flatten()
    }

    /// Feeds all of it to `hasher`, each part with its length. For telling contents apart within one process: use a hasher
    /// whose key nobody knows.
    pub fn feed(&self, hasher: &mut impl Hasher) {
        let mut feed = |bytes: &[u8]| {
            hasher.write_usize(bytes.len());
            hasher.write(bytes);
        };
        match self {
            Self::Opaque(value) => feed(value.expose()),
            Self::Fields(fields) => fields.iter().for_each(|(name, value)| {
                feed(name.as_str().as_bytes());
                feed(value.expose());
            }),
        }
    }

    /// Bytes held, for budgets of caches.
    pub fn size(&self) -> usize {
        match self {
            Self::Opaque(value) => value.len(),
            Self::Fields(fields) => {
                fields.iter().map(|(name, value)| name.as_str().len() + value.len()).sum()
            }
        }
    }
}

/// Why a reference selects nothing from what the store keeps.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SelectError {
    #[error("the secret has no field `{field}`")]
    UnknownField { field: FieldName },
    #[error("the secret is one value without fields, so it has no field `{field}`")]
    NoFields { field: FieldName },
    #[error("field `{field}` is not UTF-8, so the secret cannot be read as one JSON object; name a field")]
    NotUtf8 { field: FieldName },
}

/// Writes the object by hand into a buffer of the final size: a JSON library would grow one and leave copies.
fn json_object(fields: &BTreeMap<FieldName, Arc<Secret>>) -> Result<Secret, SelectError> {
    // Each entry adds quotes, colon and comma.
    let entry =
        |(name, value): (&FieldName, &Arc<Secret>)| json::QUOTED * (name.as_str().len() + value.len()) + 6;
    let bound = fields.iter().map(entry).sum::<usize>() + 2;
    let mut out = Zeroizing::new(Vec::with_capacity(bound));
    out.push(b'{');
    for (index, (name, value)) in fields.iter().enumerate() {
        let text = text(name, value)?;
        if index > 0 {
            out.push(b',');
        }
        json::write_text(&mut out, name.as_str());
        out.push(b':');
        json::write_text(&mut out, text);
    }
    out.push(b'}');
    Ok(Secret::from(out))
}

fn text<'value>(name: &FieldName, value: &'value Secret) -> Result<&'value str, SelectError> {
    std::str::from_utf8(value.expose()).map_err(|_| SelectError::NotUtf8 { field: name.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(entries: &[(&str, &[u8])]) -> SecretData {
        let entry = |(name, value): &(&str, &[u8])| {
            (FieldName::parse(name).expect("field"), Arc::new(Secret::new(value.to_vec())))
        };
        SecretData::Fields(entries.iter().map(entry).collect())
    }

    #[test]
    fn a_field_is_selected_by_name() {
        let data = fields(&[("password", b"p"), ("username", b"u")]);
        let field = FieldName::parse("username").expect("field");
        assert!(data.select(Some(&field)).is_ok_and(|value| value.ct_eq(b"u")));
    }

    #[test]
    fn a_missing_field_is_named() {
        let field = FieldName::parse("usernmae").expect("field");
        let refused = fields(&[("username", b"u")]).select(Some(&field)).err();
        assert_eq!(refused, Some(SelectError::UnknownField { field }));
    }

    #[test]
    fn the_whole_is_a_json_object_that_escapes_what_json_must() {
        let data = fields(&[("a", b"q\" b\\ n\n c\x01 \xc3\xa9"), ("b", b"")]);
        let whole = data.select(None).unwrap_or_else(|_| panic!("whole"));
        let parsed: serde_json::Value = serde_json::from_slice(whole.expose()).expect("json");
        assert_eq!(parsed, serde_json::json!({"a": "q\" b\\ n\n c\u{1} é", "b": ""}));
    }

    #[test]
    fn a_binary_field_refuses_the_whole_but_not_itself() {
        let data = fields(&[("key", b"\xff\xfe")]);
        let field = FieldName::parse("key").expect("field");
        assert_eq!(data.select(None).err(), Some(SelectError::NotUtf8 { field: field.clone() }));
        assert_eq!(data.check(None), Err(SelectError::NotUtf8 { field: field.clone() }));
        assert!(data.select(Some(&field)).is_ok());
    }

    #[test]
    fn spare_capacity_is_not_kept() {
        let mut value = Vec::with_capacity(64);
        value.extend_from_slice(b"abc");
        assert_eq!(Secret::new(value).len(), 3);
    }
}
