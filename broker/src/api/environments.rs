//! `bursar.v1.Environments`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bursar_core::audit::Action;
use bursar_core::{Reference, Secret};
use bursar_proto::convert::{WireError, duration_to_wire, timestamp_to_wire, wire_bytes};
use bursar_proto::limits;
use bursar_proto::v1;
use bursar_proto::v1::environments_check_request::Target;
use bursar_proto::v1::environments_server::Environments;
use bursar_proto::v1::{
    AppliedEnvironment, EnvironmentChange, EnvironmentDifference, EnvironmentEntryKind, EnvironmentRevision,
    EnvironmentsApplyRequest, EnvironmentsApplyResponse, EnvironmentsCheckRequest, EnvironmentsCheckResponse,
    EnvironmentsDeleteRequest, EnvironmentsDeleteResponse, EnvironmentsDiffRequest, EnvironmentsDiffResponse,
    EnvironmentsGetRequest, EnvironmentsGetResponse, EnvironmentsListRequest, EnvironmentsListResponse,
    EnvironmentsResolveRequest, EnvironmentsResolveResponse, OnChange, ResolvedFile, ResolvedVariable,
};
use tonic::{Request, Response, Status};

use super::page::{self, text};
use super::secrets::terms;
use super::{Api, status};
use crate::broker::{Leased, ResolvedEnvironment};
use crate::catalog::{ChangeKind, Kept};
use crate::environment::{self as env, Definition, Difference, Entry, EntryName, Flat, document};
use crate::failure::Failure;
use crate::keeping::OfflineCopy;
use crate::lease::grant::Terms;
use crate::policy::Resource;

#[tonic::async_trait]
impl Environments for Api {
    async fn apply(
        &self,
        request: Request<EnvironmentsApplyRequest>,
    ) -> Result<Response<EnvironmentsApplyResponse>, Status> {
        let read = |message: EnvironmentsApplyRequest| {
            if message.ttl.is_some() {
                return Err(Failure::NotBuilt("ttl: environments that end by themselves"));
            }
            Ok((parse(&message.document)?, message.expected_revision, message.dry_run))
        };
        self.answer(request, read, |call, (definitions, expected, dry_run)| async move {
            let mut draft = None;
            for definition in &definitions {
                let name = definition.name.as_str();
                let resource = Resource::Environment(name);
                draft = Some(self.broker.permit(&call, Action::ApplyEnvironment, resource, name, "").await?);
            }
            let names: Vec<&str> = definitions.iter().map(|definition| definition.name.as_str()).collect();
            let draft = draft.ok_or(WireError::Missing { field: "document" })?.about(names.join(", "));
            let by = call.caller.id().clone();
            let work =
                self.broker.catalog.apply(definitions, expected, dry_run, &by, call.time, draft.clone());
            let changed = self.broker.settle(draft, work).await?;
            let environments = changed.into_iter().map(|changed| AppliedEnvironment {
                name: changed.name,
                change: change(changed.kind).into(),
                revision: changed.revision,
            });
            Ok(EnvironmentsApplyResponse { environments: environments.collect() })
        })
        .await
    }

    async fn get(
        &self,
        request: Request<EnvironmentsGetRequest>,
    ) -> Result<Response<EnvironmentsGetResponse>, Status> {
        let read = |message: EnvironmentsGetRequest| Ok((name(message.name)?, message.revision));
        self.answer(request, read, |call, (name, revision)| async move {
            let resource = Resource::Environment(&name);
            let draft = self.broker.permit(&call, Action::ViewEnvironment, resource, &name, "").await?;
            let kept = self.broker.observe(draft, self.broker.catalog.kept(&name, revision)).await?;
            let document = kept.definition.to_toml();
            Ok(EnvironmentsGetResponse { environment: Some(summary(kept)), document })
        })
        .await
    }

