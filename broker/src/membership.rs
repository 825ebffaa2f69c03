//! Who belongs: certificates that still count, nodes that join, renew and are evicted.
//!
//! A node joins once with a token that is good for one use within a short time. The ledger keeps the token's hash; marking
//! it used and putting the node in is one durable entry, so two nodes cannot use one token, and a crash leaves either
//! both steps or neither. The certificate is made before that entry and handed out after it.
//!
//! A token that was used, is late or comes from another address than its own was somebody's once, so the attempt is
//! recorded, under the node's name: a second use may be a theft. The same entry forgets the token, which bounds the
//! records by the tokens that were made. Of a token that never was nothing is kept: strangers must not fill the ledger.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bursar_core::audit::{Action, Decision};
use bursar_core::spiffe::PrincipalKind;
use bursar_core::{Clock, Secret, SpiffeId};
use jiff::Timestamp;
use ring::rand::{SecureRandom, SystemRandom};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::call::{Call, Draft};
use crate::failure::Failure;
use crate::identity::authority::IssuedCertificate;
use crate::identity::nodes::{Evictions, JoinToken, Node, TokenFault, node_id};
use crate::identity::peer::Presented;
use crate::identity::{Authority, Caller, Trust};
use crate::ledger::{
    Change, Entry, Ledger, LedgerError, Object, ObjectKind, Page, Paged, RevocationId, RevokeSelector,
};
use crate::server::Handshake;

/// Decides whose certificates count.
#[derive(Debug)]
pub struct Membership {
    pub authority: Arc<Authority>,
    trust: Arc<Trust>,
    ledger: Ledger,
    evictions: Evictions,
    clock: Arc<dyn Clock>,
}

/// A join token that was made: this is the only time that it can be seen.
pub struct IssuedToken {
    pub token: Secret,
    pub expires_at: Timestamp,
    pub node: SpiffeId,
}

/// A token that the ledger knows.
#[derive(Debug)]
pub struct PresentedToken {
    /// Its hash, under which it is kept.
    name: String,
    kept: JoinToken,
    revision: u64,
}

impl PresentedToken {
    /// The name of the node that it is for.
    pub fn node(&self) -> &str {
        &self.kept.node
    }

