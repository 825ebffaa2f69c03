//! Volumes of pods: asked for as the Secrets Store CSI driver asks, by the pods' own tokens, at an agent beside a real
//! broker.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bursar_proto::csi::csi_driver_provider_client::CsiDriverProviderClient;
use bursar_proto::csi::{MountRequest, MountResponse};
use bursar_sdk::Address;
use bursar_tests::{Agent, Canary, text, wait_until};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tonic::{Code, Status};

use crate::pod_tokens::{N1, NOBODY, SHOP, SHOP_MAY, Site};

#[test]
fn a_volume_follows_its_secret_and_the_ledger_says_whose_it_is() -> Result<()> {
    let (site, password) = start()?;
    let (mut agent, driver, _folder) = driver(&site, "")?;
    let token = site.token("shop", "n1", 600)?;
    let first = driver.mount("shop", &token, &environment())??;
    ensure!(paths(&first) == ["LEVEL", "PASSWORD", "tls/key.pem"], "{:?}", paths(&first));
    ensure!(file(&first, "PASSWORD")? == password.value(), "another value was mounted");
    // Answered out of the cache once events arrive, and written down.
    wait_until(LIMIT, "an answer of the cache's own", || {
        driver.mount("shop", &token, &environment()).is_ok_and(|answer| answer.is_ok())
            && agent.counted("bursar_agent_reads_total{outcome=\"fresh\"}") > 0
    })?;
    let second = Canary::random("second password");
    put(&site, &second)?;
    wait_until(LIMIT, "the volume to follow", || {
        let again = driver.mount("shop", &token, &environment()).ok().and_then(Result::ok);
        again.is_some_and(|again| file(&again, "PASSWORD").is_ok_and(|text| text == second.value()))
    })?;
    agent.process().stop()?;
    let records = site.admin.audit(&["--principal", SHOP])?;
    let of = |action: &str| records.iter().find(|record| text(record, "/action") == action);
    let resolve = of("resolve").context("no record of the first answer")?;
    ensure!(
        text(resolve, "/actor/method") == "kubernetes" && text(resolve, "/actor/node") == N1,
        "{resolve}"
    );
    ensure!(resolve.to_string().contains("k8s:pod-uid:pod-shop"), "{resolve}");
    let local = of("local-read").context("no record of what the cache answered")?;
    ensure!(
        text(local, "/actor/node") == N1 && local.to_string().contains("csi:pod-uid:pod-shop"),
        "{local}"
    );
    Ok(())
}

#[test]
fn a_pod_keeps_what_it_has_while_the_broker_is_away_and_gets_nothing_that_was_revoked() -> Result<()> {
    let (mut site, password) = start()?;
    let (agent, driver, _folder) = driver(&site, "")?;
    let (token, next) = (site.token("shop", "n1", 600)?, site.token("shop", "n1", 601)?);
    driver.mount("shop", &token, &environment())??;
    listening(&agent)?;
    // Once more, as the broker's events made what was there unknown when they began to arrive.
    driver.mount("shop", &token, &environment())??;
    site.broker.process().kill()?;
    for token in [&token, &next] {
        let last = driver.mount("shop", token, &environment())??;
        ensure!(file(&last, "PASSWORD")? == password.value(), "something else was mounted");
    }
    let never = driver.mount("other", &site.token("other", "n1", 600)?, &environment())?;
    ensure!(never.is_err_and(|status| status.code() == Code::Unavailable), "another pod was given something");
    let last_good = agent.counted("bursar_agent_csi_mounts_total{outcome=\"last_good\"}");
    ensure!(last_good == 1, "it was counted {last_good} times");

    site.broker.start_again()?;
    wait_until(LIMIT, "the broker to answer the agent", || {
        driver.mount("shop", &next, &environment()).is_ok_and(|answer| answer.is_ok()) && is_listening(&agent)
    })?;
    site.admin.apply_policies(NOBODY, "")?;
    let leases = site.admin.json(&["lease", "list", "--principal", SHOP])?;
    for lease in leases.as_array().into_iter().flatten() {
        site.admin.done(&["lease", "revoke", &text(lease, "/id"), "--reason", "test"])?;
    }
    wait_until(LIMIT, "the pod to be refused", || {
        let answers = [&token, &next].map(|token| driver.mount("shop", token, &environment()));
        answers.into_iter().all(|answer| {
            answer.is_ok_and(|answer| answer.is_err_and(|status| status.code() == Code::PermissionDenied))
        })
    })?;
    site.broker.process().kill()?;
    for token in [&token, &next] {
        ensure!(driver.mount("shop", token, &environment())?.is_err(), "what was revoked was mounted");
    }
    Ok(())
}

