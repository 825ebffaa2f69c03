//! `bursar.v1.Policies`.

use bursar_core::audit::Action;
use bursar_core::{Reference, SpiffeId};
use bursar_proto::convert::{WireError, timestamp_to_wire};
use bursar_proto::limits;
use bursar_proto::v1;
use bursar_proto::v1::policies_apply_response::Result as Applied;
use bursar_proto::v1::policies_server::Policies;
use bursar_proto::v1::{
    PoliciesAccepted, PoliciesApplyRequest, PoliciesApplyResponse, PoliciesCheckRequest,
    PoliciesCheckResponse, PoliciesGetRequest, PoliciesGetResponse, PoliciesRejected, PolicyDiagnostic,
};
use tonic::{Request, Response, Status};

use super::Api;
use crate::failure::Failure;
use crate::policy::{self, Context, Diagnostic, Facts, PolicyFile, PrincipalFacts, Resource};

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
                tried.map(|warnings| (rulebook.current().revision, warnings))
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
            let explained = rules.policies.explain(&policy::Request {
                principal: &question.principal,
                action: question.action,
                resource: question.resource.as_resource(),
                context: Context { time: call.time, reason: &question.reason },
            });
            Ok(PoliciesCheckResponse {
                decision: v1::Decision::from(explained.verdict.decision).into(),
                policies: explained.verdict.policies.iter().map(ToString::to_string).collect(),
                errors: explained.verdict.errors.to_vec(),
                explanation: explained.words,
                revision: rules.revision,
            })
        })
        .await
    }
}

fn files(message: PoliciesApplyRequest) -> Result<(Vec<PolicyFile>, Option<u64>, bool), Failure> {
    let bytes: usize = message.files.iter().map(|file| file.name.len() + file.text.len()).sum();
    if message.files.len() > limits::POLICY_FILES || bytes > limits::POLICY_SET {
        return Err(WireError::TooLarge { field: "files" }.into());
    }
    let file = |file: v1::PolicyFile| PolicyFile { name: file.name, text: file.text };
    let files = message.files.into_iter().map(file).collect();
    Ok((files, message.expected_revision, message.dry_run))
}

/// "Could this principal do that to this thing?"
struct Question {
    principal: PrincipalFacts,
    action: Action,
    resource: Asked,
    reason: String,
}

/// What a question is about, owned.
enum Asked {
    Secret(Reference),
    Environment(String),
    Node(String),
    System,
}

impl Asked {
    /// The kind follows from the action, and for renewals and revocations from the form of the text.
    fn parse(action: Action, text: String) -> Result<Self, Failure> {
        use Action as A;
        let secret = |text: &str| Ok(Self::Secret(Reference::parse(text)?));
        match action {
            A::Read | A::Write | A::Delete | A::List => secret(&text),
            A::Resolve | A::ApplyEnvironment | A::DeleteEnvironment => Ok(Self::Environment(text)),
            A::ViewEnvironment if !text.is_empty() => Ok(Self::Environment(text)),
            A::CreateJoinToken | A::EvictNode => Ok(Self::Node(text)),
            A::Renew | A::Revoke if !text.is_empty() => secret(&text),
            _ => Ok(Self::System),
        }
    }

    fn as_resource(&self) -> Resource<'_> {
        match self {
            Self::Secret(reference) => Resource::secret(reference),
            Self::Environment(name) => Resource::Environment(name),
            Self::Node(name) => Resource::Node(name),
            Self::System => Resource::System,
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
    if let Some(unknown) = context.keys().next() {
        let message = format!("has no key `{}`; there are `reason` and `method`", unknown.escape_default());
        return Err(Failure::Invalid { field: "context", message });
    }
    let facts = Facts { id, method, node: None, selectors: Vec::new(), groups: Vec::new() };
    Ok(Question {
        principal: PrincipalFacts::new(facts),
        action,
        resource: Asked::parse(action, message.resource)?,
        reason,
    })
}

fn diagnostic(diagnostic: Diagnostic) -> PolicyDiagnostic {
    let message = match diagnostic.help {
        Some(help) => format!("{}; {help}", diagnostic.message),
        None => diagnostic.message,
    };
    PolicyDiagnostic { file: diagnostic.file, line: diagnostic.line, column: diagnostic.column, message }
}