    async fn list(
        &self,
        request: Request<EnvironmentsListRequest>,
    ) -> Result<Response<EnvironmentsListResponse>, Status> {
        let read = |message: EnvironmentsListRequest| {
            Ok((message.prefix, page::read(message.page_size, message.page_token)?))
        };
        self.answer(request, read, |call, (prefix, page)| async move {
            let draft = self
                .broker
                .permit(&call, Action::ViewEnvironment, Resource::System, "environments", "")
                .await?;
            let listed = self.broker.observe(draft, self.broker.catalog.list(page)).await?;
            let under = |kept: &Kept| is_under(kept.definition.name.as_str(), &prefix);
            let kept = listed.items.into_iter().filter(under);
            Ok(EnvironmentsListResponse {
                environments: kept.map(summary).collect(),
                next_page_token: listed.next.unwrap_or_default(),
            })
        })
        .await
    }

    async fn delete(
        &self,
        request: Request<EnvironmentsDeleteRequest>,
    ) -> Result<Response<EnvironmentsDeleteResponse>, Status> {
        let read = |message: EnvironmentsDeleteRequest| {
            let reason = text("reason", message.reason, limits::REASON)?;
            Ok((name(message.name)?, message.expected_revision, reason))
        };
        self.answer(request, read, |call, (name, expected, reason)| async move {
            let resource = Resource::Environment(&name);
            let draft =
                self.broker.permit(&call, Action::DeleteEnvironment, resource, &name, &reason).await?;
            let work = self.broker.catalog.delete(&name, expected, call.time, draft.clone());
            let revocation = self.broker.settle(draft, work).await?;
            let leases_revoked = self.broker.leases.carried_out(revocation).await?.marked;
            Ok(EnvironmentsDeleteResponse { leases_revoked })
        })
        .await
    }

    async fn resolve(
        &self,
        request: Request<EnvironmentsResolveRequest>,
    ) -> Result<Response<EnvironmentsResolveResponse>, Status> {
        let read = |message: EnvironmentsResolveRequest| {
            let terms = terms(message.ttl, message.reason, message.instance)?;
            Ok((name(message.name)?, Terms { new_lease: message.new_lease, ..terms }, message.offline))
        };
        self.answer(request, read, |call, (name, terms, offline)| async move {
            if !offline {
                return Ok(resolved(self.broker.resolve(&call, &name, terms).await?));
            }
            let (environment, copy) = self.broker.resolve_to_keep(&call, &name, terms).await?;
            self.metrics.offline_copy();
            Ok(EnvironmentsResolveResponse { offline: Some(copy.into()), ..resolved(environment) })
        })
        .await
    }

    async fn check(
        &self,
        request: Request<EnvironmentsCheckRequest>,
    ) -> Result<Response<EnvironmentsCheckResponse>, Status> {
        let read = |message: EnvironmentsCheckRequest| {
            if !message.principal.is_empty() {
                return Err(Failure::NotBuilt("principal: checking for somebody else"));
            }
            let target = message.target.ok_or(WireError::Missing { field: "target" })?;
            Ok(match target {
                Target::Name(text) => (Some(name(text)?), Vec::new()),
                Target::Document(text) => (None, parse(&text)?),
            })
        };
        self.answer(request, read, |call, (name, definitions)| async move {
            let over: HashMap<String, Arc<Definition>> = definitions
                .into_iter()
                .map(|definition| (definition.name.to_string(), Arc::new(definition)))
                .collect();
            let mut findings = Vec::new();
            for name in name.into_iter().chain(over.keys().cloned()) {
                let resource = Resource::Environment(&name);
                let draft = self.broker.permit(&call, Action::ViewEnvironment, resource, &name, "").await?;
                let check = self.broker.check_environment(&call, &name, over.clone());
                findings.extend(self.broker.observe(draft, check).await?);
            }
            let ok = findings.iter().all(|finding| finding.fault.is_none());
            Ok(EnvironmentsCheckResponse { ok, findings: findings.into_iter().map(Into::into).collect() })
        })
        .await
    }

