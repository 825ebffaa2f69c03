//! A broker with one environment, and an agent that delivers it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bursar_tests::{Agent, Broker, Canary, Cli, venv, wait_until};
use rustix::fs::{Mode, OFlags};
use tempfile::TempDir;

use super::said;
use crate::policies::for_workloads;

pub(super) struct Site {
    pub(super) administrator: Cli,
    pub(super) broker: Broker,
    /// In memory.
    memory: TempDir,
}

impl Site {
    pub(super) fn start() -> Result<Self> {
        let broker = Broker::start("[backends.local]\nkind = 'local'\n")?;
        let administrator = Cli::administering(&broker)?;
        administrator.apply_policies(&for_workloads(), REGISTRATION)?;
        administrator.write("shop.toml", ENVIRONMENT)?;
        let memory = tempfile::Builder::new().prefix("bursar-files-").tempdir_in("/dev/shm");
        let memory = memory.context("`/dev/shm` has to be a tmpfs that the tests may write")?;
        fs::set_permissions(memory.path(), fs::Permissions::from_mode(0o755))?;
        let site = Self { administrator, broker, memory };
        site.template("nginx.conf.j2", "level {{ LEVEL }};\npassword {{ PASSWORD | tojson }};\n")?;
        Ok(site)
    }

    /// Puts one field of a secret, and the environment, which needs it to be there.
    pub(super) fn put(&self, reference: &str, field: &str, value: &Canary) -> Result<()> {
        let put = ["secret", "put", reference, "--field", field];
        self.administrator.done_with(&put, value.value().as_bytes())?;
        self.administrator.done(&["env", "apply", "shop.toml"]).map(drop)
    }

    /// Starts an agent that delivers the set `web`, with what `more` says of it.
    pub(super) fn agent(&self, more: &str) -> Result<Agent> {
        self.agent_at(&self.path(""), more)
    }

    pub(super) fn agent_at(&self, directory: &Path, more: &str) -> Result<Agent> {
        ensure!(
            rustix::process::geteuid().is_root(),
            "files are given to other users: run the tests as root"
        );
        let more = more.replace("TEMPLATE", &self.directory().join("nginx.conf.j2").display().to_string());
        let token = self.administrator.done(&["node", "token", "web-1"])?;
        let set = format!("[files.web]\ndirectory = '{}'\nenvironment = 'shop'\n{more}", directory.display());
        Agent::start_with(&self.broker, "web-1", token.trim(), &set)
    }

    pub(super) fn directory(&self) -> &Path {
        self.memory.path()
    }

    pub(super) fn template(&self, name: &str, text: &str) -> Result<()> {
        Ok(fs::write(self.directory().join(name), text)?)
    }

    /// A file of the set.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        match name {
            "" => self.directory().join("web"),
            name => self.directory().join("web").join(name),
        }
    }

    pub(super) fn read(&self, name: &str) -> Result<String> {
        fs::read_to_string(self.path(name)).with_context(|| format!("`{name}` cannot be read"))
    }

    pub(super) fn until(&self, name: &str, fits: impl Fn(&str) -> bool) -> Result<()> {
        wait_until(LIMIT, &format!("`{name}` to be as it has to be"), || {
            self.read(name).is_ok_and(|text| fits(&text))
        })
    }

    /// What a shell in the directory of the set says as `user`; nothing when it fails.
    pub(super) fn shell(&self, user: u32, script: &str) -> Result<Option<String>> {
        let script = format!("cd \"$1\" && {script}");
        said(Command::new("sh").args(["-c", &script, "sh"]).arg(self.path("")).uid(user).gid(user))
    }

    /// What a Python with libraries for the usual forms says.
    pub(super) fn python(&self, script: &str) -> Result<String> {
        let answer = said(Command::new(venv("python")?).args(["-c", script]).current_dir(self.path("")))?;
        answer.with_context(|| format!("`{script}` failed"))
    }

    /// Everything that the agent wrote to its log.
    pub(super) fn written(&self, agent: &Agent) -> Result<String> {
        Ok(fs::read_to_string(agent.directory().join("agent.stderr"))?)
    }

    /// Waits for words in the agent's log.
    pub(super) fn log(&self, agent: &Agent, words: &str) -> Result<()> {
        wait_until(LIMIT, words, || self.written(agent).is_ok_and(|log| log.contains(words)))
    }

    /// The lease under which the set was delivered.
    pub(super) fn lease(&self) -> Result<String> {
        let leases = self.administrator.json(&["lease", "list"])?;
        let first = leases.pointer("/leases/0/id").or_else(|| leases.pointer("/0/id"));
        let id = first.and_then(serde_json::Value::as_str).with_context(|| format!("no lease: {leases}"))?;
        Ok(id.to_owned())
    }

    /// Reads two files of the set as fast as it can, through the version of each moment, until it is stopped.
    pub(super) fn pairs(&self) -> Result<Pairs> {
        let (stop, directory) = (Arc::new(AtomicBool::new(false)), self.path(""));
        let stopping = Arc::clone(&stop);
        let thread = std::thread::Builder::new().spawn(move || {
            let (mut pairs, mut torn) = (0, 0);
            while !stopping.load(Ordering::Relaxed) {
                let Some((one, other)) = pair(&directory) else { continue };
                pairs += 1;
                torn += u32::from(one != other);
            }
            (pairs, torn)
        })?;
        Ok(Pairs { stop, thread })
    }
}

/// The password in two files of one version. Nothing, when that version went away meanwhile.
fn pair(directory: &Path) -> Option<(String, String)> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let version = rustix::fs::open(directory.join("..data"), flags, Mode::empty()).ok()?;
    let read = |name: &str| {
        let file =
            rustix::fs::openat(&version, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
        std::io::read_to_string(fs::File::from(file)).ok()
    };
    let (env, yaml) = (read("app.env")?, read("app.yaml")?);
    let env = env.lines().find_map(|line| line.strip_prefix("PASSWORD="))?.to_owned();
    let yaml = yaml.lines().find_map(|line| line.strip_prefix("\"PASSWORD\": \""))?.trim_end_matches('"');
    Some((env, yaml.to_owned()))
}

pub(super) struct Pairs {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<(u32, u32)>,
}

impl Pairs {
    /// How many pairs were read, and how many of them did not agree.
    pub(super) fn stop(self) -> Result<(u32, u32)> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().ok().context("the reader panicked")
    }
}

pub(super) const LIMIT: Duration = Duration::from_secs(90);
/// A number that no account has.
pub(super) const READER: u32 = 61_002;

pub(super) const REGISTRATION: &str = r#"
[[registration]]
principal = "spiffe://example.org/workload/web"
node = "web-1"
selectors = ["files:set:web"]
[[registration]]
principal = "spiffe://example.org/workload/broken"
node = "web-1"
selectors = ["files:set:broken"]
"#;

const ENVIRONMENT: &str = r#"
[environment.shop]
vars.LEVEL = "info"
vars.PASSWORD = { from = "local/shop/db#password" }
files."tls/key.pem" = { from = "local/shop/db#password" }
"#;
