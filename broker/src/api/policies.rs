//! `bursar.v1.Policies`.

mod approval;

use bursar_core::SpiffeId;
use bursar_core::audit::{Action, Decision};
use bursar_proto::convert::{WireError, decision_from_wire, timestamp_to_wire};
use bursar_proto::limits;
use bursar_proto::v1;
use bursar_proto::v1::policies_apply_response::Result as Applied;
use bursar_proto::v1::policies_server::Policies;
use bursar_proto::v1::policies_test_response::Result as Tested;
use bursar_proto::v1::{
    PoliciesAccepted, PoliciesApplyRequest, PoliciesApplyResponse, PoliciesApproveRequest,
    PoliciesApproveResponse, PoliciesCheckRequest, PoliciesCheckResponse, PoliciesGetRequest,
    PoliciesGetResponse, PoliciesHistoryRequest, PoliciesHistoryResponse, PoliciesListApprovalsRequest,
    PoliciesListApprovalsResponse, PoliciesRejected, PoliciesTestRequest, PoliciesTestResponse,
    PoliciesTested, PoliciesWithdrawApprovalRequest, PoliciesWithdrawApprovalResponse, PolicyDiagnostic,
    PolicyOutcome, PolicyRevision,
};
use jiff::Timestamp;
use tonic::{Request, Response, Status};

use super::Api;
use super::page;
use crate::approvals::{Approvals, approvers};
use crate::failure::Failure;
use crate::policy::{
    self, Context, Diagnostic, Facts, GroupName, NameError, PolicyFile, PrincipalFacts, Resource, Selector,
    Target,
};
use crate::rulebook::Revision;

#[tonic::async_trait]
impl Policies for Api {
    async fn get(
        &self,
        request: Request<PoliciesGetRequest>,
    ) -> Result<Response<PoliciesGetResponse>, Status> {
        self.answer(
            request,
            |message| Ok(message.revision),
            |call, revision| async move {
                let draft =
                    self.broker.permit(&call, Action::ViewPolicy, Resource::System, "policies", "").await?;
                let kept = self.broker.observe(draft, self.broker.rulebook.kept(revision)).await?;
                let file = |file: PolicyFile| v1::PolicyFile { name: file.name, text: file.text };
                Ok(PoliciesGetResponse {
                    files: kept.files.into_iter().map(file).collect(),
                    revision: kept.revision,
                    applied_at: Some(timestamp_to_wire(kept.applied_at)),
                    applied_by: kept.applied_by.to_string(),
                })
            },
        )
        .await
    }

    async fn history(
        &self,
        request: Request<PoliciesHistoryRequest>,
    ) -> Result<Response<PoliciesHistoryResponse>, Status> {
        let read = |message: PoliciesHistoryRequest| page::read(message.page_size, message.page_token);
        self.answer(request, read, |call, page| async move {
            let draft =
                self.broker.permit(&call, Action::ViewPolicy, Resource::System, "policies", "").await?;
            let history = self.broker.observe(draft, self.broker.rulebook.history(page)).await?;
            Ok(PoliciesHistoryResponse {
                revisions: history.items.into_iter().map(revision).collect(),
                next_page_token: history.next.unwrap_or_default(),
            })
        })
        .await
    }

    /// Faults of a set are an answer and not an error: whoever applies it wants them with their positions.
    async fn apply(
        &self,
        request: Request<PoliciesApplyRequest>,
    ) -> Result<Response<PoliciesApplyResponse>, Status> {
        self.answer(request, files, |call, (files, expected, dry_run)| async move {
            let draft =
                self.broker.permit(&call, Action::ApplyPolicy, Resource::System, "policies", "").await?;
            let rulebook = &self.broker.rulebook;
            let applied = if dry_run {
                let tried = self.broker.observe(draft, rulebook.try_out(files)).await;
                tried.map(|policies| (rulebook.current().revision, policies.warnings().to_vec()))
            } else {
                let work = rulebook.apply(files, expected, &call.caller, call.time, draft.clone());
                self.broker.settle(draft, work).await.map(|applied| (applied.revision, applied.warnings))
            };
            let result = match applied {
                Ok((revision, warnings)) => Applied::Accepted(PoliciesAccepted {
                    revision,
                    warnings: warnings.into_iter().map(diagnostic).collect(),
                }),
                Err(Failure::Policy(faults)) => Applied::Rejected(PoliciesRejected {
                    faults: faults.into_iter().map(diagnostic).collect(),
                }),
                Err(other) => return Err(other),
            };
            Ok(PoliciesApplyResponse { result: Some(result) })
        })
        .await
    }

