//! The keys that sign checkpoints and check them: Ed25519, named as C2SP signed-note names keys.

use std::fmt;

use data_encoding::{BASE64, HEXLOWER};
use ring::error::KeyRejected;
use ring::hmac;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use sha2::{Digest, Sha256};
use thiserror::Error;

use super::frontier::Frontier;

/// A public key and the name it signs under. Its text is a C2SP verifier key, `NAME+ID+KEY`, which other tools for
/// signed notes read too.
#[derive(Clone, PartialEq, Eq)]
pub struct Verifier {
    name: String,
    id: KeyId,
    public_key: [u8; PUBLIC_KEY_LENGTH],
}

impl Verifier {
    /// Parses a verifier key.
    ///
    /// # Errors
    /// [`KeyError`], which says which part is wrong.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        if text.len() > MAX_TEXT {
            return Err(KeyError::TooLong);
        }
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(KeyError::Parts);
        };
        let id = HEXLOWER.decode(id.as_bytes()).ok().and_then(|id| id.try_into().ok()).ok_or(KeyError::Id)?;
        let key = BASE64.decode(key.as_bytes()).map_err(|_| KeyError::Key)?;
        let (algorithm, key) = key.split_first().ok_or(KeyError::Key)?;
        if *algorithm != ALGORITHM {
            return Err(KeyError::Algorithm(*algorithm));
        }
        let verifier = Self::new(name, key.try_into().map_err(|_| KeyError::Key)?)?;
        if verifier.id != KeyId(id) {
            return Err(KeyError::IdMismatch { stated: KeyId(id), computed: verifier.id });
        }
        Ok(verifier)
    }

    /// The name. For the key of a log it is also the origin of the log's checkpoints.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The short id that tells keys of one name apart.
    pub fn id(&self) -> KeyId {
        self.id
    }

    pub(super) fn accepts(&self, text: &str, signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, self.public_key).verify(text.as_bytes(), signature).is_ok()
    }

    fn new(name: &str, public_key: [u8; PUBLIC_KEY_LENGTH]) -> Result<Self, KeyError> {
        if !is_key_name(name) {
            return Err(KeyError::Name);
        }
        Ok(Self { id: KeyId::of(name, &public_key), name: name.to_owned(), public_key })
    }
}

impl fmt::Display for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut key = vec![ALGORITHM];
        key.extend_from_slice(&self.public_key);
        write!(f, "{}+{}+{}", self.name, self.id, BASE64.encode(&key))
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Verifier({self})")
    }
}

/// A private key and the name it signs under.
///
/// `ring` keeps the expanded key in memory that it does not wipe. It lives as long as the process that signs, and is
/// never written anywhere; the PKCS#8 bytes it came from stay with the caller.
pub struct Signer {
    key: Ed25519KeyPair,
    /// Derived from the same document, so whoever can sign can seal.
    sealing: hmac::Key,
    verifier: Verifier,
}

impl Signer {
    /// Takes the key from the PKCS#8 version 2 document that `ring` generates, which holds the public key too.
    ///
    /// # Errors
    /// [`KeyError::Name`] and [`KeyError::Pkcs8`].
    pub fn from_pkcs8(name: &str, document: &[u8]) -> Result<Self, KeyError> {
        let key = Ed25519KeyPair::from_pkcs8(document).map_err(KeyError::Pkcs8)?;
        let public_key = key.public_key().as_ref().try_into().map_err(|_| KeyError::Key)?;
        let sealing = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, document), SEALING);
        let sealing = hmac::Key::new(hmac::HMAC_SHA256, sealing.as_ref());
        Ok(Self { verifier: Verifier::new(name, public_key)?, key, sealing })
    }

    /// Seals the right edge of the log: 32 bytes that only this key makes, and only it can check. They hold a log
    /// together between two checkpoints for a hundredth of what a signature costs.
    pub fn seal(&self, edge: &Frontier) -> Vec<u8> {
        hmac::sign(&self.sealing, &edge.to_bytes()).as_ref().to_vec()
    }

    /// Whether `seal` is what [`Signer::seal`] makes of `edge`.
    pub fn has_sealed(&self, edge: &Frontier, seal: &[u8]) -> bool {
        hmac::verify(&self.sealing, &edge.to_bytes(), seal).is_ok()
    }

    /// The public half, for whoever is to check what this signs.
    pub fn verifier(&self) -> &Verifier {
        &self.verifier
    }

    pub(super) fn sign(&self, text: &str) -> Vec<u8> {
        self.key.sign(text.as_bytes()).as_ref().to_vec()
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("verifier", &self.verifier).finish_non_exhaustive()
    }
}

/// The first four bytes of a hash over name, algorithm and public key. It finds a key; it does not prove one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KeyId(pub(super) [u8; 4]);

