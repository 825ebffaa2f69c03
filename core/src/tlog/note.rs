//! Signed notes: a text, a blank line, and a line for each signature (C2SP signed-note).

use std::fmt;

use data_encoding::BASE64;
use thiserror::Error;

use super::key::{KeyId, Signer, Verifier, is_key_name};

/// A text with signatures that nobody has checked yet. The text comes out by [`SignedNote::open`] alone, so that it
/// cannot be used unchecked. Its own text form ([`fmt::Display`]) is the note.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedNote {
    text: String,
    signatures: Vec<Signature>,
}

impl SignedNote {
    /// Reads a note: at most 256 KiB, at most 100 signatures.
    ///
    /// # Errors
    /// [`NoteError`], which says which rule of the format the note breaks.
    pub fn parse(note: &str) -> Result<Self, NoteError> {
        if note.len() > MAX_LENGTH {
            return Err(NoteError::TooLong);
        }
        if note.contains(|character| character < ' ' && character != '\n') {
            return Err(NoteError::ControlCharacter);
        }
        // The last blank line divides: the text may have blank lines of its own.
        let (text, signatures) = note.rsplit_once("\n\n").ok_or(NoteError::Unsigned)?;
        let signatures = signatures.strip_suffix('\n').ok_or(NoteError::Unsigned)?;
        if signatures.split('\n').nth(MAX_SIGNATURES).is_some() {
            return Err(NoteError::TooManySignatures);
        }
        let signatures = signatures.split('\n').zip(1..);
        let signatures =
            signatures.map(|(line, number)| Signature::parse(line).ok_or(NoteError::Line { number }));
        Ok(Self { text: format!("{text}\n"), signatures: signatures.collect::<Result<_, _>>()? })
    }

    /// Signs `text`, which ends in a newline and has no other control characters.
    pub(super) fn sign(text: String, signer: &Signer) -> Self {
        let verifier = signer.verifier();
        let bytes = signer.sign(&text);
        let signature = Signature { name: verifier.name().to_owned(), id: verifier.id(), bytes };
        Self { text, signatures: vec![signature] }
    }

    /// The text, once the key of `verifier` is seen to have signed it. Signatures by other keys are passed over, as
    /// the format demands, so that witnesses may add theirs.
    ///
    /// # Errors
    /// [`NoteError::UnknownSigner`] when no signature claims to be by that key, [`NoteError::Forged`] when one claims
    /// so and is not.
    pub fn open(&self, verifier: &Verifier) -> Result<&str, NoteError> {
        let name = || verifier.name().to_owned();
        let mut signed = false;
        for signature in &self.signatures {
            if signature.name != verifier.name() || signature.id != verifier.id() {
                continue;
            }
            if !verifier.accepts(&self.text, &signature.bytes) {
                return Err(NoteError::Forged { name: name(), id: verifier.id() });
            }
            signed = true;
        }
        if signed {
            Ok(&self.text)
        } else {
            Err(NoteError::UnknownSigner { name: name(), id: verifier.id() })
        }
    }
}

impl fmt::Display for SignedNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        self.signatures.iter().try_for_each(|signature| writeln!(f, "{signature}"))
    }
}

/// Why a note cannot be believed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NoteError {
    #[error("the signed note is longer than {MAX_LENGTH} bytes")]
    TooLong,
    #[error("the signed note has a control character other than the newline")]
    ControlCharacter,
    #[error(
        "the signed note does not end in a blank line and whole signature lines; it may have been cut off"
    )]
    Unsigned,
    #[error("the signed note has more than {MAX_SIGNATURES} signatures")]
    TooManySignatures,
    #[error("signature line {number} of the signed note does not read `— NAME SIGNATURE`")]
    Line { number: usize },
    #[error(
        "the signed note is not signed by `{name}` with the key `{id}`; check that it is the key of this log"
    )]
    UnknownSigner { name: String, id: KeyId },
    #[error(
        "the signature of `{name}` with the key `{id}` does not fit the signed note, which was changed or forged"
    )]
    Forged { name: String, id: KeyId },
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Signature {
    name: String,
    id: KeyId,
    bytes: Vec<u8>,
}

impl Signature {
    fn parse(line: &str) -> Option<Self> {
        let (name, encoded) = line.strip_prefix(LINE_START)?.split_once(' ')?;
        let decoded = BASE64.decode(encoded.as_bytes()).ok()?;
        let (id, bytes) = decoded.split_first_chunk()?;
        let valid = is_key_name(name) && !bytes.is_empty();
        valid.then(|| Self { name: name.to_owned(), id: KeyId(*id), bytes: bytes.to_vec() })
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let signature = [self.id.0.as_slice(), &self.bytes].concat();
        write!(f, "{LINE_START}{} {}", self.name, BASE64.encode(&signature))
    }
}

/// An em dash and a space.
const LINE_START: &str = "\u{2014} ";
/// Room for the 16 signatures that the format demands of readers, were they all of the largest post-quantum kind.
const MAX_LENGTH: usize = 256 * 1024;
const MAX_SIGNATURES: usize = 100;

#[cfg(test)]
mod tests;
