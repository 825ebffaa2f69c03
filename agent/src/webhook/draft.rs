//! A patch while it is drawn up: what is wanted is compared with what the pod has, and what is missing is added.
//!
//! Whatever is there already under a name or at a path of ours has to be what would be added. So a patch that was applied
//! leaves nothing to be added, and nothing that somebody planted is taken for ours.

use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, Patch, PatchOperation, RemoveOperation};
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, Volume};
use serde::Serialize;
use serde_json::{Value, json};

use super::covers::covers;
use super::text::excerpt;

/// The patch so far, and what stands in its way.
#[derive(Debug)]
pub(super) struct Draft<'a> {
    pub(super) spec: &'a PodSpec,
    operations: Vec<PatchOperation>,
    /// Put before the init containers that there are. Last, since it moves them.
    first: Option<Value>,
    has_volumes: bool,
    faults: Vec<String>,
}

/// Where a container is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    list: &'static str,
    index: usize,
    pub(super) container: &'a Container,
}

impl<'a> Draft<'a> {
    /// Nothing yet.
    pub(super) fn of(spec: &'a PodSpec) -> Self {
        let has_volumes = spec.volumes.is_some();
        Self { spec, operations: Vec::new(), first: None, has_volumes, faults: Vec::new() }
    }

    /// Every container, init containers last.
    pub(super) fn places(&self) -> impl Iterator<Item = Place<'a>> + use<'a> {
        let place = |list| move |(index, container)| Place { list, index, container };
        let init = self.spec.init_containers.as_deref().unwrap_or_default();
        let own = self.spec.containers.iter().enumerate().map(place(CONTAINERS));
        own.chain(init.iter().enumerate().map(place("initContainers")))
    }

    pub(super) fn fault(&mut self, what: String) {
        self.faults.push(what);
    }

    /// Wants a volume of this name.
    pub(super) fn volume(&mut self, name: &str, wanted: &Value) {
        let there = self.spec.volumes.iter().flatten().find(|volume: &&Volume| volume.name == name);
        if let Some(there) = there {
            if !covers(&value(there), wanted) {
                self.foreign(&format!("a volume `{name}`"));
            }
            return;
        }
        if self.has_volumes {
            self.add(&["spec", "volumes", "-"], wanted.clone());
        } else {
            self.has_volumes = true;
            self.add(&["spec", "volumes"], json!([wanted]));
        }
    }

    /// Wants an init container of this name, before those that there are.
    pub(super) fn init_container(&mut self, name: &str, wanted: Value) {
        if self.spec.containers.iter().any(|container| container.name == name) {
            self.foreign(&format!("a container `{name}`"));
        }
        match self.spec.init_containers.iter().flatten().find(|container| container.name == name) {
            Some(there) if covers(&value(there), &wanted) => {}
            Some(_) => self.foreign(&format!("an init container `{name}`")),
            None => self.first = Some(wanted),
        }
    }

    /// Wants these mounts in a container, and no others of these volumes or at these paths.
    pub(super) fn mounts(&mut self, place: Place<'a>, wanted: &[Value]) {
        let mut missing = Vec::new();
        for mount in wanted {
            let (name, path) = (text(mount, "name"), text(mount, "mountPath"));
            let mut there =
                place.container.volume_mounts.iter().flatten().filter(|there| there.mount_path == path);
            match there.next() {
                None => missing.push(mount.clone()),
                Some(there) if covers(&value(there), mount) => {}
                Some(_) => self.foreign(&format!(
                    "a mount of something else than `{name}` at `{path}` of `{}`",
                    place.name()
                )),
            }
        }
        self.append(place, "volumeMounts", place.container.volume_mounts.is_some(), missing);
    }

    /// Wants these variables in a container.
    pub(super) fn variables(&mut self, place: Place<'a>, wanted: &[(&str, &str)]) {
        let mut missing = Vec::new();
        for (name, text) in wanted {
            let wanted = json!({ "name": name, "value": text });
            match place.container.env.iter().flatten().find(|there| there.name == *name) {
                None => missing.push(wanted),
                Some(there) if covers(&value(there), &wanted) => {}
                Some(_) => {
                    self.foreign(&format!("a variable `{name}` of another value in `{}`", place.name()))
                }
            }
        }
        self.append(place, "env", place.container.env.is_some(), missing);
    }

