//! A port on loopback for programs made for AWS: what AWS's Secrets Manager Agent answers (`GET /secretsmanager/get`), and
//! as much of Secrets Manager itself (`POST /`) as its SDKs need to read. Which store a secret is in makes no difference.
//!
//! It is another way to ask and none to be answered: a request becomes a read of an attested workload, or of the bearer of
//! a token, and goes the way of every read on the socket, so policy, leases, cache and journal know of nothing new.
//! [`port`] takes connections, [`kernel`] says whose they are, [`caller`] who asks, [`credential`] what a request says of
//! that; [`names`] and [`ask`] make a reference of a name; [`front`] and [`targets`] answer, by [`body`] and [`fault`].
//!
//! AWS's agent has one token for all programs of a machine. Here nobody is believed for knowing a word that others know
//! too: see decision 47.
//!
//! It writes and lists nothing, checks no signature, assumes no role, and keeps no cache of its own.

mod ask;
mod body;
mod caller;
mod credential;
mod fault;
mod front;
mod kernel;
mod names;
mod port;
mod targets;
#[cfg(test)]
mod tests;
#[cfg(feature = "testing")]
mod trial;

pub use front::Front;
pub use port::{Port, PortError};
#[cfg(feature = "testing")]
pub use trial::{connected, references};
