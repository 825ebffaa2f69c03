//! Questions that the ledger answers, a page at a time.
//!
//! A page costs the same at a thousand leases and at a hundred million: one step of an answer looks at a bounded number
//! of rows and then stops, with what it found so far and the token to go on. So a page may be short, or even empty,
//! while more follows.

use bursar_core::audit::{Action, AuditRecord, Decision, Outcome};
use bursar_core::backend::StoreHandle;
use bursar_core::{BackendName, Lease, LeaseId, LeaseState, SecretPath, SpiffeId};
use jiff::Timestamp;

use super::entry::RevocationId;

/// A lease whose credential is kept.
#[derive(Clone, PartialEq, Eq)]
pub struct Kept {
    pub lease: Lease,
    /// As [`super::Change::Activate`] brought it.
    pub sealed: Vec<u8>,
}

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kept").field("lease", &self.lease.id).finish_non_exhaustive()
    }
}

/// Which part of a list is asked for.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// How many items at most; at least 1 and at most [`MAX_PAGE`] are given.
    pub size: usize,
    /// [`Paged::next`] of the page before; absent for the first.
    pub token: Option<String>,
}

impl Page {
    /// The first page, of `size` items.
    pub fn first(size: usize) -> Self {
        Self { size, token: None }
    }

    pub(super) fn limit(&self) -> usize {
        self.size.clamp(1, MAX_PAGE)
    }
}

/// One page of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paged<T> {
    pub items: Vec<T>,
    /// The token of the page after this one; absent at the end of the list.
    pub next: Option<String>,
}

/// Which leases to list; every condition that is set must hold.
#[derive(Debug, Clone, Default)]
pub struct LeaseFilter {
    /// Any of these states; when empty, any but gone.
    pub states: Vec<LeaseState>,
    pub principal: Option<SpiffeId>,
    pub node: Option<SpiffeId>,
    pub environment: Option<String>,
    pub backend: Option<BackendName>,
    /// The secret at this path and all below it, in `backend` if that is set.
    pub path: Option<SecretPath>,
}

impl LeaseFilter {
    pub(super) fn selects(&self, lease: &Lease) -> bool {
        let below = |path: &SecretPath| {
            let rest = lease.reference.path.as_str().strip_prefix(path.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let state = match self.states.as_slice() {
            [] => lease.state != LeaseState::Gone,
            states => states.contains(&lease.state),
        };
        state
            && self.principal.as_ref().is_none_or(|wanted| *wanted == lease.principal)
            && self.node.as_ref().is_none_or(|wanted| lease.node.as_ref() == Some(wanted))
            && self.environment.as_ref().is_none_or(|wanted| lease.environment.as_ref() == Some(wanted))
            && self.backend.as_ref().is_none_or(|wanted| *wanted == lease.reference.backend)
            && self.path.as_ref().is_none_or(below)
    }
}

/// Whose leases are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HolderKind {
    Principal,
    Backend,
    Node,
}

impl HolderKind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Principal, Self::Backend, Self::Node];

    /// The name in metrics and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Principal => "principal",
            Self::Backend => "backend",
            Self::Node => "node",
        }
    }
}

/// A dynamic lease whose credential has to be taken back now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocable {
    pub lease: Lease,
    /// Absent when the broker stopped before the store's answer was committed: the store has to be asked what it
    /// created ([`bursar_core::backend::Leasing::find_orphans`]).
    pub handle: Option<StoreHandle>,
}

/// A bulk revocation, and how far it got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation {
    pub id: RevocationId,
    pub ordered_at: Timestamp,
    /// The SPIFFE ID of whoever ordered it.
    pub ordered_by: String,
    /// Which leases, in words.
    pub leases: String,
    pub reason: Option<String>,
    /// How many leases it has taken back so far.
    pub marked: u64,
    /// Of these, how many have a credential that a store made for them.
    pub dynamic: u64,
    /// When all were; absent while there is more to mark.
    pub marked_at: Option<Timestamp>,
    /// Of the dynamic ones, how many are still at their stores.
    pub waiting: u64,
    /// Of those that wait, how many are stuck.
    pub stuck: u64,
}

/// One step of the walk to a bulk revocation's leases.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Walked {
    pub ids: Vec<LeaseId>,
    /// Where the walk goes on; absent at its end.
    pub place: Option<Vec<u8>>,
}

/// Which audit records to list, and in which order; every condition that is set must hold.
#[derive(Debug, Clone, Default)]
pub struct AuditQuery {
    pub principal: Option<SpiffeId>,
    pub node: Option<SpiffeId>,
    /// Any of these; when empty, any.
    pub actions: Vec<Action>,
    /// The beginning of the resource.
    pub resource: Option<String>,
    pub environment: Option<String>,
    pub lease_id: Option<LeaseId>,
    pub request_id: Option<String>,
    pub decision: Option<Decision>,
    pub outcome: Option<Outcome>,
    /// Recorded at this time or later. The ledger's own time never runs backwards: records made while the clock was set
    /// back count as made at the latest time seen before.
    pub since: Option<Timestamp>,
    /// Recorded before this time.
    pub until: Option<Timestamp>,
    pub order: RecordOrder,
}

/// In which order records are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RecordOrder {
    #[default]
    NewestFirst,
    OldestFirst,
}

impl AuditQuery {
    /// Whether the record meets the conditions, but for the times: those select a stretch of the log.
    pub fn selects(&self, record: &AuditRecord) -> bool {
        fn same(wanted: Option<&str>, found: Option<&str>) -> bool {
            wanted.is_none_or(|wanted| found == Some(wanted))
        }
        let lease_id = self.lease_id.map(|id| id.to_string());
        same(self.principal.as_ref().map(SpiffeId::as_str), Some(&record.actor.principal))
            && same(self.node.as_ref().map(SpiffeId::as_str), record.actor.node.as_deref())
            && same(self.environment.as_deref(), record.environment.as_deref())
            && same(lease_id.as_deref(), record.lease_id.as_deref())
            && same(self.request_id.as_deref(), Some(&record.request_id))
            && self.resource.as_ref().is_none_or(|wanted| record.resource.starts_with(wanted))
            && (self.actions.is_empty() || self.actions.contains(&record.action))
            && self.decision.is_none_or(|wanted| record.decision == wanted)
            && self.outcome.is_none_or(|wanted| record.outcome == wanted)
    }
}

/// The most items on a page.
pub const MAX_PAGE: usize = 1000;
