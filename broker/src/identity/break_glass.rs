//! The way in for an emergency: when whoever says who people are is down, or policies lock everybody out.
//!
//! A certificate for it is made beside the broker, with the seal key ([`issue`](crate::break_glass::issue)), lives for
//! hours at most and says why it was made. What it may do is not up to policies ([`crate::policy`]); that it does so is
//! in the log before it does it. It is the broker's own authority alone that may name this principal, and only while
//! the configuration lets it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bursar_core::SpiffeId;
use tokio::sync::OnceCell;
use x509_parser::oid_registry::{Oid, asn1_rs::oid};
use x509_parser::prelude::X509Certificate;

use super::peer::{CertificateFault, Peer};

/// Who may come by it, if anybody may.
#[derive(Debug, Clone)]
pub struct BreakGlass {
    /// The one principal.
    pub id: SpiffeId,
    /// For how long a certificate may live; the path is closed without.
    pub life: Option<Duration>,
}

impl BreakGlass {
    /// Whether the certificate of `peer`, who has the principal's name, is let in.
    ///
    /// # Errors
    /// [`CertificateFault::BreakGlass`].
    pub(super) fn admit(&self, peer: &Peer) -> Result<(), CertificateFault> {
        let fault = |why| Err(CertificateFault::BreakGlass { why });
        let Some(life) = self.life else { return fault("this broker's configuration has no such table") };
        if peer.not_before.saturating_add(life + EARLY).is_ok_and(|end| end < peer.not_after) {
            return fault("it lives longer than `life` there");
        }
        match peer.purpose {
            Some(_) => Ok(()),
            None => fault("it does not say why it was made; make one by `bursar-broker break-glass`"),
        }
    }
}

/// A connection that came by it.
pub struct Broken {
    /// Why the certificate was made.
    pub reason: Arc<str>,
    /// Set once the ledger has it.
    pub recorded: OnceCell<()>,
}

impl Broken {
    pub(super) fn because(reason: Arc<str>) -> Self {
        Self { reason, recorded: OnceCell::new() }
    }
}

impl fmt::Debug for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broken").field("reason", &self.reason).finish_non_exhaustive()
    }
}

/// What the subject of a certificate says that it is for (`description`, X.520 section 6.5.1).
pub(super) fn purpose(certificate: &X509Certificate<'_>) -> Option<Arc<str>> {
    let mut said = certificate.subject().iter_by_oid(&DESCRIPTION);
    let said = said.next()?.as_str().ok()?;
    (!said.is_empty() && said.chars().count() <= MAX_PURPOSE).then(|| said.into())
}

/// Characters.
pub const MAX_PURPOSE: usize = 512;
/// `description`.
pub(super) const DESCRIPTION_OID: [u64; 4] = [2, 5, 4, 13];
const DESCRIPTION: Oid<'static> = oid!(2.5.4.13);
/// A certificate counts from a minute before it was made.
const EARLY: Duration = Duration::from_secs(60);
