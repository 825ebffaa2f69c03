//! Approvals: somebody says that somebody else may do one thing to one resource for a while.
//!
//! An approval permits nothing. A policy that asks for one sees who approved the request (`context.approved_by`), and
//! everything else that policy says holds as before. It is for one principal, one action and one resource, and ends by
//! itself; it is not used up, so that a workload that starts again, or an environment of many secrets, needs no second.
//!
//! Each is an object of the ledger, durable with its audit record before it counts, and in memory by whom it is for, so
//! that a decision waits for no disk. That is why there is a cap on how many are in force. One that has ended counts no
//! more from that moment on; its object goes within a minute, as what has to stay is in the audit log.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::ops::Bound;
use std::str::FromStr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bursar_core::audit::Action;
use bursar_core::tasks::Tasks;
use bursar_core::{Clock, Explained, SpiffeId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use crate::broker::Broker;
use crate::call::{Call, Draft};
use crate::failure::Failure;
use crate::ids::Ids;
use crate::ledger::{Change, Entry, Ledger, Object, ObjectKind, Page, Paged};
use crate::policy::{Resource, Target};

/// Names an approval.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ApprovalId(Arc<str>);

/// What somebody is to approve.
#[derive(Debug, Clone)]
pub struct Wanted {
    pub principal: SpiffeId,
    pub action: Action,
    pub target: Target,
    pub ttl: Duration,
    pub reason: String,
}

/// That somebody may do one thing to one resource for a while, said by somebody else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approval {
    pub id: ApprovalId,
    /// Who may.
    pub principal: SpiffeId,
    pub action: Action,
    pub target: Target,
    /// Who said so: never the principal.
    pub approved_by: SpiffeId,
    pub approved_at: Timestamp,
    pub expires_at: Timestamp,
    pub reason: String,
}

impl Broker {
    /// Approves what somebody else wants to do.
    ///
    /// # Errors
    /// [`Failure::OwnApproval`], whatever policy says; [`Failure::ApprovalsFull`].
    pub async fn approve(&self, call: &Call, wanted: Wanted) -> Result<Arc<Approval>, Failure> {
        let approvals = &self.rulebook.approvals;
        let approval = Approval {
            id: approvals.next_id(call.time)?,
            principal: wanted.principal,
            action: wanted.action,
            target: wanted.target,
            approved_by: call.caller.id().clone(),
            approved_at: call.time,
            expires_at: call.time.checked_add(wanted.ttl)?,
            reason: wanted.reason,
        };
        let (shown, reason) = (approval.to_string(), &approval.reason);
        if approval.principal == approval.approved_by {
            let draft = call.asks(Action::Approve, shown).because(reason);
            return Err(self.failed(draft, Failure::OwnApproval).await);
        }
        let resource = approval.target.as_resource();
        let draft = self.permit(call, Action::Approve, resource, &shown, reason).await?;
        let draft = draft.approved(vec![approval.id.clone()]);
        self.settle(draft.clone(), approvals.put_in_force(approval, draft)).await
    }

    /// Ends an approval. Whoever gave it may always do that, and nodes never.
    ///
    /// # Errors
    /// [`Failure::ApprovalNotFound`] for who may take back any; others are denied what is not there like what is not
    /// theirs.
    pub async fn withdraw_approval(
        &self,
        call: &Call,
        id: &ApprovalId,
        reason: &str,
    ) -> Result<Arc<Approval>, Failure> {
        let action = Action::WithdrawApproval;
        let Some(approval) = self.rulebook.approvals.find(id, call.time) else {
            let draft =
                self.permit(call, action, Resource::System, &format!("approval {id}"), reason).await?;
            return Err(self.failed(draft, Failure::ApprovalNotFound(id.to_string())).await);
        };
        let shown = approval.to_string();
        let own = approval.approved_by == *call.caller.id() && call.caller.facts.node.is_none();
        let draft = match own {
            true => call.asks(action, shown).because(reason).allowed_as_owner(),
            false => self.permit(call, action, approval.target.as_resource(), &shown, reason).await?,
        };
        let draft = draft.approved(vec![id.clone()]);
        self.settle(draft.clone(), self.rulebook.approvals.withdraw(approval, draft)).await
    }
}

/// The approvals in force.
#[derive(Debug)]
pub struct Approvals {
    ledger: Ledger,
    clock: Arc<dyn Clock>,
    tasks: Tasks,
    ids: Ids,
    in_force: RwLock<InForce>,
    /// One changes at a time: memory follows the ledger's order, and the cap holds.
    changing: Mutex<()>,
}

/// Those that were in force when it was last looked: whether one still is, its end says.
#[derive(Debug, Default)]
struct InForce {
    by_id: BTreeMap<ApprovalId, Arc<Approval>>,
    by_principal: HashMap<SpiffeId, Vec<Arc<Approval>>>,
}

