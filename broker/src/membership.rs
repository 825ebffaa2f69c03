//! Who belongs: certificates that still count, nodes that renew, are evicted and readmitted. How they get in is in
//! [`join`].

mod join;

use std::sync::Arc;
use std::time::Duration;

use bursar_core::audit::{Action, Decision};
use bursar_core::spiffe::PrincipalKind;
use bursar_core::{Clock, SpiffeId};
use jiff::Timestamp;

use crate::call::{Call, Draft};
use crate::failure::Failure;
use crate::identity::admission::{JoinFault, NodeRules};
use crate::identity::authority::IssuedCertificate;
use crate::identity::nodes::{Evictions, LetInBy, Node, Sightings, node_id};
use crate::identity::peer::Presented;
use crate::identity::{Authority, Caller, Trust};
use crate::ledger::{Change, Entry, Ledger, Object, ObjectKind, Page, Paged, RevocationId, RevokeSelector};
use crate::server::Handshake;

pub use join::{IssuedToken, PresentedToken};

/// Decides whose certificates count.
#[derive(Debug)]
pub struct Membership {
    pub authority: Arc<Authority>,
    /// What lets machines in beside join tokens.
    pub rules: NodeRules,
    trust: Arc<Trust>,
    ledger: Ledger,
    evictions: Evictions,
    sightings: Sightings,
    clock: Arc<dyn Clock>,
}

/// A certificate for a node.
#[derive(Debug)]
pub struct NodeCertificate {
    pub node: SpiffeId,
    pub certificate: IssuedCertificate,
}

