//! `bursar run`: a program with an environment's secrets, and nothing of Bursar left around it.
//!
//! The program takes this process's place (execve), so signals, the terminal and the exit code are its own. That means
//! that nothing may be left running here: the runtime, with the connection in it, is gone before. The program starts
//! with a clean environment: what it needs is named, not inherited, and the credential by which the secrets were had is
//! not among it.
//!
//! With --mask somebody has to read what the program prints, files have to be removed after it, and with --on-change
//! somebody has to hear of changes: this process stays then, and [`bursar_exec`] has it behave as if it were the program.

mod attend;
mod change;
mod deliver;
mod offline;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use bursar_core::settings::parse_duration;
use bursar_exec::Outputs;
use bursar_exec::mask::{Patterns, Sought};
use bursar_sdk::{Client, ResolveOptions, ResolvedEnvironment};
use clap::Args;
use rustix::fs::Mode;
use rustix::process::{Signal, umask};

use super::Session;
use crate::error::Error;
use crate::settings::OfflineArguments;
use attend::Attendance;
use change::{Action, Hook};
use deliver::{Delivered, Way};

/// Run a program with the variables of an environment
///
/// Every secret is leased before the program starts; when one cannot be had, nothing is started and all that
/// failed are named. The program then takes this command's place: signals and exit code are its own.
///
/// With --mask this command stays, and replaces the values of secrets in what the program prints by
/// `[masked:NAME]`: as they are, and as base64, JSON, URLs and others write them. A program on a terminal still has
/// one. Signals and exit code are passed on; 128 and the signal's number when one ended the program.
///
/// --as keeps secrets out of the program's environment, which shows in /proc and is inherited: `NAME_FILE` is where
/// the value of NAME is read, a file in memory (`files`) or a descriptor (`fd`). The environment's own files are below
/// the directory in `BURSAR_FILES`. Files go when the program has ended.
///
/// --offline asks nobody: the program runs on the copy that `bursar offline keep` made, as long as that may be used.
///
/// It sees the environment's variables and, of yours, HOME, LANG, LC_*, LOGNAME, PATH, SHELL, TERM, TMPDIR, TZ
/// and USER, with what --pass names. BURSAR_* variables are passed only when named.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The environment
    #[arg(long, short, value_name = "NAME")]
    env: String,
    /// Why, for the audit record
    #[arg(long, default_value = "", value_name = "TEXT", hide_default_value = true)]
    reason: String,
    /// How long the leases should last, such as `8h`; what the broker grants by default when not given
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    ttl: Option<Duration>,
    /// Pass this variable of yours on; may be given several times
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pass: Vec<OsString>,
    /// Pass all of your variables on, except BURSAR_*
    #[arg(long)]
    inherit: bool,
    /// Replace the values of secrets in the program's output by their names
    #[arg(long)]
    mask: bool,
    /// How secrets reach the program: `env`, `files` or `fd`
    #[arg(long = "as", value_enum, default_value_t, hide_possible_values = true, value_name = "WAY")]
    way: Way,
    /// Stay, and when a secret changes: `restart` the program, send it a `signal`, run a `hook`, or `none` of these; an
    /// entry of the environment that has its own `on_change` goes by that
    #[arg(long, value_enum, hide_possible_values = true, value_name = "ACTION")]
    on_change: Option<Action>,
    /// The signal that is sent
    #[arg(
        long,
        default_value = "HUP",
        value_parser = change::parse_signal,
        value_name = "NAME",
        requires = "on_change"
    )]
    signal: Signal,
    /// The program and arguments that are run, without a shell
    #[arg(
        long,
        value_parser = change::parse_hook,
        value_name = "COMMAND",
        requires = "on_change",
        required_if_eq("on_change", "hook")
    )]
    hook: Option<Hook>,
    /// How long the program may take to end before it is killed
    #[arg(
        long,
        default_value = "10s",
        value_parser = parse_duration,
        value_name = "DURATION",
        requires = "on_change"
    )]
    stop_timeout: Duration,
    /// Wait for a random part of this before acting, so that many do not act together
    #[arg(
        long,
        default_value = "0s",
        value_parser = parse_duration,
        value_name = "DURATION",
        requires = "on_change"
    )]
    splay: Duration,
    /// End the program when standard input ends, as it does when whoever holds its other end is gone; the program itself
    /// has no input and no terminal
    #[arg(long, requires = "on_change")]
    tied: bool,
    /// The mode bits that files which the program makes do not get, in octal; as they are for this command when not given
    #[arg(long, value_parser = parse_umask, value_name = "BITS")]
    umask: Option<Mode>,
    /// Put files into this directory instead of one in memory of yours
    #[arg(long, value_name = "DIRECTORY")]
    dir: Option<PathBuf>,
    /// Let the directory of --dir be on a disk
    #[arg(long, requires = "dir")]
    on_disk: bool,
    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "PROGRAM")]
    command: Vec<OsString>,
    /// Ask stores for other credentials, although you hold some
    #[arg(long, display_order = 3)]
    new_lease: bool,
    /// Run on the copy that is kept of the environment, without any connection
    #[arg(long, conflicts_with_all = ["on_change", "new_lease", "ttl", "reason"])]
    offline: bool,
    #[command(flatten)]
    copies: OfflineArguments,
}