impl Approvals {
    /// Takes up what `ledger` holds.
    ///
    /// # Errors
    /// [`Failure::Kept`] for one that this release cannot read, and those of the ledger.
    pub async fn load(ledger: Ledger, clock: Arc<dyn Clock>, tasks: Tasks) -> Result<Self, Failure> {
        let mut in_force = InForce::default();
        let mut token = None;
        loop {
            let page = ledger.objects(ObjectKind::Approval, Page { size: KEPT_PAGE, token }).await?;
            for object in page.items {
                in_force.insert(Arc::new(kept(&object).ok_or(Failure::Kept("an approval"))?));
            }
            token = page.next;
            if token.is_none() {
                break;
            }
        }
        let (in_force, ids, changing) = (RwLock::new(in_force), Ids::default(), Mutex::default());
        Ok(Self { ledger, clock, tasks, ids, in_force, changing })
    }

    /// Those that let `principal` do `action` to `resource` at `now`, where policy asks for them.
    pub fn covering(
        &self,
        principal: &SpiffeId,
        action: Action,
        resource: Resource<'_>,
        now: Timestamp,
    ) -> Vec<Arc<Approval>> {
        let in_force = self.in_force.read().unwrap_or_else(PoisonError::into_inner);
        let of_principal = in_force.by_principal.get(principal).into_iter().flatten();
        let covers = |approval: &&Arc<Approval>| {
            approval.action == action && approval.expires_at > now && approval.target.covers(resource)
        };
        of_principal.filter(covers).cloned().collect()
    }

    /// A page of those in force, in the order in which they were given.
    pub fn list(&self, page: &Page, now: Timestamp) -> Paged<Arc<Approval>> {
        let in_force = self.in_force.read().unwrap_or_else(PoisonError::into_inner);
        let after = match &page.token {
            Some(token) => Bound::Excluded(ApprovalId(token.as_str().into())),
            None => Bound::Unbounded,
        };
        let rest = in_force.by_id.range((after, Bound::Unbounded)).map(|(_, approval)| approval);
        let mut rest = rest.filter(|approval| approval.expires_at > now).cloned();
        let items: Vec<Arc<Approval>> = rest.by_ref().take(page.size.max(1)).collect();
        let next = rest.next().and_then(|_| items.last()).map(|last| last.id.to_string());
        Paged { items, next }
    }

    /// How many are in force.
    pub fn count(&self) -> usize {
        let in_force = self.in_force.read().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.now();
        in_force.by_id.values().filter(|approval| approval.expires_at > now).count()
    }

    /// Removes what has ended, until the process stops.
    pub async fn forget(self: Arc<Self>) {
        let mut ticks = self.tasks.ticks(FORGET_TICK);
        while ticks.next().await {
            let _one = self.changing.lock().await;
            if let Err(error) = self.forget_ended().await {
                tracing::warn!(error = %Explained(&error), "approvals that have ended could not be removed; they are next time");
            }
        }
    }

    fn next_id(&self, now: Timestamp) -> Result<ApprovalId, Failure> {
        Ok(ApprovalId(self.ids.next(now)?.to_string().into()))
    }

    fn find(&self, id: &ApprovalId, now: Timestamp) -> Option<Arc<Approval>> {
        let in_force = self.in_force.read().unwrap_or_else(PoisonError::into_inner);
        in_force.by_id.get(id).filter(|approval| approval.expires_at > now).cloned()
    }

    /// Once begun it reaches its end, whoever waits for it: an approval that is in the ledger is in memory too.
    async fn put_in_force(
        self: &Arc<Self>,
        approval: Approval,
        draft: Draft,
    ) -> Result<Arc<Approval>, Failure> {
        let approvals = Arc::clone(self);
        let work = async move {
            let _one = approvals.changing.lock().await;
            if approvals.len() >= CAPACITY {
                approvals.forget_ended().await?;
            }
            if approvals.len() >= CAPACITY {
                return Err(Failure::ApprovalsFull { limit: CAPACITY });
            }
            let change = Change::PutObject {
                kind: ObjectKind::Approval,
                name: approval.id.to_string(),
                body: body(&approval),
                expected: Some(0),
                by: approval.approved_by.clone(),
                at: approval.approved_at,
            };
            approvals.ledger.commit(Entry { changes: vec![change], records: vec![draft.ok()] }).await?;
            let approval = Arc::new(approval);
            let mut in_force = approvals.in_force.write().unwrap_or_else(PoisonError::into_inner);
            in_force.insert(Arc::clone(&approval));
            Ok(approval)
        };
        self.tasks.finish(work).await.map_err(|_| Failure::Stopping)?
    }

    /// As [`Approvals::put_in_force`]: what the ledger does not have any more counts no more.
    async fn withdraw(
        self: &Arc<Self>,
        approval: Arc<Approval>,
        draft: Draft,
    ) -> Result<Arc<Approval>, Failure> {
        let approvals = Arc::clone(self);
        let work = async move {
            let _one = approvals.changing.lock().await;
            // Ended or withdrawn while this waited for its turn.
            if !approvals.has(&approval.id) {
                return Err(Failure::ApprovalNotFound(approval.id.to_string()));
            }
            let records = vec![draft.ok()];
            approvals.ledger.commit(Entry { changes: vec![remove(&approval.id)], records }).await?;
            let mut in_force = approvals.in_force.write().unwrap_or_else(PoisonError::into_inner);
            in_force.remove(&approval.id);
            Ok(approval)
        };
        self.tasks.finish(work).await.map_err(|_| Failure::Stopping)?
    }

