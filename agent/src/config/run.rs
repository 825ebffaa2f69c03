//! `[run.NAME]`: the programs that the agent keeps running with their secrets.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bursar_core::settings::Section;

use super::files::Account;

/// A program that is kept running.
#[derive(Debug, Clone)]
pub struct Run {
    /// 1 to 64 letters, digits, `.`, `_` and `-`; what policy knows it by.
    pub name: String,
    /// The absolute path of the program, and its arguments.
    pub command: Vec<String>,
    /// Whose secrets it gets.
    pub environment: String,
    /// Whom it runs as; the agent's own user when not given.
    pub user: Option<Account>,
    /// The user's group when not given.
    pub group: Option<Account>,
    pub directory: PathBuf,
    /// Of files that it makes.
    pub umask: u32,
    /// When it is started again.
    pub restart: Restart,
    /// How secrets reach it, as `bursar run --as` names it.
    pub way: &'static str,
    pub mask: bool,
    /// What is done when a secret changes, as `bursar run --on-change` names it.
    pub on_change: &'static str,
    /// The signal that is sent then, by its name.
    pub signal: Option<&'static str>,
    /// The program that is run then, and its arguments. None has white space in it.
    pub hook: Vec<String>,
    pub splay: Duration,
    /// How long it may take to end before it is killed.
    pub stop_timeout: Duration,
}

/// When a program that has ended is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restart {
    Always,
    /// Unless it ended with exit code 0.
    OnFailure,
    Never,
}

pub(super) fn runs(root: &mut Section<'_>) -> Vec<Run> {
    root.each("run", run)
}

fn run(name: &str, run: &mut Section<'_>) -> Option<Run> {
    let named = super::files::set_name(name).map_err(|message| run.fault::<()>("", message));
    let command = command(run, "command");
    let command = run.required("command", command);
    let environment = run.text("environment");
    let environment = run.required("environment", environment);
    let user = run.parsed("user", super::files::account);
    let group = run.parsed("group", super::files::account);
    let directory = run.parsed("directory", super::files::absolute);
    let umask = run.parsed("umask", umask).unwrap_or(0o022);
    let restart = run.parsed("restart", restart).unwrap_or(Restart::Always);
    let way = run.parsed("as", |text| one_of(["env", "files", "fd"], text)).unwrap_or("env");
    let mask = run.flag("mask").unwrap_or(false);
    let on_change = run.parsed("on_change", |text| one_of(["restart", "signal", "hook", "none"], text));
    let on_change = on_change.unwrap_or("restart");
    let signal = run.parsed("signal", super::hook::signal_name);
    let hook = command_of_words(run);
    let splay = run.duration("splay").unwrap_or_default();
    let stop_timeout = run.duration("stop_timeout").unwrap_or(Duration::from_secs(10));
    if splay > LONGEST_SPLAY {
        run.fault::<()>("splay", "must be at most 1h".to_owned());
    }
    if stop_timeout > LONGEST_STOP {
        run.fault::<()>("stop_timeout", "must be at most 10m".to_owned());
    }
    if on_change == "hook" && hook.is_none() {
        run.required::<()>("hook", None);
    }
    Some(Run {
        name: named.ok()?,
        command: command?,
        environment: environment?,
        user,
        group,
        directory: directory.unwrap_or_else(|| PathBuf::from("/")),
        umask,
        restart,
        way,
        mask,
        on_change,
        signal,
        hook: hook.unwrap_or_default(),
        splay,
        stop_timeout,
    })
}

/// A program by its absolute path, and its arguments.
fn command(run: &mut Section<'_>, key: &'static str) -> Option<Vec<String>> {
    let words = run.texts(key);
    let program = words.first()?;
    if !Path::new(program).is_absolute() {
        return run.fault(key, "begins with the absolute path of a program".to_owned());
    }
    if words.iter().any(|word| word.contains('\0')) {
        return run.fault(key, "has a NUL in it, which no argument can have".to_owned());
    }
    Some(words)
}

/// `bursar run --hook` takes it in one text, apart at the spaces.
fn command_of_words(run: &mut Section<'_>) -> Option<Vec<String>> {
    let words = command(run, "hook")?;
    if words.iter().any(|word| word.is_empty() || word.contains(|letter: char| letter.is_ascii_whitespace()))
    {
        return run.fault("hook", "has no white space in its words; what needs more is a script".to_owned());
    }
    Some(words)
}

fn umask(text: &str) -> Result<u32, String> {
    let bits = u32::from_str_radix(text, 8).ok().filter(|bits| *bits <= 0o777);
    bits.ok_or_else(|| format!("`{}` are no mode bits; write some like \"0022\"", text.escape_default()))
}

fn restart(text: &str) -> Result<Restart, String> {
    match text {
        "always" => Ok(Restart::Always),
        "on-failure" => Ok(Restart::OnFailure),
        "never" => Ok(Restart::Never),
        other => Err(format!("is `always`, `on-failure` or `never`, not `{}`", other.escape_default())),
    }
}

fn one_of<const N: usize>(names: [&'static str; N], text: &str) -> Result<&'static str, String> {
    let known = names.into_iter().find(|name| *name == text);
    known.ok_or_else(|| format!("is one of `{}`, not `{}`", names.join("`, `"), text.escape_default()))
}

const LONGEST_SPLAY: Duration = Duration::from_secs(3600);
/// An agent that is stopped waits for so long at most.
const LONGEST_STOP: Duration = Duration::from_secs(600);
