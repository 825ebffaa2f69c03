//! Real pods: the agent as the chart runs it, and workloads that have nothing but their own program, played by podman from
//! images that are made of nothing.

mod injected;

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bursar_pod::digest;
use bursar_tests::webhook::response;
use bursar_tests::{
    Canary, Cli, Fetched, Pod, Podman, ServedFiles, Webhook, free_port, http, scan_bytes, text, wait_until,
};
use data_encoding::BASE64;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::chart;
use crate::pod_tokens::{self, N1, NOBODY, SHOP, SHOP_MAY};
use crate::webhook::review;

#[test]
fn a_pod_reads_through_the_agent_of_its_node_and_no_more_once_it_may_not() -> Result<()> {
    let site = Site::start()?;
    let agent = site.agent()?;
    let pod = site.pod(&site.by_node("PASSWORD")?)?;
    pod.wait_for_line(LIMIT, WEB, &format!("PASSWORD {}", site.digest()))?;
    let leases = site.leases()?;
    ensure!(leases.iter().any(|lease| text(lease, "/node") == N1), "the node is in no lease: {leases:?}");

    let read = pod.exec(WEB, &["/bursar", "get", "local/shop/db#password"])?;
    ensure!(
        read.code == Some(0) && read.stdout.starts_with(site.password.value().as_bytes()),
        "{}",
        read.stderr
    );
    site.withdraw()?;
    wait_until(LIMIT, "the agent to let go of it", || {
        pod.exec(WEB, &["/bursar", "get", "local/shop/db#password"]).is_ok_and(|read| read.code == Some(77))
    })?;
    site.is_nowhere(&format!("{}{}", pod.output(WEB)?, agent.pod.output("agent")?))
}

#[test]
fn a_lease_outlives_the_containers_of_its_pod_and_not_the_pod() -> Result<()> {
    let site = Site::start()?;
    let _agent = site.agent()?;
    let mut manifest = site.by_node("PASSWORD")?;
    // Podman, unlike kubelet, ends a pod of which no container runs, be it for a moment.
    let containers = manifest.pointer_mut("/spec/containers").and_then(Value::as_array_mut);
    let beside = json!({ "name": "beside", "image": BARE, "command": ["/bursar-pod"] });
    containers.context("no containers")?.push(beside);
    let pod = site.pod(&manifest)?;
    let line = format!("PASSWORD {}", site.digest());
    pod.wait_for_line(LIMIT, WEB, &line)?;
    let before = site.leases()?;
    let id = before.first().map(|lease| text(lease, "/id")).context("no lease")?;

    pod.restart(WEB)?;
    wait_until(LIMIT, "the program in the next container", || {
        pod.output(WEB).is_ok_and(|said| said.lines().filter(|said| *said == line).count() == 2)
    })?;
    let after = site.leases()?;
    ensure!(after.len() == 1 && after.iter().all(|lease| text(lease, "/id") == id), "{before:?} {after:?}");

    pod.remove()?;
    wait_until(LIMIT, "the lease to be given back", || site.leases().is_ok_and(|left| left.is_empty()))?;
    let records = site.cluster.admin.audit(&["--lease", &id])?;
    let record = records.iter().find(|record| text(record, "/action") == "revoke").context("no record")?;
    ensure!(
        text(record, "/actor/principal") == N1 && text(record, "/reason") == "the pod is over",
        "{record}"
    );
    Ok(())
}

#[test]
fn a_pod_of_nobody_starts_no_program() -> Result<()> {
    let site = Site::start()?;
    let _agent = site.agent()?;
    let other = site.cluster.token("other", "n1", 600)?;
    let fetched = [Fetched { volume: TOKEN, file: "token", text: &other }];
    let pod = Pod::play(&site.podman, &site.by_node("PASSWORD")?, &fetched)?;
    ensure!(pod.wait(LIMIT, WEB)? == 77, "{}", pod.output(WEB)?);
    ensure!(!pod.output(WEB)?.contains("PASSWORD "), "the program was started");
    Ok(())
}

/// A broker that knows a cluster, with one environment for the pods of `shop`, the webhook before it, and the directories of
/// a node.
struct Site {
    cluster: pod_tokens::Site,
    webhook: Webhook,
    served: ServedFiles,
    podman: Podman,
    password: Canary,
    node: TempDir,
}

impl Site {
    fn start() -> Result<Self> {
        let podman = Podman::prepared()?;
        let cluster = pod_tokens::Site::start()?;
        let password = Canary::alphanumeric("password");
        let admin = &cluster.admin;
        admin.apply_policies(&format!("{NOBODY}{SHOP_MAY}"), "")?;
        put(admin, &password)?;
        admin.write(
            "shop.toml",
            "[environment.shop.vars]\nPASSWORD = { from = \"local/shop/db#password\" }\n",
        )?;
        admin.done(&["env", "apply", "shop.toml"])?;
        let node = tempfile::Builder::new().prefix("bursar-node-").tempdir()?;
        for name in ["run", "data"] {
            let path = node.path().join(name);
            std::fs::create_dir(&path)?;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
        }
        let (served, broker) = (ServedFiles::make()?, &cluster.broker);
        let sockets = format!("node_socket_dir = '{}'", node.path().join("run").display());
        let webhook = Webhook::start(&broker.address(), &broker.bootstrap("ca.pem"), &served, &sockets)?;
        Ok(Self { cluster, webhook, served, podman, password, node })
    }

