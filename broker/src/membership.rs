//! Who belongs: certificates that still count, nodes that join, renew and are evicted.
//!
//! A node joins once with a token that is good for one use within a short time. The ledger keeps the token's hash; taking
//! it out and putting the node in is one durable entry, so two nodes cannot use one token, and a crash leaves either
//! both steps or neither. The certificate is made before that entry and handed out after it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bursar_core::audit::Decision;
use bursar_core::spiffe::PrincipalKind;
use bursar_core::{Clock, Secret, SpiffeId};
use jiff::Timestamp;
use ring::rand::{SecureRandom, SystemRandom};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::call::Draft;
use crate::failure::Failure;
use crate::identity::authority::IssuedCertificate;
use crate::identity::nodes::{Evictions, JoinToken, Node, node_id};
use crate::identity::{Authority, Caller};
use crate::ledger::{
    Change, Entry, Ledger, LedgerError, Object, ObjectKind, Page, Paged, RevocationId, RevokeSelector,
};
use crate::server::Handshake;

/// Decides whose certificates count.
#[derive(Debug)]
pub struct Membership {
    pub authority: Arc<Authority>,
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
        ledger: Ledger,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Failure> {
        let evictions = Evictions::default();
        let mut token = None;
        loop {
            let page = ledger.objects(ObjectKind::Node, Page { size: NODES_PAGE, token }).await?;
            for object in &page.items {
                if let Some(at) = node(object)?.evicted_at {
                    evictions.insert(object.name.clone(), at, clock.now());
                }
            }
            token = page.next;
            if token.is_none() {
                break;
            }
        }
        Ok(Self { authority, ledger, evictions, clock })
    }

    /// The caller that a connection's certificate names, if it still counts: a connection may outlive both.
    ///
    /// # Errors
    /// [`Failure::Unauthenticated`], [`Failure::Certificate`] or [`Failure::Evicted`].
    pub fn caller(&self, handshake: &Handshake, now: Timestamp) -> Result<Arc<Caller>, Failure> {
        let presented = match &handshake.peer {
            None => return Err(Failure::Unauthenticated),
            Some(Err(fault)) => return Err(Failure::Certificate(fault.clone())),
            Some(Ok(presented)) => presented,
        };
        if now > presented.not_after {
            return Err(Failure::Expired);
        }
        if self.evictions.covers(presented.caller.id(), presented.not_before) {
            return Err(Failure::Evicted { node: presented.caller.id().to_string() });
        }
        Ok(Arc::clone(&presented.caller))
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
        let kept = JoinToken { node: name.to_owned(), expires_at, address };
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

    /// What a token is good for, if it is. Nothing is used up yet.
    ///
    /// # Errors
    /// [`Failure::JoinToken`], which is the same for every token that is not good.
    pub async fn token(&self, token: &Secret, address: IpAddr) -> Result<JoinToken, Failure> {
        let object = self.ledger.object(ObjectKind::JoinToken, &token_name(token)).await?;
        let object = object.ok_or(Failure::JoinToken)?;
        let kept: JoinToken =
            serde_json::from_slice(&object.body).map_err(|_| Failure::Kept("a join token"))?;
        let good = kept.expires_at > self.clock.now() && kept.address.is_none_or(|bound| bound == address);
        if good { Ok(kept) } else { Err(Failure::JoinToken) }
    }

    /// Uses a token up and lets its node in.
    ///
    /// # Errors
    /// [`Failure::JoinToken`] when somebody used it in between, [`Failure::Authority`] for a bad signing request.
    pub async fn join(
        &self,
        token: &Secret,
        kept: &JoinToken,
        request: &[u8],
        address: IpAddr,
        draft: Draft,
    ) -> Result<NodeCertificate, Failure> {
        let node = self.node_id(&kept.node)?;
        let certificate = self.authority.node(&node, request)?;
        let now = self.clock.now();
        let joined = Node {
            joined_at: now,
            seen_at: now,
            certificate_not_after: certificate.not_after,
            address: Some(address.to_string()),
            evicted_at: None,
            evict_reason: None,
        };
        let remove =
            Change::RemoveObject { kind: ObjectKind::JoinToken, name: token_name(token), expected: None };
        let put = put_node(&kept.node, &joined, None, node.clone(), now);
        let record = draft.decided(Decision::Allow, &[]).ok();
        match self.ledger.commit(Entry { changes: vec![remove, put], records: vec![record] }).await {
            Ok(_) => Ok(NodeCertificate { node, certificate }),
            Err(LedgerError::ObjectMissing { .. }) => Err(Failure::JoinToken),
            Err(other) => Err(other.into()),
        }
    }

    /// A new certificate for a node that has one. The request has a key of its own.
    ///
    /// # Errors
    /// [`Failure::Denied`] for a caller that is no node, [`Failure::NodeUnknown`] for one that never joined here.
    pub async fn renew(
        &self,
        caller: &Caller,
        request: &[u8],
        draft: Draft,
    ) -> Result<NodeCertificate, Failure> {
        let id = caller.id();
        let PrincipalKind::Node { name } = id.kind() else { return Err(Failure::Denied) };
        let object = self.ledger.object(ObjectKind::Node, name).await?;
        let object = object.ok_or_else(|| Failure::NodeUnknown(name.to_owned()))?;
        let mut renewed = node(&object)?;
        if renewed.evicted_at.is_some() {
            return Err(Failure::Evicted { node: name.to_owned() });
        }
        let certificate = self.authority.node(id, request)?;
        let now = self.clock.now();
        renewed.seen_at = now;
        renewed.certificate_not_after = certificate.not_after;
        renewed.address = caller.peer.map(|peer| peer.ip().to_string());
        // An eviction in between wins: the revision is then another.
        let put = put_node(name, &renewed, Some(object.revision), id.clone(), now);
        let record = draft.decided(Decision::Allow, &[]).ok();
        self.ledger.commit(Entry { changes: vec![put], records: vec![record] }).await?;
        Ok(NodeCertificate { node: id.clone(), certificate })
    }

    /// Ends a node: its certificate counts no more, and every lease that it asked for is to be taken back. Answers the
    /// bulk revocation that does that.
    ///
    /// # Errors
    /// [`Failure::NodeUnknown`].
    pub async fn evict(
        &self,
        name: &str,
        reason: &str,
        by: &Caller,
        draft: Draft,
    ) -> Result<Option<RevocationId>, Failure> {
        let object = self.ledger.object(ObjectKind::Node, name).await?;
        let object = object.ok_or_else(|| Failure::NodeUnknown(shown(name)))?;
        let now = self.clock.now();
        let mut evicted = node(&object)?;
        evicted.evicted_at = Some(now);
        evicted.evict_reason = (!reason.is_empty()).then(|| reason.to_owned());
        let put = put_node(name, &evicted, Some(object.revision), by.id().clone(), now);
        let id = self.node_id(name)?;
        let record = Box::new(draft.clone().as_revocation(&format!("leases of node {id}")));
        let revoke = Change::OrderRevocation { selector: RevokeSelector::Node(id), record, at: now };
        let entry = Entry { changes: vec![put, revoke], records: vec![draft.ok()] };
        let committed = self.ledger.commit(entry).await?;
        self.evictions.insert(name.to_owned(), now, now);
        Ok(committed.revocation())
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
