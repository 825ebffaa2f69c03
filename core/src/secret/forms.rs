//! What a value looks like by the time that something has written it somewhere.
//!
//! A value is seldom shown verbatim: a log line is JSON, a header is base64, a URL has `%2F` in it, a debugger prints
//! bytes as numbers. Whoever looks for a value (the masking of a program's output, the tests that search files for
//! leaks) looks for each of these forms, and takes them from here, so that what one of them learns the other knows.
//! What is compressed, encrypted, reversed or cut in two is not among them.

use std::fmt;

use data_encoding::{BASE64_NOPAD, BASE64URL_NOPAD, Encoding, HEXLOWER, HEXUPPER};
use zeroize::Zeroizing;

/// One way in which a value may be written.
pub struct Form {
    pub kind: FormKind,
    /// As secret as the value.
    pub text: Zeroizing<Vec<u8>>,
}

/// What makes a form of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FormKind {
    Plain,
    Json,
    Html,
    Shell,
    Url,
    Hex,
    Numbers,
    Base64,
}

impl FormKind {
    /// What it is called in findings: `in base64`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "in plain text",
            Self::Json => "JSON-escaped",
            Self::Html => "HTML-escaped",
            Self::Shell => "quoted for a shell",
            Self::Url => "URL-escaped",
            Self::Hex => "in hex",
            Self::Numbers => "as numbers",
            Self::Base64 => "in base64",
        }
    }
}

/// Every form of `value`, the value itself first. A form that equals an earlier one is left out, so that a value which
/// an escape leaves as it is goes by the first name. None is empty.
pub fn forms(value: &[u8]) -> Vec<Form> {
    let mut forms = Distinct::default();
    forms.add(FormKind::Plain, Zeroizing::new(value.to_vec()));
    if let Ok(text) = std::str::from_utf8(value) {
        JSON.iter().for_each(|style| forms.add(FormKind::Json, json(text, *style)));
        forms.add(FormKind::Html, html(value));
        forms.add(FormKind::Shell, shell(value));
    }
    for kept in KEPT {
        for hex in [&HEXUPPER, &HEXLOWER] {
            for space in ["%20", "+"] {
                forms.add(FormKind::Url, url(value, kept, space, hex));
            }
        }
    }
    for hex in [&HEXUPPER, &HEXLOWER] {
        forms.add(FormKind::Hex, Zeroizing::new(hex.encode(value).into_bytes()));
    }
    for separator in [",", ", "] {
        forms.add(FormKind::Numbers, numbers(value, separator));
    }
    for encoding in [&BASE64_NOPAD, &BASE64URL_NOPAD] {
        (0..3).for_each(|before| forms.add(FormKind::Base64, base64(encoding, before, value)));
    }
    forms.0
}

/// The characters of the encoding that `value` alone decides, when it follows `before` bytes (modulo 3). A character
/// carries six bits: those at either end that also carry bits of a neighbour are left out, and so is the padding, so
/// that the value is found in the middle of a longer text too.
fn base64(encoding: &Encoding, before: usize, value: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut placed = Zeroizing::new(Vec::with_capacity(before + value.len()));
    placed.resize(before, 0);
    placed.extend_from_slice(value);
    let at_start = if before == 0 { 0 } else { before + 1 };
    let at_end = usize::from(!placed.len().is_multiple_of(3));
    let encoded = Zeroizing::new(encoding.encode(&placed));
    let inner = encoded.as_bytes().get(at_start..encoded.len().saturating_sub(at_end));
    Zeroizing::new(inner.unwrap_or_default().to_vec())
}

/// How a library writes the inside of a JSON string.
#[derive(Clone, Copy)]
struct Json {
    /// Whether `/` becomes `\/`.
    slash: bool,
    /// The characters of ASCII that are written as `\u00XX` although they need not be.
    also: &'static [char],
    /// Whether all but ASCII is written as `\uXXXX`.
    ascii: bool,
    upper: bool,
}

const JSON: [Json; 6] = [
    // Most libraries.
    Json { slash: false, also: &[], ascii: false, upper: false },
    Json { slash: true, also: &[], ascii: false, upper: false },
    // Go, for the sake of HTML.
    Json { slash: false, also: &['<', '>', '&'], ascii: false, upper: false },
    // Python.
    Json { slash: false, also: &[], ascii: true, upper: false },
    // PHP.
    Json { slash: true, also: &[], ascii: true, upper: false },
    // .NET.
    Json { slash: false, also: &['"', '&', '\'', '+', '<', '>', '`'], ascii: true, upper: true },
];

fn json(text: &str, style: Json) -> Zeroizing<Vec<u8>> {
    // A byte takes at most six: the buffer never grows, so it leaves no copy behind.
    let mut out = Zeroizing::new(Vec::with_capacity(6 * text.len()));
    for character in text.chars() {
        let short = match character {
            _ if style.also.contains(&character) => None,
            '"' | '\\' => Some(character),
            '/' if style.slash => Some('/'),
            '\n' => Some('n'),
            '\r' => Some('r'),
            '\t' => Some('t'),
            '\u{8}' => Some('b'),
            '\u{c}' => Some('f'),
            _ => None,
        };
        let escaped = character.is_ascii_control()
            || style.also.contains(&character)
            || (style.ascii && !character.is_ascii());
        if let Some(letter) = short {
            out.push(b'\\');
            push(&mut out, letter);
        } else if escaped && character != '\u{7f}' {
            for unit in character.encode_utf16(&mut [0; 2]) {
                out.extend_from_slice(b"\\u");
                let hex = if style.upper { HEXUPPER } else { HEXLOWER };
                out.extend_from_slice(hex.encode(&unit.to_be_bytes()).as_bytes());
            }
        } else {
            push(&mut out, character);
        }
    }
    out
}