impl Arguments {
    /// Becomes the program, or stands before it until it ends.
    ///
    /// # Errors
    /// [`Error::Unresolved`], [`Error::Offline`], [`Error::Deliver`], [`Error::Clash`], [`Error::Mask`], [`Error::Execute`], [`Error::Run`],
    /// [`Error::Usage`].
    pub(super) fn carry_out(self, session: &Session) -> Result<ExitCode, Error> {
        let Some((program, arguments)) = self.command.split_first() else {
            return Err(Error::Usage("no program is given".to_owned()));
        };
        let named = program.to_string_lossy().into_owned();
        if let Some(bits) = self.umask {
            // What this command itself makes has its mode set.
            umask(bits);
        }
        let (online, resolved) = match self.offline {
            true => (None, offline::resolved(&self, &named, session)?),
            false => {
                let runtime = super::runtime()?;
                let (client, resolved) = runtime.block_on(async {
                    let client = session.client()?;
                    let resolved = self.resolve(&client, &named).await?;
                    Ok::<_, Error>((client, resolved))
                })?;
                (Some((client, runtime)), resolved)
            }
        };
        let outputs = if self.mask { masked(&named, session, &resolved)? } else { Outputs::Own };
        let passed = self.passed(std::env::vars_os());
        let delivered = Delivered::new(&self, passed.clone(), &resolved, &named, None)?;
        if self.on_change.is_none() && matches!(outputs, Outputs::Own) && delivered.folder.is_none() {
            drop(online);
            let mut command = std::process::Command::new(program);
            command.args(arguments).env_clear().envs(delivered.variables);
            session.core_limit.restore().map_err(std::io::Error::from)?;
            return Err(Error::Execute { program: named, source: command.exec() });
        }
        let attendance = Attendance { arguments: &self, session, program: named, outputs, passed };
        if let (Some(_), Some((client, runtime))) = (self.on_change, &online) {
            self.has_its_hook(&resolved)?;
            let follower =
                runtime.block_on(async { client.follow(&self.env, self.options(), &resolved.leases) });
            return runtime.block_on(attendance.follow(follower, resolved, delivered));
        }
        // Without the connection, and without another copy of the values.
        drop((online, resolved));
        super::block_on(attendance.attend(delivered))?
    }

    fn options(&self) -> ResolveOptions {
        ResolveOptions {
            ttl: self.ttl,
            reason: self.reason.clone(),
            new_lease: self.new_lease,
            ..ResolveOptions::default()
        }
    }

    async fn resolve(&self, client: &Client, program: &str) -> Result<ResolvedEnvironment, Error> {
        client.resolve(&self.env, &self.options()).await.map_err(|source| match source {
            source @ bursar_sdk::Error::Refused(_) => {
                Error::Unresolved { environment: self.env.clone(), program: program.to_owned(), source }
            }
            other => Error::Call(other),
        })
    }

    /// Whoever wants a hook and names none hears so at once, and not at the first change.
    fn has_its_hook(&self, resolved: &ResolvedEnvironment) -> Result<(), Error> {
        match change::hooked(resolved) {
            Some(name) if self.hook.is_none() => Err(Error::Usage(format!(
                "`{name}` of environment `{}` has `on_change = \"hook\"`, and no hook is given; name one by --hook",
                self.env
            ))),
            Some(_) | None => Ok(()),
        }
    }

    /// What the program sees of this process's own variables.
    fn passed(&self, own: impl Iterator<Item = (OsString, OsString)>) -> BTreeMap<OsString, OsString> {
        own.filter(|(name, _)| self.passes(name)).collect()
    }

    fn passes(&self, name: &OsStr) -> bool {
        if self.pass.iter().any(|passed| passed == name) {
            return true;
        }
        let bytes = name.as_bytes();
        if bytes.starts_with(b"BURSAR_") {
            return false;
        }
        self.inherit || bytes.starts_with(b"LC_") || PASSED.iter().any(|passed| *passed == name)
    }
}

fn parse_umask(text: &str) -> Result<Mode, String> {
    let bits = u32::from_str_radix(text, 8).ok().filter(|bits| *bits <= 0o777);
    bits.map(Mode::from_raw_mode).ok_or_else(|| "is no mode in octal, such as 022".to_owned())
}

/// Masks every secret of the environment, and says which cannot be.
fn masked(program: &str, session: &Session, resolved: &ResolvedEnvironment) -> Result<Outputs, Error> {
    let patterns = patterns(program, &[resolved])?;
    if !patterns.passed_over().is_empty() {
        let names = patterns.passed_over().join(", ");
        session.output.say(&format!("not masked, since too much looks like it: {names}"));
    }
    Ok(Outputs::Masked(Arc::new(Sought::new(patterns))))
}

