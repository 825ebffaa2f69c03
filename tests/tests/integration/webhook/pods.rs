//! What a patched pod does: its containers' words are run here as kubelet would run them, with the places of its volumes
//! replaced by folders, beside a real broker and a cluster whose tokens it takes.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use bursar_tests::webhook::response;
use bursar_tests::{Canary, Process, ServedFiles, Webhook, binary, scan, wait_until};
use data_encoding::BASE64;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{LIMIT, pod, review};
use crate::pod_tokens::{NOBODY, SHOP, SHOP_MAY, Site};

#[test]
fn a_wrapped_command_runs_with_its_secrets_or_not_at_all() -> Result<()> {
    let cluster = Cluster::start()?;
    let mut wanted = pod("exec");
    wanted["spec"]["containers"][0]["command"] = json!(["/bin/sh", "-c"]);
    wanted["spec"]["containers"][0]["args"] = json!(["printf '%s %s' \"$PASSWORD\" \"$OWN\""]);
    let pod = cluster.admit(&wanted)?;
    let install =
        cluster.run("install", pod.pointer("/spec/initContainers/0").context("no init container")?, &[])?;
    ensure!(install.0.success(), "{}", install.2);
    let web = pod.pointer("/spec/containers/0").context("no container")?;
    // Nothing of these leads anywhere else.
    let own = [("OWN", "own"), ("BURSAR_ADDRESS", "https://evil.example"), ("BURSAR_CA", "/dev/null")];
    let (status, said, error) = cluster.run("web", web, &own)?;
    ensure!(status.success() && said == format!("{} own", cluster.password.value()), "{status}: {error}");
    let lease = cluster.site.admin.json(&["lease", "list", "--principal", SHOP])?;
    ensure!(lease.to_string().contains("pod-shop"), "the lease is not the pod's: {lease}");

    cluster.site.admin.apply_policies(NOBODY, "")?;
    let (status, said, _) = cluster.run("web", web, &own)?;
    ensure!(status.code() == Some(77) && said.is_empty(), "{status}: it ran");
    Ok(())
}

#[test]
fn a_sidecar_delivers_follows_and_takes_away() -> Result<()> {
    let cluster = Cluster::start()?;
    let mut wanted = pod("sidecar");
    let annotations = &mut wanted["metadata"]["annotations"];
    annotations["bursar.io/output.app.env"] = json!("env");
    annotations["bursar.io/template.app.conf"] = json!("password {{ PASSWORD }} $(NAME)\n");
    let pod = cluster.admit(&wanted)?;
    let container = pod.pointer("/spec/initContainers/0").context("no sidecar")?;
    ensure!(!cluster.is_delivered(container)?, "the probe succeeds before anything is there");
    let mut sidecar = cluster.launch("sidecar", container, &[])?;
    let file = |name: &str| std::fs::read_to_string(cluster.files().join(name)).unwrap_or_default();
    wait_until(LIMIT, "the first set", || {
        file("app.conf") == format!("password {} $(NAME)\n", cluster.password.value())
    })?;
    ensure!(
        cluster.is_delivered(container)? && file("app.env").contains("PASSWORD="),
        "the set is not whole"
    );
    for name in ["app.env", "tls/key.pem"] {
        let found = std::fs::metadata(cluster.files().join(name))?;
        let mode = std::os::unix::fs::PermissionsExt::mode(&found.permissions());
        ensure!(mode & 0o777 == 0o444, "{name}: {mode:o}");
    }

    let next = Canary::random("second password");
    cluster.put(&next)?;
    wait_until(LIMIT, "the files to follow", || file("app.conf").contains(next.value()))?;

    cluster.site.admin.apply_policies(NOBODY, "")?;
    let leases = cluster.site.admin.json(&["lease", "list", "--principal", SHOP])?;
    for lease in leases.as_array().into_iter().flatten() {
        let id = lease.pointer("/id").and_then(Value::as_str).context("no id")?;
        cluster.site.admin.done(&["lease", "revoke", id, "--reason", "test"])?;
    }
    wait_until(LIMIT, "the files to go", || file("app.conf").is_empty() && file("app.env").is_empty())?;
    sidecar.stop()?;
    let found = scan(cluster.place.path(), &[&cluster.password, &next])?;
    ensure!(found.is_empty(), "a value is in {} places outside of memory", found.len());
    Ok(())
}