    async fn diff(
        &self,
        request: Request<EnvironmentsDiffRequest>,
    ) -> Result<Response<EnvironmentsDiffResponse>, Status> {
        let read = |message: EnvironmentsDiffRequest| {
            let side = |side: Option<EnvironmentRevision>, field| {
                let EnvironmentRevision { name: text, revision } =
                    side.ok_or(WireError::Missing { field })?;
                Ok::<_, Failure>((name(text)?, revision))
            };
            Ok([side(message.left, "left")?, side(message.right, "right")?])
        };
        self.answer(request, read, |call, sides| async move {
            let mut flats = Vec::new();
            for (name, revision) in sides {
                let resource = Resource::Environment(&name);
                let draft = self.broker.permit(&call, Action::ViewEnvironment, resource, &name, "").await?;
                let flat = async {
                    let kept = self.broker.catalog.kept(&name, revision).await?;
                    let over = HashMap::from([(name.clone(), kept.definition)]);
                    self.broker.catalog.flatten_over(&name, over).await
                };
                flats.push(self.broker.observe(draft, flat).await?);
            }
            let differences = match flats.as_slice() {
                [left, right] => env::diff(left, right),
                _ => Vec::new(),
            };
            Ok(EnvironmentsDiffResponse { differences: differences.into_iter().map(difference).collect() })
        })
        .await
    }
}

/// The name of an environment as a request has it. It goes into the ledger whether there is such an environment or not,
/// so its length is bounded first.
fn name(text: String) -> Result<String, Failure> {
    page::text("name", text, limits::ENVIRONMENT_NAME)
}

