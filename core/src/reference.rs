//! References: names of secrets, fit for a repository.
//!
//! Grammar: `BACKEND/PATH[#FIELD][@VERSION]`. The characters `#`, `@` and `%`, and those that JSON or a terminal would
//! not show (controls), are written as `%XX` inside PATH and FIELD; everything else stands for itself, so odd store
//! paths such as `vault/team a/ключ` need no quoting. A version is what the store calls one: a number, an id, a stage.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// A checked reference. Never carries a credential, so it may be printed, logged and recorded.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    /// Which configured store.
    pub backend: BackendName,
    /// Where in that store.
    pub path: SecretPath,
    /// Which field, where the store keeps several under a path.
    pub field: Option<FieldName>,
    /// Which version; the newest when absent.
    pub version: Option<Version>,
}

impl Reference {
    /// Parses `BACKEND/PATH[#FIELD][@VERSION]`.
    ///
    /// # Errors
    /// [`ReferenceError`], which says what is wrong and shows the form.
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        let fault = |reason| ReferenceError { text: excerpt(text), reason };
        let (rest, version) = match text.rsplit_once('@') {
            Some((rest, version)) => (rest, Some(Version::parse(version).map_err(fault)?)),
            None => (text, None),
        };
        let (rest, field) = match rest.split_once('#') {
            Some((rest, field)) => (rest, Some(FieldName::decode(field).map_err(fault)?)),
            None => (rest, None),
        };
        let (backend, path) = rest.split_once('/').ok_or_else(|| fault("has no `/` after the backend"))?;
        Ok(Self {
            backend: BackendName::check(backend).map_err(fault)?,
            path: SecretPath::decode(path).map_err(fault)?,
            field,
            version,
        })
    }

    /// The same secret without the field: what a lease is for.
    pub fn without_field(&self) -> Self {
        Self { field: None, ..self.clone() }
    }
}

/// The name under which a store is mounted: `[a-z0-9-]`, 1 to 63 bytes.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BackendName(Arc<str>);

impl BackendName {
    /// Parses a bare backend name.
    ///
    /// # Errors
    /// [`ReferenceError`], which says which rule the text breaks.
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        Self::check(text).map_err(|reason| ReferenceError { text: excerpt(text), reason })
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn check(text: &str) -> Result<Self, Fault> {
        let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
        if text.is_empty() || text.len() > 63 || !text.bytes().all(allowed) {
            return Err("has a backend name other than 1 to 63 of a-z, 0-9 and `-`");
        }
        Ok(Self(Arc::from(text)))
    }
}

/// A path inside a store: segments separated by `/`, at most 1,024 bytes; no empty segment, `.`, `..` or control
/// character. Held decoded, as the store knows it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SecretPath(Arc<str>);

impl SecretPath {
    /// Takes a path as the store writes it, without escapes.
    ///
    /// # Errors
    /// [`ReferenceError`], which says which rule the text breaks.
    pub fn from_store(text: &str) -> Result<Self, ReferenceError> {
        Self::check(text).map_err(|reason| ReferenceError { text: excerpt(text), reason })
    }

    /// The path as the store knows it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The segments, at least one.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }

    /// Every folder above the secret, nearest last: `a`, `a/b` for `a/b/c`.
    pub fn folders(&self) -> impl Iterator<Item = &str> {
        self.0.match_indices('/').filter_map(|(at, _)| self.0.get(..at))
    }

    fn decode(text: &str) -> Result<Self, Fault> {
        Self::check(&percent_decode(text)?)
    }

    fn check(text: &str) -> Result<Self, Fault> {
        if text.is_empty() {
            return Err("has an empty path");
        }
        if text.len() > MAX_PATH {
            return Err("has a path longer than 1024 bytes");
        }
        if text.chars().any(char::is_control) {
            return Err("has a control character in its path");
        }
        if text.split('/').any(|segment| matches!(segment, "" | "." | "..")) {
            return Err("has an empty path segment, `.` or `..`");
        }
        Ok(Self(Arc::from(text)))
    }
}

/// The name of a field: 1 to 256 bytes, no control character. Held decoded.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FieldName(Arc<str>);

impl FieldName {
    /// Takes a field name as the store writes it, without escapes.
    ///
    /// # Errors
    /// [`ReferenceError`], which says which rule the text breaks.
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        Self::check(text).map_err(|reason| ReferenceError { text: excerpt(text), reason })
    }

    /// The name as the store knows it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn decode(text: &str) -> Result<Self, Fault> {
        Self::check(&percent_decode(text)?)
    }

    fn check(text: &str) -> Result<Self, Fault> {
        if text.is_empty() || text.len() > MAX_FIELD || text.chars().any(char::is_control) {
            return Err("has a field that is empty, longer than 256 bytes or holds a control character");
        }
        Ok(Self(Arc::from(text)))
    }
}

/// What a store calls a version: `[A-Za-z0-9._-]`, 1 to 128 bytes.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Version(Arc<str>);

impl Version {
    /// Takes a version as the store writes it.
    ///
    /// # Errors
    /// [`ReferenceError`], which says which rule the text breaks.
    pub fn from_store(text: &str) -> Result<Self, ReferenceError> {
        Self::parse(text).map_err(|reason| ReferenceError { text: excerpt(text), reason })
    }

    /// A version of a store that counts them.
    pub fn number(number: u64) -> Self {
        Self(Arc::from(number.to_string()))
    }

