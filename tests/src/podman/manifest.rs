//! A Pod as kubelet would have it, in the form in which podman 4.3 plays it.
//!
//! What is replaced is what that podman does not know or takes for something else: a volume in memory (it makes one on
//! disk), what kubelet fetches from the API server (projected tokens, ConfigMaps, Secrets), a native sidecar (it waits for
//! the end of every init container), probes (it calls `curl` in the container), ports (it forwards them). The rest of a
//! manifest is left as it is.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value, json};

/// A file of a volume that kubelet would fetch from the API server.
#[derive(Debug, Clone, Copy)]
pub struct Fetched<'a> {
    pub volume: &'a str,
    pub file: &'a str,
    pub text: &'a str,
}

/// The pod under `name`, with its volumes in `memory`, which is on a tmpfs, and `fetched` in them.
///
/// # Errors
/// It is no Pod, or nothing was fetched for a volume that kubelet would fill.
pub(super) fn playable(pod: &Value, name: &str, memory: &Path, fetched: &[Fetched<'_>]) -> Result<Value> {
    let mut pod = pod.clone();
    ensure!(pod.pointer("/kind").and_then(Value::as_str) == Some("Pod"), "this is no Pod");
    let metadata =
        pod.pointer_mut("/metadata").and_then(Value::as_object_mut).context("it has no metadata")?;
    metadata.insert("name".to_owned(), json!(name));
    metadata.remove("namespace");

    let spec = pod.pointer_mut("/spec").and_then(Value::as_object_mut).context("it has no spec")?;
    // Brokers and agents of tests listen on the loopback of the machine.
    spec.insert("hostNetwork".to_owned(), json!(true));
    let volumes = take(spec, "volumes").into_iter().map(|volume| place(volume, memory, fetched));
    let volumes = volumes.collect::<Result<Vec<_>>>()?;
    let (sidecars, init): (Vec<_>, Vec<_>) = take(spec, "initContainers")
        .into_iter()
        .partition(|container| container.get("restartPolicy").is_some());
    let containers = sidecars.into_iter().chain(take(spec, "containers"));
    let containers: Vec<_> = containers.map(container).collect();
    let init: Vec<_> = init.into_iter().map(container).collect();
    spec.insert("volumes".to_owned(), json!(volumes));
    spec.insert("initContainers".to_owned(), json!(init));
    spec.insert("containers".to_owned(), json!(containers));
    Ok(pod)
}

fn container(mut container: Value) -> Value {
    if let Some(fields) = container.as_object_mut() {
        for key in ["restartPolicy", "ports", "startupProbe", "livenessProbe", "readinessProbe"] {
            fields.remove(key);
        }
        fields.insert("imagePullPolicy".to_owned(), json!("Never"));
    }
    container
}

fn place(volume: Value, memory: &Path, fetched: &[Fetched<'_>]) -> Result<Value> {
    let name = volume.pointer("/name").and_then(Value::as_str).context("a volume has no name")?.to_owned();
    let directory = memory.join(&name);
    let is_fetched =
        ["/projected", "/configMap", "/secret"].iter().any(|kind| volume.pointer(kind).is_some());
    if is_fetched {
        make(&directory, 0o755)?;
        let files: Vec<_> = fetched.iter().filter(|fetched| fetched.volume == name).collect();
        ensure!(!files.is_empty(), "nothing was fetched for the volume `{name}`");
        for Fetched { file, text, .. } in files {
            let path = directory.join(file);
            fs::write(&path, text)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644))?;
        }
    } else if volume.pointer("/emptyDir/medium").and_then(Value::as_str) == Some("Memory") {
        make(&directory, 0o777)?;
    } else {
        return Ok(volume);
    }
    Ok(json!({ "name": name, "hostPath": { "path": directory, "type": "Directory" } }))
}

fn make(directory: &Path, mode: u32) -> Result<()> {
    fs::create_dir(directory)?;
    Ok(fs::set_permissions(directory, fs::Permissions::from_mode(mode))?)
}

fn take(spec: &mut Map<String, Value>, key: &str) -> Vec<Value> {
    match spec.remove(key) {
        Some(Value::Array(list)) => list,
        _ => Vec::new(),
    }
}
