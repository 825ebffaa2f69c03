//! What a commit carries, and what comes back from it.

use std::fmt;

use bursar_core::audit::AuditRecord;
use bursar_core::backend::StoreHandle;
use bursar_core::lease::{Lease, LeaseEvent, TtlBound};
use bursar_core::{BackendName, LeaseId, SecretPath, SpiffeId, Version};
use jiff::Timestamp;

/// Changes of state and the audit records about them: all of it becomes durable, or none.
///
/// Changes are applied in order, each seeing those before it. Records follow in order, and their `seq` is given by the
/// ledger. A record whose `lease_id` is that of a [`Change::Grant`] in the same entry is written with the id of the
/// lease that the grant led to.
#[derive(Debug, Default)]
pub struct Entry {
    pub changes: Vec<Change>,
    pub records: Vec<AuditRecord>,
}

/// One change of state. Times are kept to the microsecond.
pub enum Change {
    /// A static secret was read. A live lease of the same principal, instance, secret, version and environment is
    /// extended once about a tenth of its life is over, never shortened; else `lease` is written, as active whatever its state
    /// says.
    Grant(Lease),
    /// A store is about to be asked for a credential. Written as an intent whatever its state says.
    Intent(Lease),
    /// The store created the credential. Refused once the intent was revoked: whoever holds the handle then takes the
    /// credential back.
    Activate {
        id: LeaseId,
        handle: StoreHandle,
        version: Option<Version>,
        expires_at: Timestamp,
        max_expires_at: Option<Timestamp>,
        renewable: bool,
        ttl_bound: TtlBound,
        /// The credential, sealed, for whoever reads the same again; kept while the lease is active and the newest of its
        /// slot. Absent when it is handed to nobody.
        sealed: Option<Vec<u8>>,
        at: Timestamp,
    },
    /// The kept credential of a dynamic lease is handed out again. Refused where the lease is not active any more.
    Repeat { id: LeaseId },
    /// An active lease gets a new end: later, or earlier where its store says so.
    Renew { id: LeaseId, expires_at: Timestamp, ttl_bound: TtlBound, at: Timestamp },
    /// Something happened to a lease: [`bursar_core::LeaseState::after`] says what becomes of it.
    ///
    /// - A static lease has nothing to take back: what would leave it expired or revoked leaves it gone.
    /// - `Expire` is refused while the lease has not ended at `at`, so a lease that was extended since
    ///   [`super::Ledger::due`] named it stays.
    /// - `Attempt` counts one attempt, so a revoker commits it once for each: before it calls the store, or after, with
    ///   the `error` met.
    /// - Without `next_attempt_at`, a lease that waits to be taken back is due at once.
    Apply {
        id: LeaseId,
        event: LeaseEvent,
        at: Timestamp,
        /// Why the attempt failed; kept until the next failure.
        error: Option<String>,
        next_attempt_at: Option<Timestamp>,
    },
    /// Every intent, active and expired lease that the selector names is to be taken back. This writes the order down;
    /// [`Change::Mark`] carries it out in steps, over restarts, until no lease of before is left. `record` says who
    /// ordered it and why: it becomes the record of each lease that is taken.
    OrderRevocation { selector: RevokeSelector, record: Box<AuditRecord>, at: Timestamp },
    /// One step of a bulk revocation. Of `ids`, those that nobody took back yet are: static ones are gone, dynamic ones
    /// revoked and due at once, each with its audit record. The walk goes on at `place`; without one it has ended.
    Mark { revocation: RevocationId, ids: Vec<LeaseId>, place: Option<Vec<u8>>, at: Timestamp },
    /// Stuck leases of a backend are due at once: at most `limit` of them.
    Hasten { backend: BackendName, at: Timestamp, limit: usize },
    /// Leases that went at `before` or earlier are forgotten, at most `limit` of them, and bulk revocations that have
    /// nothing left to do since then. Their audit records stay.
    Forget { before: Timestamp, limit: usize },
    /// Writes an object. `expected` is the revision it must have now; 0: there must be none; absent: any.
    PutObject {
        kind: ObjectKind,
        name: String,
        body: Vec<u8>,
        expected: Option<u64>,
        by: SpiffeId,
        at: Timestamp,
    },
    /// Removes an object, which must exist.
    RemoveObject { kind: ObjectKind, name: String, expected: Option<u64> },
    /// The sink of this name has every record below `position`.
    Shipped { sink: String, position: u64 },
    /// Takes some of the oldest records below `below` away, a bounded number at a time; their leaf hashes stay.
    Prune { below: u64 },
}

/// Names a bulk revocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RevocationId(pub u64);

/// Which leases a bulk revocation takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RevokeSelector {
    /// The secret at `path` and all below it: `a/b` takes `a/b` and `a/b/c`, never `a/bc`. Without a path, the whole
    /// backend.
    PathPrefix {
        backend: BackendName,
        path: Option<SecretPath>,
    },
    Principal(SpiffeId),
    Node(SpiffeId),
    Environment(String),
}

