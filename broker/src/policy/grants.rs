//! Templates filled in: `grants.toml`.
//!
//! A template is a policy with `?principal` or `?resource` in its scope, written once; a grant says for whom and for what
//! it holds. What comes of that is a policy like others: it has an id, records name it, and it is checked against the
//! schema. It is made out of the template's structure and not of its text, so that nothing a grant says is read as
//! policy.

use std::collections::HashMap;

use bursar_core::spiffe::TrustDomain;
use bursar_core::{BackendName, Reference, SpiffeId};
use cedar_policy::{EntityUid, Policy, PolicyId, SlotId, Template};
use serde::Deserialize;
use serde_json::{Value, json};
use toml::Spanned;

use super::diagnostic::{Diagnostic, Source};
use super::principal::GroupName;
use super::vocabulary::Vocabulary;

/// A policy that a grant made.
pub(super) struct Granted {
    pub(super) policy: Policy,
    pub(super) template: String,
    /// `id` where it is given, else the file's name and the grant's number in it.
    pub(super) id: String,
    pub(super) given: bool,
    /// Where the grant begins, in bytes.
    pub(super) at: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    #[serde(default)]
    grant: Vec<Spanned<RawGrant>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawGrant {
    template: Spanned<String>,
    id: Option<Spanned<String>>,
    principal: Option<Spanned<String>>,
    secrets: Option<Spanned<String>>,
    environments: Option<Spanned<String>>,
    node: Option<Spanned<String>>,
}

/// Reads the file and fills `templates` in. What is wrong goes to `faults`.
pub(super) fn read(
    source: &Source<'_>,
    templates: &HashMap<String, Template>,
    vocabulary: &Vocabulary,
    faults: &mut Vec<Diagnostic>,
) -> Vec<Granted> {
    let raw = match toml::from_str::<RawFile>(source.text) {
        Ok(raw) => raw.grant,
        Err(error) => {
            faults.push(match error.span() {
                Some(span) => source.at(span.start, error.message()),
                None => Diagnostic::whole(source.name, error.message()),
            });
            return Vec::new();
        }
    };
    let mut reader = Reader { source, templates, vocabulary, faults };
    raw.into_iter().enumerate().filter_map(|(number, grant)| reader.grant(number, grant)).collect()
}

struct Reader<'a> {
    source: &'a Source<'a>,
    templates: &'a HashMap<String, Template>,
    vocabulary: &'a Vocabulary,
    faults: &'a mut Vec<Diagnostic>,
}

impl Reader<'_> {
    fn grant(&mut self, number: usize, grant: Spanned<RawGrant>) -> Option<Granted> {
        let at = grant.span().start;
        let grant = grant.into_inner();
        let Some(template) = self.templates.get(grant.template.get_ref()) else {
            let shown = grant.template.get_ref().escape_default().to_string();
            let fault =
                self.source.at(grant.template.span().start, format!("there is no template `{shown}`"));
            let mut names: Vec<&str> = self.templates.keys().map(String::as_str).collect();
            names.sort_unstable();
            names.truncate(SHOWN);
            self.faults.push(fault.advise(&format!("there are `{}`", names.join("`, `"))));
            return None;
        };
        let wants = |slot: &SlotId| template.slots().any(|wanted| wanted == slot);
        let principal = self.principal(at, grant.principal.as_ref(), wants(&SlotId::principal()));
        let resource = self.resource(at, &grant, wants(&SlotId::resource()));
        let slots = [("principal", principal?), ("resource", resource?)];
        let (id, given) = match &grant.id {
            Some(id) => (id.get_ref().clone(), true),
            None => (format!("{FILE}#{}", number.saturating_add(1)), false),
        };
        let filled = fill(template, &slots).and_then(|filled| {
            Policy::from_json(Some(PolicyId::new(&id)), filled).map_err(|error| error.to_string())
        });
        match filled {
            Ok(policy) => Some(Granted { policy, template: grant.template.get_ref().clone(), id, given, at }),
            Err(error) => self.fault(at, format!("the template cannot be filled in: {error}")),
        }
    }

    /// Nothing inside for a template that leaves everybody open, or names whom it is for.
    #[expect(clippy::option_option, reason = "nothing wanted is not the same as nothing good")]
    fn principal(
        &mut self,
        at: usize,
        text: Option<&Spanned<String>>,
        wanted: bool,
    ) -> Option<Option<EntityUid>> {
        match (text, wanted) {
            (None, false) => Some(None),
            (None, true) => {
                self.fault(at, "`principal` is required: the template has `?principal`".to_owned())
            }
            (Some(text), false) => {
                self.fault(text.span().start, "the template has no `?principal`; leave it out".to_owned())
            }
            (Some(text), true) => match principal(text.get_ref(), self.vocabulary) {
                Ok(uid) => Some(Some(uid)),
                Err(error) => self.fault(text.span().start, error),
            },
        }
    }

    #[expect(clippy::option_option, reason = "nothing wanted is not the same as nothing good")]
    fn resource(&mut self, at: usize, grant: &RawGrant, wanted: bool) -> Option<Option<EntityUid>> {
        let given = [
            (grant.secrets.as_ref(), secrets as Parse),
            (grant.environments.as_ref(), environments),
            (grant.node.as_ref(), node),
        ];
        let mut given = given.into_iter().filter_map(|(text, parse)| Some((text?, parse)));
        match (given.next(), given.next(), wanted) {
            (None, _, false) => Some(None),
            (None, _, true) => self.fault(
                at,
                "`secrets`, `environments` or `node` is required: the template has `?resource`".to_owned(),
            ),
            (Some((text, _)), _, false) => {
                self.fault(text.span().start, "the template has no `?resource`; leave it out".to_owned())
            }
            (Some(_), Some((text, _)), true) => self.fault(
                text.span().start,
                "a grant is for one thing; write another for the second".to_owned(),
            ),
            (Some((text, parse)), None, true) => match parse(text.get_ref(), self.vocabulary) {
                Ok(uid) => Some(Some(uid)),
                Err(error) => self.fault(text.span().start, error),
            },
        }
    }

    /// Reads as nothing, so that it can stand at the end of a match.
    fn fault<T>(&mut self, at: usize, message: String) -> Option<T> {
        self.faults.push(self.source.at(at, message));
        None
    }
}

