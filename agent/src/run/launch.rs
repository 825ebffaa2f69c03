//! How a program is started: by which command, as whom, with what.

use std::ffi::OsString;
use std::io::{self, PipeWriter};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::thread::{CapabilitySet, capabilities};

use crate::account::{Identity, NoAccount};
use crate::config::Run;

/// What starts one program.
#[derive(Debug, Clone)]
pub(super) struct Launch {
    pub(super) run: Run,
    cli: PathBuf,
    socket: PathBuf,
    identity: Identity,
}

impl Launch {
    /// Of `run`, by the program `cli`, with its secrets from `socket`.
    ///
    /// # Errors
    /// [`NoAccount`], when nobody here is called as the configuration has it.
    pub(super) fn of(run: &Run, cli: &Path, socket: &Path) -> Result<Self, NoAccount> {
        let identity = Identity::find(run.user.as_ref(), run.group.as_ref())?;
        Ok(Self { run: run.clone(), cli: cli.to_owned(), socket: socket.to_owned(), identity })
    }

    /// The command, and the end of its input: once that is closed, however that comes, all ends that was started.
    ///
    /// # Errors
    /// [`NotStarted`].
    pub(super) fn prepare(&self) -> Result<(Command, PipeWriter), NotStarted> {
        let (input, line) = io::pipe().map_err(NotStarted::Pipe)?;
        let mut command = Command::new(&self.cli);
        command
            .args(self.arguments())
            .env_clear()
            .envs(self.variables())
            .stdin(input)
            .stdout(Stdio::inherit())
            .stderr(Stdio::inherit())
            .current_dir(&self.run.directory)
            .process_group(0);
        if !self.identity.is_own() {
            may_change_user().ok_or(NotStarted::Powerless { user: self.identity.user })?;
            // Together they also take the agent's other groups away.
            command.uid(self.identity.user).gid(self.identity.group);
        }
        Ok((command, line))
    }

    /// Why it was not started, by the system's words.
    pub(super) fn refused(&self, source: io::Error) -> NotStarted {
        NotStarted::Refused {
            cli: self.cli.clone(),
            directory: self.run.directory.clone(),
            user: self.identity.user,
            source,
        }
    }

    fn arguments(&self) -> Vec<OsString> {
        let run = &self.run;
        let mut arguments: Vec<OsString> = vec![
            "run".into(),
            "--tied".into(),
            format!("--env={}", run.environment).into(),
            format!("--reason=kept running as {}", run.name).into(),
            format!("--umask={:04o}", run.umask).into(),
            format!("--as={}", run.way).into(),
            format!("--on-change={}", run.on_change).into(),
            format!("--stop-timeout={}", milliseconds(run.stop_timeout)).into(),
            format!("--splay={}", milliseconds(run.splay)).into(),
        ];
        if run.mask {
            arguments.push("--mask".into());
        }
        if let Some(signal) = run.signal {
            arguments.push(format!("--signal={signal}").into());
        }
        if !run.hook.is_empty() {
            arguments.push(format!("--hook={}", run.hook.join(" ")).into());
        }
        arguments.push("--".into());
        arguments.extend(run.command.iter().map(OsString::from));
        arguments
    }

    fn variables(&self) -> Vec<(&'static str, OsString)> {
        let mut address = OsString::from("unix://");
        address.push(&self.socket);
        let mut variables = vec![
            ("PATH", PATH.into()),
            ("BURSAR_ADDRESS", address),
            // Settings of the user's own may name a token, which would speak in the program's place.
            ("XDG_CONFIG_HOME", NOWHERE.into()),
        ];
        if let Some(person) = &self.identity.person {
            variables.push(("HOME", person.home.clone().into()));
            variables.push(("USER", person.name.clone().into()));
            variables.push(("LOGNAME", person.name.clone().into()));
        }
        variables
    }
}

/// Nothing, when the agent may not. Asked first: who may change the user alone would keep the agent's groups.
fn may_change_user() -> Option<()> {
    let needed = CapabilitySet::SETUID | CapabilitySet::SETGID;
    capabilities(None).ok().filter(|own| own.effective.contains(needed)).map(drop)
}

fn milliseconds(duration: Duration) -> String {
    format!("{}ms", duration.as_millis())
}

/// Why a program was not started.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotStarted {
    #[error("the agent may not start a program as user {user}; give it CAP_SETUID and CAP_SETGID")]
    Powerless { user: u32 },
    #[error("`{}` cannot be started in `{}` as user {user}", cli.display(), directory.display())]
    Refused {
        cli: PathBuf,
        directory: PathBuf,
        user: u32,
        #[source]
        source: io::Error,
    },
    #[error("there is no pipe for it")]
    Pipe(#[source] io::Error),
    #[error("the start did not end as it should; the lines before this one say why")]
    Panicked,
}

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// What Debian's accounts without a home have for one; only root could make it.
const NOWHERE: &str = "/nonexistent";
