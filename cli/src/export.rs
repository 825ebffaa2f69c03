//! The export of an audit log: the file that `bursar audit export` writes and `bursar audit verify` reads.
//!
//! JSON Lines. Every record of the log in order, from the first, each line the exact bytes that the broker stored and
//! hashed. Where the export begins later, since older records were pruned or left out, a line stands before them,
//! `{"start": 512, "edge": "…"}`: the first record and the right edge of the tree before it, which needs no trust (see
//! [`LogVerifier::start_at`]). Then one last line, `{"checkpoint": "…", "key": "…"}`: the signed note over exactly these records (C2SP
//! tlog-checkpoint) and the verifier key that the broker claims (C2SP signed-note, `NAME+ID+KEY`).
//!
//! The key in the file is a claim: whoever can forge the records can forge it too. It is used for want of another, and
//! then the outcome says so. What is verified does not depend on the meaning of a record; its number alone is read, to
//! say where the first record out of place stands.

use std::io::BufRead;
use std::path::Path;

use bursar_core::tlog::{Frontier, LogVerifier, Verifier};
use serde::{Deserialize, Serialize};

use crate::error::Error;

/// The last line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Trailer {
    /// The signed note.
    pub(crate) checkpoint: String,
    /// The verifier key that the broker claims.
    pub(crate) key: String,
}

/// The first line of an export that does not begin with record 0.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Start {
    /// The first record.
    pub(crate) start: u64,
    /// The right edge of the tree before it, in base64.
    pub(crate) edge: String,
}

/// What was proven.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Verified {
    /// How many records there are.
    pub(crate) records: u64,
    /// The first of them: those before it were pruned or left out.
    pub(crate) first: u64,
    /// The root of their Merkle tree, in base64.
    pub(crate) root: String,
    /// The log's name.
    pub(crate) origin: String,
    /// The id of the key that signed.
    pub(crate) key_id: String,
    /// Whether the key came another way than with the records.
    pub(crate) key_trusted: bool,
}

/// Takes the records one by one, and at the end the checkpoint.
#[derive(Debug)]
pub(crate) struct Verification {
    log: LogVerifier,
    key_id: String,
    key_trusted: bool,
    /// The first record, and the next one that is wanted.
    first: u64,
    next: u64,
    misplaced: Option<String>,
}

impl Verification {
    pub(crate) fn new(verifier: Verifier, key_trusted: bool) -> Self {
        let key_id = verifier.id().to_string();
        Self { log: LogVerifier::new(verifier), key_id, key_trusted, first: 0, next: 0, misplaced: None }
    }

    /// Begins after the records that are not there.
    ///
    /// # Errors
    /// [`Error::Export`] when the edge is none, or that of another place.
    pub(crate) fn start_at(&mut self, start: &Start) -> Result<(), Error> {
        let edge = data_encoding::BASE64.decode(start.edge.as_bytes()).ok();
        let edge = edge.and_then(|edge| Frontier::from_bytes(&edge).ok());
        let edge = edge.filter(|edge| edge.size() == start.start);
        let edge = edge.ok_or_else(|| Error::Export("its start cannot be read".to_owned()))?;
        self.log.start_at(edge);
        (self.first, self.next) = (start.start, start.start);
        Ok(())
    }

    /// Takes the next record, without its line end.
    pub(crate) fn push(&mut self, record: &[u8]) {
        if self.misplaced.is_none() {
            self.misplaced = misplaced(self.next, self.next - self.first + 1, record);
        }
        self.next += 1;
        self.log.push(record);
    }

    /// Compares the records with what the broker signed.
    ///
    /// # Errors
    /// [`Error::Unverified`]; [`Error::Export`] when the records are as signed and still not in order.
    pub(crate) fn finish(self, note: &str) -> Result<Verified, Error> {
        let place = self.misplaced;
        let checkpoint = match self.log.finish(note) {
            Ok(checkpoint) => checkpoint,
            Err(source) => return Err(Error::Unverified { place, source }),
        };
        if let Some(place) = place {
            return Err(Error::Export(format!("it is as the broker signed it, but {place}")));
        }
        Ok(Verified {
            records: self.next - self.first,
            first: self.first,
            root: checkpoint.head().root.to_string(),
            origin: checkpoint.origin().to_owned(),
            key_id: self.key_id,
            key_trusted: self.key_trusted,
        })
    }
}