/// A durable entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The `seq` of the entry's first record; without records, the size of the log.
    pub first_seq: u64,
    /// One for each change.
    pub outcomes: Vec<Outcome>,
}

impl Committed {
    /// The first bulk revocation that it ordered.
    pub fn revocation(&self) -> Option<RevocationId> {
        self.revocations().next()
    }

    /// The bulk revocations that it ordered.
    pub fn revocations(&self) -> impl Iterator<Item = RevocationId> {
        self.outcomes.iter().filter_map(|outcome| match outcome {
            Outcome::Ordered(revocation) => Some(*revocation),
            _ => None,
        })
    }

    /// How many leases its changes of many took.
    pub fn count(&self) -> u64 {
        let count = |outcome: &Outcome| match outcome {
            Outcome::Many { count } => *count,
            _ => 0,
        };
        self.outcomes.iter().map(count).sum()
    }

    /// The revisions of the objects that it wrote, in order.
    pub fn revisions(&self) -> impl Iterator<Item = u64> {
        self.outcomes.iter().filter_map(|outcome| match outcome {
            Outcome::Put { revision } => Some(*revision),
            _ => None,
        })
    }
}

/// What became of one change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// `id` is the proposed one, or with `renewed` that of the lease that was live already.
    Granted {
        id: LeaseId,
        issued_at: Timestamp,
        expires_at: Timestamp,
        ttl_bound: TtlBound,
        renewed: bool,
    },
    Ordered(RevocationId),
    /// How many leases were marked, hastened or forgotten.
    Many {
        count: u64,
    },
    Put {
        revision: u64,
    },
    Done,
}

/// The kinds of named bytes that the ledger keeps beside the leases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ObjectKind {
    Environment,
    Policy,
    Node,
    JoinToken,
    /// Sealed by the caller: the ledger is no key store.
    Key,
    Approval,
}

impl ObjectKind {
    /// Every kind.
    pub const ALL: [Self; 6] =
        [Self::Environment, Self::Policy, Self::Node, Self::JoinToken, Self::Key, Self::Approval];

    /// The name in messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Environment => "environment",
            Self::Policy => "policy",
            Self::Node => "node",
            Self::JoinToken => "join token",
            Self::Key => "key",
            Self::Approval => "approval",
        }
    }

    /// Whether replaced and removed revisions are kept: of what people write and review.
    pub(super) fn has_history(self) -> bool {
        matches!(self, Self::Environment | Self::Policy)
    }
}

/// One revision of an object.
#[derive(Clone, PartialEq, Eq)]
pub struct Object {
    pub name: String,
    /// From 1. Continues over a removal for the kinds that have a history.
    pub revision: u64,
    pub body: Vec<u8>,
    pub updated_at: Timestamp,
    pub updated_by: SpiffeId,
}

impl fmt::Display for RevocationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Bodies may be sealed keys or token hashes: how long they are is all that a log may learn.
impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Object");
        shown.field("name", &self.name).field("revision", &self.revision).field("bytes", &self.body.len());
        shown.finish_non_exhaustive()
    }
}

/// What is changed, by name; neither bodies nor handles.
impl fmt::Debug for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Grant(lease) => f.debug_tuple("Grant").field(&lease.id).finish(),
            Self::Intent(lease) => f.debug_tuple("Intent").field(&lease.id).finish(),
            Self::Activate { id, .. } => f.debug_tuple("Activate").field(id).finish(),
            Self::Repeat { id } => f.debug_tuple("Repeat").field(id).finish(),
            Self::Renew { id, .. } => f.debug_tuple("Renew").field(id).finish(),
            Self::Apply { id, event, .. } => f.debug_tuple("Apply").field(id).field(event).finish(),
            Self::OrderRevocation { selector, .. } => {
                f.debug_tuple("OrderRevocation").field(selector).finish()
            }
            Self::Mark { revocation, ids, .. } => {
                f.debug_tuple("Mark").field(revocation).field(&ids.len()).finish()
            }
            Self::Hasten { backend, .. } => f.debug_tuple("Hasten").field(backend).finish(),
            Self::Forget { before, .. } => f.debug_tuple("Forget").field(before).finish(),
            Self::PutObject { kind, name, .. } => f.debug_tuple("PutObject").field(kind).field(name).finish(),
            Self::RemoveObject { kind, name, .. } => {
                f.debug_tuple("RemoveObject").field(kind).field(name).finish()
            }
            Self::Shipped { sink, position } => f.debug_tuple("Shipped").field(sink).field(position).finish(),
            Self::Prune { below } => f.debug_tuple("Prune").field(below).finish(),
        }
    }
}
