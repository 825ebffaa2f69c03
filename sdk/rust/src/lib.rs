//! The Rust client for Bursar: secrets and environments under leases, from a broker or from the agent of the node.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use bursar_sdk::{Address, Client, ReadOptions, Reference};
//!
//! let client = Client::connect(&Address::unix("/run/bursar/agent.sock"), None).await?;
//! let password = Reference::parse("vault/payments/db#password")?;
//!
//! // Once, or held and kept fresh for as long as the handle lives:
//! let read = client.read(&password, &ReadOptions::default()).await?;
//! let held = client.hold(password, ReadOptions::default()).await?;
//! # let _ = (read.value, held.current());
//! # Ok(())
//! # }
//! ```
//!
//! An agent and a broker serve the same API, so a program needs another [`Address`] to change from one to the other,
//! and [`Tls`] for a broker. Values arrive as [`Secret`], which is wiped when it is dropped and cannot be printed.
//!
//! What may be repeated is repeated by the one policy of `bursar_core::retry`, within the deadline of the call. A read is
//! repeated only where no answer can have been lost, as it may have made a credential: see [`Client::read`].

mod address;
mod call;
mod client;
mod connect;
mod environment;
mod error;
#[cfg(test)]
mod fake;
mod follow;
mod handle;
mod keep;
mod read;
mod token;

pub use address::{Address, AddressError};
pub use bursar_core::{Lease, LeaseId, Reference, Secret};
pub use client::Client;
pub use connect::{ConnectError, Identity, Tls, channel, channel_lazy};
pub use environment::{Contract, ResolveOptions, ResolvedEnvironment, ResolvedFile, ResolvedVariable};
pub use error::{Error, Refusal, Violation};
pub use follow::{Followed, Follower};
pub use handle::Handle;
pub use keep::KeptEnvironment;
pub use read::{Leased, ReadOptions};
pub use token::{TokenCommand, TokenCommandError, token_ends_at};
