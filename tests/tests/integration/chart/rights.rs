//! What those who run there may do: no more than each needs, and no more than is written down.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{cases, objects, plain, render, root};

#[test]
fn every_container_is_closed_and_the_agent_alone_has_capabilities_and_is_root() -> Result<()> {
    for rendered in render(&cases())? {
        for (kind, pod) in pods(&rendered)? {
            let agent = kind == "DaemonSet";
            let at = |pointer: &str| pod.pointer(pointer).cloned().unwrap_or_default();
            ensure!((at("/hostPID") == true) == agent, "{kind}: hostPID");
            ensure!(
                at("/hostNetwork").is_null() && at("/hostIPC").is_null(),
                "{kind}: a namespace of the node"
            );
            ensure!(at("/securityContext/seccompProfile/type") == "RuntimeDefault", "{kind}: seccomp");
            ensure!((at("/securityContext/runAsNonRoot") == true) != agent, "{kind}: root");
            let containers = ["/initContainers", "/containers"].map(at);
            for container in containers.iter().filter_map(Value::as_array).flatten() {
                let at = |pointer: &str| container.pointer(pointer).cloned().unwrap_or_default();
                ensure!(at("/securityContext/allowPrivilegeEscalation") == false, "{kind}: escalation");
                ensure!(
                    at("/securityContext/readOnlyRootFilesystem") == true,
                    "{kind}: a root that is written to"
                );
                ensure!(at("/securityContext/privileged").is_null(), "{kind}: privileged");
                ensure!(at("/securityContext/capabilities/drop/0") == "ALL", "{kind}: capabilities");
                ensure!(agent || at("/securityContext/capabilities/add").is_null(), "{kind}: capabilities");
                ensure!(at("/resources/limits/memory").is_string(), "{kind}: memory without a limit");
            }
        }
    }
    Ok(())
}

#[test]
fn the_agent_has_one_capability_by_default_and_can_be_given_those_that_are_documented() -> Result<()> {
    let rendered = render(&[plain()])?;
    let pods = pods(rendered.first().context("nothing was rendered")?)?;
    let (_, agent) = pods.into_iter().find(|(kind, _)| *kind == "DaemonSet").context("no agent")?;
    let given = agent.pointer("/containers/0/securityContext/capabilities/add");
    ensure!(given == Some(&json!(["IPC_LOCK"])), "{given:?}");

    let page = fs::read_to_string(root().join("docs/hardening.md"))?;
    let (_, table) = page.split_once("## What the agent needs").context("the page has other headings")?;
    let (table, _) = table.split_once("\nNothing needs").context("the page has another end of its table")?;
    let documented: BTreeSet<&str> = table
        .split(|character: char| !character.is_ascii_uppercase() && character != '_')
        .filter_map(|word| word.strip_prefix("CAP_"))
        .collect();
    let schema = fs::read_to_string(root().join("deploy/helm/bursar/values.schema.json"))?;
    let schema: Value = serde_json::from_str(&schema)?;
    let possible = schema.pointer("/properties/agent/properties/capabilities/items/enum");
    let possible = possible.and_then(Value::as_array).context("the schema has no capabilities")?;
    let possible: BTreeSet<&str> = possible.iter().filter_map(Value::as_str).collect();
    ensure!(documented == possible, "{documented:?} are documented, {possible:?} can be given");
    Ok(())
}

#[test]
fn accounts_may_do_what_is_listed_here_and_no_more() -> Result<()> {
    let rendered = render(&[plain()])?;
    let rendered = rendered.first().context("nothing was rendered")?;
    let mut rights = Vec::new();
    for object in objects(rendered)? {
        let kind = object.pointer("/kind").and_then(Value::as_str).unwrap_or_default();
        if kind != "Role" && kind != "ClusterRole" {
            continue;
        }
        for rule in object.pointer("/rules").and_then(Value::as_array).context("a role has no rules")? {
            let words = |key: &str| {
                let list = rule.get(key).and_then(Value::as_array);
                let words: Vec<_> = list.into_iter().flatten().filter_map(Value::as_str).collect();
                words.join(",")
            };
            rights.push(format!(
                "{kind} {} {} {}",
                words("resources"),
                words("verbs"),
                words("resourceNames")
            ));
        }
    }
    let rights: BTreeSet<&str> = rights.iter().map(|right| right.trim()).collect();
    ensure!(rights == BTreeSet::from(RIGHTS), "{rights:#?}");
    Ok(())
}

/// Each controller's kind, and the spec of its pods.
fn pods(rendered: &Value) -> Result<Vec<(&str, &Value)>> {
    let found = objects(rendered)?.iter().filter_map(|object| {
        Some((object.pointer("/kind")?.as_str()?, object.pointer("/spec/template/spec")?))
    });
    let found: Vec<_> = found.collect();
    ensure!(found.len() >= 2, "there are {} controllers", found.len());
    Ok(found)
}

const RIGHTS: [&str; 7] = [
    "ClusterRole tokenreviews create",
    "Role secrets create",
    "Role secrets get,update bursar-webhook",
    "Role leases create",
    "Role leases get,update bursar-webhook",
    "ClusterRole mutatingwebhookconfigurations get,update bursar-webhook",
    "ClusterRole pods list",
];
