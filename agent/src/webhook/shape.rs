//! What each shape adds.

mod exec;
mod node;
mod sidecar;

use serde_json::{Value, json};

use super::Settings;
use super::annotations::{Plan, Way};
use super::draft::{Draft, Place};
use crate::config::Injection;

/// Draws up what `plan` wants for the containers at `places`.
pub(super) fn add<'a>(draft: &mut Draft<'a>, plan: &Plan, places: &[Place<'a>], settings: &Settings) {
    draft.volume(TOKEN_VOLUME, &token_volume(&settings.injection));
    match &plan.way {
        Way::Exec(exec) => exec::add(draft, exec, places, settings),
        Way::Sidecar(sidecar) => sidecar::add(draft, sidecar, places, settings),
        Way::Node => node::add(draft, places, settings),
    }
}

/// The program that commands of containers begin with once they are wrapped.
pub(super) const SHIM: &str = exec::PROGRAM;

/// The names of what may be added as init containers.
pub(super) const INIT_CONTAINERS: [&str; 2] = [exec::INSTALLER, sidecar::SIDECAR];

/// An injected container, without what is its own.
fn container(name: &str, settings: &Settings, own: Value) -> Value {
    let injection = &settings.injection;
    let resources = &injection.resources;
    let amounts = |cpu: &Option<String>, memory: &Option<String>| {
        let amounts = [("cpu", cpu), ("memory", memory)];
        let given =
            amounts.into_iter().filter_map(|(name, amount)| Some((name.to_owned(), json!(amount.as_ref()?))));
        Value::Object(given.collect())
    };
    let mut container = json!({
        "name": name,
        "image": injection.image,
        // Read by nothing but the program itself; Kubernetes replaces `$(…)` in it, which no certificate has.
        "env": [{ "name": TRUST_BUNDLE, "value": settings.trust_bundle }],
        "resources": {
            "requests": amounts(&resources.cpu_request, &resources.memory_request),
            "limits": amounts(&resources.cpu_limit, &resources.memory_limit),
        },
        "securityContext": {
            "runAsNonRoot": true,
            "runAsUser": injection.user,
            "runAsGroup": injection.group,
            "privileged": false,
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": { "drop": ["ALL"] },
            "seccompProfile": { "type": "RuntimeDefault" },
        },
    });
    let own = own.as_object().cloned().unwrap_or_default();
    let policy =
        injection.image_pull_policy.as_ref().map(|policy| ("imagePullPolicy".to_owned(), json!(policy)));
    if let Some(container) = container.as_object_mut() {
        container.extend(own.into_iter().chain(policy));
    }
    container
}

fn token_volume(injection: &Injection) -> Value {
    let token = json!({ "path": "token", "audience": injection.audience, "expirationSeconds": TOKEN_LIFE });
    // Readable by whoever the container runs as; nobody else can get there.
    json!({ "name": TOKEN_VOLUME, "projected": { "defaultMode": 0o444, "sources": [{ "serviceAccountToken": token }] } })
}

fn memory_volume(name: &str, size: &str) -> Value {
    json!({ "name": name, "emptyDir": { "medium": "Memory", "sizeLimit": size } })
}

/// Read-only, for a container that is not ours.
fn mount(volume: &str, path: &str) -> Value {
    json!({ "name": volume, "mountPath": path, "readOnly": true })
}

/// So that Kubernetes puts nothing in for `$(NAME)`: a `$` that stands for itself is written twice.
fn literal(text: &str) -> String {
    text.replace('$', "$$")
}

/// Holds PEM. What `bursar-agent install` and `sidecar` trust the broker by.
pub(crate) const TRUST_BUNDLE: &str = "BURSAR_CA_PEM";
pub(super) const TOKEN_VOLUME: &str = "bursar-token";
const TOKEN_DIRECTORY: &str = "/var/run/secrets/bursar.io";
const TOKEN_FILE: &str = "/var/run/secrets/bursar.io/token";
/// In seconds. Kubelet replaces it when four fifths are over.
const TOKEN_LIFE: u32 = 3600;
