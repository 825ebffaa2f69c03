//! The vocabulary of Bursar: what every other crate means by a secret, a reference, a principal, a lease and an
//! audit record.
//!
//! Nothing here speaks gRPC or HTTP, opens a file or a socket, or reads a clock or an environment variable. A type
//! that holds is checked where it is made (`parse`, `TryFrom`), so nothing downstream checks it again.

pub mod audit;
pub mod backend;
pub mod clock;
#[cfg(feature = "testing")]
pub mod conformance;
mod explained;
pub mod lease;
pub mod memory;
pub mod reference;
pub mod retry;
pub mod secret;
pub mod settings;
pub mod spiffe;
pub mod tasks;
pub mod tlog;

pub use clock::{Clock, SystemClock};
pub use explained::Explained;
pub use lease::{Lease, LeaseId, LeaseState};
pub use reference::{BackendName, FieldName, Reference, SecretPath, Version};
pub use secret::Secret;
pub use spiffe::SpiffeId;