    /// The pod of the chart's DaemonSet, once it is ready.
    fn agent(&self) -> Result<Node> {
        let values = json!({
            "trustDomain": "example.org",
            "image": { "registry": "localhost", "tag": "test" },
            "broker": { "enabled": false },
            "webhook": { "enabled": false },
            "agent": {
                "broker": self.cluster.broker.address(),
                "socketDirectory": self.node.path().join("run"),
                "dataDirectory": self.node.path().join("data"),
            },
        });
        let (template, config) = chart::agent(&values)?;
        let http = free_port()?;
        let config = config.replace("0.0.0.0:8481", &http.to_string());
        let token = self.cluster.token("bursar-system", "n1", 3600)?;
        let authority = std::fs::read_to_string(self.cluster.broker.bootstrap("ca.pem"))?;
        let fetched = [
            Fetched { volume: "config", file: "agent.toml", text: &config },
            Fetched { volume: "authority", file: "ca.pem", text: &authority },
            Fetched { volume: "token", file: "token", text: &token },
        ];
        let mut manifest = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "agent" } });
        manifest.as_object_mut().context("no object")?.insert("spec".to_owned(), template);
        let pod = Pod::play(&self.podman, &manifest, &fetched)?;
        let ready = wait_until(LIMIT, "the agent to be ready", || {
            http::request(http, "GET", "/readyz", &[], &[]).is_ok_and(|reply| reply.status == 200)
        });
        ready.with_context(|| pod.output("agent").unwrap_or_default())?;
        Ok(Node { pod })
    }

    fn pod(&self, manifest: &Value) -> Result<Pod> {
        let token = self.cluster.token("shop", "n1", 600)?;
        Pod::play(&self.podman, manifest, &[Fetched { volume: TOKEN, file: "token", text: &token }])
    }

    /// A pod of the shop's with one container, as the API server keeps it once the webhook was asked.
    fn admit(&self, shape: &str, image: &str, command: &[&str]) -> Result<Value> {
        self.admit_with(shape, image, command, |_| {})
    }

    /// The same, of a pod that its author changed before.
    fn admit_with(
        &self,
        shape: &str,
        image: &str,
        command: &[&str],
        change: impl FnOnce(&mut Value),
    ) -> Result<Value> {
        let annotations = match shape {
            "node" => json!({ "bursar.io/shape": shape }),
            _ => json!({ "bursar.io/shape": shape, "bursar.io/environment": "shop" }),
        };
        let mut pod = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": "web-0",
                "namespace": "shop",
                "labels": { "bursar.io/inject": "true" },
                "annotations": annotations,
            },
            "spec": {
                "serviceAccountName": "web",
                "restartPolicy": "Never",
                "containers": [{
                    "name": WEB,
                    "image": image,
                    "command": command,
                    "env": [{ "name": "OWN", "value": "own" }],
                    "securityContext": {
                        "runAsUser": 61_042,
                        "runAsGroup": 61_042,
                        "allowPrivilegeEscalation": false,
                        "readOnlyRootFilesystem": true,
                        "capabilities": { "drop": ["ALL"] },
                    },
                }],
            },
        });
        change(&mut pod);
        self.patch(&mut pod)?;
        // The image that its configuration names is in a registry that is not there.
        let text = pod.to_string().replace("registry.example.org/bursar:1", "localhost/bursar-agent:test");
        Ok(serde_json::from_str(&text)?)
    }

    fn patch(&self, pod: &mut Value) -> Result<()> {
        let asked = review(pod);
        let reply = self.webhook.send(&self.served.authority()?, "localhost", "POST", "/mutate", &asked)?;
        let response = response(&reply)?;
        let patch =
            response.get("patch").and_then(Value::as_str).with_context(|| format!("no patch: {response}"))?;
        let patch: json_patch::Patch = serde_json::from_slice(&BASE64.decode(patch.as_bytes())?)?;
        Ok(json_patch::patch(pod, &patch)?)
    }

    /// A pod that has the environment by the agent of its node, and looks at `name`.
    fn by_node(&self, name: &str) -> Result<Value> {
        self.admit("node", CLIENT, &["/bursar", "run", "--env", "shop", "--", "/bursar-pod", name])
    }

    fn digest(&self) -> String {
        digest(self.password.value().as_bytes())
    }

    /// What the pods of the shop hold.
    fn leases(&self) -> Result<Vec<Value>> {
        match self.cluster.admin.json(&["lease", "list", "--principal", SHOP])? {
            Value::Array(leases) => Ok(leases),
            other => bail!("no list: {other}"),
        }
    }

    /// Takes the shop's rights away, and its leases back.
    fn withdraw(&self) -> Result<()> {
        ensure!(!self.leases()?.is_empty(), "the pod has no lease");
        let admin = &self.cluster.admin;
        admin.apply_policies(NOBODY, "")?;
        admin.done(&["lease", "revoke-many", "--principal", SHOP, "--reason", "a test", "--yes"])?;
        let left = self.leases()?;
        ensure!(left.is_empty(), "{left:?}");
        Ok(())
    }

    /// What containers write is on the node's disk.
    fn is_nowhere(&self, output: &str) -> Result<()> {
        let found = scan_bytes("the output of the containers", output.as_bytes(), &[&self.password])?;
        ensure!(found.is_empty(), "{found:?}");
        Ok(())
    }
}

fn put(admin: &Cli, password: &Canary) -> Result<()> {
    let put = ["secret", "put", "local/shop/db", "--field", "password"];
    admin.done_with(&put, password.value().as_bytes()).map(drop)
}

/// An agent in its pod.
struct Node {
    pod: Pod,
}

const LIMIT: Duration = Duration::from_secs(60);
const WEB: &str = "web";
/// The program of the tests alone, and with the command line beside it.
const BARE: &str = "localhost/bursar-pod:test";
const CLIENT: &str = "localhost/bursar-pod-client:test";
/// The volume with the token of the pod's service account, as the webhook names it.
const TOKEN: &str = "bursar-token";