    async fn check(
        &self,
        request: Request<PoliciesCheckRequest>,
    ) -> Result<Response<PoliciesCheckResponse>, Status> {
        self.answer(request, question, |call, question| async move {
            let draft =
                self.broker.permit(&call, Action::CheckPolicy, Resource::System, "policies", "").await?;
            self.broker.note(draft).await?;
            let rules = self.broker.rulebook.current();
            let approvals = &self.broker.rulebook.approvals;
            Ok(question.put(&rules.policies, rules.revision, call.time, Some(approvals)))
        })
        .await
    }

    /// Faults of a set are an answer, as in [`Policies::apply`].
    async fn test(
        &self,
        request: Request<PoliciesTestRequest>,
    ) -> Result<Response<PoliciesTestResponse>, Status> {
        self.answer(request, expectations, |call, (files, expectations)| async move {
            let draft =
                self.broker.permit(&call, Action::CheckPolicy, Resource::System, "policies", "").await?;
            let rulebook = &self.broker.rulebook;
            let outcomes = if files.is_empty() {
                self.broker.note(draft).await?;
                let rules = rulebook.current();
                Ok(compare(&rules.policies, rules.revision, &expectations, call.time))
            } else {
                let tried = self.broker.observe(draft, rulebook.try_out(files)).await;
                tried.map(|policies| compare(&policies, 0, &expectations, call.time))
            };
            let result = match outcomes {
                Ok(outcomes) => Tested::Tested(PoliciesTested { outcomes }),
                Err(Failure::Policy(faults)) => Tested::Rejected(PoliciesRejected {
                    faults: faults.into_iter().map(diagnostic).collect(),
                }),
                Err(other) => return Err(other),
            };
            Ok(PoliciesTestResponse { result: Some(result) })
        })
        .await
    }

    async fn approve(
        &self,
        request: Request<PoliciesApproveRequest>,
    ) -> Result<Response<PoliciesApproveResponse>, Status> {
        let broker = &self.broker;
        let read = |message| approval::wanted(message, &broker.rulebook.current().policies);
        self.answer(request, read, |call, wanted| async move {
            let approval = Some(approval::wire(&*broker.approve(&call, wanted).await?));
            Ok(PoliciesApproveResponse { approval })
        })
        .await
    }

    async fn list_approvals(
        &self,
        request: Request<PoliciesListApprovalsRequest>,
    ) -> Result<Response<PoliciesListApprovalsResponse>, Status> {
        let read = |message: PoliciesListApprovalsRequest| page::read(message.page_size, message.page_token);
        self.answer(request, read, |call, page| async move {
            let draft =
                self.broker.permit(&call, Action::ViewPolicy, Resource::System, "approvals", "").await?;
            self.broker.note(draft).await?;
            let listed = self.broker.rulebook.approvals.list(&page, call.time);
            Ok(PoliciesListApprovalsResponse {
                approvals: listed.items.iter().map(|approval| approval::wire(approval)).collect(),
                next_page_token: listed.next.unwrap_or_default(),
            })
        })
        .await
    }

