//! A real agent in a directory of its own.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::broker::Broker;
use crate::http;
use crate::place::binary;
use crate::port::free_port;
use crate::process::Process;
use crate::wait::wait_for;

/// A running agent. Stopped, and its data removed, on drop.
#[derive(Debug)]
pub struct Agent {
    process: Process,
    directory: TempDir,
    http: SocketAddr,
}

impl Agent {
    /// Starts an agent that joins `broker` as `node` with `token`, and waits until it is ready.
    ///
    /// # Errors
    /// It was not built, or does not get ready; with the last lines it wrote.
    pub fn start(broker: &Broker, node: &str, token: &str) -> Result<Self> {
        Self::start_with(broker, node, token, "")
    }

    /// As [`start`](Self::start), with the lines `more` at the end of its configuration.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_with(broker: &Broker, node: &str, token: &str, more: &str) -> Result<Self> {
        Self::start_by_way_of(&broker.address(), broker, node, token, more)
    }

    /// As [`start_with`](Self::start_with), with another address, `https://HOST:PORT`, that leads to the broker.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_by_way_of(
        address: &str,
        broker: &Broker,
        node: &str,
        token: &str,
        more: &str,
    ) -> Result<Self> {
        let (directory, join) = with_token(node, token)?;
        let mut agent = Self::launch_in(directory, (broker, address), &join, more, Person::Own)?;
        agent.wait_ready()?;
        Ok(agent)
    }

    /// As [`start`](Self::start), as the user (and group) with this number, who owns the directory.
    ///
    /// # Errors
    /// As [`start`](Self::start), or this process may not start others as that user.
    pub fn start_as(user: u32, broker: &Broker, node: &str, token: &str) -> Result<Self> {
        let mut agent = Self::launch(broker, node, token, Some(user))?;
        agent.wait_ready()?;
        Ok(agent)
    }

    /// As [`start_as`](Self::start_as), with `bursar` beside its program, with the lines `more` at the end of its
    /// configuration, and with these capabilities, which are named as `setpriv` does, and no others.
    ///
    /// # Errors
    /// As [`start_as`](Self::start_as).
    pub fn start_privileged(
        user: u32,
        capabilities: &[&str],
        broker: &Broker,
        token: &str,
        more: &str,
    ) -> Result<Self> {
        let (directory, join) = with_token("web-1", token)?;
        copy_program("bursar", directory.path())?;
        let person = Person::User { user, capabilities };
        let mut agent = Self::launch_in(directory, (broker, &broker.address()), &join, more, person)?;
        agent.wait_ready()?;
        Ok(agent)
    }

    /// As [`start_privileged`](Self::start_privileged) as root, and with every system call of it, and of what it starts,
    /// written down.
    ///
    /// # Errors
    /// As [`start_as`](Self::start_as), or there is no `strace`.
    pub fn start_traced(broker: &Broker, token: &str, more: &str) -> Result<Self> {
        let (directory, join) = with_token("web-1", token)?;
        copy_program("bursar", directory.path())?;
        let mut agent = Self::launch_in(directory, (broker, &broker.address()), &join, more, Person::Traced)?;
        agent.wait_ready()?;
        Ok(agent)
    }

    /// The system calls of an agent that was traced, and has ended.
    ///
    /// # Errors
    /// They were not written down.
    pub fn traced(&self) -> Result<BTreeSet<String>> {
        let path = self.directory.path().join(TRACE);
        let pid = self.process.pid().to_string();
        let is_end = |line: &str| line.split_whitespace().take(3).eq([pid.as_str(), "+++", "exited"]);
        let whole = || fs::read_to_string(&path).ok().filter(|text| text.lines().any(is_end));
        let text = wait_for(START, "the end of the trace", || Ok(whole()))?;
        // `PID CALL(…`, and lines about signals and ends.
        let calls = text.lines().filter_map(|line| line.split_whitespace().nth(1)?.split_once('('));
        let named = |name: &&str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        Ok(calls.map(|(name, _)| name).filter(named).map(str::to_owned).collect())
    }

    /// Starts an agent and waits for nothing.
    ///
    /// # Errors
    /// It was not built, or cannot be started.
    pub fn launch(broker: &Broker, node: &str, token: &str, user: Option<u32>) -> Result<Self> {
        let (directory, join) = with_token(node, token)?;
        let person = user.map_or(Person::Own, |user| Person::User { user, capabilities: &[] });
        Self::launch_in(directory, (broker, &broker.address()), &join, "", person)
    }

    /// Starts an agent that is let in as the lines `join` of its configuration say, with the lines `more` at its end, and
    /// waits for nothing.
    ///
    /// # Errors
    /// It was not built, or cannot be started.
    pub fn launch_by(broker: &Broker, join: &str, more: &str) -> Result<Self> {
        Self::launch_in(directory()?, (broker, &broker.address()), join, more, Person::Own)
    }

    fn launch_in(
        directory: TempDir,
        (broker, address): (&Broker, &str),
        join: &str,
        more: &str,
        person: Person<'_>,
    ) -> Result<Self> {
        let (here, http) = (directory.path(), free_port()?);
        fs::copy(broker.bootstrap("ca.pem"), here.join("ca.pem"))?;
        let config = format!(
            "broker = '{address}'\nca_file = '{ca}'\n{join}\ndata_dir = '{data}'\nsocket = '{socket}'\n[http]\nlisten = '{http}'\n[log]\nfilter = 'trace'\n{more}",
            ca = here.join("ca.pem").display(),
            data = here.join("data").display(),
            socket = here.join("run/agent.sock").display(),
        );
        fs::write(here.join("agent.toml"), config)?;
        let mut command = match person {
            Person::Own => Command::new(binary("bursar-agent")?),
            Person::User { user, capabilities } => as_user(user, capabilities, here)?,
            Person::Traced => traced(as_user(0, &[], here)?, here),
        };
        configure(&mut command, here);
        let process = Process::start("agent", command, here)?;
        Ok(Self { process, directory, http })
    }

    /// Starts it again where it is expected to refuse; answers its exit code and what it wrote to standard error.
    ///
    /// # Errors
    /// It does not end by itself.
    pub fn refuse_to_start(&self) -> Result<(Option<i32>, String)> {
        let mut command = Command::new(binary("bursar-agent")?);
        configure(&mut command, self.directory.path());
        let mut process = Process::start("agent", command, self.directory.path())?;
        let status = process.wait(START)?;
        Ok((status.code(), process.stderr()?))
    }

    /// Kills it, starts it again where it was, and waits until it is ready.
    ///
    /// # Errors
    /// It cannot be killed, or does not get ready again; with the last lines it wrote.
    pub fn kill_and_restart(&mut self) -> Result<()> {
        self.process.kill()?;
        let mut command = Command::new(program(self.directory.path())?);
        configure(&mut command, self.directory.path());
        self.process = Process::start("agent", command, self.directory.path())?;
        self.wait_ready()
    }

    /// The socket that local callers connect to.
    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("run/agent.sock")
    }

    /// Everything that it writes: configuration, data, logs.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The answer to `GET path` on its HTTP port.
    ///
    /// # Errors
    /// No answer.
    pub fn http(&self, path: &str) -> Result<http::Reply> {
        http::request(self.http, "GET", path, &[], &[])
    }

    /// Its metrics; nothing while it does not answer.
    pub fn metrics(&self) -> String {
        let body = self.http("/metrics").map(|reply| reply.body).unwrap_or_default();
        String::from_utf8_lossy(&body).into_owned()
    }

    /// What a counter or gauge of its stands at, `NAME` or `NAME{LABELS}`; 0 while it is not there.
    pub fn counted(&self, name: &str) -> u64 {
        let metrics = self.metrics();
        let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.and_then(|value| value.parse().ok()).unwrap_or_default()
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Waits until it is ready.
    ///
    /// # Errors
    /// It ended, or does not get ready; with the last lines it wrote.
    pub fn wait_ready(&mut self) -> Result<()> {
        let port = self.http;
        self.process.wait_for(START, "the agent to be ready", |_| {
            let answer = http::request(port, "GET", "/readyz", &[], &[]).ok();
            Ok(answer.filter(|answer| answer.status == 200).map(drop))
        })
    }
}

