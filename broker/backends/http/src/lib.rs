//! The way to a store that speaks HTTP, the same for every backend whose store does.
//!
//! What an HTTP client usually brings is refused: proxies of the environment, redirects, repetition, bodies without a
//! limit. What it is given and gives is wiped where it lies: a credential goes out in memory that its secret owns, and a
//! body comes back in one buffer. Why a call failed is told as a kind and as the last cause below HTTP, which speaks of
//! sockets and certificates; never as an error of the client, which names addresses.

mod address;
mod answer;
mod assertion;
mod client;
mod credential;
#[cfg(feature = "testing")]
#[expect(clippy::expect_used, reason = "what is amiss fails the test")]
pub mod testing;

pub use address::{AddressError, address};
pub use answer::{NotReached, Unread, is_certificate_refused, whole};
pub use assertion::{Algorithm, assertion, pem_part};
pub use client::{Authorities, Plaintext, SetupError, client};
pub use credential::{Bearer, body, form, header, trimmed};