    async fn withdraw_approval(
        &self,
        request: Request<PoliciesWithdrawApprovalRequest>,
    ) -> Result<Response<PoliciesWithdrawApprovalResponse>, Status> {
        self.answer(request, approval::named, |call, (id, reason)| async move {
            let withdrawn = self.broker.withdraw_approval(&call, &id, &reason).await?;
            Ok(PoliciesWithdrawApprovalResponse { approval: Some(approval::wire(&withdrawn)) })
        })
        .await
    }
}

fn files(message: PoliciesApplyRequest) -> Result<(Vec<PolicyFile>, Option<u64>, bool), Failure> {
    Ok((set(message.files)?, message.expected_revision, message.dry_run))
}

fn set(files: Vec<v1::PolicyFile>) -> Result<Vec<PolicyFile>, Failure> {
    let bytes: usize = files.iter().map(|file| file.name.len() + file.text.len()).sum();
    if files.len() > limits::POLICY_FILES || bytes > limits::POLICY_SET {
        return Err(WireError::TooLarge { field: "files" }.into());
    }
    Ok(files.into_iter().map(|file| PolicyFile { name: file.name, text: file.text }).collect())
}

/// A question, and the answer that is wanted.
struct Expectation {
    question: Question,
    decision: Decision,
    /// Sorted; any where there is none.
    policies: Vec<String>,
}

fn expectations(message: PoliciesTestRequest) -> Result<(Vec<PolicyFile>, Vec<Expectation>), Failure> {
    if message.expectations.is_empty() || message.expectations.len() > limits::EXPECTATIONS {
        let message = format!("holds 1 to {}", limits::EXPECTATIONS);
        return Err(Failure::Invalid { field: "expectations", message });
    }
    let expectation = |expected: v1::PolicyExpectation| {
        let request = expected.request.ok_or(WireError::Missing { field: "request" })?;
        let mut policies = expected.policies;
        policies.sort_unstable();
        let decision = decision_from_wire("decision", expected.decision)?;
        Ok(Expectation { question: question(request)?, decision, policies })
    };
    let expectations = message.expectations.into_iter().map(expectation).collect::<Result<_, Failure>>()?;
    Ok((set(message.files)?, expectations))
}

fn compare(
    policies: &policy::Policies,
    revision: u64,
    expectations: &[Expectation],
    now: Timestamp,
) -> Vec<PolicyOutcome> {
    let outcome = |expected: &Expectation| {
        // A table says the same each time, whoever has approved what.
        let decided = expected.question.put(policies, revision, now, None);
        let same = decided.decision == i32::from(v1::Decision::from(expected.decision));
        let as_expected = same && (expected.policies.is_empty() || expected.policies == decided.policies);
        PolicyOutcome { decided: Some(decided), as_expected }
    };
    expectations.iter().map(outcome).collect()
}

/// "Could this principal do that to this thing?"
struct Question {
    principal: PrincipalFacts,
    action: Action,
    resource: Target,
    reason: String,
    /// Who would have approved it; whoever has where that is not said.
    approved_by: Option<Vec<SpiffeId>>,
    /// When; now where that is not said.
    time: Option<Timestamp>,
}

impl Question {
    /// The answer of a set, to those who approved it in earnest where `approvals` are given.
    fn put(
        &self,
        policies: &policy::Policies,
        revision: u64,
        now: Timestamp,
        approvals: Option<&Approvals>,
    ) -> PoliciesCheckResponse {
        let (resource, time) = (self.resource.as_resource(), self.time.unwrap_or(now));
        let in_force = || {
            let covering = approvals?.covering(&self.principal.id, self.action, resource, time);
            Some(approvers(&covering))
        };
        let approved_by = self.approved_by.clone().or_else(in_force).unwrap_or_default();
        let context = Context { time, reason: &self.reason, approved_by: &approved_by };
        let (principal, action) = (&self.principal, self.action);
        let explained = policies.explain(&policy::Request { principal, action, resource, context });
        PoliciesCheckResponse {
            decision: v1::Decision::from(explained.verdict.decision).into(),
            policies: explained.verdict.policies.iter().map(ToString::to_string).collect(),
            errors: explained.verdict.errors.to_vec(),
            explanation: explained.words,
            revision,
        }
    }
}

