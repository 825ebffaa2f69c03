//! Nodes that join: by a one-time token, or by a rule of the configuration.
//!
//! A token is good for one use within a short time. The ledger keeps its hash; marking it used and putting the node in is
//! one durable entry, so two nodes cannot use one token, and a crash leaves either both steps or neither. The certificate
//! is made before that entry and handed out after it.
//!
//! A token that was used, is late or comes from another address than its own was somebody's once, so the attempt is
//! recorded, under the node's name: a second use may be a theft. The same entry forgets the token, which bounds the
//! records by the tokens that were made. Of a token that never was nothing is kept: strangers must not fill the ledger.
//!
//! What a rule goes by can be presented again and again, and has to be: that is how such a node gets each of its
//! certificates. So an eviction is asked about here, too, and a rule does not give away the name of a node that an
//! administrator let in by a token.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bursar_core::audit::Decision;
use bursar_core::{Secret, SpiffeId};
use jiff::Timestamp;
use ring::rand::{SecureRandom, SystemRandom};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::{Membership, NodeCertificate, json, node, put_node};
use crate::call::Draft;
use crate::failure::Failure;
use crate::identity::Caller;
use crate::identity::admission::{Admitted, JoinFault};
use crate::identity::nodes::{JoinToken, LetInBy, Node, TokenFault};
use crate::ledger::{Change, Entry, LedgerError, ObjectKind};

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

impl Membership {
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
    pub async fn join_by_token(
        &self,
        token: PresentedToken,
        request: &[u8],
        address: IpAddr,
        draft: Draft,
    ) -> Result<NodeCertificate, Failure> {
        let PresentedToken { name, kept, revision } = token;
        let now = self.clock.now();
        let kind = ObjectKind::JoinToken;
        let joins = Joins { request, address, now, let_in_by: LetInBy::JoinToken };
        let admitted = match kept.check(address, now) {
            Ok(()) => self.admit(&kept.node, joins).await,
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

    /// Lets in a node that a rule admits.
    ///
    /// # Errors
    /// [`Failure::Evicted`], [`Failure::NotAdmitted`] for a node that a token let in, [`Failure::Authority`] for a bad
    /// signing request. They are in the ledger.
    pub async fn join_by_rule(
        &self,
        admitted: Admitted,
        request: &[u8],
        address: IpAddr,
        draft: Draft,
    ) -> Result<NodeCertificate, Failure> {
        let Admitted { node: name, rule } = admitted;
        let rules: Arc<[Arc<str>]> = [Arc::from(rule.as_str())].into();
        let joins = Joins { request, address, now: self.clock.now(), let_in_by: LetInBy::Rule(rule) };
        let (put, certificate) = match self.admit(&name, joins).await {
            Ok(admitted) => admitted,
            Err(failure) => {
                return Err(self.refuse(Vec::new(), draft.decided(Decision::Deny, rules), failure).await);
            }
        };
        let record = draft.decided(Decision::Allow, rules).ok();
        self.ledger.commit(Entry { changes: vec![put], records: vec![record] }).await?;
        Ok(certificate)
    }

    /// The node as it will be kept, and the certificate that it gets then.
    async fn admit(&self, name: &str, joins: Joins<'_>) -> Result<(Change, NodeCertificate), Failure> {
        let Joins { request, address, now, let_in_by } = joins;
        let id = self.node_id(name)?;
        let object = self.ledger.object(ObjectKind::Node, name).await?;
        let before = object.as_ref().map(node).transpose()?;
        if let Some(before) = before.as_ref().filter(|_| let_in_by != LetInBy::JoinToken) {
            if before.evicted_at.is_some() {
                return Err(Failure::Evicted { node: id.to_string() });
            }
            if before.let_in_by == LetInBy::JoinToken {
                return Err(Failure::NotAdmitted(JoinFault::Held { node: name.to_owned() }));
            }
        }
        let certified_from = before.and_then(|before| before.certified_from());
        let certificate = self.authority.node(&id, request, certified_from)?;
        let joined = Node {
            joined_at: now,
            seen_at: now,
            certificate_not_after: certificate.not_after,
            address: Some(address.to_string()),
            evicted_at: None,
            evict_reason: None,
            certified_from,
            let_in_by,
        };
        let revision = object.map_or(0, |object| object.revision);
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
}

/// How a node joins.
struct Joins<'request> {
    request: &'request [u8],
    address: IpAddr,
    now: Timestamp,
    let_in_by: LetInBy,
}

impl std::fmt::Debug for IssuedToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IssuedToken").field("node", &self.node).finish_non_exhaustive()
    }
}

/// A token has 256 random bits, so its plain hash gives nothing away.
fn token_name(token: &Secret) -> String {
    data_encoding::HEXLOWER.encode(&Sha256::digest(token.expose()))
}

const TOKEN_BYTES: usize = 32;
/// Lets scanners of repositories find a token that somebody committed.
const TOKEN_PREFIX: &str = "bursar_join_";
