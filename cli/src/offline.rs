//! Copies of environments that are kept on this machine, for when there is no broker.
//!
//! A copy has a head, which says in the clear what it is a copy of and until when it may be used, and behind it the values,
//! sealed by a key that is derived from the identity. Nothing in the head is believed until the file is opened: it is
//! authenticated with what is sealed.
//!
//! Not an age file, which would be encrypted to the identity's public half: that says nothing of who made it, and whoever
//! may write the folder of copies could put variables into somebody's programs. What is needed against that, a seal by
//! the identity itself, needs nothing around it. So somebody who has no identity can take copies away and put older ones
//! back, and nothing else: what he makes, changes, renames or gives other times does not open.

mod copy;
mod error;
mod identity;
mod lookup;
mod seal;
mod shelf;
#[cfg(test)]
mod testing;

pub(crate) use copy::Head;
pub(crate) use error::OfflineError;
pub(crate) use identity::{Identity, generate};
pub(crate) use lookup::look_up;
pub(crate) use seal::seal;
pub(crate) use shelf::Shelf;