/// Whom an agent runs as.
#[derive(Debug, Clone, Copy)]
enum Person<'a> {
    /// Whoever runs the tests.
    Own,
    User {
        user: u32,
        capabilities: &'a [&'a str],
    },
    /// Root, under `strace`.
    Traced,
}

fn directory() -> Result<TempDir> {
    Ok(tempfile::Builder::new().prefix("bursar-agent-").tempdir()?)
}

/// A directory with the token in it, and what the configuration says of it.
fn with_token(node: &str, token: &str) -> Result<(TempDir, String)> {
    let directory = directory()?;
    let file = directory.path().join("join-token");
    fs::write(&file, token)?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
    let join = format!("node = '{node}'\njoin_token = {{ file = '{}' }}", file.display());
    Ok((directory, join))
}

fn configure(command: &mut Command, directory: &Path) {
    command
        .env_clear()
        .env("TMPDIR", directory)
        .current_dir(directory)
        .arg("--config")
        .arg(directory.join("agent.toml"));
}

/// The agent's program as `user`, who gets the directory and all that is in it.
fn as_user(user: u32, capabilities: &[&str], directory: &Path) -> Result<Command> {
    let program = copy_program("bursar-agent", directory)?;
    let own = |path: &Path| {
        chown(path, Some(user), Some(user)).with_context(|| {
            format!("`{}` cannot be given to user {user}: run the tests as root", path.display())
        })
    };
    own(directory)?;
    for entry in fs::read_dir(directory)? {
        own(&entry?.path())?;
    }
    // Others than its user have to reach the socket.
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755))?;
    if capabilities.is_empty() {
        let mut command = Command::new(program);
        command.uid(user).gid(user);
        return Ok(command);
    }
    let sets: String = capabilities.iter().map(|name| format!(",+{name}")).collect();
    let mut command = Command::new("setpriv");
    command.args(["--reuid", &user.to_string(), "--regid", &user.to_string(), "--clear-groups"]);
    command.args([format!("--inh-caps=-all{sets}"), format!("--ambient-caps=-all{sets}")]).arg(program);
    Ok(command)
}

/// Under a `strace` that is not its parent, and writes no strings down.
fn traced(program: Command, directory: &Path) -> Command {
    let mut command = Command::new("strace");
    command.args(["-f", "-D", "-q", "-s", "0", "-o"]).arg(directory.join(TRACE)).arg(program.get_program());
    command
}

/// The agent's program, or the copy that was made for this directory.
fn program(directory: &Path) -> Result<PathBuf> {
    let copy = directory.join("bursar-agent");
    if copy.is_file() { Ok(copy) } else { binary("bursar-agent") }
}

/// Copies a program to where any user may execute it: a checkout may lie in somebody's home.
pub(crate) fn copy_program(name: &str, directory: &Path) -> Result<PathBuf> {
    let copy = directory.join(name);
    fs::copy(binary(name)?, &copy)?;
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755))?;
    Ok(copy)
}

/// Lets every user into a directory.
pub(crate) fn open(directory: &Path) -> Result<()> {
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755))?;
    ensure!(
        rustix::process::geteuid().is_root(),
        "a test that runs programs as another user has to be run as root"
    );
    Ok(())
}

const TRACE: &str = "trace";
const START: Duration = Duration::from_secs(30);