#[test]
fn a_sidecar_waits_for_its_broker_and_for_policy() -> Result<()> {
    let mut cluster = Cluster::start()?;
    cluster.site.admin.apply_policies(NOBODY, "")?;
    let pod = cluster.admit(&pod("sidecar"))?;
    let container = pod.pointer("/spec/initContainers/0").context("no sidecar")?;
    let mut sidecar = cluster.launch("sidecar", container, &[])?;
    sidecar.wait_for_line(LIMIT, "the pod's secrets cannot be had")?;
    ensure!(!cluster.is_delivered(container)?, "it was let in");
    cluster.site.broker.process().kill()?;
    cluster.site.broker.start_again()?;
    cluster.site.admin.apply_policies(&format!("{NOBODY}{SHOP_MAY}"), "")?;
    // Without outputs each variable is a file of its name.
    wait_until(LIMIT, "the first set", || {
        std::fs::read_to_string(cluster.files().join("PASSWORD"))
            .is_ok_and(|text| text == cluster.password.value())
    })?;
    Ok(())
}

#[test]
fn a_pod_that_was_written_for_vaults_injector_gets_its_files() -> Result<()> {
    let cluster = Cluster::start()?;
    let mut wanted = pod("exec");
    wanted["metadata"]["annotations"] = json!({
        "vault.hashicorp.com/agent-inject": "true",
        "vault.hashicorp.com/role": "web",
        "vault.hashicorp.com/agent-inject-secret-db": "db",
        "vault.hashicorp.com/agent-inject-template-db": "{{ with secret \"db\" }}pw={{ .Data.password }}{{ end }}",
    });
    let pod = cluster.admit(&wanted)?;
    let container = pod.pointer("/spec/initContainers/0").context("no sidecar")?;
    let _sidecar = cluster.launch("sidecar", container, &[])?;
    let file = cluster.memory.path().join("vault/secrets/db");
    wait_until(LIMIT, "the file", || {
        std::fs::read_to_string(&file).is_ok_and(|text| text == format!("pw={}", cluster.password.value()))
    })
}

/// A broker, a webhook that sends pods to it, and the places of one pod's volumes.
struct Cluster {
    site: Site,
    webhook: Webhook,
    served: ServedFiles,
    password: Canary,
    /// What containers see, on disk.
    place: TempDir,
    /// What they see of memory volumes.
    memory: TempDir,
}

impl Cluster {
    fn start() -> Result<Self> {
        let site = Site::start()?;
        site.admin.write("shop.toml", ENVIRONMENT)?;
        let path = site.admin.path("shop.toml");
        site.admin.done(&["env", "apply", &path.to_string_lossy()])?;
        site.admin.apply_policies(&format!("{NOBODY}{SHOP_MAY}"), "")?;
        let served = ServedFiles::make()?;
        let ca = site.broker.bootstrap("ca.pem");
        let webhook = Webhook::launch(
            &site.broker.address(),
            &ca,
            &format!("{}\n[vault]\nbackend = 'local'\n", served.table()),
        );
        let mut webhook = webhook?;
        webhook.wait_ready()?;
        let password = Canary::random("password");
        let (place, memory) = (tempfile::tempdir()?, tempfile::tempdir_in("/dev/shm")?);
        let cluster = Self { site, webhook, served, password, place, memory };
        cluster.put(&cluster.password)?;
        std::fs::write(cluster.place.path().join("token"), cluster.site.token("shop", "n1", 600)?)?;
        Ok(cluster)
    }

