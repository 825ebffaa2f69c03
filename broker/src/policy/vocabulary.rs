//! Bursar's words in Cedar's: names of types, entities, requests.
//!
//! Requests and entities are made without having Cedar check them against the schema each time: they conform by
//! construction, and a test holds that. Every ancestor is named as a parent, so that three entities are all that a
//! decision takes: groups and folders have no attributes, and Cedar does not ask for an entity to stand above another.

use std::collections::{HashMap, HashSet};
use std::str::FromStr;

use bursar_core::audit::Action;
use bursar_core::spiffe::PrincipalKind;
use bursar_core::{BackendName, SpiffeId};
use cedar_policy::{
    Context as CedarContext, Entities, Entity, EntityId, EntityTypeName, EntityUid, Request as CedarRequest,
    RestrictedExpression, Schema,
};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::diagnostic::{Diagnostic, Source};
use super::principal::{Facts, GroupName, Selector};
use super::request::{Request, Resource};

/// The schema, and what is needed again and again to speak in its terms.
pub(super) struct Vocabulary {
    pub(super) schema: Schema,
    types: Types,
    actions: HashMap<Action, GovernedAction>,
}

/// An action that policies decide about.
struct GovernedAction {
    /// With the groups of actions that it is in.
    entity: Entity,
    uid: EntityUid,
    groups: HashSet<EntityUid>,
    resources: HashSet<EntityTypeName>,
}

struct Types {
    principal: EntityTypeName,
    group: EntityTypeName,
    backend: EntityTypeName,
    folder: EntityTypeName,
    secret: EntityTypeName,
    environment: EntityTypeName,
    environment_folder: EntityTypeName,
    node: EntityTypeName,
    system: EntityTypeName,
}

impl Vocabulary {
    /// Reads the schema that is part of this program.
    pub(super) fn new() -> Result<Self, Diagnostic> {
        let source = Source::new("schema.cedarschema", SCHEMA);
        let fault = |error: String| Diagnostic::whole(source.name, error);
        let (schema, _) =
            Schema::from_cedarschema_str(SCHEMA).map_err(|error| source.cedar((&error).into()))?;
        let types = Types::new().map_err(fault)?;
        let entities = schema.action_entities().map_err(|error| fault(error.to_string()))?;
        let action_type = type_name("Action").map_err(fault)?;
        let mut actions = HashMap::new();
        for action in Action::ALL {
            let uid = EntityUid::from_type_name_and_id(action_type.clone(), EntityId::new(action.as_str()));
            let Some(entity) = entities.get(&uid).cloned() else { continue };
            let groups = entities.ancestors(&uid).into_iter().flatten().cloned().collect();
            let resources = schema.resources_for_action(&uid).into_iter().flatten().cloned().collect();
            actions.insert(action, GovernedAction { entity, uid, groups, resources });
        }
        Ok(Self { schema, types, actions })
    }

    /// The actions that policies decide about.
    pub(super) fn actions(&self) -> impl Iterator<Item = Action> {
        Action::ALL.into_iter().filter(|action| self.actions.contains_key(action))
    }

    /// Whether `named`, which a policy's scope names, is `action` or a group that it is in.
    pub(super) fn covers(&self, named: &EntityUid, action: Action) -> bool {
        self.actions.get(&action).is_some_and(|known| known.uid == *named || known.groups.contains(named))
    }

    /// Whether `action` is in the group `administer`.
    pub(super) fn administers(&self, action: Action) -> bool {
        let administer = |group: &EntityUid| AsRef::<str>::as_ref(group.id()) == "administer";
        self.actions.get(&action).is_some_and(|known| known.groups.iter().any(administer))
    }

