//! The policies in force, and how they change.
//!
//! The whole set is one object of the ledger: applied, kept and rolled back as one. What is in force is a value that
//! readers take a handle of; applying makes a new one, commits it, and only then puts it in the old one's place, so no
//! request sees half a set, and a set that has faults changes nothing.

mod history;

pub use history::Revision;

use std::sync::{Arc, PoisonError, RwLock};

use bursar_core::SpiffeId;
use bursar_core::audit::Action;
use bursar_core::spiffe::TrustDomain;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use crate::approvals::{ApprovalId, Approvals, approvers};
use crate::call::Draft;
use crate::failure::Failure;
use crate::identity::Caller;
use crate::ledger::{Change, Entry, Ledger, Object, ObjectKind, Page};
use crate::policy::{Context, Diagnostic, Policies, PolicyFile, Request, Resource, Verdict};

/// Holds the policies in force.
#[derive(Debug)]
pub struct Rulebook {
    ledger: Ledger,
    domain: TrustDomain,
    administrator: SpiffeId,
    /// What policies are shown of who approved a request.
    pub approvals: Arc<Approvals>,
    current: RwLock<Arc<Rules>>,
    /// One set is applied at a time: what is in force follows the ledger's order.
    applying: Mutex<()>,
}

/// One set of policies, with the revision that it has in the ledger.
#[derive(Debug)]
pub struct Rules {
    pub policies: Policies,
    pub revision: u64,
}

/// What policy said to a request.
#[derive(Debug)]
pub struct Ruling {
    pub verdict: Verdict,
    /// The approvals that it was shown; none where no policy about the action looks at them.
    pub approvals: Vec<ApprovalId>,
}

/// A set of policies as the ledger keeps it.
#[derive(Debug)]
pub struct KeptRules {
    pub files: Vec<PolicyFile>,
    pub revision: u64,
    pub applied_at: Timestamp,
    pub applied_by: SpiffeId,
}

/// What applying a set did.
#[derive(Debug)]
pub struct Applied {
    pub revision: u64,
    pub warnings: Vec<Diagnostic>,
}

impl Rulebook {
    /// Puts in force what the ledger holds.
    ///
    /// # Errors
    /// [`Failure::Policy`] when the kept set does not hold with this release; nothing is in force then.
    pub async fn load(
        ledger: Ledger,
        domain: TrustDomain,
        administrator: SpiffeId,
        approvals: Approvals,
    ) -> Result<Self, Failure> {
        let kept = match ledger.object(ObjectKind::Policy, NAME).await? {
            Some(object) => kept(&object)?,
            None => return Err(Failure::Policy(Vec::new())),
        };
        let policies = compile(kept.files, domain.clone(), administrator.clone()).await?;
        let current = RwLock::new(Arc::new(Rules { policies, revision: kept.revision }));
        let (approvals, applying) = (Arc::new(approvals), Mutex::new(()));
        Ok(Self { ledger, domain, administrator, approvals, current, applying })
    }

    /// The change that puts `files` into a ledger that has none yet.
    pub fn first(files: &[PolicyFile], by: SpiffeId, at: Timestamp) -> Change {
        Change::PutObject {
            kind: ObjectKind::Policy,
            name: NAME.to_owned(),
            body: body(files),
            expected: Some(0),
            by,
            at,
        }
    }

    /// What is in force now.
    pub fn current(&self) -> Arc<Rules> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Decides by what is in force now.
    pub fn decide(
        &self,
        caller: &Caller,
        action: Action,
        resource: Resource<'_>,
        reason: &str,
        time: Timestamp,
    ) -> Ruling {
        let rules = self.current();
        let approvals = match rules.policies.looks_at_approvals(action) {
            true => self.approvals.covering(caller.id(), action, resource, time),
            false => Vec::new(),
        };
        let approved_by = approvers(&approvals);
        let context = Context { time, reason, approved_by: &approved_by };
        let request = Request { principal: &caller.facts, action, resource, context };
        let verdict = rules.policies.decide(&request);
        if let Some(error) = verdict.errors.first() {
            tracing::warn!(action = action.as_str(), error, "a policy could not be evaluated, which denies");
        }
        Ruling { verdict, approvals: approvals.iter().map(|approval| approval.id.clone()).collect() }
    }

