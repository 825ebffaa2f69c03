//! The annotations for Vault's injector, read as what they come to here.
//!
//! What is kept is what is usual: files made of secrets, by templates that name fields. Identity, addresses and trust are
//! never taken from them. What means something there and nothing here is a warning; what would change what is in a file, or
//! when, and cannot be kept, is a fault.

mod template;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use bursar_core::Reference;
use bursar_core::reference::SecretPath;

use super::annotations::{self, Plan, Sidecar, Source, Way};
use super::text::excerpt;
use crate::config::{self, Injection, Shape, VaultStore};

/// Whether a pod is written for Vault's injector, and not for this one.
pub(super) fn is_for(said: &BTreeMap<String, String>) -> bool {
    let own = format!("{}environment", annotations::PREFIX);
    said.get(&format!("{PREFIX}agent-inject")).is_some_and(|value| value == "true")
        && !said.contains_key(&own)
}

/// What it says, and a warning for each thing that is not kept.
///
/// # Errors
/// Every fault.
pub(super) fn read(
    said: &BTreeMap<String, String>,
    store: &VaultStore,
    injection: &Injection,
) -> Result<(Plan, Vec<String>), Vec<String>> {
    let mut reader = Reader { store, secrets: Secrets::default(), warnings: Vec::new(), faults: Vec::new() };
    if !injection.shapes.contains(&Shape::Sidecar) {
        reader.faults.push(
            "annotations for Vault's injector become a sidecar, and the webhook's `shapes` have none"
                .to_owned(),
        );
    }
    let found = reader.sort(said);
    let files = reader.files(&found);
    let named = |list: &&str| list.split(',').map(|name| name.trim().to_owned()).collect::<BTreeSet<_>>();
    let containers = found.containers.as_ref().map(named);
    let directory = found.directory.unwrap_or(DIRECTORY);
    let directory =
        config::absolute_path(directory).map_err(|what| reader.fault("secret-volume-path", &what));
    if reader.faults.is_empty() && files.templates.is_empty() {
        reader.fault("agent-inject-secret-NAME", "is required: without one there is nothing to deliver");
    }
    match directory {
        Ok(directory) if reader.faults.is_empty() => {
            let sidecar = Sidecar {
                source: Source::Secrets(reader.secrets.references),
                directory,
                mode: None,
                modes: files.modes,
                outputs: BTreeMap::new(),
                templates: files.templates,
                hook_url: None,
                signal: None,
                ttl: None,
            };
            Ok((Plan { containers, way: Way::Sidecar(sidecar) }, reader.warnings))
        }
        _ => Err(reader.faults),
    }
}

/// Annotations by what they are about.
#[derive(Default)]
struct Found<'a> {
    secrets: BTreeMap<&'a str, &'a str>,
    templates: BTreeMap<&'a str, &'a str>,
    names: BTreeMap<&'a str, &'a str>,
    modes: BTreeMap<&'a str, &'a str>,
    directory: Option<&'a str>,
    containers: Option<&'a str>,
}

#[derive(Default)]
struct Files {
    templates: BTreeMap<String, String>,
    modes: BTreeMap<String, String>,
}

/// Secrets by the variables that templates see.
#[derive(Default)]
struct Secrets {
    references: BTreeMap<String, String>,
}

impl Secrets {
    /// The variable for `reference`.
    fn variable(&mut self, reference: &Reference) -> String {
        let reference = reference.to_string();
        if let Some((name, _)) = self.references.iter().find(|(_, known)| **known == reference) {
            return name.clone();
        }
        let name = format!("SECRET_{}", self.references.len() + 1);
        self.references.insert(name.clone(), reference);
        name
    }
}

struct Reader<'a> {
    store: &'a VaultStore,
    secrets: Secrets,
    warnings: Vec<String>,
    faults: Vec<String>,
}

