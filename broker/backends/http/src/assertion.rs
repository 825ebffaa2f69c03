//! What the broker says of itself, signed with a key of its own: JSON Web Tokens (RFC 7519) by RSA.

use std::str;

use bursar_core::Secret;
use data_encoding::{BASE64, BASE64URL_NOPAD};
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaEncoding, RsaKeyPair};
use zeroize::Zeroizing;

/// How a token is signed; its header has to say the same (`alg`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    Rs256,
    Ps256,
}

/// Signs a token with the first RSA key of a PEM. `header` and `claims` are JSON. None where there is no key that signs
/// so, of 2048 bits or more.
pub fn assertion(header: &[u8], claims: &[u8], pem: &Secret, algorithm: Algorithm) -> Option<Secret> {
    let key = match pem_part(pem, "PRIVATE KEY") {
        Some(key) => RsaKeyPair::from_pkcs8(&key),
        None => RsaKeyPair::from_der(&pem_part(pem, "RSA PRIVATE KEY")?),
    };
    let (key, said) = (key.ok()?, [header, claims].map(|part| BASE64URL_NOPAD.encode(part)).join("."));
    let encoding: &dyn RsaEncoding = match algorithm {
        Algorithm::Rs256 => &RSA_PKCS1_SHA256,
        Algorithm::Ps256 => &RSA_PSS_SHA256,
    };
    let mut signature = Zeroizing::new(vec![0; key.public().modulus_len()]);
    key.sign(encoding, &SystemRandom::new(), said.as_bytes(), &mut signature).ok()?;

    // Of its final size from the start, so that it leaves no copy behind.
    let length = BASE64URL_NOPAD.encode_len(signature.len());
    let mut assertion = Zeroizing::new(vec![0; said.len() + 1 + length]);
    let (before, after) = assertion.split_at_mut(said.len() + 1);
    before.copy_from_slice(&[said.as_bytes(), b"."].concat());
    BASE64URL_NOPAD.encode_mut(&signature, after);
    Some(Secret::from(assertion))
}

/// The first part of a PEM with this label, decoded; none where there is none.
pub fn pem_part(pem: &Secret, label: &str) -> Option<Zeroizing<Vec<u8>>> {
    let pem = str::from_utf8(pem.expose()).ok()?;
    let (_, rest) = pem.split_once(&format!("-----BEGIN {label}-----"))?;
    let (text, _) = rest.split_once(&format!("-----END {label}-----"))?;
    let mut joined = Zeroizing::new(Vec::with_capacity(text.len()));
    joined.extend(text.bytes().filter(|byte| !byte.is_ascii_whitespace()));
    let mut part = Zeroizing::new(vec![0; BASE64.decode_len(joined.len()).ok()?]);
    let written = BASE64.decode_mut(&joined, &mut part).ok()?;
    part.truncate(written);
    Some(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(pem: &str, label: &str) -> Option<Vec<u8>> {
        pem_part(&Secret::from(pem.to_owned()), label).map(|part| part.to_vec())
    }

    #[test]
    fn a_part_is_found_by_its_label() {
        let pem =
            "words\n-----BEGIN A-----\nYW\nJj\n-----END A-----\n-----BEGIN B-----\r\nZGVm\r\n-----END B-----";
        assert_eq!(part(pem, "A").as_deref(), Some(&b"abc"[..]));
        assert_eq!(part(pem, "B").as_deref(), Some(&b"def"[..]));
        assert_eq!(part(pem, "C"), None);
        for bad in ["-----BEGIN A-----\nYWJj", "-----BEGIN A-----\n?\n-----END A-----", ""] {
            assert_eq!(part(bad, "A"), None, "`{bad}`");
        }
    }

    #[test]
    fn what_is_no_key_signs_nothing() {
        for bad in ["", "-----BEGIN PRIVATE KEY-----\nYWJj\n-----END PRIVATE KEY-----"] {
            let signed = assertion(b"{}", b"{}", &Secret::from(bad.to_owned()), Algorithm::Ps256);
            assert!(signed.is_none(), "`{bad}`");
        }
    }
}
