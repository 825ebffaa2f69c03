//! Pods that the webhook changed: the program of each is in an image that has nothing of ours.

use anyhow::{Context, Result, ensure};
use bursar_pod::{ABSENT, digest};
use bursar_tests::webhook::response;
use bursar_tests::{Pod, ServedFiles, Webhook, scan_bytes, wait_until};
use data_encoding::BASE64;
use serde_json::{Value, json};

use super::{ADMINISTRATOR, LIMIT, Site, WEB};
use crate::pod_tokens::SHOP;
use crate::webhook::review;

#[test]
fn a_program_has_its_variables_by_exec_and_is_not_started_once_it_may_not_have_them() -> Result<()> {
    let site = Injected::start()?;
    let manifest = site.admit("exec", &["PASSWORD", "OWN"])?;
    let pod = site.nodes.pod(&manifest)?;
    pod.wait_for_line(LIMIT, WEB, &format!("PASSWORD {}", site.digest()))?;
    pod.wait_for_line(LIMIT, WEB, &format!("OWN {}", digest(b"own")))?;
    site.withdraw()?;
    site.is_nowhere(&pod)?;
    pod.remove()?;

    let pod = site.nodes.pod(&manifest)?;
    ensure!(pod.wait(LIMIT, WEB)? == 77, "{}", pod.output(WEB)?);
    ensure!(!pod.output(WEB)?.contains("PASSWORD "), "the program was started");
    Ok(())
}

#[test]
fn a_program_has_its_files_by_sidecar_and_loses_them() -> Result<()> {
    let site = Injected::start()?;
    let file = "/run/bursar-files/PASSWORD";
    let pod = site.nodes.pod(&site.admit("sidecar", &[file])?)?;
    pod.wait_for_line(LIMIT, WEB, &format!("{file} {}", site.digest()))?;
    site.withdraw()?;
    let gone = format!("{file} {ABSENT}");
    let ends_so = |output: String| output.lines().last().is_some_and(|line| line == gone);
    wait_until(LIMIT, "the file to go", || pod.output(WEB).is_ok_and(ends_so))?;
    site.is_nowhere(&pod)
}

/// A webhook before the broker.
struct Injected {
    nodes: Site,
    webhook: Webhook,
    served: ServedFiles,
}

impl Injected {
    fn start() -> Result<Self> {
        let (nodes, served) = (Site::start()?, ServedFiles::make()?);
        let broker = &nodes.cluster.broker;
        let webhook = Webhook::start(&broker.address(), &broker.bootstrap("ca.pem"), &served, "")?;
        Ok(Self { nodes, webhook, served })
    }

    /// A pod of the shop's that looks at what is in `names`, as the API server keeps it once the webhook was asked.
    fn admit(&self, shape: &str, names: &[&str]) -> Result<Value> {
        let mut pod = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": "web-0",
                "namespace": "shop",
                "labels": { "bursar.io/inject": "true" },
                "annotations": { "bursar.io/environment": "shop", "bursar.io/shape": shape },
            },
            "spec": {
                "serviceAccountName": "web",
                "restartPolicy": "Never",
                "containers": [{
                    "name": WEB,
                    "image": "localhost/bursar-pod:test",
                    "command": ["/bursar-pod"],
                    "args": names,
                    "env": [{ "name": "OWN", "value": "own" }],
                    "securityContext": { "runAsUser": 61_042, "capabilities": { "drop": ["ALL"] } },
                }],
            },
        });
        let asked = review(&pod);
        let reply = self.webhook.send(&self.served.authority()?, "localhost", "POST", "/mutate", &asked)?;
        let response = response(&reply)?;
        let patch =
            response.get("patch").and_then(Value::as_str).with_context(|| format!("no patch: {response}"))?;
        let patch: json_patch::Patch = serde_json::from_slice(&BASE64.decode(patch.as_bytes())?)?;
        json_patch::patch(&mut pod, &patch)?;
        // The image that its configuration names is in a registry that is not there.
        let text = pod.to_string().replace("registry.example.org/bursar:1", "localhost/bursar-agent:test");
        Ok(serde_json::from_str(&text)?)
    }

    fn digest(&self) -> String {
        digest(self.nodes.password.value().as_bytes())
    }

    /// Takes the shop's rights away, and its leases back.
    fn withdraw(&self) -> Result<()> {
        let admin = &self.nodes.cluster.admin;
        let leases = admin.json(&["lease", "list", "--principal", SHOP])?;
        ensure!(leases.as_array().is_some_and(|leases| !leases.is_empty()), "the pod has no lease");
        admin.apply_policies(ADMINISTRATOR, "")?;
        admin.done(&["lease", "revoke-many", "--principal", SHOP, "--reason", "a test", "--yes"])?;
        let left = admin.json(&["lease", "list", "--principal", SHOP])?;
        ensure!(left.as_array().is_some_and(Vec::is_empty), "{left}");
        Ok(())
    }

    /// What containers write is on the node's disk.
    fn is_nowhere(&self, pod: &Pod) -> Result<()> {
        let found =
            scan_bytes("the output of the container", pod.output(WEB)?.as_bytes(), &[&self.nodes.password])?;
        ensure!(found.is_empty(), "{found:?}");
        Ok(())
    }
}