#[test]
fn who_may_not_is_told_what_to_do() -> Result<()> {
    let (site, password) = start()?;
    let (_agent, driver, _folder) = driver(&site, "")?;
    let token = |namespace: &str, node: &str| site.token(namespace, node, 600);
    let cases: [(&str, String, Value, &str); 6] = [
        ("shop", String::new(), environment(), "list it in the CSIDriver object: `tokenRequests:"),
        ("shop", token("other", "n1")?, environment(), "is not bound to pod `shop/web-0`"),
        ("shop", token("shop", "n2")?, environment(), "that of a pod on another node"),
        ("other", token("other", "n1")?, environment(), "policy does not allow this"),
        ("shop", token("shop", "n1")?, json!({ "environment": "absent" }), "no environment"),
        ("shop", token("shop", "n1")?, json!({ "enviroment": "shop" }), "`environment` nor `objects`"),
    ];
    for (pod, token, parameters, words) in cases {
        let refused = driver.mount(pod, &token, &parameters)?.err().context("it was mounted")?;
        ensure!(refused.message().contains(words), "{words}: {refused}");
        let shown = refused.message();
        ensure!(token.is_empty() || !shown.contains(&token), "the token was shown");
        ensure!(!shown.contains(password.value()), "the value was shown");
    }
    Ok(())
}

#[test]
fn another_user_is_turned_away_and_a_crowd_takes_no_more_than_its_places() -> Result<()> {
    let (site, _) = start()?;
    let (agent, driver, _folder) = driver(&site, "[limits]\nconnections = 32\n")?;
    let mode = std::fs::metadata(&driver.socket)?.permissions().mode();
    ensure!(mode & 0o777 == 0o600, "the socket has the mode {mode:o}");

    // Its file alone would keep others out; whoever gets past that is looked at.
    std::fs::set_permissions(&driver.socket, std::fs::Permissions::from_mode(0o666))?;
    std::fs::set_permissions(
        driver.socket.parent().context("a folder")?,
        std::fs::Permissions::from_mode(0o755),
    )?;
    let script = "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); \
                  s.sendall(b'PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n'); sys.exit(len(s.recv(1)))";
    let mut other = Command::new("python3");
    other.args(["-c", script]).arg(&driver.socket).uid(OTHER).gid(OTHER).stderr(Stdio::null());
    // However it ended: what it was told is nothing.
    other.status()?;
    wait_until(LIMIT, "another user to be turned away", || {
        agent.counted("bursar_agent_connections_total{outcome=\"not_allowed\"}") == 1
    })?;

    let mut crowd = Vec::new();
    for _ in 0..10_000 {
        let Ok(mut stream) = UnixStream::connect(&driver.socket) else { continue };
        // Half a greeting; those that got no place are closed already.
        drop(stream.write_all(b"PRI * HTTP"));
        if crowd.len() < 256 {
            crowd.push(stream);
        }
    }
    ensure!(agent.counted("bursar_agent_connections_total{outcome=\"full\"}") > 0, "all got a place");
    for mut stream in crowd {
        stream.set_read_timeout(Some(LIMIT))?;
        // Turned away, or out of time: closed in any case.
        drop(stream.read(&mut [0]));
    }
    let token = site.token("shop", "n1", 600)?;
    wait_until(LIMIT, "the driver to be served again", || {
        driver.mount("shop", &token, &environment()).is_ok_and(|answer| answer.is_ok())
    })
}