/// Reads a whole export; `each` is told of every record.
///
/// # Errors
/// [`Error::Unreadable`], [`Error::Export`], and those of [`Verification::finish`].
pub(crate) fn verify(
    file: impl BufRead,
    path: &Path,
    mut verification: Verification,
    mut each: impl FnMut(),
) -> Result<Verified, Error> {
    let mut lines = Lines { file, path, line: Vec::new(), number: 0 };
    while let Some(line) = lines.next()? {
        if verification.next == 0
            && let Some(start) = start(line)?
        {
            verification.start_at(&start)?;
            continue;
        }
        if let Some(trailer) = trailer(line)? {
            return match lines.next()? {
                None => verification.finish(&trailer.checkpoint),
                Some(_) => Err(Error::Export("something follows its checkpoint".to_owned())),
            };
        }
        verification.push(line);
        each();
    }
    Err(Error::Export("it has no checkpoint at its end, so it was cut off or is no export".to_owned()))
}

/// The key that an export claims.
///
/// # Errors
/// [`Error::Unreadable`], [`Error::Export`].
pub(crate) fn claimed_key(file: impl BufRead, path: &Path) -> Result<String, Error> {
    let mut lines = Lines { file, path, line: Vec::new(), number: 0 };
    while let Some(line) = lines.next()? {
        if let Some(trailer) = trailer(line)? {
            return Ok(trailer.key);
        }
    }
    Err(Error::Export("it has no checkpoint at its end, so it was cut off or is no export".to_owned()))
}

struct Lines<'path, F> {
    file: F,
    path: &'path Path,
    line: Vec<u8>,
    number: u64,
}

impl<F: BufRead> Lines<'_, F> {
    /// The next line without its end.
    fn next(&mut self) -> Result<Option<&[u8]>, Error> {
        self.line.clear();
        self.number += 1;
        let mut bounded = std::io::Read::take(&mut self.file, LONGEST_LINE);
        let read = bounded.read_until(b'\n', &mut self.line);
        match read.map_err(|source| Error::Unreadable { path: self.path.to_owned(), source })? {
            0 => Ok(None),
            _ if self.line.ends_with(b"\n") => {
                self.line.pop();
                Ok(Some(&self.line))
            }
            _ => Err(Error::Export(format!("line {} does not end, so it was cut off there", self.number))),
        }
    }
}

/// The last line, if this is it. Records begin with their number, so no record looks like one.
fn trailer(line: &[u8]) -> Result<Option<Trailer>, Error> {
    if !line.starts_with(b"{\"checkpoint\":") {
        return Ok(None);
    }
    let read = serde_json::from_slice(line);
    read.map(Some).map_err(|_| Error::Export("its checkpoint cannot be read".to_owned()))
}

/// The first line, if it says where the export starts. Records begin with their number, so no record looks like it.
fn start(line: &[u8]) -> Result<Option<Start>, Error> {
    if !line.starts_with(b"{\"start\":") {
        return Ok(None);
    }
    let read = serde_json::from_slice(line);
    read.map(Some).map_err(|_| Error::Export("its start cannot be read".to_owned()))
}

/// Why the record in the place of `position`, the `line`th of the export, does not belong there, as far as its number
/// says.
fn misplaced(position: u64, line: u64, record: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Numbered {
        seq: u64,
    }
    match serde_json::from_slice::<Numbered>(record) {
        Ok(Numbered { seq }) if seq == position => None,
        Ok(Numbered { seq }) => {
            Some(format!("record {seq} stands in the place of record {position}, line {line}"))
        }
        Err(_) => Some(format!("what stands in the place of record {position}, line {line}, is no record")),
    }
}

/// Far above any record.
const LONGEST_LINE: u64 = 2 * 1024 * 1024;

#[cfg(test)]
mod tests;