fn question(message: PoliciesCheckRequest) -> Result<Question, Failure> {
    let id = SpiffeId::parse(&message.principal)
        .map_err(|source| WireError::SpiffeId { field: "principal", source })?;
    let action = message.action.parse().map_err(|source| WireError::Action { field: "action", source })?;
    let mut context = message.context;
    let reason = context.remove("reason").unwrap_or_default();
    let method = context.remove("method").unwrap_or_else(|| "mtls".to_owned());
    let invalid = |message: String| Failure::Invalid { field: "context", message };
    let node = context.remove("node").map(|node| SpiffeId::parse(&node)).transpose();
    let node = node.map_err(|source| WireError::SpiffeId { field: "context", source })?;
    let words = |text: Option<String>| -> Vec<String> {
        text.unwrap_or_default().split_ascii_whitespace().map(str::to_owned).collect()
    };
    let selectors = words(context.remove("selectors")).iter().map(|text| Selector::parse(text)).collect();
    let groups = words(context.remove("groups")).iter().map(|text| GroupName::parse(text)).collect();
    let time = context.remove("time").map(|time| time.parse::<Timestamp>()).transpose();
    let time =
        time.map_err(|_| invalid("has a `time` that is not one such as `2026-01-31T12:00:00Z`".to_owned()))?;
    let approved_by = context.remove("approved_by").map(|ids| approved_by(&id, &ids)).transpose()?;
    let approves = context.remove("approves").map(|action| action.parse()).transpose();
    let approves = approves.map_err(|source| WireError::Action { field: "context", source })?;
    if let Some(unknown) = context.keys().next() {
        let known = "`reason`, `method`, `node`, `selectors`, `groups`, `time`, `approved_by` and `approves`";
        return Err(invalid(format!("has no key `{}`; there are {known}", unknown.escape_default())));
    }
    let named = |error: NameError| invalid(error.to_string());
    let (selectors, groups): (Result<_, _>, Result<_, _>) = (selectors, groups);
    let facts =
        Facts { id, method, node, selectors: selectors.map_err(named)?, groups: groups.map_err(named)? };
    // What is approved says what kind of thing it is approved for.
    let spoken_of = match action {
        Action::Approve | Action::WithdrawApproval => approves.unwrap_or(Action::Read),
        _ => action,
    };
    Ok(Question {
        principal: PrincipalFacts::new(facts),
        action,
        resource: Target::parse(spoken_of, &message.resource)?,
        reason,
        approved_by,
        time,
    })
}

/// Nobody approves for himself, not even where it is only asked what would be.
fn approved_by(principal: &SpiffeId, ids: &str) -> Result<Vec<SpiffeId>, Failure> {
    let mut approved_by = Vec::new();
    for id in ids.split_ascii_whitespace() {
        let id = SpiffeId::parse(id).map_err(|source| WireError::SpiffeId { field: "context", source })?;
        if id == *principal {
            let message = format!("has the principal itself in `approved_by`; {}", Failure::OwnApproval);
            return Err(Failure::Invalid { field: "context", message });
        }
        approved_by.push(id);
    }
    approved_by.sort_unstable();
    approved_by.dedup();
    Ok(approved_by)
}

fn revision(revision: Revision) -> PolicyRevision {
    PolicyRevision {
        revision: revision.revision,
        applied_at: Some(timestamp_to_wire(revision.applied_at)),
        applied_by: revision.applied_by.to_string(),
        files: u32::try_from(revision.files).unwrap_or(u32::MAX),
        changed: revision.changed,
    }
}

fn diagnostic(diagnostic: Diagnostic) -> PolicyDiagnostic {
    let message = match diagnostic.help {
        Some(help) => format!("{}; {help}", diagnostic.message),
        None => diagnostic.message,
    };
    PolicyDiagnostic { file: diagnostic.file, line: diagnostic.line, column: diagnostic.column, message }
}
