//! Who is asking.
//!
//! Identity is settled in two steps. What a connection presents is settled once, at its handshake: [`trust`] judges the
//! certificate and [`peer`] turns it into a [`Caller`]. What a call adds is settled per call: a token says who asks,
//! whoever's connection it is, and a node's is noted beside it ([`token`]); a node's agent may say on whose behalf it asks, and [`workload`] decides
//! whether it may. What of all that makes a machine a node is for [`admission`]. Nothing
//! behind this module sees a certificate or a header.

pub mod admission;
pub mod authority;
pub mod break_glass;
pub mod caller;
pub mod nodes;
pub mod peer;
pub mod tls;
pub mod token;
pub mod trust;
pub mod workload;

pub use authority::Authority;
pub use break_glass::BreakGlass;
pub use caller::{Caller, Method};
pub use trust::Trust;
