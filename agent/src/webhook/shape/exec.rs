//! `exec`: the program is put into a memory volume, and stands before each command.

use serde_json::json;

use super::{TOKEN_DIRECTORY, TOKEN_FILE, TOKEN_VOLUME, container, memory_volume, mount};
use crate::webhook::Settings;
use crate::webhook::annotations::Exec;
use crate::webhook::draft::{Draft, Place};

pub(super) fn add<'a>(draft: &mut Draft<'a>, exec: &Exec, places: &[Place<'a>], settings: &Settings) {
    draft.volume(VOLUME, &memory_volume(VOLUME, &settings.injection.resources.exec_volume));
    let installer = json!({
        "command": ["/bursar-agent", "install", "--to", DIRECTORY],
        "volumeMounts": [{ "name": VOLUME, "mountPath": DIRECTORY }],
    });
    draft.init_container(INSTALLER, container(INSTALLER, settings, installer));
    let prefix = prefix(exec, settings);
    for place in places {
        draft.mounts(*place, &[mount(VOLUME, DIRECTORY), mount(TOKEN_VOLUME, TOKEN_DIRECTORY)]);
        draft.command(*place, &prefix);
    }
    let with: Vec<_> = places.iter().map(Place::name).chain([INSTALLER]).collect();
    draft.nowhere_else(&[VOLUME, TOKEN_VOLUME], &with);
}

/// Nothing in it is left to variables or files of the container: options come before those. No word has a `$`.
fn prefix(exec: &Exec, settings: &Settings) -> Vec<String> {
    let broker = settings.injection.broker.to_string();
    let mut words = vec![PROGRAM, "--address", &broker, "--ca", TRUST, "--token-file", TOKEN_FILE, "run"];
    words.extend(["--env", &exec.environment, "--inherit"]);
    let options = [
        ("--as", exec.by),
        ("--ttl", exec.ttl.as_deref()),
        ("--on-change", exec.on_change),
        ("--signal", exec.signal),
    ];
    for (option, value) in options {
        words.extend(value.into_iter().flat_map(|value| [option, value]));
    }
    words.extend(exec.mask.then_some("--mask"));
    words.push("--");
    words.into_iter().map(str::to_owned).collect()
}

pub(super) const PROGRAM: &str = "/run/bursar-exec/bursar";
pub(super) const INSTALLER: &str = "bursar-install";
const VOLUME: &str = "bursar-exec";
const DIRECTORY: &str = "/run/bursar-exec";
const TRUST: &str = "/run/bursar-exec/ca.pem";
