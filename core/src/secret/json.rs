//! JSON values into secrets.
//!
//! `serde_json` unescapes strings in a scratch buffer that it does not wipe, and the stores escape `<`, `>`, `&` and
//! line ends, so passwords and keys do pass through it. Values are therefore taken as their raw JSON text, which is
//! borrowed from the wiped body, and unescaped here.

use std::collections::BTreeMap;
use std::sync::Arc;

use data_encoding::BASE64;
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::{Secret, SecretData};
use crate::reference::FieldName;

/// The members of a JSON object, as they lie in an answer.
pub type Members<'body> = BTreeMap<String, &'body RawValue>;

/// A member is a field: a string by its content, anything else by its JSON text. None when a name cannot be a field's
/// or a string holds half a surrogate pair.
pub fn fields(members: &Members<'_>) -> Option<SecretData> {
    let field =
        |(name, value): (&String, &&RawValue)| Some((FieldName::parse(name).ok()?, Arc::new(secret(value)?)));
    members.iter().map(field).collect::<Option<_>>().map(SecretData::Fields)
}

/// The same where a list of texts, which is how the authorities of a certificate come, is those texts one after the other, as
/// a file of PEM has them.
pub fn texts(members: &Members<'_>) -> Option<SecretData> {
    let field = |(name, value): (&String, &&RawValue)| {
        let value = if value.get().starts_with('[') { lines(value) } else { secret(value) };
        Some((FieldName::parse(name).ok()?, Arc::new(value?)))
    };
    members.iter().map(field).collect::<Option<_>>().map(SecretData::Fields)
}

/// The fields of the object that a text is; none where it is none, or one whose members cannot be fields.
pub fn object(text: &[u8]) -> Option<SecretData> {
    fields(&serde_json::from_slice(text).ok()?)
}