    /// Has a container's command begin with `prefix`, and its arguments follow.
    pub(super) fn command(&mut self, place: Place<'a>, prefix: &[String]) {
        let command = place.container.command.as_deref().unwrap_or_default();
        let Some(program) = command.first() else {
            let name = place.name();
            return self.fault(format!(
                "container `{name}` has no `command`, and only its image knows what it would run: copy the image's ENTRYPOINT \
                 into `command` and its CMD into `args`, or leave `{name}` out by `bursar.io/containers`"
            ));
        };
        if prefix.first() == Some(program) {
            let is_ours = command.len() > prefix.len() && command.starts_with(prefix);
            if !is_ours {
                self.foreign(&format!(
                    "a command that begins with `{program}` in container `{}`",
                    place.name()
                ));
            }
            return;
        }
        let words = prefix.iter().chain(command).chain(place.container.args.iter().flatten());
        self.add(&place.at(&["command"]), json!(words.collect::<Vec<_>>()));
        if place.container.args.is_some() {
            self.operations
                .push(PatchOperation::Remove(RemoveOperation { path: pointer(&place.at(&["args"])) }));
        }
    }

    /// Refuses mounts of our volumes in containers that are not to have them.
    pub(super) fn nowhere_else(&mut self, volumes: &[&str], with: &[&str]) {
        let of_ours = |place: &Place<'_>| {
            let mut mounts = place.container.volume_mounts.iter().flatten();
            !with.contains(&place.name()) && mounts.any(|mount| volumes.contains(&mount.name.as_str()))
        };
        for place in self.places().filter(of_ours).collect::<Vec<_>>() {
            self.foreign(&format!("a mount of a volume of ours in container `{}`", place.name()));
        }
    }

    /// The patch, with `marker` among the pod's annotations, where it has something to do.
    ///
    /// # Errors
    /// Everything that stands in its way.
    pub(super) fn finish(mut self, pod: &Pod, key: &str, marker: &str) -> Result<Patch, Vec<String>> {
        if !self.faults.is_empty() {
            return Err(self.faults);
        }
        match (self.first.take(), &self.spec.init_containers) {
            (None, _) => {}
            (Some(wanted), Some(_)) => self.add(&["spec", "initContainers", "0"], wanted),
            (Some(wanted), None) => self.add(&["spec", "initContainers"], json!([wanted])),
        }
        match &pod.metadata.annotations {
            Some(there) if there.get(key).is_some_and(|there| there == marker) => {}
            Some(_) => self.add(&["metadata", "annotations", key], json!(marker)),
            None => self.add(&["metadata", "annotations"], json!({ key: marker })),
        }
        Ok(Patch(self.operations))
    }

    fn foreign(&mut self, what: &str) {
        self.fault(format!(
            "the pod has {what}, which is not what would be added; give it another name or place"
        ));
    }

    fn append(&mut self, place: Place<'_>, list: &str, is_there: bool, missing: Vec<Value>) {
        if missing.is_empty() {
            return;
        }
        if !is_there {
            return self.add(&place.at(&[list]), Value::Array(missing));
        }
        for one in missing {
            self.add(&place.at(&[list, "-"]), one);
        }
    }

    fn add<T: AsRef<str>>(&mut self, path: &[T], value: Value) {
        self.operations.push(PatchOperation::Add(AddOperation { path: pointer(path), value }));
    }
}

impl Place<'_> {
    pub(super) fn name(&self) -> &str {
        &self.container.name
    }

    /// Whether it is none of the init containers.
    pub(super) fn is_main(&self) -> bool {
        self.list == CONTAINERS
    }

    fn at(&self, more: &[&str]) -> Vec<String> {
        let here = ["spec".to_owned(), self.list.to_owned(), self.index.to_string()];
        here.into_iter().chain(more.iter().map(ToString::to_string)).collect()
    }
}

const CONTAINERS: &str = "containers";

/// Escaped as RFC 6901 has it.
fn pointer<T: AsRef<str>>(path: &[T]) -> PointerBuf {
    PointerBuf::from_tokens(path.iter().map(AsRef::as_ref))
}

fn text<'v>(value: &'v Value, member: &str) -> &'v str {
    value.get(member).and_then(Value::as_str).unwrap_or_default()
}

/// As it would be written. What cannot be is covered by nothing.
fn value(there: &impl Serialize) -> Value {
    serde_json::to_value(there).unwrap_or_default()
}

/// The name of a container, for somebody to read.
pub(super) fn shown(name: &str) -> String {
    format!("`{}`", excerpt(name))
}