fn push(out: &mut Vec<u8>, character: char) {
    out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
}

fn html(value: &[u8]) -> Zeroizing<Vec<u8>> {
    substituted(value, 6, |byte| match byte {
        b'&' => Some("&amp;"),
        b'<' => Some("&lt;"),
        b'>' => Some("&gt;"),
        b'"' => Some("&quot;"),
        b'\'' => Some("&#39;"),
        _ => None,
    })
}

/// The inside of single quotes.
fn shell(value: &[u8]) -> Zeroizing<Vec<u8>> {
    substituted(value, 4, |byte| (byte == b'\'').then_some(r"'\''"))
}

fn substituted(value: &[u8], longest: usize, by: impl Fn(u8) -> Option<&'static str>) -> Zeroizing<Vec<u8>> {
    let mut out = Zeroizing::new(Vec::with_capacity(longest * value.len()));
    for byte in value {
        match by(*byte) {
            Some(text) => out.extend_from_slice(text.as_bytes()),
            None => out.push(*byte),
        }
    }
    out
}

/// What encoders leave as it is besides letters and digits: RFC 3986, `encodeURIComponent`, Python, HTML forms.
const KEPT: [&[u8]; 4] = [b"-._~", b"-._~!'()*", b"-._~/", b"-._*"];

fn url(value: &[u8], kept: &[u8], space: &str, hex: &Encoding) -> Zeroizing<Vec<u8>> {
    let mut out = Zeroizing::new(Vec::with_capacity(3 * value.len()));
    for byte in value {
        match byte {
            b' ' => out.extend_from_slice(space.as_bytes()),
            byte if byte.is_ascii_alphanumeric() || kept.contains(byte) => out.push(*byte),
            byte => {
                out.push(b'%');
                out.extend_from_slice(hex.encode(&[*byte]).as_bytes());
            }
        }
    }
    out
}

/// As JSON and as `Debug` print bytes.
fn numbers(value: &[u8], separator: &str) -> Zeroizing<Vec<u8>> {
    let mut out = Zeroizing::new(Vec::with_capacity(5 * value.len()));
    for (index, byte) in value.iter().enumerate() {
        if index > 0 {
            out.extend_from_slice(separator.as_bytes());
        }
        out.extend_from_slice(byte.to_string().as_bytes());
    }
    out
}

#[derive(Default)]
struct Distinct(Vec<Form>);

impl Distinct {
    fn add(&mut self, kind: FormKind, text: Zeroizing<Vec<u8>>) {
        if !text.is_empty() && self.0.iter().all(|earlier| earlier.text != text) {
            self.0.push(Form { kind, text });
        }
    }
}

impl fmt::Debug for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Form").field("kind", &self.kind).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(value: &str) -> Vec<String> {
        let text = |form: Form| String::from_utf8(form.text.to_vec()).expect("text");
        forms(value.as_bytes()).into_iter().map(text).collect()
    }

    fn has(value: &str, form: &str) {
        assert!(texts(value).iter().any(|text| text == form), "`{form}` is no form of `{value}`");
    }

    #[test]
    fn the_libraries_of_several_languages_are_known() {
        has("a/b\"\n", r#"a/b\"\n"#);
        has("a/b\"\n", r#"a\/b\"\n"#);
        has("<é&", "\\u003cé\\u0026");
        has("é/\u{1f511}", "\\u00e9/\\ud83d\\udd11");
        has("é/\u{1f511}", "\\u00e9\\/\\ud83d\\udd11");
        has("a+é\"", "a\\u002B\\u00E9\\u0022");
        has("\u{1}\u{8}", "\\u0001\\b");
        has("a<'b", "a&lt;&#39;b");
        has("it's", r"it'\''s");
    }

    #[test]
    fn urls_are_known_as_several_encoders_write_them() {
        has("a b/ü", "a%20b%2F%C3%BC");
        has("a b/ü", "a+b%2f%c3%bc");
        has("a b/ü", "a%20b/%C3%BC");
        has("(a)~", "(a)~");
        has("(a)~", "%28a%29%7E");
    }

    #[test]
    fn bytes_are_known_as_text_of_every_kind() {
        has("\u{1}z", "017a");
        has("jk", "6A6B");
        has("jk", "106, 107");
    }

    /// Whatever stands around it.
    #[test]
    fn the_inside_of_base64_is_known_at_each_place() {
        for before in ["", "x", "xy", "xyz", "user:"] {
            for after in ["", "1", "12", "\n"] {
                let whole = data_encoding::BASE64.encode(format!("{before}p4ss>w?rd{after}").as_bytes());
                assert!(texts("p4ss>w?rd").iter().any(|form| whole.contains(form.as_str())), "{whole}");
            }
        }
    }

    #[test]
    fn no_form_is_empty_or_there_twice() {
        for value in ["", "a", "ab", "plain", "\u{0}\u{0}"] {
            let mut texts = texts(value);
            let all = texts.len();
            texts.sort();
            texts.dedup();
            assert_eq!(texts.len(), all, "{value:?}");
            assert!(texts.iter().all(|text| !text.is_empty()), "{value:?}");
        }
    }

    #[test]
    fn what_is_no_text_has_forms_too() {
        assert!(forms(b"\xff\xfe\xfd").iter().any(|form| form.text.as_slice() == b"fffefd"));
    }
}