/// All that is secret in these.
fn patterns(program: &str, all: &[&ResolvedEnvironment]) -> Result<Patterns, Error> {
    let values = all.iter().flat_map(|resolved| {
        let variables = resolved.variables.iter().filter(|variable| variable.secret);
        let files = resolved.files.iter().filter(|file| file.secret);
        let variables = variables.map(|variable| (variable.name.as_str(), &variable.value));
        variables.chain(files.map(|file| (file.path.as_str(), &file.contents)))
    });
    Patterns::new(values).map_err(|source| Error::Mask { program: program.to_owned(), source })
}

/// What a program needs to run at all, and to speak to its user.
const PASSED: [&str; 9] = ["HOME", "LANG", "LOGNAME", "PATH", "SHELL", "TERM", "TMPDIR", "TZ", "USER"];

const EXAMPLES: &str = "\
Examples:
  bursar run --env payments/prod -- ./server --port 8080
  bursar run --env payments/prod --reason 'ticket 4711' --ttl 1h -- psql
  bursar run --env payments/dev --pass SSH_AUTH_SOCK -- make test
  bursar run --env payments/dev --mask -- npm test
  bursar run --env payments/prod --as fd -- ./server --port 8080
  bursar run --env payments/dev --offline -- npm start";

#[cfg(test)]
mod tests {
    use bursar_core::Secret;
    use bursar_sdk::{Contract, ResolvedVariable};
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Typed {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn typed(arguments: &[&str]) -> Result<Arguments, clap::Error> {
        let all = ["run", "--env", "shop"].iter().chain(arguments);
        Typed::try_parse_from(all).map(|typed| typed.arguments)
    }

    /// The names that the program sees when all of `own` are set.
    fn seen(options: &[&str], own: &[&str]) -> Vec<String> {
        let arguments: Vec<_> = options.iter().copied().chain(["--", "app"]).collect();
        let arguments = typed(&arguments).expect("arguments");
        let own = own.iter().map(|name| (OsString::from(name), OsString::from("own")));
        let variable = ResolvedVariable {
            name: "DB".to_owned(),
            value: Secret::from("leased".to_owned()),
            secret: true,
            contract: Contract {
                leases: Vec::new(),
                on_change: Default::default(),
                max_stale: None,
                age: None,
            },
        };
        let resolved = ResolvedEnvironment {
            revision: 1,
            variables: vec![variable],
            files: Vec::new(),
            leases: Vec::new(),
        };
        let passed = arguments.passed(own);
        let delivered = Delivered::new(&arguments, passed, &resolved, "app", None).expect("delivered");
        delivered
            .variables
            .iter()
            .map(|(name, value)| format!("{}={}", name.display(), value.display()))
            .collect()
    }

    #[test]
    fn the_environment_is_clean_but_for_the_documented_list() {
        let own = ["PATH", "LC_TIME", "AWS_SECRET_ACCESS_KEY", "BURSAR_KEY", "LD_PRELOAD"];
        assert_eq!(seen(&[], &own), ["DB=leased", "LC_TIME=own", "PATH=own"]);
    }

    #[test]
    fn what_is_named_is_passed_whatever_it_is() {
        let own = ["EDITOR", "BURSAR_ADDRESS", "OTHER"];
        let options = ["--pass", "EDITOR,BURSAR_ADDRESS"];
        assert_eq!(seen(&options, &own), ["BURSAR_ADDRESS=own", "DB=leased", "EDITOR=own"]);
    }

    #[test]
    fn inheriting_leaves_bursars_own_configuration_out() {
        assert_eq!(seen(&["--inherit"], &["EDITOR", "BURSAR_KEY"]), ["DB=leased", "EDITOR=own"]);
    }

    #[test]
    fn the_environment_wins_over_what_is_passed() {
        assert_eq!(seen(&["--inherit"], &["DB"]), ["DB=leased"]);
    }

    #[test]
    fn the_documented_list_is_the_one_in_the_help() {
        use clap::CommandFactory;
        let help = Typed::command().get_long_about().map(ToString::to_string).unwrap_or_default();
        let missing: Vec<_> = PASSED.iter().filter(|name| !help.contains(**name)).collect();
        assert!(missing.is_empty(), "{missing:?}");
    }

    #[test]
    fn a_program_is_needed_and_keeps_its_options() {
        assert!(typed(&[]).is_err());
        assert!(typed(&["app"]).is_err());
        let arguments = typed(&["--", "app", "--env", "other"]).expect("arguments");
        assert_eq!(arguments.env, "shop");
        assert_eq!(arguments.command, ["app", "--env", "other"]);
    }

    #[test]
    fn a_ttl_that_is_no_duration_is_refused() {
        assert!(typed(&["--ttl", "soon", "--", "app"]).is_err());
    }
}