type Parse = fn(&str, &Vocabulary) -> Result<EntityUid, String>;

/// The structure of `template` with entities in place of its slots.
fn fill(template: &Template, slots: &[(&str, Option<EntityUid>)]) -> Result<Value, String> {
    let mut json = template.to_json().map_err(|error| error.to_string())?;
    for (part, uid) in slots {
        if let (Some(scope), Some(uid)) = (json.get_mut(*part), uid) {
            let entity = json!({ "type": uid.type_name().to_string(), "id": AsRef::<str>::as_ref(uid.id()) });
            put(scope, &entity);
        }
    }
    Ok(json)
}

/// A scope is `{"op": "in", "slot": "?principal"}`, or has that inside, as `is … in` does.
fn put(scope: &mut Value, entity: &Value) {
    let Some(scope) = scope.as_object_mut() else { return };
    if scope.remove("slot").is_some() {
        scope.insert("entity".to_owned(), entity.clone());
    }
    scope.values_mut().for_each(|inner| put(inner, entity));
}

/// A SPIFFE ID, what is below one, or a group that registrations and rules give.
fn principal(text: &str, vocabulary: &Vocabulary) -> Result<EntityUid, String> {
    let prefix = text.strip_suffix("/*");
    match (prefix, text.strip_prefix("spiffe://")) {
        (Some(prefix), Some(_)) => {
            let domain =
                || prefix.strip_prefix("spiffe://").is_some_and(|text| TrustDomain::parse(text).is_ok());
            if domain() || SpiffeId::parse(prefix).is_ok() {
                return Ok(vocabulary.group(prefix));
            }
            Err(format!("`{}` is no beginning of a SPIFFE ID; {PRINCIPALS}", text.escape_default()))
        }
        (None, Some(_)) => match SpiffeId::parse(text) {
            Ok(id) => Ok(vocabulary.principal_named(&id)),
            Err(error) => Err(format!("{error}; {PRINCIPALS}")),
        },
        _ => match GroupName::parse(text) {
            Ok(group) => Ok(vocabulary.group(group.as_str())),
            Err(error) => Err(format!("{error}; {PRINCIPALS}")),
        },
    }
}

fn secrets(text: &str, vocabulary: &Vocabulary) -> Result<EntityUid, String> {
    let fault = || format!("`{}` names no secrets; {SECRETS}", text.escape_default());
    match text.strip_suffix("/*") {
        Some(backend) if BackendName::parse(backend).is_ok() => Ok(vocabulary.backend(backend)),
        Some(folder) => Reference::parse(folder)
            .ok()
            .filter(|folder| folder.field.is_none() && folder.version.is_none())
            .map(|_| vocabulary.folder(folder))
            .ok_or_else(fault),
        None => Reference::parse(text)
            .ok()
            .filter(|secret| secret.field.is_none() && secret.version.is_none())
            .map(|_| vocabulary.secret(text))
            .ok_or_else(fault),
    }
}

fn environments(text: &str, vocabulary: &Vocabulary) -> Result<EntityUid, String> {
    let (name, folder) = match text.strip_suffix("/*") {
        Some(folder) => (folder, true),
        None => (text, false),
    };
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if name.split('/').any(|segment| segment.is_empty() || !segment.bytes().all(allowed)) {
        let shown = text.escape_default();
        return Err(format!("`{shown}` names no environment; write `payments/prod` or `payments/*`"));
    }
    Ok(if folder { vocabulary.environment_folder(name) } else { vocabulary.environment(name) })
}

fn node(text: &str, vocabulary: &Vocabulary) -> Result<EntityUid, String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if text.is_empty() || !text.bytes().all(allowed) {
        return Err(format!("`{}` is no node; write a name like `web-1`", text.escape_default()));
    }
    Ok(vocabulary.node(text))
}

pub(super) const FILE: &str = "grants.toml";
const SHOWN: usize = 20;
const PRINCIPALS: &str = "write a SPIFFE ID, one that ends in `/*` for all below it, or the name of a group";
const SECRETS: &str =
    "write `vault/payments/db`, `vault/payments/*` for all below, or `vault/*` for a whole store";