impl Membership {
    /// Takes up the nodes in `ledger`.
    ///
    /// # Errors
    /// That of the ledger.
    pub async fn load(
        authority: Arc<Authority>,
        rules: NodeRules,
        trust: Arc<Trust>,
        ledger: Ledger,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Failure> {
        let evictions = Evictions::default();
        let mut token = None;
        loop {
            let page = ledger.objects(ObjectKind::Node, Page { size: NODES_PAGE, token }).await?;
            for object in &page.items {
                if let Some(from) = node(object)?.certified_from() {
                    evictions.insert(object.name.clone(), from, clock.now());
                }
            }
            token = page.next;
            if token.is_none() {
                break;
            }
        }
        Ok(Self { authority, rules, trust, ledger, evictions, sightings: Sightings::default(), clock })
    }

    /// The caller that a connection's certificate names, if it still counts: a connection may outlive both.
    ///
    /// # Errors
    /// [`Failure::Unauthenticated`], or that of [`Membership::stands`].
    pub fn caller(&self, handshake: &Handshake, now: Timestamp) -> Result<Arc<Caller>, Failure> {
        let presented = match &handshake.peer {
            None => return Err(Failure::Unauthenticated),
            Some(Err(fault)) => return Err(Failure::Certificate(fault.clone())),
            Some(Ok(presented)) => presented,
        };
        self.stands(presented, now)?;
        if presented.node {
            self.sightings.note(presented.caller.id(), now);
        }
        Ok(Arc::clone(&presented.caller))
    }

    /// Whether a certificate still counts.
    ///
    /// # Errors
    /// [`Failure::Expired`], [`Failure::Certificate`] or [`Failure::Evicted`].
    pub fn stands(&self, presented: &Presented, now: Timestamp) -> Result<(), Failure> {
        if now > presented.not_after {
            return Err(Failure::Expired);
        }
        self.trust.stands(presented).map_err(Failure::Certificate)?;
        let id = presented.caller.id();
        if presented.node && self.evictions.cover(id, presented.not_before) {
            return Err(Failure::Evicted { node: id.to_string() });
        }
        Ok(())
    }

    /// The certificate of a connection, where it is that of a node of this trust domain.
    pub fn node_of(handshake: &Handshake) -> Option<&Arc<Presented>> {
        handshake.peer.as_ref()?.as_ref().ok().filter(|presented| presented.node)
    }

    /// Waits until the certificate of a node is refused, and answers why. Who waits is connected.
    pub async fn ended(&self, node: &Presented) -> Failure {
        let mut changes = self.evictions.changes();
        loop {
            let now = self.clock.now();
            if let Err(failure) = self.stands(node, now) {
                return failure;
            }
            self.sightings.note(node.caller.id(), now);
            if let Ok(Err(_)) = tokio::time::timeout(LOOK_AGAIN, changes.changed()).await {
                return Failure::Stopping;
            }
        }
    }

    /// When a node called last, by what this process and its certificates say.
    pub fn last_seen(&self, id: &SpiffeId, node: &Node) -> Timestamp {
        self.sightings.last(id).map_or(node.seen_at, |seen| seen.max(node.seen_at))
    }

    /// Keeps that somebody came by the break-glass path, and why. The first call over a connection waits for it.
    ///
    /// # Errors
    /// That of the ledger: without the record nothing is done over the connection.
    pub async fn break_glass(&self, handshake: &Handshake, call: &Call) -> Result<(), Failure> {
        let broken = handshake.peer.as_ref().and_then(|peer| peer.as_ref().ok()?.broken.as_ref());
        let Some(broken) = broken else { return Ok(()) };
        let record = async || {
            let draft = call.asks(Action::BreakGlass, "broker").because(&broken.reason);
            let record = draft.decided(Decision::Allow, Arc::default()).ok();
            self.ledger.commit(Entry { changes: Vec::new(), records: vec![record] }).await?;
            let (peer, reason) = (handshake.address, &*broken.reason);
            tracing::warn!(%peer, reason, credential = call.caller.credential, "somebody broke the glass");
            Ok(())
        };
        broken.recorded.get_or_try_init(record).await.copied()
    }

    /// A new certificate for a node that has one. The request has a key of its own.
    ///
    /// # Errors
    /// [`Failure::Denied`] for a caller that is no node of this trust domain, [`Failure::NodeUnknown`] for one that never
    /// joined here, [`Failure::NotAdmitted`] for one that joins again.
    pub async fn renew(
        &self,
        caller: &Caller,
        request: &[u8],
        draft: Draft,
    ) -> Result<NodeCertificate, Failure> {
        let id = caller.id();
        let PrincipalKind::Node { name } = id.kind() else { return Err(Failure::Denied) };
        // A node of another domain may have the name of one here.
        if !id.is_in(self.authority.domain()) {
            return Err(Failure::Denied);
        }
        let object = self.ledger.object(ObjectKind::Node, name).await?;
        let object = object.ok_or_else(|| Failure::NodeUnknown(name.to_owned()))?;
        let mut renewed = node(&object)?;
        if renewed.evicted_at.is_some() {
            return Err(Failure::Evicted { node: id.to_string() });
        }
        if renewed.let_in_by != LetInBy::JoinToken {
            return Err(Failure::NotAdmitted(JoinFault::Rejoins { node: name.to_owned() }));
        }
        let certificate = self.authority.node(id, request, renewed.certified_from())?;
        let now = self.clock.now();
        renewed.seen_at = now;
        renewed.certificate_not_after = certificate.not_after;
        renewed.address = caller.peer.map(|peer| peer.ip().to_string());
        // An eviction in between wins: the revision is then another.
        let put = put_node(name, &renewed, Some(object.revision), id.clone(), now);
        let record = draft.decided(Decision::Allow, Arc::default()).ok();
        self.ledger.commit(Entry { changes: vec![put], records: vec![record] }).await?;
        Ok(NodeCertificate { node: id.clone(), certificate })
    }

    /// Ends a node: its certificate counts no more, its streams end, and every lease that it asked for, for others or
    /// for itself, is to be taken back. Answers the bulk revocations that do that.
    ///
    /// # Errors
    /// [`Failure::NodeUnknown`].
    pub async fn evict(
        &self,
        name: &str,
        reason: &str,
        by: &Caller,
        draft: Draft,
    ) -> Result<Vec<RevocationId>, Failure> {
        let object = self.ledger.object(ObjectKind::Node, name).await?;
        let object = object.ok_or_else(|| Failure::NodeUnknown(shown(name)))?;
        let now = self.clock.now();
        let mut evicted = node(&object)?;
        evicted.evict(now, (!reason.is_empty()).then(|| reason.to_owned()));
        let put = put_node(name, &evicted, Some(object.revision), by.id().clone(), now);
        let id = self.node_id(name)?;
        let order = |selector, leases: String| {
            let record = Box::new(draft.clone().as_revocation(&leases));
            Change::OrderRevocation { selector, record, at: now }
        };
        let of_others = order(RevokeSelector::Node(id.clone()), format!("leases of node {id}"));
        let own = order(RevokeSelector::Principal(id.clone()), format!("leases of {id} itself"));
        let entry = Entry { changes: vec![put, of_others, own], records: vec![draft.ok()] };
        let committed = self.ledger.commit(entry).await?;
        if let Some(from) = evicted.certified_from() {
            self.evictions.insert(name.to_owned(), from, now);
        }
        Ok(committed.revocations().collect())
    }

    /// Lets an evicted node in again by the rules of the configuration, however it got in before. Its certificates from
    /// before the eviction count no more all the same.
    ///
    /// # Errors
    /// [`Failure::NodeUnknown`]; [`Failure::Invalid`] for one that was not evicted.
    pub async fn readmit(&self, name: &str, by: &Caller, draft: Draft) -> Result<(), Failure> {
        let object = self.ledger.object(ObjectKind::Node, name).await?;
        let object = object.ok_or_else(|| Failure::NodeUnknown(shown(name)))?;
        let mut readmitted = node(&object)?;
        if readmitted.evicted_at.is_none() {
            let message = format!("`{}` was not evicted", shown(name));
            return Err(Failure::Invalid { field: "node", message });
        }
        readmitted.certified_from = readmitted.certified_from();
        (readmitted.evicted_at, readmitted.evict_reason) = (None, None);
        readmitted.let_in_by = LetInBy::Readmission;
        let put = put_node(name, &readmitted, Some(object.revision), by.id().clone(), self.clock.now());
        self.ledger.commit(Entry { changes: vec![put], records: vec![draft.ok()] }).await?;
        Ok(())
    }

    /// The nodes by name.
    ///
    /// # Errors
    /// That of the ledger.
    pub async fn list(&self, page: Page) -> Result<Paged<(String, Node)>, Failure> {
        let objects = self.ledger.objects(ObjectKind::Node, page).await?;
        let read = |object: &Object| Ok::<_, Failure>((object.name.clone(), node(object)?));
        Ok(Paged { items: objects.items.iter().map(read).collect::<Result<_, _>>()?, next: objects.next })
    }

    /// The SPIFFE ID of the node called `name`.
    ///
    /// # Errors
    /// [`Failure::Invalid`] for a name that a SPIFFE ID cannot carry.
    pub fn node_id(&self, name: &str) -> Result<SpiffeId, Failure> {
        let fits =
            |id: &SpiffeId| matches!(id.kind(), PrincipalKind::Node { name: parsed } if parsed == name);
        let id = node_id(self.authority.domain(), name).ok().filter(fits);
        id.ok_or_else(|| Failure::Invalid {
            field: "node",
            message: "has letters, digits, `.`, `_` and `-` only".to_owned(),
        })
    }
}

fn put_node(name: &str, node: &Node, expected: Option<u64>, by: SpiffeId, at: Timestamp) -> Change {
    Change::PutObject { kind: ObjectKind::Node, name: name.to_owned(), body: json(node), expected, by, at }
}

fn node(object: &Object) -> Result<Node, Failure> {
    serde_json::from_slice(&object.body).map_err(|_| Failure::Kept("a node"))
}

fn json(value: &impl serde::Serialize) -> Vec<u8> {
    // Strings, numbers and times always serialise; an empty body would be refused when it is read.
    serde_json::to_vec(value).unwrap_or_default()
}

fn shown(name: &str) -> String {
    name.chars().take(64).flat_map(char::escape_default).collect()
}

const NODES_PAGE: usize = 500;
/// Who is connected is seen as often.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
