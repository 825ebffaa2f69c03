//! For those who try what can be done to the reading of a state, by whoever writes the file, or by an agent that was not
//! this one.

use bursar_core::Secret;
use zeroize::Zeroizing;

use super::Surroundings;
use super::seal::{Head, Sealer};

/// A file with these pieces, sealed under `key`.
pub fn sealed(key: &Secret, pieces: &[&[u8]]) -> Option<Vec<u8>> {
    let head =
        Head { boot: "boot".to_owned(), node: "spiffe://example.org/node/web-1".to_owned(), number: 1 };
    let mut sealer = Sealer::new(key, &head).ok()?;
    for piece in pieces {
        sealer.add(Zeroizing::new(piece.to_vec()), false).ok()?;
    }
    sealer.add(Zeroizing::new(Vec::new()), true).ok()?;
    Some(sealer.finish())
}

/// Takes up what is in a file, as an agent does that starts: how many answers, and how many lines of the journal. Nothing,
/// where the file does not open or cannot be read.
pub fn taken_up(around: &Surroundings, key: &Secret, file: &[u8]) -> Option<(usize, usize)> {
    Head::read(file)?;
    around.open_all(key, file).ok().map(|resumed| (resumed.answers, resumed.lines))
}
