//! The command line, as somebody types it in a directory of his own.

use std::fs;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::broker::Broker;
use crate::certificate::ClientCertificate;
use crate::place::binary;

/// Runs `bursar` with nothing of the surroundings but what is set here.
#[derive(Debug)]
pub struct Cli {
    directory: TempDir,
    variables: Vec<(String, String)>,
    user: Option<u32>,
}

/// How a command ended, and what it wrote.
#[derive(Debug)]
pub struct Said {
    /// The exit code; none after a signal.
    pub code: Option<i32>,
    /// Standard output, which may be a secret.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: String,
}

impl Cli {
    /// As the administrator of `broker`.
    ///
    /// # Errors
    /// No directory can be made.
    pub fn administering(broker: &Broker) -> Result<Self> {
        let mut cli = Self::of(&broker.address())?;
        cli.set("BURSAR_CA", &broker.bootstrap("ca.pem").display().to_string());
        cli.set("BURSAR_CERT", &broker.bootstrap("admin.crt").display().to_string());
        cli.set("BURSAR_KEY", &broker.bootstrap("admin.key").display().to_string());
        Ok(cli)
    }

    /// As whoever `certificate` says.
    ///
    /// # Errors
    /// Its files cannot be written.
    pub fn presenting(certificate: &ClientCertificate, broker: &Broker) -> Result<Self> {
        let mut cli = Self::of(&broker.address())?;
        let (certificate, key) = certificate.write(cli.directory.path(), "me")?;
        cli.set("BURSAR_CA", &broker.bootstrap("ca.pem").display().to_string());
        cli.set("BURSAR_CERT", &certificate.display().to_string());
        cli.set("BURSAR_KEY", &key.display().to_string());
        Ok(cli)
    }