    /// Puts `request` to Cedar.
    pub(super) fn translate(
        &self,
        request: &Request<'_>,
    ) -> Result<(CedarRequest, Entities), Untranslatable> {
        let action = self
            .actions
            .get(&request.action)
            .ok_or(Untranslatable::Ungoverned { action: request.action.as_str() })?;
        let resource = self.resource(request.resource)?;
        if !action.resources.contains(resource.uid().type_name()) {
            let (action, kind) = (request.action.as_str(), request.resource.kind());
            return Err(Untranslatable::Misapplied { action, kind });
        }
        let principal = self.principal(request.principal)?;
        let context = context(request)?;
        let translated =
            CedarRequest::new(principal.uid(), action.uid.clone(), resource.uid(), context, None)
                .map_err(|error| Untranslatable::Cedar(error.to_string()))?;
        let entities = Entities::from_entities([principal, action.entity.clone(), resource], None)
            .map_err(|error| Untranslatable::Cedar(error.to_string()))?;
        Ok((translated, entities))
    }

    pub(super) fn group(&self, name: &str) -> EntityUid {
        uid(&self.types.group, name)
    }

    pub(super) fn principal_named(&self, id: &SpiffeId) -> EntityUid {
        uid(&self.types.principal, id.as_str())
    }

    pub(super) fn backend(&self, name: &str) -> EntityUid {
        uid(&self.types.backend, name)
    }

    /// `BACKEND/PATH`.
    pub(super) fn folder(&self, path: &str) -> EntityUid {
        uid(&self.types.folder, path)
    }

    /// `BACKEND/PATH`.
    pub(super) fn secret(&self, path: &str) -> EntityUid {
        uid(&self.types.secret, path)
    }

    pub(super) fn environment(&self, name: &str) -> EntityUid {
        uid(&self.types.environment, name)
    }

    pub(super) fn environment_folder(&self, name: &str) -> EntityUid {
        uid(&self.types.environment_folder, name)
    }

    pub(super) fn node(&self, name: &str) -> EntityUid {
        uid(&self.types.node, name)
    }

    fn principal(&self, facts: &Facts) -> Result<Entity, Untranslatable> {
        let selectors = facts.selectors.iter().map(|selector| text(Selector::as_str(selector)));
        let mut attributes = HashMap::from([
            ("trust_domain".to_owned(), text(facts.id.trust_domain().as_str())),
            ("method".to_owned(), text(&facts.method)),
            ("selectors".to_owned(), RestrictedExpression::new_set(selectors)),
        ]);
        let mut say = |name: &str, value: &str| attributes.insert(name.to_owned(), text(value));
        match facts.id.kind() {
            PrincipalKind::ServiceAccount { cluster, namespace, account } => {
                say("kind", "service-account");
                if !cluster.is_empty() {
                    say("cluster", cluster);
                }
                say("namespace", namespace);
                say("service_account", account);
            }
            PrincipalKind::Node { name } => {
                say("kind", "node");
                say("name", name);
            }
            PrincipalKind::User { name } => {
                say("kind", "user");
                say("name", name);
            }
            PrincipalKind::Workload { name } => {
                say("kind", "workload");
                say("name", name);
            }
            PrincipalKind::Other => {
                say("kind", "other");
            }
        }
        if let Some(node) = &facts.node {
            say("node", node.as_str());
        }
        let groups = prefixes(&facts.id).chain(facts.groups.iter().map(GroupName::as_str));
        let groups = groups.map(|group| uid(&self.types.group, group)).collect();
        entity(uid(&self.types.principal, facts.id.as_str()), attributes, groups)
    }

    fn resource(&self, resource: Resource<'_>) -> Result<Entity, Untranslatable> {
        let types = &self.types;
        let named = |name: &str| HashMap::from([("name".to_owned(), text(name))]);
        match resource {
            Resource::Secret { backend, path, .. } => {
                let attributes = HashMap::from([
                    ("backend".to_owned(), text(backend.as_str())),
                    ("path".to_owned(), text(path.as_str())),
                ]);
                let id = format!("{}/{}", backend.as_str(), path.as_str());
                entity(uid(&types.secret, &id), attributes, self.above(backend, path.folders()))
            }
            Resource::Folder { backend, path } => {
                let id = format!("{}/{}", backend.as_str(), path.as_str());
                entity(uid(&types.folder, &id), HashMap::new(), self.above(backend, path.folders()))
            }
            Resource::Backend(name) => {
                entity(uid(&types.backend, name.as_str()), HashMap::new(), HashSet::new())
            }
            Resource::Environment(name) => {
                let folders = name.match_indices('/').filter_map(|(at, _)| name.get(..at));
                let folders = folders.map(|folder| uid(&types.environment_folder, folder)).collect();
                entity(uid(&types.environment, name), named(name), folders)
            }
            Resource::Node(name) => entity(uid(&types.node, name), named(name), HashSet::new()),
            Resource::System => entity(uid(&types.system, SYSTEM), HashMap::new(), HashSet::new()),
        }
    }