/// Whether `name` is `prefix` or below it, by whole segments.
fn is_under(name: &str, prefix: &str) -> bool {
    let rest = name.strip_prefix(prefix.trim_end_matches('/'));
    prefix.is_empty() || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn parse(document: &str) -> Result<Vec<Definition>, Failure> {
    document::parse(document).map_err(Failure::Document)
}

fn summary(kept: Kept) -> v1::Environment {
    let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    v1::Environment {
        name: kept.definition.name.to_string(),
        revision: kept.revision,
        extends: kept.definition.extends.iter().map(ToString::to_string).collect(),
        variables: count(kept.definition.vars.len()),
        files: count(kept.definition.files.len()),
        updated_at: Some(timestamp_to_wire(kept.updated_at)),
        updated_by: kept.updated_by.to_string(),
        expires_at: None,
    }
}

fn resolved(environment: ResolvedEnvironment) -> EnvironmentsResolveResponse {
    let ResolvedEnvironment { revision, flat, rendered, leases } = environment;
    let variables = flat.vars().iter().filter_map(|(name, inherited)| {
        let entry = &inherited.definition;
        let about = About::of(&flat, entry, &leases);
        rendered.vars.get(name).map(|value| about.variable(name.to_string(), value))
    });
    let variables = variables.collect();
    let files = flat.files().iter().filter_map(|(path, inherited)| {
        let file = &inherited.definition;
        let about = About::of(&flat, &file.entry, &leases);
        rendered.files.get(path).map(|contents| about.file(path.to_string(), file.mode.bits(), contents))
    });
    let files = files.collect();
    let leases = leases.into_values().map(|leased| leased.lease.into()).collect();
    EnvironmentsResolveResponse { revision, variables, files, leases, offline: None }
}

/// What an answer says of a value beside the value.
struct About {
    lease_ids: Vec<String>,
    on_change: OnChange,
    max_stale: Option<Duration>,
    age: Option<Duration>,
}

impl About {
    fn of(flat: &Flat, entry: &Entry, leases: &std::collections::BTreeMap<Reference, Leased>) -> Self {
        let basis = flat.basis(entry);
        let under: Vec<&Leased> =
            basis.references.iter().filter_map(|reference| leases.get(&reference.without_field())).collect();
        let mut lease_ids: Vec<String> = under.iter().map(|leased| leased.lease.id.to_string()).collect();
        lease_ids.dedup();
        Self {
            lease_ids,
            on_change: on_change(entry.contract.on_change),
            max_stale: basis.max_stale,
            age: under.iter().map(|leased| leased.age).max(),
        }
    }

    fn variable(self, name: String, value: &Secret) -> ResolvedVariable {
        ResolvedVariable {
            name,
            value: wire_bytes(value),
            secret: !self.lease_ids.is_empty(),
            lease_ids: self.lease_ids,
            on_change: self.on_change.into(),
            max_stale: self.max_stale.map(duration_to_wire),
            age: self.age.map(duration_to_wire),
        }
    }

    fn file(self, path: String, mode: u32, contents: &Secret) -> ResolvedFile {
        ResolvedFile {
            path,
            mode,
            contents: wire_bytes(contents),
            secret: !self.lease_ids.is_empty(),
            lease_ids: self.lease_ids,
            on_change: self.on_change.into(),
            max_stale: self.max_stale.map(duration_to_wire),
            age: self.age.map(duration_to_wire),
        }
    }
}

fn on_change(on_change: Option<env::OnChange>) -> OnChange {
    match on_change {
        None => OnChange::Unspecified,
        Some(env::OnChange::None) => OnChange::None,
        Some(env::OnChange::Restart) => OnChange::Restart,
        Some(env::OnChange::Signal) => OnChange::Signal,
        Some(env::OnChange::Hook) => OnChange::Hook,
    }
}

fn change(kind: ChangeKind) -> EnvironmentChange {
    match kind {
        ChangeKind::Added => EnvironmentChange::Added,
        ChangeKind::Changed => EnvironmentChange::Changed,
        ChangeKind::Unchanged => EnvironmentChange::Unchanged,
    }
}

fn difference(difference: Difference) -> EnvironmentDifference {
    let (change, keys) = match difference.change {
        env::Change::Added => (EnvironmentChange::Added, Vec::new()),
        env::Change::Removed => (EnvironmentChange::Removed, Vec::new()),
        env::Change::Changed(keys) => (EnvironmentChange::Changed, keys),
    };
    let (kind, entry) = named(difference.entry.as_ref());
    EnvironmentDifference {
        entry_kind: kind.into(),
        entry,
        change: change.into(),
        keys: keys.into_iter().map(|key| key.as_str().to_owned()).collect(),
    }
}

/// What it is about; the environment as a whole where that is no entry.
fn named(entry: Option<&EntryName>) -> (EnvironmentEntryKind, String) {
    match entry {
        None => (EnvironmentEntryKind::Unspecified, String::new()),
        Some(EntryName::Variable(name)) => (EnvironmentEntryKind::Variable, name.to_string()),
        Some(EntryName::File(path)) => (EnvironmentEntryKind::File, path.to_string()),
    }
}

impl From<OfflineCopy> for v1::OfflineCopy {
    fn from(copy: OfflineCopy) -> Self {
        Self {
            given_at: Some(timestamp_to_wire(copy.given_at)),
            usable_until: Some(timestamp_to_wire(copy.usable_until)),
            principal: copy.principal.to_string(),
        }
    }
}

impl From<crate::check::Finding> for v1::EnvironmentFinding {
    fn from(finding: crate::check::Finding) -> Self {
        use v1::FindingKind as K;
        let kind = match &finding.fault {
            None => K::Ok,
            Some(Failure::Denied) => K::Denied,
            Some(Failure::BackendUnknown(_)) => K::BackendUnknown,
            Some(Failure::SecretNotFound(_) | Failure::Field { .. }) => K::NotFound,
            Some(Failure::Flatten(env::FlattenError::Cycle { .. })) => K::Cycle,
            Some(Failure::Backend(_)) => K::BackendUnavailable,
            Some(_) => K::Malformed,
        };
        let (entry_kind, entry) = named(finding.entry.as_ref());
        Self {
            environment: finding.environment,
            entry_kind: entry_kind.into(),
            entry,
            reference: finding.reference.map(|reference| reference.to_string()).unwrap_or_default(),
            kind: kind.into(),
            message: finding.fault.as_ref().map(status::text).unwrap_or_default(),
        }
    }
}