    /// As whoever a token says, without a certificate.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn bearing(token: &str, broker: &Broker) -> Result<Self> {
        let mut cli = Self::nobody(broker)?;
        cli.write(TOKEN, token)?;
        cli.set("BURSAR_TOKEN_FILE", &cli.path(TOKEN).display().to_string());
        Ok(cli)
    }

    /// As nobody yet, who knows the broker's authority.
    ///
    /// # Errors
    /// No directory can be made.
    pub fn nobody(broker: &Broker) -> Result<Self> {
        let mut cli = Self::of(&broker.address())?;
        cli.set("BURSAR_CA", &broker.bootstrap("ca.pem").display().to_string());
        Ok(cli)
    }

    /// Puts another token in the place of the one that it bears.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn rotate(&self, token: &str) -> Result<()> {
        self.write(TOKEN, token)
    }

    /// Through the socket of an agent.
    ///
    /// # Errors
    /// No directory can be made.
    pub fn through(socket: &Path) -> Result<Self> {
        Self::of(&format!("unix://{}", socket.display()))
    }

    /// Through the socket of an agent, as whoever a token says.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn bearing_through(token: &str, socket: &Path) -> Result<Self> {
        let mut cli = Self::through(socket)?;
        cli.write(TOKEN, token)?;
        cli.set("BURSAR_TOKEN_FILE", &cli.path(TOKEN).display().to_string());
        Ok(cli)
    }

    fn of(address: &str) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("bursar-cli-").tempdir()?;
        let variables = vec![("PATH".to_owned(), "/usr/bin:/bin".to_owned())];
        let mut cli = Self { directory, variables, user: None };
        cli.set("BURSAR_ADDRESS", address);
        cli.set("TMPDIR", &cli.path("").display().to_string());
        cli.set("XDG_CONFIG_HOME", &cli.path("config").display().to_string());
        cli.set("XDG_CACHE_HOME", &cli.path("cache").display().to_string());
        Ok(cli)
    }

    /// Runs it as the user (and group) with this number. Its directory is opened to everybody.
    ///
    /// # Errors
    /// The directory cannot be opened, or the program cannot be put where that user may execute it.
    pub fn as_user(mut self, user: u32) -> Result<Self> {
        crate::agent::open(self.directory.path())?;
        crate::agent::copy_program("bursar", self.directory.path())?;
        self.user = Some(user);
        Ok(self)
    }

    /// Sets a variable for the commands that follow.
    pub fn set(&mut self, name: &str, value: &str) {
        self.variables.retain(|(known, _)| known != name);
        self.variables.push((name.to_owned(), value.to_owned()));
    }

    /// A path in its directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes a file in its directory.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> Result<()> {
        let path = self.path(name);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&path, content).with_context(|| format!("`{name}` cannot be written"))
    }

    /// Runs `bursar` with `arguments` to its end.
    ///
    /// # Errors
    /// It cannot be run at all.
    pub fn run(&self, arguments: &[&str]) -> Result<Said> {
        self.run_with(arguments, b"")
    }

    /// As [`run`](Self::run), with `input` on standard input.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn run_with(&self, arguments: &[&str], input: &[u8]) -> Result<Said> {
        let mut command = self.command()?;
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context("`bursar` cannot be run")?;
        if let Some(mut stdin) = child.stdin.take() {
            // One that refuses its arguments does not read what it is given.
            drop(stdin.write_all(input));
        }
        let output = child.wait_with_output()?;
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        Ok(Said { code: output.status.code(), stdout: output.stdout, stderr })
    }

    /// As [`run`](Self::run), and it has to succeed: what it wrote to standard output.
    ///
    /// # Errors
    /// It failed; with what it said.
    pub fn done(&self, arguments: &[&str]) -> Result<String> {
        self.done_with(arguments, b"")
    }

    /// As [`done`](Self::done), with `input` on standard input.
    ///
    /// # Errors
    /// As [`done`](Self::done).
    pub fn done_with(&self, arguments: &[&str], input: &[u8]) -> Result<String> {
        let said = self.run_with(arguments, input)?;
        ensure!(
            said.code == Some(0),
            "`bursar {}` ended with {:?}: {}",
            arguments.join(" "),
            said.code,
            said.stderr
        );
        Ok(String::from_utf8_lossy(&said.stdout).into_owned())
    }

    /// As [`done`](Self::done) with `--output json`, read.
    ///
    /// # Errors
    /// It failed, or wrote no JSON.
    pub fn json(&self, arguments: &[&str]) -> Result<Value> {
        let text = self.done(&[arguments, &["--output", "json"]].concat())?;
        serde_json::from_str(&text).with_context(|| format!("`bursar {}` wrote no JSON", arguments.join(" ")))
    }

    /// The audit records that `filter`, options of `bursar audit query`, selects: newest first.
    ///
    /// # Errors
    /// The ledger cannot be asked.
    pub fn audit(&self, filter: &[&str]) -> Result<Vec<Value>> {
        let found = self.json(&[&["audit", "query", "--limit", "100000"], filter].concat())?;
        Ok(found.as_array().cloned().unwrap_or_default())
    }

    /// Puts a set of policies in force.
    ///
    /// # Errors
    /// It is refused.
    pub fn apply_policies(&self, cedar: &str, registrations: &str) -> Result<()> {
        self.write("policies/test.cedar", cedar)?;
        self.write("policies/registrations.toml", registrations)?;
        self.done(&["policy", "apply", "policies"]).map(drop)
    }

    /// The command itself, for a test that does more with it.
    ///
    /// # Errors
    /// It was not built.
    pub fn command(&self) -> Result<Command> {
        let program = if self.user.is_some() { self.path("bursar") } else { binary("bursar")? };
        let mut command = Command::new(program);
        command.env_clear().envs(self.variables.iter().cloned()).current_dir(self.directory.path());
        if let Some(user) = self.user {
            command.uid(user).gid(user);
        }
        Ok(command)
    }
}

impl Said {
    /// Whether it refused: with this exit code and with each of `parts` in what it said.
    ///
    /// # Errors
    /// It did not; with what it said instead.
    pub fn refused(&self, code: i32, parts: &[&str]) -> Result<()> {
        ensure!(self.code == Some(code), "exit code {:?} instead of {code}: {}", self.code, self.stderr);
        ensure!(self.stdout.is_empty(), "a refusal wrote to standard output");
        for part in parts {
            ensure!(self.stderr.contains(part), "`{part}` is not in what it said: {}", self.stderr);
        }
        Ok(())
    }

    /// The id of the request that was refused, where one was made.
    pub fn request_id(&self) -> Option<&str> {
        self.stderr.lines().find_map(|line| line.strip_prefix("request id: "))
    }
}

/// The file of a token.
const TOKEN: &str = "token";
