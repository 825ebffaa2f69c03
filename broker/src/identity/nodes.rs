//! What the broker keeps about its nodes, and the memory of evictions that every call of a node is checked against.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use bursar_core::SpiffeId;
use bursar_core::spiffe::{PrincipalKind, SpiffeIdError, TrustDomain};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

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
    /// Certificates that begin before this do not count: they are from before an eviction. It outlasts the node's return.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certified_from: Option<Timestamp>,
    #[serde(default)]
    pub let_in_by: LetInBy,
}

/// What let a node in, and so what lets it in again.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LetInBy {
    /// A join token, and only another one does so again.
    #[default]
    JoinToken,
    /// The rule of the configuration that is called so.
    Rule(String),
    /// An administrator said so after an eviction: any rule that fits, which none has yet.
    Readmission,
}

impl LetInBy {
    /// The words for people: `join_token`, `identity.nodes.NAME` or `readmission`.
    pub fn as_str(&self) -> &str {
        match self {
            Self::JoinToken => "join_token",
            Self::Rule(rule) => rule,
            Self::Readmission => "readmission",
        }
    }
}

impl Node {
    /// Shuts it out at `now`.
    pub fn evict(&mut self, now: Timestamp, reason: Option<String>) {
        // Certificates have whole seconds, and those that this node gets later must begin after those it had.
        let second = Timestamp::from_second(now.as_second()).unwrap_or(now);
        let after = self.certified_from.and_then(|before| before.checked_add(Duration::from_secs(1)).ok());
        self.certified_from = Some(after.map_or(second, |after| after.max(second)));
        self.evicted_at = Some(now);
        self.evict_reason = reason;
    }

    /// Certificates that begin before this do not count. A release before this one kept the eviction alone.
    pub fn certified_from(&self) -> Option<Timestamp> {
        self.certified_from.or(self.evicted_at)
    }
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

/// The nodes of whose certificates some are still in date but no longer count.
///
/// A certificate that begins before what is noted of its node is refused; one that it got since (the node was let in
/// again) is not. An entry is of use only while such a certificate lives, so there are never more than the evictions of
/// one certificate's life.
#[derive(Debug, Default)]
pub struct Evictions {
    from: RwLock<HashMap<String, Timestamp>>,
    changed: watch::Sender<()>,
}

impl Evictions {
    /// Certificates of `node` that begin before `from` count no more.
    pub fn insert(&self, node: String, from: Timestamp, now: Timestamp) {
        let mut noted = self.from.write().unwrap_or_else(PoisonError::into_inner);
        noted.retain(|_, from| now.duration_since(*from).unsigned_abs() <= NODE_LIFE + SLACK);
        noted.insert(node, from);
        drop(noted);
        self.changed.send_replace(());
    }

    /// Whether `id` is a node that was evicted after it got a certificate that begins at `not_before`.
    pub fn cover(&self, id: &SpiffeId, not_before: Timestamp) -> bool {
        let PrincipalKind::Node { name } = id.kind() else { return false };
        let noted = self.from.read().unwrap_or_else(PoisonError::into_inner);
        noted.get(name).is_some_and(|from| not_before < *from)
    }

    /// Tells of each eviction from now on.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }
}

/// When nodes called this broker last, to the minute. As many as have called, so no more than have joined.
#[derive(Debug, Default)]
pub struct Sightings(RwLock<HashMap<SpiffeId, AtomicI64>>);

impl Sightings {
    /// Takes down that `node` calls.
    pub fn note(&self, node: &SpiffeId, now: Timestamp) {
        let minute = now.as_second().div_euclid(MINUTE);
        let seen = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = seen.get(node) {
            if last.load(Ordering::Relaxed) < minute {
                last.store(minute, Ordering::Relaxed);
            }
            return;
        }
        drop(seen);
        let mut seen = self.0.write().unwrap_or_else(PoisonError::into_inner);
        seen.insert(node.clone(), AtomicI64::new(minute));
    }

    /// The minute of its last call, if it called.
    pub fn last(&self, node: &SpiffeId) -> Option<Timestamp> {
        let seen = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let minute = seen.get(node)?.load(Ordering::Relaxed);
        Timestamp::from_second(minute.saturating_mul(MINUTE)).ok()
    }
}

const SLACK: Duration = Duration::from_secs(120);
/// In seconds.
const MINUTE: i64 = 60;

#[cfg(test)]
mod tests {
    use super::*;

    fn node() -> Node {
        let at = Timestamp::constant(900_000, 0);
        Node {
            joined_at: at,
            seen_at: at,
            certificate_not_after: at,
            address: None,
            evicted_at: None,
            evict_reason: None,
            certified_from: None,
            let_in_by: LetInBy::JoinToken,
        }
    }

    #[test]
    fn a_certificate_from_before_the_eviction_is_refused_and_one_from_after_is_not() {
        let (evictions, mut evicted) = (Evictions::default(), node());
        let at = Timestamp::constant(1_000_000, 700_000_000);
        evicted.evict(at, None);
        evictions.insert("n1".to_owned(), evicted.certified_from().expect("evicted"), at);
        let node = node_id(&TrustDomain::parse("example.org").expect("domain"), "n1").expect("id");
        assert!(evictions.cover(&node, Timestamp::constant(999_999, 0)));
        // The very second: one from before begins a minute earlier.
        assert!(!evictions.cover(&node, Timestamp::constant(1_000_000, 0)));
    }

    #[test]
    fn evicted_twice_within_a_second_a_node_keeps_no_certificate_from_in_between() {
        let (at, mut evicted) = (Timestamp::constant(1_000_000, 100_000_000), node());
        evicted.evict(at, None);
        let first = evicted.certified_from().expect("evicted");
        evicted.evict(Timestamp::constant(1_000_000, 900_000_000), None);
        assert!(evicted.certified_from().is_some_and(|from| first < from));
    }

    #[test]
    fn a_node_that_an_earlier_release_evicted_is_out() {
        let kept = r#"{"joined_at":"2026-01-01T00:00:00Z","seen_at":"2026-01-01T00:00:00Z",
            "certificate_not_after":"2026-01-02T00:00:00Z","address":null,
            "evicted_at":"2026-01-01T01:00:00Z","evict_reason":null}"#;
        let node: Node = serde_json::from_str(kept).expect("node");
        assert_eq!(node.certified_from(), node.evicted_at);
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
    fn a_node_is_seen_in_the_minute_of_its_last_call() {
        let (sightings, id) = (Sightings::default(), |name| {
            node_id(&TrustDomain::parse("example.org").expect("domain"), name).expect("id")
        });
        let at = |second| Timestamp::constant(second, 500_000_000);
        sightings.note(&id("n1"), at(600));
        sightings.note(&id("n1"), at(779));
        // Clocks that are set back take nothing back.
        sightings.note(&id("n1"), at(601));
        assert_eq!(sightings.last(&id("n1")), Some(Timestamp::constant(720, 0)));
        assert_eq!(sightings.last(&id("n2")), None);
    }

    #[test]
    fn evictions_are_forgotten_once_no_certificate_can_be_left() {
        let evictions = Evictions::default();
        let at = Timestamp::constant(1_000_000, 0);
        evictions.insert("old".to_owned(), at, at);
        let later = at + NODE_LIFE + SLACK + SLACK;
        evictions.insert("new".to_owned(), later, later);
        assert_eq!(evictions.from.read().expect("lock").len(), 1);
    }
}
