//! What the tests of backends whose stores speak HTTP have in common: a server that answers what a test tells it to, one
//! that shows a certificate and hangs up, and what was logged. Where something is amiss, it fails the test.

mod fake;
mod log;
mod shown;

use std::sync::Once;

use bursar_core::SecretPath;
use rustls::crypto::ring::default_provider;

pub use fake::{Call, Fake, Reply};
pub use log::Log;
pub use shown::{Shown, certificate, each_certificate_has_its_kind};

/// An RSA key of 2048 bits (PKCS #8, PEM) that opens nothing.
pub const KEY: &str = include_str!("testing/key.pem");

/// Makes ring the process's provider of TLS, whichever test comes first.
pub fn install_provider() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| default_provider().install_default().expect("the only provider"));
}

/// A path of a store.
pub fn path(text: &str) -> SecretPath {
    SecretPath::from_store(text).expect("path")
}