    /// Checks a set, keeps it and puts it in force.
    ///
    /// # Errors
    /// [`Failure::Policy`] with every fault, or a revision other than `expected`; the old set stays in force.
    pub async fn apply(
        &self,
        files: Vec<PolicyFile>,
        expected: Option<u64>,
        by: &Caller,
        at: Timestamp,
        draft: Draft,
    ) -> Result<Applied, Failure> {
        let policies = compile(files.clone(), self.domain.clone(), self.administrator.clone()).await?;
        let _one = self.applying.lock().await;
        let change = Change::PutObject {
            kind: ObjectKind::Policy,
            name: NAME.to_owned(),
            body: body(&files),
            expected,
            by: by.id().clone(),
            at,
        };
        let committed =
            self.ledger.commit(Entry { changes: vec![change], records: vec![draft.ok()] }).await?;
        let rules = Rules { policies, revision: committed.revisions().next().unwrap_or_default() };
        let applied = Applied { revision: rules.revision, warnings: rules.policies.warnings().to_vec() };
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(rules);
        Ok(applied)
    }

    /// Checks a set without keeping it, and answers what would be in force.
    ///
    /// # Errors
    /// [`Failure::Policy`] with every fault.
    pub async fn try_out(&self, files: Vec<PolicyFile>) -> Result<Policies, Failure> {
        compile(files, self.domain.clone(), self.administrator.clone()).await
    }

    /// A set that is or was in force; the newest without a revision.
    ///
    /// # Errors
    /// [`Failure::Invalid`] when there was no such revision.
    pub async fn kept(&self, revision: Option<u64>) -> Result<KeptRules, Failure> {
        let newest = self.ledger.object(ObjectKind::Policy, NAME).await?;
        let is_wanted = |object: &Object| revision.is_none_or(|revision| object.revision == revision);
        if let Some(object) = newest.filter(is_wanted) {
            return kept(&object);
        }
        let mut token = None;
        loop {
            let page = Page { size: HISTORY_PAGE, token };
            let older = self.ledger.object_history(ObjectKind::Policy, NAME, page).await?;
            if let Some(object) = older.items.iter().find(|object| is_wanted(object)) {
                return kept(object);
            }
            token = Some(older.next.ok_or_else(|| Failure::Invalid {
                field: "revision",
                message: match revision {
                    Some(revision) => format!("the policies never had revision {revision}"),
                    None => "the policies have no revision yet".to_owned(),
                },
            })?);
        }
    }
}

/// Takes up to a second for the largest set, so it has a thread of its own.
async fn compile(
    files: Vec<PolicyFile>,
    domain: TrustDomain,
    administrator: SpiffeId,
) -> Result<Policies, Failure> {
    tokio::task::spawn_blocking(move || Policies::compile(&files, &domain, &administrator))
        .await
        .map_err(|_| Failure::Stopping)?
        .map_err(Failure::Policy)
}

#[derive(Serialize, Deserialize)]
struct KeptFile {
    name: String,
    text: String,
}

fn body(files: &[PolicyFile]) -> Vec<u8> {
    let file = |file: &PolicyFile| KeptFile { name: file.name.clone(), text: file.text.clone() };
    let files: Vec<KeptFile> = files.iter().map(file).collect();
    // Strings always serialise; an empty body would be refused when it is read.
    serde_json::to_vec(&files).unwrap_or_default()
}

fn kept(object: &Object) -> Result<KeptRules, Failure> {
    let files: Vec<KeptFile> = serde_json::from_slice(&object.body).map_err(|_| Failure::Kept("policies"))?;
    Ok(KeptRules {
        files: files.into_iter().map(|KeptFile { name, text }| PolicyFile { name, text }).collect(),
        revision: object.revision,
        applied_at: object.updated_at,
        applied_by: object.updated_by.clone(),
    })
}

const NAME: &str = "current";
const HISTORY_PAGE: usize = 50;
