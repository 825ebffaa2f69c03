//! From an environment's name to what a program may be given of its copy.

use bursar_sdk::ResolvedEnvironment;
use jiff::Timestamp;

use super::copy::Head;
use super::error::OfflineError;
use super::identity::Identity;
use super::seal::open;
use super::shelf::Shelf;
use crate::error::Error;

/// The copy of an environment, if it may be used at `now` and opens with `identity`, which is asked for last: somebody may
/// have to touch a key for it. One that is over is removed.
///
/// # Errors
/// [`OfflineError`], those of [`Shelf::read`], and those of `identity`.
pub(crate) fn look_up(
    shelf: &Shelf,
    environment: &str,
    broker: &str,
    now: Timestamp,
    identity: impl FnOnce() -> Result<Identity, Error>,
) -> Result<(Head, ResolvedEnvironment), Error> {
    let path = shelf.path(environment, broker);
    let file = shelf.read(environment, broker)?;
    let (head, length) = Head::read(&file).ok_or_else(|| OfflineError::NoCopy { path: path.clone() })?;
    head.is_of(environment, broker, &path)?;
    match head.usable(now) {
        Err(over @ OfflineError::Over { .. }) => {
            Shelf::remove(&path)?;
            return Err(over.into());
        }
        usable => usable?,
    }
    // What the head says is true from here on: it opens with no other.
    let resolved = open(&file, length, &identity()?, &path)?;
    Ok((head, resolved))
}

#[cfg(test)]
mod tests;
