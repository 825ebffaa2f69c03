//! Real pods: the agent as the chart runs it, and workloads that have nothing but their own program, played by podman from
//! images that are made of nothing.

mod injected;

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bursar_pod::digest;
use bursar_tests::{Canary, Fetched, Pod, Podman, free_port, http, scan_bytes, wait_until};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::chart;
use crate::pod_tokens::{self, N1, SHOP};

#[test]
fn a_pod_reads_through_the_agent_of_its_node_and_no_more_once_it_may_not() -> Result<()> {
    let site = Site::start()?;
    let agent = site.agent()?;
    let pod = site.pod(&site.node_shape(&["run", "--env", "shop", "--", "/bursar-pod", "PASSWORD"]))?;
    pod.wait_for_line(LIMIT, WEB, &format!("PASSWORD {}", digest(site.password.value().as_bytes())))?;
    let leases = site.cluster.admin.json(&["lease", "list", "--principal", SHOP])?;
    ensure!(leases.as_array().is_some_and(|leases| !leases.is_empty()), "{leases}");
    ensure!(leases.to_string().contains(N1), "the node is not in the lease: {leases}");

    let read = pod.exec(WEB, &["/bursar", "get", "local/shop/db#password"])?;
    ensure!(
        read.code == Some(0) && read.stdout.starts_with(site.password.value().as_bytes()),
        "{}",
        read.stderr
    );
    site.cluster.admin.apply_policies(ADMINISTRATOR, "")?;
    let revoke = ["lease", "revoke-many", "--principal", SHOP, "--reason", "a test", "--yes"];
    site.cluster.admin.done(&revoke)?;
    wait_until(LIMIT, "the agent to let go of it", || {
        pod.exec(WEB, &["/bursar", "get", "local/shop/db#password"]).is_ok_and(|read| read.code == Some(77))
    })?;
    let left = site.cluster.admin.json(&["lease", "list", "--principal", SHOP])?;
    ensure!(left.as_array().is_some_and(Vec::is_empty), "{left}");

    // What a container writes is on the node's disk.
    let written = format!("{}{}", pod.output(WEB)?, agent.pod.output("agent")?);
    let found = scan_bytes("the output of the containers", written.as_bytes(), &[&site.password])?;
    ensure!(found.is_empty(), "{found:?}");
    Ok(())
}

#[test]
fn a_pod_of_nobody_starts_no_program() -> Result<()> {
    let site = Site::start()?;
    let _agent = site.agent()?;
    let other = site.cluster.token("other", "n1", 600)?;
    let manifest = site.node_shape(&["run", "--env", "shop", "--", "/bursar-pod", "PASSWORD"]);
    let fetched = [Fetched { volume: TOKEN, file: "token", text: &other }];
    let pod = Pod::play(&site.podman, &manifest, &fetched)?;
    ensure!(pod.wait(LIMIT, WEB)? == 77, "{}", pod.output(WEB)?);
    ensure!(!pod.output(WEB)?.contains("PASSWORD "), "the program was started");
    Ok(())
}

/// A broker that knows a cluster, with one environment for the pods of `shop`, and the directories of a node.
struct Site {
    cluster: pod_tokens::Site,
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
        admin.apply_policies(&format!("{ADMINISTRATOR}{SHOP_POLICY}"), "")?;
        admin.done_with(
            &["secret", "put", "local/shop/db", "--field", "password"],
            password.value().as_bytes(),
        )?;
        admin.write(
            "shop.toml",
            "[environment.shop.vars]\nPASSWORD = { from = \"local/shop/db#password\" }\n",
        )?;
        admin.done(&["env", "apply", "shop.toml"])?;
        Ok(Self {
            cluster,
            podman,
            password,
            node: tempfile::Builder::new().prefix("bursar-node-").tempdir()?,
        })
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
                "socketDirectory": self.directory("run")?,
                "dataDirectory": self.directory("data")?,
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

    fn directory(&self, name: &str) -> Result<PathBuf> {
        let path = self.node.path().join(name);
        std::fs::create_dir(&path)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
        Ok(path)
    }

    fn pod(&self, manifest: &Value) -> Result<Pod> {
        let token = self.cluster.token("shop", "n1", 600)?;
        Pod::play(&self.podman, manifest, &[Fetched { volume: TOKEN, file: "token", text: &token }])
    }

    /// A pod with the socket of the node's agent, as docs/kubernetes.md has it, that calls `bursar` with `arguments`.
    fn node_shape(&self, arguments: &[&str]) -> Value {
        let command: Vec<&str> = ["/bursar"].iter().chain(arguments).copied().collect();
        json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": { "name": "web-0", "namespace": "shop" },
            "spec": {
                "serviceAccountName": "web",
                "restartPolicy": "Never",
                "containers": [{
                    "name": WEB,
                    "image": "localhost/bursar-pod-client:test",
                    "command": command,
                    "env": [
                        { "name": "BURSAR_ADDRESS", "value": "unix:///run/bursar/agent.sock" },
                        { "name": "BURSAR_TOKEN_FILE", "value": "/var/run/secrets/bursar.io/token" },
                    ],
                    "securityContext": {
                        "runAsUser": 61_042,
                        "runAsGroup": 61_042,
                        "allowPrivilegeEscalation": false,
                        "readOnlyRootFilesystem": true,
                        "capabilities": { "drop": ["ALL"] },
                    },
                    "volumeMounts": [
                        { "name": "bursar-node", "mountPath": "/run/bursar", "readOnly": true },
                        { "name": TOKEN, "mountPath": "/var/run/secrets/bursar.io", "readOnly": true },
                    ],
                }],
                "volumes": [
                    { "name": "bursar-node", "hostPath": { "path": self.node.path().join("run"), "type": "Directory" } },
                    { "name": TOKEN, "projected": { "sources": [
                        { "serviceAccountToken": { "path": "token", "audience": "bursar", "expirationSeconds": 3600 } },
                    ] } },
                ],
            },
        })
    }
}

/// An agent in its pod.
struct Node {
    pod: Pod,
}

const LIMIT: Duration = Duration::from_secs(60);
const WEB: &str = "web";
/// The volume with the token of the pod's service account, as the webhook names it.
const TOKEN: &str = "bursar-token";

const ADMINISTRATOR: &str = r#"
@id("everything")
permit (principal == Bursar::Principal::"spiffe://example.org/user/admin", action, resource);
@id("watch")
permit (principal, action == Bursar::Action::"watch", resource);
"#;
const SHOP_POLICY: &str = r#"
@id("shop")
permit (principal in Bursar::Group::"spiffe://example.org/east/ns/shop", action in Bursar::Action::"use", resource)
when { principal.method == "kubernetes" && principal.selectors.contains("k8s:pod-name:web-0") };
"#;
