//! What a value may look like by the time it is written somewhere.

use data_encoding::{BASE64_NOPAD, BASE64URL_NOPAD, Encoding, HEXLOWER, HEXUPPER};
use serde_json::Value;

/// Every form of `value`, with what it is called. A form that equals an earlier one is left out, so that a value which
/// an escape leaves as it is goes by the first name.
pub(super) fn forms(value: &str) -> Vec<(&'static str, String)> {
    let bytes = value.as_bytes();
    let json = json(value);
    let mut forms = vec![
        ("in plain text", value.to_owned()),
        // As most libraries escape it, as some also escape slashes, as Go does for the sake of HTML.
        ("JSON-escaped", json.clone()),
        ("JSON-escaped", json.replace('/', r"\/")),
        ("JSON-escaped", json.replace('<', r"\u003c").replace('>', r"\u003e").replace('&', r"\u0026")),
        ("URL-escaped", url(bytes, &HEXUPPER)),
        ("URL-escaped", url(bytes, &HEXLOWER)),
        ("in hex", HEXUPPER.encode(bytes)),
        ("in hex", HEXLOWER.encode(bytes)),
        // As JSON and as `Debug` print bytes.
        ("as numbers", numbers(bytes, ",")),
        ("as numbers", numbers(bytes, ", ")),
    ];
    for encoding in [&BASE64_NOPAD, &BASE64URL_NOPAD] {
        forms.extend((0..3).map(|before| ("in base64", base64(encoding, before, bytes))));
    }
    let mut distinct: Vec<(&'static str, String)> = Vec::new();
    for (name, form) in forms {
        if distinct.iter().all(|(_, earlier)| *earlier != form) {
            distinct.push((name, form));
        }
    }
    distinct
}

/// The characters of the encoding that `value` alone decides, when it follows `before` bytes (modulo 3). A character
/// carries six bits: those at either end that also carry bits of a neighbour are left out.
fn base64(encoding: &Encoding, before: usize, value: &[u8]) -> String {
    let placed: Vec<u8> = std::iter::repeat_n(0, before).chain(value.iter().copied()).collect();
    let at_start = if before == 0 { 0 } else { before + 1 };
    let at_end = usize::from(!placed.len().is_multiple_of(3));
    let encoded = encoding.encode(&placed);
    encoded.chars().take(encoded.len() - at_end).skip(at_start).collect()
}

/// The inside of a JSON string.
fn json(value: &str) -> String {
    let quoted = Value::from(value).to_string();
    quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(&quoted).to_owned()
}

/// All but the characters that RFC 3986 calls unreserved, escaped.
fn url(value: &[u8], hex: &Encoding) -> String {
    let escape = |byte: &u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(*byte).to_string(),
        _ => format!("%{}", hex.encode(&[*byte])),
    };
    value.iter().map(escape).collect()
}

fn numbers(value: &[u8], separator: &str) -> String {
    value.iter().map(u8::to_string).collect::<Vec<_>>().join(separator)
}