/// Writes a text in its quotes. It takes at most [`QUOTED`] bytes for each of the text's and two more: give `out` that
/// room, or its growing leaves a copy behind.
pub fn write_text(out: &mut Zeroizing<Vec<u8>>, text: &str) {
    out.push(b'"');
    for byte in text.bytes() {
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0x00..=0x1f => {
                out.extend_from_slice(b"\\u00");
                out.extend(
                    [byte >> 4, byte & 0xf]
                        .map(|nibble| if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 }),
                );
            }
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

/// Writes bytes in base64 (RFC 4648, section 4), in quotes. It takes no more room than [`write_text`].
pub fn write_base64(out: &mut Zeroizing<Vec<u8>>, bytes: &[u8]) {
    out.push(b'"');
    let start = out.len();
    out.resize(start + BASE64.encode_len(bytes.len()), 0);
    if let Some(place) = out.get_mut(start..) {
        BASE64.encode_mut(bytes, place);
    }
    out.push(b'"');
}

/// What a byte takes at most in a string: `\u001f`.
pub const QUOTED: usize = 6;

fn lines(list: &RawValue) -> Option<Secret> {
    let items: Vec<&RawValue> = serde_json::from_str(list.get()).ok()?;
    // The quotes of each item leave room for its line end, so this never grows.
    let mut all = Zeroizing::new(Vec::with_capacity(list.get().len()));
    for item in items {
        if !all.is_empty() {
            all.push(b'\n');
        }
        let text = item.get();
        match string(text) {
            Some(escaped) => unescape(escaped, &mut all)?,
            None => all.extend_from_slice(text.as_bytes()),
        }
    }
    Some(Secret::from(all))
}

/// One value: a string by its content, anything else by its JSON text.
pub fn secret(value: &RawValue) -> Option<Secret> {
    let text = value.get();
    let Some(escaped) = string(text) else { return Some(Secret::new(text.as_bytes().to_vec())) };
    // Each escape is longer than what it stands for, so this never grows.
    let mut out = Zeroizing::new(Vec::with_capacity(escaped.len()));
    unescape(escaped, &mut out)?;
    Some(Secret::from(out))
}

/// What stands between the quotes of a string.
fn string(json: &str) -> Option<&str> {
    json.strip_prefix('"')?.strip_suffix('"')
}

fn unescape(text: &str, out: &mut Vec<u8>) -> Option<()> {
    let mut rest = text;
    while let Some((plain, escaped)) = rest.split_once('\\') {
        out.extend_from_slice(plain.as_bytes());
        let mut chars = escaped.chars();
        let character = match chars.next()? {
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => {
                rest = chars.as_str();
                let (character, after) = unicode(rest)?;
                out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                rest = after;
                continue;
            }
            itself @ ('"' | '\\' | '/') => itself,
            _ => return None,
        };
        out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        rest = chars.as_str();
    }
    out.extend_from_slice(rest.as_bytes());
    Some(())
}

/// The character that the four digits after `\u` mean, with the other half of its pair if it has one.
fn unicode(text: &str) -> Option<(char, &str)> {
    let (first, rest) = unit(text)?;
    if let Some(character) = char::from_u32(first) {
        return Some((character, rest));
    }
    let (second, rest) = unit(rest.strip_prefix("\\u")?)?;
    let units = [u16::try_from(first).ok()?, u16::try_from(second).ok()?];
    let character = char::decode_utf16(units).next()?.ok()?;
    Some((character, rest))
}

fn unit(text: &str) -> Option<(u32, &str)> {
    let (digits, rest) = text.split_at_checked(4)?;
    let all_hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    Some((u32::from_str_radix(digits, 16).ok().filter(|_| all_hex)?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(json: &str) -> Option<Secret> {
        secret(&serde_json::from_str::<Box<RawValue>>(json).expect("json"))
    }

    #[test]
    fn a_string_means_what_a_json_library_says_it_means() {
        let strings = ["", "plain", "p<&>\"\\/\n\r\t\u{8}\u{c}\u{1}", "é ключ 🔑", "\\u0041", "\u{2028}"];
        for text in strings {
            let json = serde_json::to_string(text).expect("json");
            assert!(value(&json).expect("secret").ct_eq(text.as_bytes()), "{json}");
        }
        assert!(value(r#""\u003c\/\u00e9\ud83d\udd11!""#).expect("secret").ct_eq("</é🔑!".as_bytes()));
    }

    #[test]
    fn what_is_no_string_keeps_its_json_text() {
        for json in ["1.50", "1e3", "true", "null", r#"{"a":[1, 2]}"#] {
            assert!(value(json).expect("secret").ct_eq(json.as_bytes()), "{json}");
        }
    }

    #[test]
    fn a_list_of_texts_is_one_after_the_other() {
        let json = r#"{"ca_chain":["A\nB","C"],"expiration":7,"none":[]}"#;
        let members: Members<'_> = serde_json::from_str(json).expect("json");
        let data = texts(&members).expect("fields");
        for (field, value) in [("ca_chain", "A\nB\nC"), ("expiration", "7"), ("none", "")] {
            let field = FieldName::parse(field).expect("name");
            assert!(data.select(Some(&field)).expect("field").ct_eq(value.as_bytes()), "{field}");
        }
    }

    #[test]
    fn only_an_object_has_fields() {
        let data = object(br#" {"user":"ada","port":5432} "#).expect("an object");
        assert_eq!(data.field_names().map(FieldName::as_str).collect::<Vec<_>>(), ["port", "user"]);
        for text in ["", "text", "5", "null", r#""{}""#, r#"["a"]"#, r#"{"a":1"#, r#"{"":1}"#, r#"{"a":1} x"#]
        {
            assert!(object(text.as_bytes()).is_none(), "{text}");
        }
    }

    #[test]
    fn half_a_pair_is_no_value() {
        for json in [r#""\ud83d""#, r#""\ud83dx""#, r#""\ud83d\u0041""#, r#""\udd11\ud83d""#] {
            assert!(value(json).is_none(), "{json}");
        }
    }

    #[test]
    fn a_name_that_cannot_be_a_field_makes_the_whole_unreadable() {
        let json = r#"{"ok":"1","a\nb":"2"}"#;
        let members: Members<'_> = serde_json::from_str(json).expect("json");
        assert!(fields(&members).is_none());
    }
}
