//! Wire to core and back, by hand, once, at the edge.
//!
//! Core to wire cannot fail and is `From`. Wire to core is checked and is `TryFrom`: what comes out of it holds, and
//! nothing behind it checks again. Strings that are empty on the wire where the core has an `Option` are `None`: the
//! .proto files say so field by field.

mod audit;
mod error;
mod lease;
mod secret;
mod time;

pub use audit::{decision_from_wire, outcome_from_wire};
pub use error::WireError;
pub use lease::{lease_state_from_wire, ttl_bound_from_wire};
pub use secret::{JoinCredential, wire_bytes};
pub use time::{duration_from_wire, duration_to_wire, timestamp_from_wire, timestamp_to_wire};

/// For a string that is empty on the wire when there is none.
fn filled(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}
