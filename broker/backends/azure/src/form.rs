//! The body of a login.

use bursar_core::Secret;
use bytes::Bytes;
use zeroize::Zeroizing;

/// Pairs in the form `application/x-www-form-urlencoded`, in memory that is wiped.
pub(crate) fn form(pairs: &[(&str, &[u8])]) -> Bytes {
    // No byte takes more than three, so the buffer never grows and leaves no copy behind.
    let longest = pairs.iter().map(|(name, value)| 2 + 3 * (name.len() + value.len())).sum();
    let mut body = Zeroizing::new(Vec::with_capacity(longest));
    for (name, value) in pairs {
        if !body.is_empty() {
            body.push(b'&');
        }
        encode(name.as_bytes(), &mut body);
        body.push(b'=');
        encode(value, &mut body);
    }
    bursar_backend_http::body(Secret::from(body))
}

fn encode(bytes: &[u8], out: &mut Vec<u8>) {
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) {
            out.push(*byte);
        } else {
            out.extend([b'%', digit(byte >> 4), digit(byte & 0xf)]);
        }
    }
}

fn digit(nibble: u8) -> u8 {
    match nibble {
        0..=9 => b'0' + nibble,
        _ => b'A' - 10 + nibble,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_form_gives_another_meaning_is_escaped() {
        let body = form(&[("scope", b"https://v/.default"), ("secret", "a+b &=%~\u{e9}".as_bytes())]);
        assert_eq!(body.as_ref(), b"scope=https%3A%2F%2Fv%2F.default&secret=a%2Bb%20%26%3D%25~%C3%A9");
    }
}
