//! Digests of what a decision depends on.
//!
//! A decision is looked up by a SHA-256 digest alone, without comparing what was digested. Callers choose part of the
//! input (a path, a version), so the digest must be one for which nobody can find two inputs; and entries have one size
//! however long a path is.

use sha2::{Digest, Sha256};

/// A digest in the making. Every part carries its length, so that no two lists of parts read the same.
pub(super) struct Fingerprint(Sha256);

impl Fingerprint {
    pub(super) fn new() -> Self {
        Self(Sha256::new())
    }

    pub(super) fn part(mut self, part: &[u8]) -> Self {
        self.0.update((part.len() as u64).to_le_bytes());
        self.0.update(part);
        self
    }

    pub(super) fn text(self, text: &str) -> Self {
        self.part(text.as_bytes())
    }

    /// Absent and empty differ.
    pub(super) fn optional(self, text: Option<&str>) -> Self {
        match text {
            Some(text) => self.part(&[1]).text(text),
            None => self.part(&[0]),
        }
    }

    /// Two lists one after the other cannot pass for one.
    pub(super) fn texts(self, texts: impl ExactSizeIterator<Item: AsRef<str>>) -> Self {
        let counted = self.part(&(texts.len() as u64).to_le_bytes());
        texts.fold(counted, |print, text| print.text(text.as_ref()))
    }

    pub(super) fn finish(self) -> [u8; 32] {
        self.0.finalize().into()
    }
}