    /// The version as the store knows it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn parse(text: &str) -> Result<Self, Fault> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        if text.is_empty() || text.len() > MAX_VERSION || !text.bytes().all(allowed) {
            return Err(
                "has a version other than 1 to 128 letters, digits, `.`, `_` and `-`; write `@` in a path as `%40`",
            );
        }
        Ok(Self(Arc::from(text)))
    }
}

/// Text that is no reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("reference `{text}` {reason}; the form is BACKEND/PATH[#FIELD][@VERSION]")]
pub struct ReferenceError {
    text: String,
    reason: Fault,
}

type Fault = &'static str;

/// A malformed reference may be anything, a pasted secret included: show its beginning only, escaped.
fn excerpt(text: &str) -> String {
    let mut shown: String = text.chars().take(EXCERPT).flat_map(char::escape_default).collect();
    if text.chars().nth(EXCERPT).is_some() {
        shown.push('…');
    }
    shown
}

fn percent_decode(text: &str) -> Result<String, Fault> {
    const BAD: Fault = "has a `%` that two hexadecimal digits do not follow";
    if !text.contains(['%', '#', '@']) {
        return Ok(text.to_owned());
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16)).ok_or(BAD);
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let value = digit(bytes.next())? * 16 + digit(bytes.next())?;
                decoded.push(u8::try_from(value).map_err(|_| BAD)?);
            }
            b'#' => return Err("has a second `#`; write it as `%23`"),
            b'@' => return Err("has a second `@`; write it as `%40`"),
            _ => decoded.push(byte),
        }
    }
    String::from_utf8(decoded).map_err(|_| "is not UTF-8 once its `%XX` are decoded")
}

fn percent_encode(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    for part in text.split_inclusive(['%', '#', '@']) {
        match part.char_indices().next_back() {
            Some((at, special @ ('%' | '#' | '@'))) => {
                f.write_str(part.get(..at).unwrap_or_default())?;
                write!(f, "%{:02X}", u32::from(special))?;
            }
            _ => f.write_str(part)?,
        }
    }
    Ok(())
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.backend, self.path)?;
        if let Some(field) = &self.field {
            write!(f, "#{field}")?;
        }
        if let Some(version) = &self.version {
            write!(f, "@{version}")?;
        }
        Ok(())
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl fmt::Display for SecretPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        percent_encode(f, &self.0)
    }
}

impl fmt::Display for FieldName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        percent_encode(f, &self.0)
    }
}

impl fmt::Display for BackendName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

macro_rules! debug_as_display {
    ($($name:ty),+) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "`{self}`")
            }
        }
    )+};
}
debug_as_display!(BackendName, SecretPath, FieldName, Version);

const MAX_PATH: usize = 1024;
const MAX_FIELD: usize = 256;
const MAX_VERSION: usize = 128;
const EXCERPT: usize = 64;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_part_is_read() {
        let reference = Reference::parse("vault/payments/db#password@3").expect("reference");
        assert_eq!(reference.backend.as_str(), "vault");
        assert_eq!(reference.path.as_str(), "payments/db");
        assert_eq!(reference.field.as_ref().map(FieldName::as_str), Some("password"));
        assert_eq!(reference.version.as_ref().map(Version::as_str), Some("3"));
    }

    #[test]
    fn odd_paths_survive_the_round_trip() {
        for text in ["vault/a b/ключ", "vault/user%40example.com#a%23b@v1", "vault/100%25", "b/p@AWSCURRENT"]
        {
            assert_eq!(Reference::parse(text).expect("reference").to_string(), text);
        }
    }

    #[test]
    fn what_is_no_reference_is_refused() {
        let long = format!("v/{}", "a".repeat(1025));
        let bad = [
            "",
            "vault",
            "vault/",
            "/a",
            "Vault/a",
            "vault//a",
            "vault/a/",
            "vault/../a",
            "vault/./a",
            "vault/a#",
            "vault/a@",
            "vault/a#b#c",
            "vault/a@1@2",
            "vault/a#b@x y",
            "vault/a%4",
            "vault/a%zz",
            "vault/%ff",
            "vault/a\nb",
            "vault/%00",
            "vault/%2e%2e/a",
            long.as_str(),
        ];
        let accepted: Vec<_> = bad.iter().filter(|text| Reference::parse(text).is_ok()).collect();
        assert!(accepted.is_empty(), "these must be refused: {accepted:?}");
    }

    #[test]
    fn an_error_shows_the_beginning_only() {
        let error = Reference::parse(&"s".repeat(500)).expect_err("refused").to_string();
        assert!(error.len() < 250, "{error}");
    }

    #[test]
    fn folders_go_from_the_top_to_the_nearest() {
        let path = SecretPath::from_store("a/b/c").expect("path");
        assert_eq!(path.folders().collect::<Vec<_>>(), ["a", "a/b"]);
    }

    proptest! {
        #[test]
        fn parsing_never_panics_and_printing_is_its_inverse(text in "\\PC{0,40}|[a-z]{1,4}/[a-z%#@/0-9]{0,20}") {
            if let Ok(reference) = Reference::parse(&text) {
                prop_assert_eq!(Reference::parse(&reference.to_string()).expect("printed reference"), reference);
            }
        }

        #[test]
        fn any_store_path_can_be_written(path in "[^/\\p{Cc}]{1,20}(/[^/\\p{Cc}]{1,20}){0,3}") {
            prop_assume!(!path.split('/').any(|segment| segment == "." || segment == ".."));
            let path = SecretPath::from_store(&path).expect("path");
            let text = format!("b/{path}");
            prop_assert_eq!(Reference::parse(&text).expect("reference").path, path);
        }
    }
}