impl KeyId {
    fn of(name: &str, public_key: &[u8]) -> Self {
        let hash = Sha256::new().chain_update(name).chain_update([b'\n', ALGORITHM]).chain_update(public_key);
        let [first, second, third, fourth, ..] = <[u8; 32]>::from(hash.finalize());
        Self([first, second, third, fourth])
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

/// Why a key cannot be used.
#[derive(Debug, Error)]
pub enum KeyError {
    #[error("the verifier key is longer than {MAX_TEXT} bytes")]
    TooLong,
    #[error("the verifier key does not read `NAME+ID+KEY`; copy it whole")]
    Parts,
    #[error("the key's name is empty, or has a space, a `+` or a control character")]
    Name,
    #[error("the verifier key's id is not 8 lower-case hexadecimal digits")]
    Id,
    #[error("the verifier key's last part is not the base64 of an Ed25519 public key")]
    Key,
    #[error("the verifier key is for algorithm {0}; only Ed25519, algorithm {ALGORITHM}, signs checkpoints")]
    Algorithm(u8),
    #[error(
        "the verifier key says its id is `{stated}`, but its name and key make `{computed}`; copy it whole"
    )]
    IdMismatch { stated: KeyId, computed: KeyId },
    #[error("the signing key is not an Ed25519 key in PKCS#8 with its public key")]
    Pkcs8(#[source] KeyRejected),
}

/// Whether `name` can stand in a signature line.
pub(super) fn is_key_name(name: &str) -> bool {
    let breaks = |character: char| character.is_whitespace() || character < ' ' || character == '+';
    !name.is_empty() && !name.contains(breaks)
}

const ALGORITHM: u8 = 0x01;
/// Keeps the sealing key apart from whatever else may be derived from the document.
const SEALING: &[u8] = b"bursar: seals of the edge of a transparency log, 1";
const PUBLIC_KEY_LENGTH: usize = 32;
/// Far above what a name made of a trust domain and a broker's name comes to.
const MAX_TEXT: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tlog::fixtures::{PETER, filled, leaves, signer};

    #[test]
    fn a_verifier_key_reads_back_as_it_was_written() {
        // The first is from the C2SP signed-note specification, the second from the Go implementation.
        for text in ["example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k", PETER] {
            assert_eq!(Verifier::parse(text).expect("verifier key").to_string(), text);
        }
    }

    #[test]
    fn a_signer_has_the_verifier_key_that_goes_with_its_private_key() {
        assert_eq!(signer("PeterNeumann").verifier().to_string(), PETER);
    }

    #[test]
    fn no_part_of_a_verifier_key_is_one() {
        for start in 0..PETER.len() {
            for end in start..=PETER.len() {
                let part = PETER.get(start..end).expect("ASCII");
                assert!(part == PETER || Verifier::parse(part).is_err(), "accepted {part}");
            }
        }
    }

    #[test]
    fn a_verifier_key_with_any_character_changed_is_refused() {
        for position in 0..PETER.len() {
            let mut changed = PETER.as_bytes().to_vec();
            changed[position] += 1;
            let changed = String::from_utf8(changed).expect("ASCII");
            assert!(Verifier::parse(&changed).is_err(), "accepted {changed}");
        }
    }

    #[test]
    fn each_fault_of_a_verifier_key_is_named() {
        let fault = |text: &str| Verifier::parse(text).expect_err("accepted");
        assert!(matches!(fault(&"a".repeat(1025)), KeyError::TooLong));
        assert!(matches!(fault("name+12345678"), KeyError::Parts));
        assert!(matches!(fault(&PETER.replace("c74f20a3", "C74F20A3")), KeyError::Id));
        assert!(matches!(fault(&PETER.replace("c74f20a3", "00c74f20a3")), KeyError::Id));
        assert!(matches!(fault(&PETER.replace("Peter", "Peter ")), KeyError::Name));
        assert!(matches!(fault(&PETER.replace("PeterNeumann", "")), KeyError::Name));
        assert!(matches!(fault(&PETER.replace("Peter", "Paul")), KeyError::IdMismatch { .. }));
        // Both have the id that goes with their key.
        let unknown = "PeterNeumann+173116ae+ZRpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
        assert!(matches!(fault(unknown), KeyError::Algorithm(0x65)));
        let long = "PeterNeumann+cc469956+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TWBADKEY==";
        assert!(matches!(fault(long), KeyError::Key));
    }

    #[test]
    fn what_is_no_private_key_is_refused() {
        assert!(matches!(Signer::from_pkcs8("log", b"no key"), Err(KeyError::Pkcs8(_))));
    }

    #[test]
    fn a_seal_is_of_one_edge_and_one_key() {
        let (one, other) = (filled(&leaves(7)), filled(&leaves(8)));
        let signer = signer("PeterNeumann");
        let seal = signer.seal(&one);
        assert!(signer.has_sealed(&one, &seal));
        assert!(!signer.has_sealed(&other, &seal));
        assert!(!signer.has_sealed(&one, &[]));
        let key = Ed25519KeyPair::generate_pkcs8(&ring::rand::SystemRandom::new()).expect("key");
        let stranger = Signer::from_pkcs8("PeterNeumann", key.as_ref()).expect("signer");
        assert!(!stranger.has_sealed(&one, &seal));
    }

    #[test]
    fn a_signer_shows_only_its_public_half() {
        assert_eq!(
            format!("{:?}", signer("PeterNeumann")),
            format!("Signer {{ verifier: Verifier({PETER}), .. }}")
        );
    }
}
