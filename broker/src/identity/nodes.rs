//! What the broker keeps about its nodes, and the memory of evictions that every call of a node is checked against.

use std::collections::HashMap;
use std::net::IpAddr;
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
    pub address: Option<IpAddr>,
    /// When it was used. It is kept after that, so that a second use is seen for what it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_at: Option<Timestamp>,
}

impl JoinToken {
    /// Whether it is good, for somebody at `address`.
    ///
    /// # Errors
    /// [`TokenFault`].
    pub fn check(&self, address: IpAddr, now: Timestamp) -> Result<(), TokenFault> {
        match self {
            Self { used_at: Some(_), .. } => Err(TokenFault::Used),
            Self { expires_at, .. } if *expires_at <= now => Err(TokenFault::Expired),
            Self { address: Some(bound), .. } if *bound != address => Err(TokenFault::Address),
            _ => Ok(()),
        }
    }
}

/// Why a join token is not good. For the ledger and the log: whoever presents it is told the same in every case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenFault {
    /// The ledger has no such token.
    Unknown,
    Used,
    Expired,
    /// It is bound to another address.
    Address,
}

impl TokenFault {
    /// The name in audit records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "join_token_unknown",
            Self::Used => "join_token_used",
            Self::Expired => "join_token_expired",
            Self::Address => "join_token_address",
        }
    }
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
    fn a_token_is_good_once_in_time_and_from_its_address() {
        let (now, here) = (Timestamp::constant(1_000, 0), IpAddr::from([10, 0, 0, 1]));
        let token = JoinToken {
            node: "n1".to_owned(),
            expires_at: Timestamp::constant(1_001, 0),
            address: Some(here),
            used_at: None,
        };
        assert_eq!(token.check(here, now), Ok(()));
        assert_eq!(token.check(here, token.expires_at), Err(TokenFault::Expired));
        assert_eq!(token.check(IpAddr::from([10, 0, 0, 2]), now), Err(TokenFault::Address));
        let used = JoinToken { used_at: Some(now), ..token };
        assert_eq!(used.check(here, now), Err(TokenFault::Used));
    }

    #[test]
    fn a_token_of_an_earlier_release_is_read_as_not_used() {
        let kept = r#"{"node":"n1","expires_at":"2026-01-01T00:00:00Z","address":null}"#;
        let token: JoinToken = serde_json::from_str(kept).expect("token");
        assert_eq!(token.used_at, None);
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
