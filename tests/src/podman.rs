//! A podman of its own: storage, settings and images below one directory, and nothing of the machine's.

mod manifest;
mod pod;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

pub use self::manifest::Fetched;
pub use self::pod::Pod;
use crate::cli::Said;
use crate::place::told;

/// Podman over one directory.
#[derive(Debug, Clone)]
pub struct Podman {
    directory: PathBuf,
}

impl Podman {
    /// Over `directory`, which is made, with its settings, where it is not there.
    ///
    /// # Errors
    /// The settings cannot be written.
    pub fn over(directory: &Path) -> Result<Self> {
        fs::create_dir_all(directory)?;
        let directory = fs::canonicalize(directory)?;
        let write = |name: &str, text: String| {
            let path = directory.join(name);
            fs::write(&path, text).with_context(|| format!("`{}` cannot be written", path.display()))
        };
        write(RUNTIME, include_str!("podman/runtime.sh").to_owned())?;
        fs::set_permissions(directory.join(RUNTIME), fs::Permissions::from_mode(0o755))?;
        write(OWN_PROCESSES, settings(&directory, "private"))?;
        write(NODE_PROCESSES, settings(&directory, "host"))?;
        write("storage.conf", storage(&directory))?;
        // No registry is asked for anything.
        write("registries.conf", "unqualified-search-registries = []\n".to_owned())?;
        Ok(Self { directory })
    }

    /// The one that has the images of the tests.
    ///
    /// # Errors
    /// `cargo xtask test` did not make them.
    pub fn prepared() -> Result<Self> {
        Ok(Self { directory: told("BURSAR_TEST_PODMAN")? })
    }

    /// Builds an image named `name` from `file`, of what is in `context`, on top of the image `base`.
    ///
    /// # Errors
    /// Podman is missing, or does not build it; with what it said.
    pub fn build(&self, name: &str, file: &Path, context: &Path, base: &str) -> Result<()> {
        let mut build = self.command();
        // The same programs make the same image.
        build.args(["build", "--quiet", "--pull=never", "--layers=false", "--timestamp=0", "--tag", name]);
        said(build.arg(format!("--build-arg=BASE={base}")).arg("--file").arg(file).arg(context))?;
        Ok(())
    }

    /// What podman prints, called with `arguments`.
    ///
    /// # Errors
    /// Podman is missing, or fails; with what it said.
    pub fn run(&self, arguments: &[&str]) -> Result<String> {
        said(self.command().args(arguments))
    }

    /// Plays what `file` describes; its containers see the machine's processes where it says `hostPID`.
    fn play(&self, file: &Path, host_pid: bool) -> Result<()> {
        let mut play = self.command_by(if host_pid { NODE_PROCESSES } else { OWN_PROCESSES });
        said(play.args(["kube", "play", "--quiet", "--build=false", "--network=host"]).arg(file)).map(drop)
    }

    /// How podman ends, called with `arguments`.
    ///
    /// # Errors
    /// Podman is missing.
    pub fn try_run(&self, arguments: &[&str]) -> Result<Said> {
        let output = self.command().args(arguments).output().context(MISSING)?;
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        Ok(Said { code: output.status.code(), stdout: output.stdout, stderr })
    }

    /// Where its settings, storage and images are.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    fn command(&self) -> Command {
        self.command_by(OWN_PROCESSES)
    }

    fn command_by(&self, settings: &str) -> Command {
        let mut command = Command::new("podman");
        command
            .env("CONTAINERS_CONF", self.directory.join(settings))
            .env("CONTAINERS_STORAGE_CONF", self.directory.join("storage.conf"))
            .env("CONTAINERS_REGISTRIES_CONF", self.directory.join("registries.conf"))
            .stdin(Stdio::null());
        command
    }
}

fn said(command: &mut Command) -> Result<String> {
    let line: Vec<_> = command.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
    let line = line.join(" ");
    let output = command.output().context(MISSING)?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "`podman {line}` failed ({}): {}", output.status, stderr.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// `runc` and `cgroupfs` ask for no systemd, and locks in files for no shared memory of the machine's. The limits are what
/// a container may have where whoever starts it may not raise them.
fn settings(directory: &Path, processes: &str) -> String {
    let directory = directory.display();
    format!(
        r#"[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
log_driver = "k8s-file"
netns = "host"
pidns = "{processes}"

[network]
network_config_dir = "{directory}/network"

[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "none"
lock_type = "file"
image_copy_tmp_dir = "storage"
static_dir = "{directory}/storage/libpod"
tmp_dir = "{directory}/run/libpod"
volume_path = "{directory}/storage/volumes"
infra_image = "{INFRA}"
infra_command = "/bursar-pod"

[engine.runtimes]
runc = ["{directory}/{RUNTIME}"]
"#
    )
}

fn storage(directory: &Path) -> String {
    let directory = directory.display();
    format!(
        "[storage]\ndriver = \"overlay\"\ngraphroot = \"{directory}/storage\"\nrunroot = \"{directory}/run\"\n"
    )
}

/// Each container sees its own processes, or all of the machine's, for which podman 4.3 knows no word of a manifest.
const OWN_PROCESSES: &str = "containers.conf";
const NODE_PROCESSES: &str = "node.conf";
const MISSING: &str = "podman is missing: `cargo xtask test` installs it";
/// What podman starts containers with, for each to be in a pod's control group.
const RUNTIME: &str = "runtime";
/// What keeps the namespaces of a pod.
const INFRA: &str = "localhost/bursar-pod:test";