impl Reader<'_> {
    fn fault(&mut self, name: &str, what: &str) {
        self.faults.push(format!("`{PREFIX}{}` {what}", excerpt(name)));
    }

    fn sort<'s>(&mut self, said: &'s BTreeMap<String, String>) -> Found<'s> {
        let mut found = Found::default();
        for (key, text) in said {
            let own = key.strip_prefix(annotations::PREFIX);
            if own.is_some_and(|name| name != annotations::INJECTED) {
                let what = format!(
                    "`{}` goes with `{}environment`, and not with Vault's annotations",
                    excerpt(key),
                    annotations::PREFIX
                );
                self.faults.push(what);
            }
            let Some(name) = key.strip_prefix(PREFIX) else { continue };
            let families = [
                ("agent-inject-secret-", &mut found.secrets),
                ("agent-inject-template-", &mut found.templates),
                ("agent-inject-file-", &mut found.names),
                ("agent-inject-perms-", &mut found.modes),
            ];
            let mut families =
                families.into_iter().filter_map(|(family, list)| Some((name.strip_prefix(family)?, list)));
            if let Some((of, list)) = families.next() {
                list.insert(of, text);
                continue;
            }
            match name {
                "secret-volume-path" => found.directory = Some(text),
                "agent-inject-containers" => found.containers = Some(text),
                _ if MEANS_NOTHING.contains(&name) => {}
                _ if is_of(name, &ADMINISTRATORS) => {
                    let what = "is not kept: identity, broker and trust are the administrator's";
                    self.warnings.push(format!("{PREFIX}{name} {what}"));
                }
                _ => self.fault(name, "cannot be kept; use `bursar.io/environment` and what goes with it"),
            }
        }
        found
    }

    fn files(&mut self, found: &Found<'_>) -> Files {
        let mut files = Files::default();
        let alone = [&found.templates, &found.names, &found.modes].into_iter().flat_map(BTreeMap::keys);
        let alone: BTreeSet<_> = alone.filter(|name| !found.secrets.contains_key(*name)).collect();
        for name in alone {
            self.fault(
                &format!("agent-inject-secret-{name}"),
                "is required where a file of that name is spoken of",
            );
        }
        for (name, path) in &found.secrets {
            let file = found.names.get(name).unwrap_or(name);
            let file = match config::relative(file) {
                Ok(file) => file,
                Err(what) => {
                    self.fault(&format!("agent-inject-file-{name}"), &what);
                    continue;
                }
            };
            let text = match found.templates.get(name) {
                Some(template) => self.template(name, template),
                None => self.whole(name, path),
            };
            if let Some(text) = text
                && files.templates.insert(file.clone(), text).is_some()
            {
                self.fault(&format!("agent-inject-file-{name}"), "is the file of another secret too");
            }
            if let Some(mode) = found.modes.get(name).and_then(|mode| self.mode(name, mode)) {
                files.modes.insert(file, mode);
            }
        }
        files
    }

    fn template(&mut self, name: &str, text: &str) -> Option<String> {
        let store = self.store;
        let secrets = &mut self.secrets;
        let translated = template::translate(text, |path, field, nested| {
            let (reference, is_kv2) = reference(store, path, Some(field))?;
            match (is_kv2, nested) {
                (true, false) => Err("reads more of a secret than its fields".to_owned()),
                (false, true) => {
                    Err("reads `.Data.data` of a mount that is not in the webhook's `vault.kv2_mounts`"
                        .to_owned())
                }
                _ => Ok(secrets.variable(&reference)),
            }
        });
        translated.map_err(|what| self.fault(&format!("agent-inject-template-{name}"), &what)).ok()
    }

    /// What is asked for without a template.
    fn whole(&mut self, name: &str, path: &str) -> Option<String> {
        match reference(self.store, path, None) {
            Ok((reference, _)) => {
                self.warnings.push(format!(
                    "{PREFIX}agent-inject-secret-{name} has no template: its fields are written as JSON"
                ));
                Some(format!("{{{{ {} }}}}", self.secrets.variable(&reference)))
            }
            Err(what) => {
                self.fault(&format!("agent-inject-secret-{name}"), &what);
                None
            }
        }
    }

    fn mode(&mut self, name: &str, text: &str) -> Option<String> {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let bits = u32::from_str_radix(text, 8).ok().filter(|bits| digits && *bits <= 0o777);
        match bits {
            Some(bits) => Some(format!("{:04o}", bits & !0o222)),
            None => {
                self.fault(&format!("agent-inject-perms-{name}"), "is a mode in octal, such as `0444`");
                None
            }
        }
    }
}

/// Where a path of Vault's API is here, and whether it is in an engine of KV v2.
fn reference(store: &VaultStore, path: &str, field: Option<&str>) -> Result<(Reference, bool), String> {
    let path = path.trim_matches('/');
    let mut in_kv2 = store.kv2_mounts.iter().filter_map(|mount| {
        let rest = path.strip_prefix(mount.as_str())?.strip_prefix("/data/")?;
        Some(format!("{mount}/{rest}"))
    });
    let found = in_kv2.next();
    let is_kv2 = found.is_some();
    let told = |_| format!("names `{}`, which is no path of a secret", excerpt(path));
    let mut reference = Reference {
        backend: store.backend.clone(),
        path: SecretPath::from_store(&found.unwrap_or_else(|| path.to_owned())).map_err(told)?,
        field: None,
        version: None,
    };
    if let Some(field) = field {
        reference.field = Some(bursar_core::reference::FieldName::parse(field).map_err(told)?);
    }
    Ok((reference, is_kv2))
}

/// Whether `name` is one of these, or one of a family that ends in `-`.
fn is_of(name: &str, known: &[&str]) -> bool {
    known.iter().any(|known| name == *known || (known.ends_with('-') && name.starts_with(known)))
}

const PREFIX: &str = "vault.hashicorp.com/";
/// Where Vault's agent puts files.
const DIRECTORY: &str = "/vault/secrets";
/// What is so here in any case, or has no counterpart that anybody would miss.
const MEANS_NOTHING: [&str; 8] = [
    "agent-inject",
    "agent-inject-status",
    "agent-pre-populate",
    "agent-init-first",
    "agent-init-json-patch",
    "agent-inject-token",
    "log-level",
    "log-format",
];
const ADMINISTRATORS: [&str; 24] = [
    "role",
    "namespace",
    "auth-",
    "service",
    "proxy-address",
    "tls-",
    "ca-",
    "client-",
    "agent-image",
    "agent-service-account-token-volume-name",
    "agent-run-as-",
    "agent-set-security-context",
    "agent-share-process-namespace",
    "agent-limits-",
    "agent-requests-",
    "agent-revoke-",
    "agent-cache-",
    "agent-enable-quit",
    "agent-telemetry-",
    "agent-auto-auth-",
    "agent-json-patch",
    "agent-min-seconds-between-restarts",
    "go-max-procs",
    "log-",
];
