//! `node`: the socket of the node's agent is mounted, and nothing runs beside the pod's own.

use serde_json::json;

use super::{TOKEN_DIRECTORY, TOKEN_FILE, TOKEN_VOLUME, mount};
use crate::webhook::Settings;
use crate::webhook::draft::{Draft, Place};

pub(super) fn add<'a>(draft: &mut Draft<'a>, places: &[Place<'a>], settings: &Settings) {
    // The directory, since an agent that starts again makes its socket anew. Not made where no agent runs.
    let host_path = json!({ "path": settings.injection.node_socket_dir, "type": "Directory" });
    draft.volume(VOLUME, &json!({ "name": VOLUME, "hostPath": host_path }));
    let address = format!("unix://{DIRECTORY}/agent.sock");
    for place in places {
        draft.mounts(*place, &[mount(VOLUME, DIRECTORY), mount(TOKEN_VOLUME, TOKEN_DIRECTORY)]);
        draft.variables(*place, &[("BURSAR_ADDRESS", &address), ("BURSAR_TOKEN_FILE", TOKEN_FILE)]);
    }
    let with: Vec<_> = places.iter().map(Place::name).collect();
    draft.nowhere_else(&[VOLUME, TOKEN_VOLUME], &with);
}

const VOLUME: &str = "bursar-node";
const DIRECTORY: &str = "/run/bursar";
