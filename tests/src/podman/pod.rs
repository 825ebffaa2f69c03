//! A Pod that podman plays.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tempfile::TempDir;

use super::Podman;
use super::manifest::{Fetched, playable};
use crate::cli::Said;
use crate::wait::wait_for;

/// A pod whose containers run, or have ended. Killed and removed, with its volumes, on drop.
#[derive(Debug)]
pub struct Pod {
    podman: Podman,
    name: String,
    memory: TempDir,
}

impl Pod {
    /// Plays the Pod `manifest` on the network of this machine, and returns once its init containers have ended. Of volumes,
    /// `fetched` is what kubelet would have had from the API server.
    ///
    /// # Errors
    /// Podman is missing or refuses the manifest, or an init container fails; with what it said.
    pub fn play(podman: &Podman, manifest: &Value, fetched: &[Fetched<'_>]) -> Result<Self> {
        let wanted = manifest.pointer("/metadata/name").and_then(Value::as_str).context("it has no name")?;
        let memory = tempfile::Builder::new().prefix("bursar-pod-").tempdir_in("/dev/shm")?;
        fs::set_permissions(memory.path(), fs::Permissions::from_mode(0o755))?;
        let name = format!("{wanted}-{:08x}", fastrand::u32(..));
        let playable = playable(manifest, &name, memory.path(), fetched)?;
        let file = memory.path().join("pod.json");
        fs::write(&file, serde_json::to_vec_pretty(&playable)?)?;
        let pod = Self { podman: podman.clone(), name, memory };
        let host_pid = manifest.pointer("/spec/hostPID").and_then(Value::as_bool) == Some(true);
        pod.podman.play(&file, host_pid)?;
        Ok(pod)
    }

    /// What a container wrote so far, on both outputs.
    ///
    /// # Errors
    /// There is no such container.
    pub fn output(&self, container: &str) -> Result<String> {
        let said = self.podman.try_run(&["logs", &self.container(container)])?;
        Ok(format!("{}{}", String::from_utf8_lossy(&said.stdout), said.stderr))
    }

    /// Waits until a container has written `line`.
    ///
    /// # Errors
    /// It did not within `limit`; with what it wrote.
    pub fn wait_for_line(&self, limit: Duration, container: &str, line: &str) -> Result<()> {
        let what = format!("`{line}` from `{container}`");
        let found = wait_for(limit, &what, || {
            Ok(self.output(container)?.lines().any(|written| written == line).then_some(()))
        });
        found.with_context(|| self.output(container).unwrap_or_else(|error| format!("{error:#}")))
    }

    /// Waits for the end of a container, and answers its exit code.
    ///
    /// # Errors
    /// It still runs after `limit`; with what it wrote.
    pub fn wait(&self, limit: Duration, container: &str) -> Result<i64> {
        let ended = wait_for(limit, &format!("the end of `{container}`"), || {
            let state = self.inspect(container)?;
            let ended = state.pointer("/State/Status").and_then(Value::as_str) == Some("exited");
            Ok(ended.then(|| state.pointer("/State/ExitCode").and_then(Value::as_i64)).flatten())
        });
        ended.with_context(|| self.output(container).unwrap_or_else(|error| format!("{error:#}")))
    }

    /// How `command` ends in a container that runs.
    ///
    /// # Errors
    /// Podman cannot be run.
    pub fn exec(&self, container: &str, command: &[&str]) -> Result<Said> {
        self.podman.try_run(&[["exec", &self.container(container)].as_slice(), command].concat())
    }

    /// What podman knows of a container.
    ///
    /// # Errors
    /// There is no such container.
    pub fn inspect(&self, container: &str) -> Result<Value> {
        let said = self.podman.run(&["inspect", "--type=container", &self.container(container)])?;
        match serde_json::from_str(&said)? {
            Value::Array(mut all) if all.len() == 1 => Ok(all.remove(0)),
            other => bail!("podman answered `{other}`"),
        }
    }

    /// The volumes that are in memory and those of tokens, by their names.
    pub fn volumes(&self) -> &Path {
        self.memory.path()
    }

    /// Kills a container and starts it again, as kubelet does with one that ended.
    ///
    /// # Errors
    /// Podman fails.
    pub fn restart(&self, container: &str) -> Result<()> {
        self.podman.run(&["restart", "--time=0", &self.container(container)]).map(drop)
    }

    /// Kills and removes it.
    ///
    /// # Errors
    /// Podman fails.
    pub fn remove(&self) -> Result<()> {
        self.podman.run(&["pod", "rm", "--force", "--time=0", "--ignore", &self.name]).map(drop)
    }

    fn container(&self, name: &str) -> String {
        format!("{}-{name}", self.name)
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        drop(self.remove());
    }
}