    /// When it ends.
    pub fn expires_at(&self) -> Timestamp {
        self.kept.expires_at
    }
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
        Ok(Self { authority, trust, ledger, evictions, clock })
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
        if id.is_in(self.authority.domain()) && self.evictions.cover(id, presented.not_before) {
            return Err(Failure::Evicted { node: id.to_string() });
        }
        Ok(())
    }

    /// The certificate of a connection, where it is that of a node of this trust domain.
    pub fn node_of<'handshake>(
        &self,
        handshake: &'handshake Handshake,
    ) -> Option<&'handshake Arc<Presented>> {
        let presented = handshake.peer.as_ref()?.as_ref().ok()?;
        let id = presented.caller.id();
        let is_node = matches!(id.kind(), PrincipalKind::Node { .. }) && id.is_in(self.authority.domain());
        is_node.then_some(presented)
    }

    /// Waits until the certificate of a node is refused, and answers why.
    pub async fn ended(&self, node: &Presented) -> Failure {
        let mut changes = self.evictions.changes();
        loop {
            if let Err(failure) = self.stands(node, self.clock.now()) {
                return failure;
            }
            if changes.changed().await.is_err() {
                return Failure::Stopping;
            }
        }
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

    /// Makes a token with which the node called `name` joins once.
    ///
    /// # Errors
    /// [`Failure::Invalid`] for a name that a SPIFFE ID cannot carry.
    pub async fn create_token(
        &self,
        name: &str,
        life: Duration,
        address: Option<IpAddr>,
        by: &Caller,
        draft: Draft,
    ) -> Result<IssuedToken, Failure> {
        let node = self.node_id(name)?;
        let now = self.clock.now();
        let expires_at = now.saturating_add(life)?;
        let mut random = Zeroizing::new([0; TOKEN_BYTES]);
        SystemRandom::new().fill(random.as_mut_slice()).map_err(|_| Failure::Stopping)?;
        let encoded = Zeroizing::new(data_encoding::BASE32_NOPAD.encode(random.as_slice()));
        let token = Secret::from(format!("{TOKEN_PREFIX}{}", *encoded));
        let kept = JoinToken { node: name.to_owned(), expires_at, address, used_at: None };
        let change = Change::PutObject {
            kind: ObjectKind::JoinToken,
            name: token_name(&token),
            body: json(&kept),
            expected: Some(0),
            by: by.id().clone(),
            at: now,
        };
        self.ledger.commit(Entry { changes: vec![change], records: vec![draft.ok()] }).await?;
        Ok(IssuedToken { token, expires_at, node })
    }

    /// The token that somebody presents, good or not. Nothing is used up yet.
    ///
    /// # Errors
    /// [`Failure::JoinToken`] for one that never was, or is forgotten.
    pub async fn token(&self, token: &Secret) -> Result<PresentedToken, Failure> {
        let name = token_name(token);
        let object = self.ledger.object(ObjectKind::JoinToken, &name).await?;
        let object = object.ok_or(Failure::JoinToken(TokenFault::Unknown))?;
        let kept = serde_json::from_slice(&object.body).map_err(|_| Failure::Kept("a join token"))?;
        Ok(PresentedToken { name, kept, revision: object.revision })
    }

    /// Uses a token up and lets its node in. One that is not good is forgotten.
    ///
    /// # Errors
    /// [`Failure::JoinToken`] when the token is not good, or somebody used it in between, [`Failure::Authority`] for a
    /// bad signing request. They are in the ledger.
    pub async fn join(
        &self,
        token: PresentedToken,
        request: &[u8],
        address: IpAddr,
        draft: Draft,
    ) -> Result<NodeCertificate, Failure> {
        let PresentedToken { name, kept, revision } = token;
        let now = self.clock.now();
        let kind = ObjectKind::JoinToken;
        let admitted = match kept.check(address, now) {
            Ok(()) => self.admit(&kept.node, request, address, now).await,
            Err(fault) => {
                let forget = Change::RemoveObject { kind, name, expected: Some(revision) };
                let failure = Failure::JoinToken(fault);
                return Err(self.refuse(vec![forget], draft, failure).await);
            }
        };
        let (put, certificate) = match admitted {
            Ok(admitted) => admitted,
            Err(failure) => return Err(self.refuse(Vec::new(), draft, failure).await),
        };
        let used = JoinToken { used_at: Some(now), ..kept };
        let by = certificate.node.clone();
        let spend =
            Change::PutObject { kind, name, body: json(&used), expected: Some(revision), by, at: now };
        let record = draft.clone().decided(Decision::Allow, Arc::default()).ok();
        match self.ledger.commit(Entry { changes: vec![spend, put], records: vec![record] }).await {
            Ok(_) => Ok(certificate),
            // Or the node was evicted or joined at this moment, which is as good a reason to look at it.
            Err(LedgerError::RevisionConflict { .. }) => {
                let failure = Failure::JoinToken(TokenFault::Used);
                Err(self.refuse(Vec::new(), draft, failure).await)
            }
            Err(other) => Err(other.into()),
        }
    }

    /// The node as it will be kept, and the certificate that it gets then.
    async fn admit(
        &self,
        name: &str,
        request: &[u8],
        address: IpAddr,
        now: Timestamp,
    ) -> Result<(Change, NodeCertificate), Failure> {
        let id = self.node_id(name)?;
        let before = self.ledger.object(ObjectKind::Node, name).await?;
        let certified_from = before.as_ref().map(node).transpose()?.and_then(|node| node.certified_from());
        let certificate = self.authority.node(&id, request, certified_from)?;
        let joined = Node {
            joined_at: now,
            seen_at: now,
            certificate_not_after: certificate.not_after,
            address: Some(address.to_string()),
            evicted_at: None,
            evict_reason: None,
            certified_from,
        };
        let revision = before.map_or(0, |before| before.revision);
        let put = put_node(name, &joined, Some(revision), id.clone(), now);
        Ok((put, NodeCertificate { node: id, certificate }))
    }

    /// Keeps why a node was not let in, with what follows from it.
    async fn refuse(&self, changes: Vec<Change>, draft: Draft, failure: Failure) -> Failure {
        let entry = Entry { changes, records: vec![draft.failed(&failure)] };
        match self.ledger.commit(entry).await {
            // Somebody else presented the same token meanwhile, and its record tells of it.
            Ok(_) | Err(LedgerError::RevisionConflict { .. } | LedgerError::ObjectMissing { .. }) => failure,
            Err(error) => Failure::Ledger(error),
        }
    }

    /// A new certificate for a node that has one. The request has a key of its own.
    ///
    /// # Errors
    /// [`Failure::Denied`] for a caller that is no node of this trust domain, [`Failure::NodeUnknown`] for one that never joined here.
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
            return Err(Failure::Evicted { node: name.to_owned() });
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

impl std::fmt::Debug for IssuedToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IssuedToken").field("node", &self.node).finish_non_exhaustive()
    }
}

fn put_node(name: &str, node: &Node, expected: Option<u64>, by: SpiffeId, at: Timestamp) -> Change {
    Change::PutObject { kind: ObjectKind::Node, name: name.to_owned(), body: json(node), expected, by, at }
}

fn node(object: &Object) -> Result<Node, Failure> {
    serde_json::from_slice(&object.body).map_err(|_| Failure::Kept("a node"))
}

/// A token has 256 random bits, so its plain hash gives nothing away.
fn token_name(token: &Secret) -> String {
    data_encoding::HEXLOWER.encode(&Sha256::digest(token.expose()))
}

fn json(value: &impl serde::Serialize) -> Vec<u8> {
    // Strings, numbers and times always serialise; an empty body would be refused when it is read.
    serde_json::to_vec(value).unwrap_or_default()
}

fn shown(name: &str) -> String {
    name.chars().take(64).flat_map(char::escape_default).collect()
}

const NODES_PAGE: usize = 500;
const TOKEN_BYTES: usize = 32;
/// Lets scanners of repositories find a token that somebody committed.
const TOKEN_PREFIX: &str = "bursar_join_";
