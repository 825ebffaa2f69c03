//! The node's own identity: a certificate that says `/node/NAME`, and the key that goes with it.
//!
//! The key is made here, never leaves the machine, and is made anew for every certificate. A machine joins once, with a
//! one-time token; from then on its certificate is what renews it. One that joins by what its cluster or its authority gave
//! it does so again for each certificate. Either way that is somewhere between 45 and 55 % of a certificate's life, so that
//! a fleet that was installed at once does not renew at once. Nothing here ends the process: a node that cannot renew goes
//! on with what it has, and one whose certificate ended is not ready, says so, and tries for as long as it runs.

mod certify;
mod credential;
mod keep;
#[cfg(test)]
mod tests;

pub use certify::CertifyError;
pub(crate) use credential::write_private;
pub use credential::{Credential, CredentialError};
pub use keep::Keeper;
