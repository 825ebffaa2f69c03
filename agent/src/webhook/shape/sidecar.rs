//! `sidecar`: a native sidecar delivers files into a memory volume.

use std::collections::BTreeSet;

use serde_json::json;

use super::{TOKEN_DIRECTORY, TOKEN_FILE, TOKEN_VOLUME, container, literal, memory_volume, mount};
use crate::webhook::Settings;
use crate::webhook::annotations::{PREFIX, Sidecar, Source};
use crate::webhook::draft::{Draft, Place};

pub(super) fn add<'a>(draft: &mut Draft<'a>, sidecar: &Sidecar, places: &[Place<'a>], settings: &Settings) {
    let injection = &settings.injection;
    draft.volume(VOLUME, &memory_volume(VOLUME, &injection.resources.files_volume));
    let directory = &sidecar.directory;
    let own = json!({
        "restartPolicy": "Always",
        "command": ["/bursar-agent", "sidecar"],
        "args": arguments(sidecar, settings),
        "startupProbe": {
            "exec": { "command": ["/bursar-agent", "delivered", "--directory", directory] },
            "periodSeconds": 1,
            "timeoutSeconds": 5,
            "failureThreshold": injection.startup.as_secs(),
        },
        "volumeMounts": [
            { "name": VOLUME, "mountPath": directory },
            { "name": TOKEN_VOLUME, "mountPath": TOKEN_DIRECTORY, "readOnly": true },
        ],
    });
    let mut own = container(SIDECAR, settings, own);
    if sidecar.signal.is_some()
        && let Some(user) = user_of(draft, places)
        && let Some(runs_as) = own.pointer_mut("/securityContext/runAsUser")
    {
        *runs_as = user.into();
    }
    draft.init_container(SIDECAR, own);
    for place in places {
        draft.mounts(*place, &[mount(VOLUME, directory)]);
    }
    let with: Vec<_> = places.iter().map(Place::name).chain([SIDECAR]).collect();
    draft.nowhere_else(&[VOLUME], &with);
    draft.nowhere_else(&[TOKEN_VOLUME], &[SIDECAR]);
}

/// Whom the sidecar has to run as to signal the containers. It has no capability that would let it signal others.
fn user_of(draft: &mut Draft<'_>, places: &[Place<'_>]) -> Option<i64> {
    if draft.spec.share_process_namespace != Some(true) {
        draft.fault(format!(
            "`{PREFIX}signal-process` needs `shareProcessNamespace: true` in the pod, without which the sidecar sees no \
             process of another container"
        ));
        return None;
    }
    let of_pod = draft.spec.security_context.as_ref().and_then(|context| context.run_as_user);
    let of = |place: &Place<'_>| {
        let own = place.container.security_context.as_ref().and_then(|context| context.run_as_user);
        own.or(of_pod)
    };
    let users: BTreeSet<_> = places.iter().map(of).collect();
    match users.first() {
        Some(Some(user)) if users.len() == 1 && *user > 0 => Some(*user),
        _ => {
            draft.fault(format!(
                "`{PREFIX}signal-process` needs one `runAsUser` other than 0 for all containers that have the files: the \
                 sidecar runs as that user, and may signal nobody else"
            ));
            None
        }
    }
}

fn arguments(sidecar: &Sidecar, settings: &Settings) -> Vec<String> {
    let broker = settings.injection.broker.to_string();
    let mut words = Vec::new();
    let mut option = |name: &str, value: &str| words.extend([name.to_owned(), literal(value)]);
    option("--address", &broker);
    option("--token-file", TOKEN_FILE);
    option("--directory", &sidecar.directory);
    match &sidecar.source {
        Source::Environment(name) => option("--env", name),
        Source::Secrets(secrets) => {
            secrets.iter().for_each(|(name, reference)| option("--secret", &format!("{name}={reference}")));
        }
    }
    let of_files =
        [("--output", &sidecar.outputs), ("--template", &sidecar.templates), ("--mode-of", &sidecar.modes)];
    for (name, texts) in of_files {
        texts.iter().for_each(|(path, text)| option(name, &format!("{path}={text}")));
    }
    let options = [("--mode", &sidecar.mode), ("--ttl", &sidecar.ttl), ("--hook-url", &sidecar.hook_url)];
    for (name, value) in options {
        value.iter().for_each(|value| option(name, value));
    }
    if let Some((name, signal)) = &sidecar.signal {
        option("--signal-process", name);
        option("--signal", signal);
    }
    words
}

pub(super) const SIDECAR: &str = "bursar-files";
const VOLUME: &str = "bursar-files";
