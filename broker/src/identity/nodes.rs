//! What the broker keeps about its nodes, and the memory of evictions that every call of a node is checked against.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use bursar_core::SpiffeId;
use bursar_core::spiffe::{PrincipalKind, SpiffeIdError, TrustDomain};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::authority::NODE_LIFE;

/// A node as the ledger keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    pub joined_at: Timestamp,
    /// When its newest certificate was issued.
    pub seen_at: Timestamp,
    pub certificate_not_after: Timestamp,
    pub address: Option<String>,
    pub evicted_at: Option<Timestamp>,
    pub evict_reason: Option<String>,
}

/// A join token as the ledger keeps it, under the hash of the token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinToken {
    pub node: String,
    pub expires_at: Timestamp,
    /// The only address that may use it.
    pub address: Option<std::net::IpAddr>,
}

/// The SPIFFE ID of the node called `name`.
///
/// # Errors
/// When the name has characters that a SPIFFE ID cannot have.
pub fn node_id(domain: &TrustDomain, name: &str) -> Result<SpiffeId, SpiffeIdError> {
    SpiffeId::from_segments(domain, &["node", name])
}

/// The nodes whose certificates are still in date but no longer count.
///
/// A certificate issued before its node's eviction is refused; one issued after it (the node was let in again) is not.
/// An entry is of use only while such a certificate lives, so there are never more than the evictions of one
/// certificate's life.
#[derive(Debug, Default)]
pub struct Evictions(RwLock<HashMap<String, Timestamp>>);

impl Evictions {
    /// Remembers an eviction.
    pub fn insert(&self, node: String, at: Timestamp, now: Timestamp) {
        let mut evicted = self.0.write().unwrap_or_else(PoisonError::into_inner);
        evicted.retain(|_, at| now.duration_since(*at).unsigned_abs() <= NODE_LIFE + SLACK);
        evicted.insert(node, at);
    }

    /// Whether `id` is a node that was evicted after the certificate that it shows was issued.
    pub fn covers(&self, id: &SpiffeId, issued_at: Timestamp) -> bool {
        let PrincipalKind::Node { name } = id.kind() else { return false };
        let evicted = self.0.read().unwrap_or_else(PoisonError::into_inner);
        evicted.get(name).is_some_and(|at| issued_at <= *at)
    }
}

const SLACK: std::time::Duration = std::time::Duration::from_secs(120);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_from_before_the_eviction_is_refused_and_one_from_after_is_not() {
        let evictions = Evictions::default();
        let at = Timestamp::constant(1_000_000, 0);
        evictions.insert("n1".to_owned(), at, at);
        let node = node_id(&TrustDomain::parse("example.org").expect("domain"), "n1").expect("id");
        assert!(evictions.covers(&node, Timestamp::constant(999_999, 0)));
        assert!(!evictions.covers(&node, Timestamp::constant(1_000_001, 0)));
    }

    #[test]
    fn evictions_are_forgotten_once_no_certificate_can_be_left() {
        let evictions = Evictions::default();
        let at = Timestamp::constant(1_000_000, 0);
        evictions.insert("old".to_owned(), at, at);
        let later = at + NODE_LIFE + SLACK + SLACK;
        evictions.insert("new".to_owned(), later, later);
        assert_eq!(evictions.0.read().expect("lock").len(), 1);
    }
}
