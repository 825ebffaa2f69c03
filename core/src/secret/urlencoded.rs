//! Forms, which carry credentials to those who issue tokens.

use zeroize::Zeroizing;

/// The body of a request that is a form (`application/x-www-form-urlencoded`, escaped as RFC 3986 section 2.3 says).
/// The names of fields are plain words.
pub fn urlencoded<'pair>(
    pairs: impl IntoIterator<Item = (&'pair str, &'pair [u8]), IntoIter: Clone>,
) -> Zeroizing<Vec<u8>> {
    let pairs = pairs.into_iter();
    // A byte takes at most three: the buffer never grows, so it leaves no copy behind.
    let most = pairs.clone().map(|(name, value)| 2 + name.len() + 3 * value.len()).sum();
    let mut form = Zeroizing::new(Vec::with_capacity(most));
    for (name, value) in pairs {
        if !form.is_empty() {
            form.push(b'&');
        }
        form.extend_from_slice(name.as_bytes());
        form.push(b'=');
        for byte in value {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => form.push(*byte),
                other => form.extend([b'%', digit(other >> 4), digit(other & 0xF)]),
            }
        }
    }
    form
}

fn digit(half: u8) -> u8 {
    if half < 10 { b'0' + half } else { b'A' + half - 10 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_escaped_in_the_buffer_it_began_in() {
        let pairs: [(&str, &[u8]); 2] = [("a", b"urn:x/y+z"), ("b", b"1.-_~\xff &=\xc3\xa9")];
        let form = urlencoded(pairs);
        assert_eq!(form.as_slice(), b"a=urn%3Ax%2Fy%2Bz&b=1.-_~%FF%20%26%3D%C3%A9");
        assert_eq!(form.capacity(), 2 * (1 + 2) + 3 * (9 + 11));
    }
}