    fn above(&self, backend: &BackendName, folders: impl Iterator<Item: AsRef<str>>) -> HashSet<EntityUid> {
        let folder = |path: &str| uid(&self.types.folder, &format!("{}/{path}", backend.as_str()));
        folders
            .map(|path| folder(path.as_ref()))
            .chain([uid(&self.types.backend, backend.as_str())])
            .collect()
    }
}

impl Types {
    fn new() -> Result<Self, String> {
        Ok(Self {
            principal: type_name("Principal")?,
            group: type_name("Group")?,
            backend: type_name("Backend")?,
            folder: type_name("Folder")?,
            secret: type_name("Secret")?,
            environment: type_name("Environment")?,
            environment_folder: type_name("EnvironmentFolder")?,
            node: type_name("Node")?,
            system: type_name("System")?,
        })
    }
}

fn context(request: &Request<'_>) -> Result<CedarContext, Untranslatable> {
    let approved_by = request.context.approved_by;
    let seconds = Timestamp::from_second(request.context.time.as_second()).unwrap_or(request.context.time);
    let weekday = TimeZone::UTC.to_datetime(seconds).weekday().to_monday_one_offset();
    let always = [
        ("time", RestrictedExpression::new_datetime(seconds.to_string())),
        ("weekday", RestrictedExpression::new_long(i64::from(weekday))),
        ("approvals", RestrictedExpression::new_long(i64::try_from(approved_by.len()).unwrap_or(i64::MAX))),
    ];
    let approved_by = (!approved_by.is_empty()).then(|| {
        let ids = approved_by.iter().map(|id| text(id.as_str()));
        ("approved_by", RestrictedExpression::new_set(ids))
    });
    let reason = request.context.reason().map(|reason| ("reason", text(reason)));
    let version = request.resource.version().map(|version| ("version", text(version.as_str())));
    let pairs = always.into_iter().chain(reason).chain(version).chain(approved_by);
    CedarContext::from_pairs(pairs.map(|(name, value)| (name.to_owned(), value)))
        .map_err(|error| Untranslatable::Cedar(error.to_string()))
}

/// The trust domain and every path above the last segment: whatever `id` is below.
fn prefixes(id: &SpiffeId) -> impl Iterator<Item = &str> {
    let text = id.as_str();
    text.match_indices('/').skip(2).filter_map(|(at, _)| text.get(..at))
}

fn entity(
    uid: EntityUid,
    attributes: HashMap<String, RestrictedExpression>,
    ancestors: HashSet<EntityUid>,
) -> Result<Entity, Untranslatable> {
    Entity::new(uid, attributes, ancestors).map_err(|error| Untranslatable::Cedar(error.to_string()))
}

fn uid(of: &EntityTypeName, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(of.clone(), EntityId::new(id))
}

fn text(value: &str) -> RestrictedExpression {
    RestrictedExpression::new_string(value.to_owned())
}

fn type_name(name: &str) -> Result<EntityTypeName, String> {
    EntityTypeName::from_str(&format!("Bursar::{name}")).map_err(|error| error.to_string())
}

/// Why a request cannot be decided; it is denied.
#[derive(Debug, thiserror::Error)]
pub(super) enum Untranslatable {
    #[error("no policy governs `{action}`")]
    Ungoverned { action: &'static str },
    #[error("`{action}` cannot be done to {kind}")]
    Misapplied { action: &'static str, kind: &'static str },
    #[error("the request cannot be put to Cedar: {0}")]
    Cedar(String),
}

const SCHEMA: &str = include_str!("schema.cedarschema");
const SYSTEM: &str = "broker";
