//! What a pod becomes: a pure function of the pod and the settings.
//!
//! Every decision is made by what is in the pod at this moment, so that asking again, or about a copy, adds nothing twice.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use json_patch::Patch;
use k8s_openapi::api::core::v1::{Pod, PodOS, PodSpec};

use super::annotations::{self, INJECT, INJECTED, PREFIX, Plan, Way};
use super::draft::{Draft, Place, shown};
use super::{Settings, shape, vault};
use crate::config::{NamespaceDefaults, Shape};

/// What is answered about a pod that is let in.
#[derive(Debug)]
pub enum Outcome {
    /// It is none of the webhook's.
    Untouched { warnings: Vec<String> },
    /// It has or gets its secrets in this shape. The patch may be empty.
    Injected { shape: Shape, patch: Patch, warnings: Vec<String> },
}

/// Why a pod is not let in: every fault, each a sentence without its stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal(pub Vec<String>);

/// Decides on `pod`, which is created in `namespace`.
///
/// # Errors
/// [`Refusal`], where it opted in and cannot have what it asks for.
pub fn mutate(pod: &Pod, namespace: &str, settings: &Settings) -> Result<Outcome, Refusal> {
    let defaults = settings.injection.namespaces.get(namespace);
    let label = pod.metadata.labels.as_ref().and_then(|labels| labels.get(&format!("{PREFIX}{INJECT}")));
    let is_labelled = match label.map(String::as_str) {
        Some("true") => true,
        Some("false") => return Ok(untouched(None)),
        Some(other) => {
            let what = format!("the label `{PREFIX}{INJECT}` is `true` or `false`, not {}", shown(other));
            return Err(Refusal(vec![what]));
        }
        None if defaults.is_some() => false,
        None => return Ok(untouched(None)),
    };
    let none = Default::default();
    let said = pod.metadata.annotations.as_ref().unwrap_or(&none);
    if said.contains_key(MIRROR) {
        return Ok(untouched(Some(
            "a static pod cannot be given secrets of Bursar: kubelet runs it as it is",
        )));
    }
    let no_spec = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&no_spec);
    if is_windows(spec.os.as_ref(), spec.node_selector.as_ref()) {
        let what = "a pod of Windows cannot be given secrets of Bursar";
        return if is_labelled { Err(Refusal(vec![what.to_owned()])) } else { Ok(untouched(Some(what))) };
    }
    let defaults = defaults.cloned().unwrap_or_default();
    let (plan, warnings) = plan(said, &defaults, settings).map_err(Refusal)?;
    let patch = draw(pod, spec, &plan, settings).map_err(Refusal)?;
    Ok(Outcome::Injected { shape: plan.way.shape(), patch, warnings })
}

fn plan(
    said: &BTreeMap<String, String>,
    defaults: &NamespaceDefaults,
    settings: &Settings,
) -> Result<(Plan, Vec<String>), Vec<String>> {
    match &settings.injection.vault {
        Some(store) if vault::is_for(said) => vault::read(said, store, &settings.injection),
        _ => Ok((annotations::read(said, defaults, &settings.injection)?, Vec::new())),
    }
}

fn draw(pod: &Pod, spec: &PodSpec, plan: &Plan, settings: &Settings) -> Result<Patch, Vec<String>> {
    let mut draft = Draft::of(spec);
    let places = chosen(&mut draft, plan, settings);
    shape::add(&mut draft, plan, &places, settings);
    let what = match &plan.way {
        Way::Exec(exec) => format!("exec {}", exec.environment),
        Way::Sidecar(sidecar) => format!("sidecar {}", sidecar.directory),
        Way::Node => "node".to_owned(),
    };
    draft.finish(pod, &format!("{PREFIX}{INJECTED}"), &what)
}

/// The containers that are to have secrets: those that are named, and otherwise all but the mesh's. Where others added
/// containers to a pod whose commands are wrapped already, it stays with those.
fn chosen<'a>(draft: &mut Draft<'a>, plan: &Plan, settings: &Settings) -> Vec<Place<'a>> {
    let is_ours = |place: &Place<'_>| shape::INIT_CONTAINERS.contains(&place.name());
    let all: Vec<_> = draft.places().filter(|place| !is_ours(place)).collect();
    if let Some(named) = &plan.containers {
        let there: BTreeSet<_> = all.iter().map(Place::name).collect();
        for name in named.iter().filter(|name| !there.contains(name.as_str())) {
            draft.fault(format!(
                "`{PREFIX}containers` names {}, and the pod has no such container",
                shown(name)
            ));
        }
        return all.into_iter().filter(|place| named.contains(place.name())).collect();
    }
    let is_wrapped = |place: &&Place<'_>| {
        place.container.command.iter().flatten().next().is_some_and(|program| program == shape::SHIM)
    };
    let wrapped: Vec<_> = all.iter().filter(is_wrapped).copied().collect();
    if !wrapped.is_empty() && plan.way.shape() == Shape::Exec {
        return wrapped;
    }
    let is_own = |place: &Place<'_>| {
        place.is_main() && !settings.injection.leave_out.iter().any(|name| name == place.name())
    };
    let own: Vec<_> = all.into_iter().filter(is_own).collect();
    if own.is_empty() {
        draft.fault(format!(
            "the pod has no container that is not left out; name one by `{PREFIX}containers`"
        ));
    }
    own
}

/// Whether a pod's `os` and `nodeSelector` are those of Windows.
pub(super) fn is_windows(os: Option<&PodOS>, selector: Option<&BTreeMap<String, String>>) -> bool {
    let selected = selector.and_then(|selector| selector.get("kubernetes.io/os"));
    os.is_some_and(|os| os.name == WINDOWS) || selected.is_some_and(|os| os == WINDOWS)
}

fn untouched(warning: Option<&str>) -> Outcome {
    Outcome::Untouched { warnings: warning.map(str::to_owned).into_iter().collect() }
}

/// Of pods that kubelet reads from a file and only shows to the API server.
pub(super) const MIRROR: &str = "kubernetes.io/config.mirror";
const WINDOWS: &str = "windows";