    /// For whoever has the turn to change something.
    async fn forget_ended(&self) -> Result<(), Failure> {
        let now = self.clock.now();
        loop {
            let ended = self.ended(now);
            if ended.is_empty() {
                return Ok(());
            }
            let changes = ended.iter().map(remove).collect();
            self.ledger.commit(Entry { changes, records: Vec::new() }).await?;
            let mut in_force = self.in_force.write().unwrap_or_else(PoisonError::into_inner);
            ended.iter().for_each(|id| in_force.remove(id));
        }
    }

    /// Some of those that have ended.
    fn ended(&self, now: Timestamp) -> Vec<ApprovalId> {
        let in_force = self.in_force.read().unwrap_or_else(PoisonError::into_inner);
        let ended = in_force.by_id.values().filter(|approval| approval.expires_at <= now);
        ended.take(FORGOTTEN).map(|approval| approval.id.clone()).collect()
    }

    fn has(&self, id: &ApprovalId) -> bool {
        self.in_force.read().unwrap_or_else(PoisonError::into_inner).by_id.contains_key(id)
    }

    fn len(&self) -> usize {
        self.in_force.read().unwrap_or_else(PoisonError::into_inner).by_id.len()
    }
}

impl InForce {
    fn insert(&mut self, approval: Arc<Approval>) {
        self.by_principal.entry(approval.principal.clone()).or_default().push(Arc::clone(&approval));
        self.by_id.insert(approval.id.clone(), approval);
    }

    fn remove(&mut self, id: &ApprovalId) {
        let Some(removed) = self.by_id.remove(id) else { return };
        if let Some(others) = self.by_principal.get_mut(&removed.principal) {
            others.retain(|approval| approval.id != *id);
            if others.is_empty() {
                self.by_principal.remove(&removed.principal);
            }
        }
    }
}

/// Who approved, each once, in order.
pub fn approvers(approvals: &[Arc<Approval>]) -> Vec<SpiffeId> {
    let mut ids: Vec<SpiffeId> = approvals.iter().map(|approval| approval.approved_by.clone()).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// As an audit record names it: first what it is for, so that a search for the resource finds it.
impl fmt::Display for Approval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.target {
            Target::System => f.write_str("broker")?,
            _ => fmt::Display::fmt(&self.target, f)?,
        }
        write!(f, ": {} by {}, until {:.0}", self.action.as_str(), self.principal, self.expires_at)
    }
}

impl fmt::Display for ApprovalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ApprovalId {
    type Err = ApprovalIdError;
    fn from_str(text: &str) -> Result<Self, ApprovalIdError> {
        let good = text.len() == ID_LENGTH && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if good { Ok(Self(text.into())) } else { Err(ApprovalIdError) }
    }
}

/// Text that is no id of an approval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is one such as `01ARZ3NDEKTSV4RRFFQ69G5FAV`, as `bursar policy approvals` shows them")]
pub struct ApprovalIdError;

/// An approval as the ledger keeps it, under its id. Who gave it is with the object.
#[derive(Serialize, Deserialize)]
struct KeptApproval {
    principal: String,
    action: Action,
    resource: String,
    approved_at: Timestamp,
    expires_at: Timestamp,
    reason: String,
}

fn body(approval: &Approval) -> Vec<u8> {
    let kept = KeptApproval {
        principal: approval.principal.to_string(),
        action: approval.action,
        resource: approval.target.to_string(),
        approved_at: approval.approved_at,
        expires_at: approval.expires_at,
        reason: approval.reason.clone(),
    };
    // Strings and times always serialise; an empty body would be refused when it is read.
    serde_json::to_vec(&kept).unwrap_or_default()
}

fn kept(object: &Object) -> Option<Approval> {
    let kept: KeptApproval = serde_json::from_slice(&object.body).ok()?;
    Some(Approval {
        id: object.name.parse().ok()?,
        principal: SpiffeId::parse(&kept.principal).ok()?,
        action: kept.action,
        target: Target::parse(kept.action, &kept.resource).ok()?,
        approved_by: object.updated_by.clone(),
        approved_at: kept.approved_at,
        expires_at: kept.expires_at,
        reason: kept.reason,
    })
}

fn remove(id: &ApprovalId) -> Change {
    Change::RemoveObject { kind: ObjectKind::Approval, name: id.to_string(), expected: None }
}

/// How many may be in force. A decision looks through those of its principal.
const CAPACITY: usize = 4096;
const KEPT_PAGE: usize = 500;
const FORGET_TICK: Duration = Duration::from_secs(60);
/// Objects that one commit removes.
const FORGOTTEN: usize = 256;
/// That of a ULID.
const ID_LENGTH: usize = 26;

#[cfg(test)]
mod tests;