/// A cluster whose pods may resolve one environment, and what its secret is.
fn start() -> Result<(Site, Canary)> {
    let (site, password) = (Site::start()?, Canary::random("password"));
    site.admin.apply_policies(&format!("{NOBODY}{SHOP_MAY}"), "")?;
    put(&site, &password)?;
    Ok((site, password))
}

/// The driver of a node.
pub(crate) struct Driver {
    runtime: Runtime,
    socket: PathBuf,
}

/// The agent of a node with the lines `more` in its configuration, and the driver beside it.
fn driver(site: &Site, more: &str) -> Result<(Agent, Driver, TempDir)> {
    let folder = tempfile::tempdir()?;
    let socket = folder.path().join("bursar.sock");
    let agent = site.agent_with("n1", &format!("{more}[csi]\nsocket = '{}'\n", socket.display()))?;
    Ok((agent, Driver::at(socket)?, folder))
}

impl Driver {
    /// That asks at `socket`.
    pub(crate) fn at(socket: PathBuf) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        Ok(Self { runtime, socket })
    }

    /// Asks for the volume of the pod of `namespace`, which was given `token`.
    pub(crate) fn mount(
        &self,
        namespace: &str,
        token: &str,
        parameters: &Value,
    ) -> Result<std::result::Result<MountResponse, Status>> {
        let mut attributes = json!({
            "secretProviderClass": "web",
            "csi.storage.k8s.io/ephemeral": "true",
            "csi.storage.k8s.io/pod.name": "web-0",
            "csi.storage.k8s.io/pod.namespace": namespace,
            "csi.storage.k8s.io/pod.uid": format!("pod-{namespace}"),
            "csi.storage.k8s.io/serviceAccount.name": "web",
        });
        let all = attributes.as_object_mut().context("an object")?;
        all.extend(parameters.as_object().context("an object")?.clone());
        if !token.is_empty() {
            let tokens =
                json!({ "bursar": { "token": token, "expirationTimestamp": "2030-01-01T00:00:00Z" } });
            all.insert("csi.storage.k8s.io/serviceAccount.tokens".to_owned(), tokens.to_string().into());
        }
        let message = MountRequest {
            attributes: attributes.to_string(),
            secrets: "null".to_owned(),
            target_path: "/var/lib/kubelet/pods/x/volumes/y/mount".to_owned(),
            permission: "420".to_owned(),
            current_object_version: Vec::new(),
        };
        self.runtime.block_on(async {
            let channel = bursar_sdk::channel(&Address::unix(&self.socket), None).await?;
            let answer = CsiDriverProviderClient::new(channel).mount(message).await;
            Ok(answer.map(tonic::Response::into_inner))
        })
    }
}

fn file(response: &MountResponse, path: &str) -> Result<String> {
    let file = response.files.iter().find(|file| file.path == path).with_context(|| path.to_owned())?;
    Ok(String::from_utf8(file.contents.clone())?)
}

fn put(site: &Site, value: &Canary) -> Result<()> {
    site.admin.done_with(&["secret", "put", "local/db", "--field", "password"], value.value().as_bytes())?;
    site.admin.write("shop.toml", ENVIRONMENT)?;
    site.admin.done(&["env", "apply", "shop.toml"]).map(drop)
}

fn environment() -> Value {
    json!({ "environment": "shop" })
}

fn paths(response: &MountResponse) -> Vec<&str> {
    response.files.iter().map(|file| file.path.as_str()).collect()
}

fn is_listening(agent: &Agent) -> bool {
    agent.counted("bursar_agent_listening") == 1
}

fn listening(agent: &Agent) -> Result<()> {
    wait_until(LIMIT, "the agent to hear the broker's events", || is_listening(agent))
}

const LIMIT: Duration = Duration::from_secs(90);
/// A number that no account has.
const OTHER: u32 = 61_003;

const ENVIRONMENT: &str = r#"
[environment.shop]
vars.LEVEL = "info"
vars.PASSWORD = { from = "local/db#password" }
files."tls/key.pem" = { from = "local/db#password", mode = "0400" }
"#;
