//! Checkpoints: a log's head, signed by the log (C2SP tlog-checkpoint).

use thiserror::Error;

use super::hash::Hash;
use super::key::{Signer, Verifier};
use super::note::{NoteError, SignedNote};
use super::tree::TreeHead;

/// A head that its log is known to have signed: there is no other way to come by one.
///
/// The origin is the name of the key, so a checkpoint of one broker's log never passes for that of another, even where
/// both sign with one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    origin: String,
    head: TreeHead,
    extensions: Vec<String>,
}

impl Checkpoint {
    /// Makes and signs the checkpoint of `head`, of the log that is named as the key is.
    pub fn sign(head: TreeHead, signer: &Signer) -> SignedNote {
        let TreeHead { size, root } = head;
        SignedNote::sign(format!("{}\n{size}\n{root}\n", signer.verifier().name()), signer)
    }

    /// Reads the text of a signed note and checks that the log of `verifier` signed it.
    ///
    /// # Errors
    /// [`CheckpointError`], which says what is wrong with the note, its signature or its text.
    pub fn open(note: &str, verifier: &Verifier) -> Result<Self, CheckpointError> {
        let note = SignedNote::parse(note)?;
        let checkpoint = Self::parse(note.open(verifier)?)?;
        if checkpoint.origin != verifier.name() {
            return Err(CheckpointError::Foreign {
                origin: checkpoint.origin,
                log: verifier.name().to_owned(),
            });
        }
        Ok(checkpoint)
    }

    /// The name of the log.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Size and root.
    pub fn head(&self) -> TreeHead {
        self.head
    }

    /// Further lines that the log signed, as they stand. Bursar writes none and gives them no meaning.
    pub fn extensions(&self) -> &[String] {
        &self.extensions
    }

    fn parse(text: &str) -> Result<Self, CheckpointError> {
        let lines = text.strip_suffix('\n').ok_or(CheckpointError::Lines)?;
        let mut lines = lines.split('\n');
        let (Some(origin), Some(size), Some(root)) = (lines.next(), lines.next(), lines.next()) else {
            return Err(CheckpointError::Lines);
        };
        if origin.is_empty() {
            return Err(CheckpointError::Origin);
        }
        let size = parse_size(size).ok_or(CheckpointError::Size)?;
        let root = Hash::parse(root).map_err(|_| CheckpointError::Root)?;
        let extensions: Vec<_> = lines.map(str::to_owned).collect();
        if extensions.iter().any(String::is_empty) {
            return Err(CheckpointError::Extension);
        }
        Ok(Self { origin: origin.to_owned(), head: TreeHead { size, root }, extensions })
    }
}

/// Why a checkpoint cannot be believed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CheckpointError {
    #[error(transparent)]
    Note(#[from] NoteError),
    #[error("the checkpoint has fewer lines than its origin, size and root")]
    Lines,
    #[error("the checkpoint's first line, its origin, is empty")]
    Origin,
    #[error("the checkpoint's second line is not a size in decimal without leading zeros")]
    Size,
    #[error("the checkpoint's third line is not a root hash in base64")]
    Root,
    #[error("the checkpoint has an empty extension line")]
    Extension,
    #[error("the checkpoint is of the log `{origin}`, not of `{log}`; ask for that of the right broker")]
    Foreign { origin: String, log: String },
}

/// Decimal as the format wants it: `u64::from_str` alone would take `+1` and `007`.
fn parse_size(text: &str) -> Option<u64> {
    let size: u64 = text.parse().ok()?;
    (size.to_string() == text).then_some(size)
}

#[cfg(test)]
mod tests;