    fn put(&self, password: &Canary) -> Result<()> {
        let words = ["secret", "put", "local/db", "--field", "password"];
        self.site.admin.done_with(&words, password.value().as_bytes()).map(drop)
    }

    /// The pod as the API server would keep it.
    fn admit(&self, wanted: &Value) -> Result<Value> {
        let reply =
            self.webhook.send(&self.served.authority()?, "localhost", "POST", "/mutate", &review(wanted))?;
        let response = response(&reply)?;
        let patch = response.pointer("/patch").and_then(Value::as_str);
        let patch = patch.with_context(|| format!("no patch: {response}"))?;
        let patch: json_patch::Patch = serde_json::from_slice(&BASE64.decode(patch.as_bytes())?)?;
        let mut pod = wanted.clone();
        json_patch::patch(&mut pod, &patch)?;
        Ok(pod)
    }

    fn files(&self) -> PathBuf {
        self.memory.path().join("run/bursar-files")
    }

    /// A word as the container sees it: Kubernetes undoes `$$`, and volumes are where they are here.
    fn word(&self, word: &Value) -> Result<String> {
        let word = word.as_str().context("no text")?.replace("$$", "$");
        let memory =
            |path: &str| self.memory.path().join(path.trim_start_matches('/')).to_string_lossy().into_owned();
        let places = [
            ("/run/bursar-exec", self.place.path().to_string_lossy().into_owned()),
            ("/var/run/secrets/bursar.io", self.place.path().to_string_lossy().into_owned()),
            ("/run/bursar-files", memory("/run/bursar-files")),
            ("/vault/secrets", memory("/vault/secrets")),
            ("/bursar-agent", binary("bursar-agent")?.to_string_lossy().into_owned()),
        ];
        let mut words = places.iter().filter(|(inside, _)| word.starts_with(inside));
        Ok(words.next().map_or(word.clone(), |(inside, here)| word.replacen(inside, here, 1)))
    }

    fn command(&self, container: &Value, own: &[(&str, &str)]) -> Result<Command> {
        let list = |name: &str| container[name].as_array().into_iter().flatten();
        let words: Vec<_> =
            list("command").chain(list("args")).map(|word| self.word(word)).collect::<Result<_>>()?;
        let (program, arguments) = words.split_first().context("no command")?;
        let mut command = Command::new(program);
        command.args(arguments).env_clear().env("PATH", "/usr/bin:/bin").envs(own.iter().copied());
        for variable in list("env") {
            let text = |name: &str| variable[name].as_str().unwrap_or_default().to_owned();
            command.env(text("name"), text("value"));
        }
        Ok(command)
    }

    fn launch(&self, name: &str, container: &Value, own: &[(&str, &str)]) -> Result<Process> {
        for folder in ["run/bursar-files", "vault/secrets"] {
            // As kubelet makes them.
            let folder = self.memory.path().join(folder);
            std::fs::create_dir_all(&folder)?;
            open_up(&folder)?;
        }
        Process::start(name, self.command(container, own)?, self.place.path())
    }

    /// Runs a container to its end.
    fn run(
        &self,
        name: &str,
        container: &Value,
        own: &[(&str, &str)],
    ) -> Result<(std::process::ExitStatus, String, String)> {
        let output =
            self.command(container, own)?.output().with_context(|| format!("`{name}` cannot be started"))?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok((output.status, text(output.stdout), text(output.stderr)))
    }

    /// Does what the startup probe does.
    fn is_delivered(&self, container: &Value) -> Result<bool> {
        let probe =
            json!({ "command": container.pointer("/startupProbe/exec/command").context("no probe")? });
        Ok(self.run("probe", &probe, &[])?.0.success())
    }
}

fn open_up(folder: &Path) -> Result<()> {
    let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    Ok(std::fs::set_permissions(folder, everybody)?)
}

const ENVIRONMENT: &str = r#"
[environment."shop/prod".vars]
PASSWORD = { from = "local/db#password" }
LEVEL = "info"
[environment."shop/prod".files]
"tls/key.pem" = { from = "local/db#password" }
"#;
