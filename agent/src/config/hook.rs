//! `[files.NAME.hook]`: what is done when the files of a set have changed.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use bursar_core::settings::Section;
use http::Uri;
use rustix::process::Signal;

/// What is done, how long it may take, and how often.
#[derive(Debug, Clone)]
pub struct Hook {
    pub action: HookAction,
    pub timeout: Duration,
    /// At least so long lies between the end of one and the beginning of the next.
    pub every: Duration,
}

/// What is done.
#[derive(Debug, Clone)]
pub enum HookAction {
    /// A program is run, by no shell.
    Command { program: PathBuf, arguments: Vec<String> },
    /// The process whose number a file has gets a signal.
    Signal { signal: Signal, pid_file: PathBuf },
    /// The processes of this name get a signal: in a pod, where the name says enough.
    Named { signal: Signal, name: String },
    /// A server on this machine gets an empty `POST`.
    Http { address: SocketAddr, uri: Uri },
}

pub(super) fn hook(hook: &mut Section<'_>) -> Option<Hook> {
    let command = hook.texts("command");
    let signal = hook.parsed("signal", signal);
    let pid_file = hook.parsed("pid_file", super::files::absolute);
    let http = hook.parsed("http", server);
    let timeout = hook.duration("timeout").unwrap_or(Duration::from_secs(30));
    let every = hook.duration("every").unwrap_or(Duration::from_secs(5));
    if timeout.is_zero() || timeout > LONGEST {
        hook.fault::<()>("timeout", "must be longer than nothing, and at most 10m".to_owned());
    }
    if every < SHORTEST || every > LONGEST {
        hook.fault::<()>("every", "must be from 1s to 10m".to_owned());
    }
    let action = match (command.split_first(), signal, pid_file, http) {
        (Some((program, arguments)), None, None, None) => match super::files::absolute(program) {
            Ok(program) => Some(HookAction::Command { program, arguments: arguments.to_vec() }),
            Err(_) => hook.fault("command", "begins with the absolute path of a program".to_owned()),
        },
        (None, Some(signal), Some(pid_file), None) => Some(HookAction::Signal { signal, pid_file }),
        (None, None, None, Some((address, uri))) => Some(HookAction::Http { address, uri }),
        (None, Some(_), None, None) => {
            hook.fault("pid_file", "is required with `signal`: it says which process gets it".to_owned())
        }
        _ => hook.fault("", "needs one of `command`, `signal` with `pid_file`, and `http`".to_owned()),
    };
    Some(Hook { action: action?, timeout, every })
}

/// A signal by its name.
pub(crate) fn signal(text: &str) -> Result<Signal, String> {
    known(text).map(|(_, signal)| signal)
}

/// The name of a signal, without `SIG`.
pub(crate) fn signal_name(text: &str) -> Result<&'static str, String> {
    known(text).map(|(name, _)| name)
}

/// The name of a process, as the kernel keeps it (`TASK_COMM_LEN`).
pub(crate) fn process_name(text: &str) -> Result<String, String> {
    let allowed = |byte: u8| byte.is_ascii_graphic() && byte != b'/';
    match (1..=15).contains(&text.len()) && text.bytes().all(allowed) {
        true => Ok(text.to_owned()),
        false => {
            Err("is the name of a process as `ps -o comm` shows it: 1 to 15 characters, no path".to_owned())
        }
    }
}

fn known(text: &str) -> Result<(&'static str, Signal), String> {
    let known = SIGNALS.iter().find(|(name, _)| *name == text.trim_start_matches("SIG"));
    let names = || SIGNALS.map(|(name, _)| name).join("`, `");
    known.copied().ok_or_else(|| format!("is one of `{}`", names()))
}

/// Nothing leaves the machine in the clear, and no name is looked up.
pub(crate) fn server(text: &str) -> Result<(SocketAddr, Uri), String> {
    let wanted = "is a URL like `http://127.0.0.1:9000/reload`, on an address of this machine itself";
    let uri: Uri = text.parse().map_err(|_| wanted.to_owned())?;
    let host = uri.host().map(|host| host.trim_start_matches('[').trim_end_matches(']'));
    let host: Option<std::net::IpAddr> = host.and_then(|host| host.parse().ok());
    match host {
        Some(host) if host.is_loopback() && uri.scheme_str() == Some("http") => {
            Ok((SocketAddr::new(host, uri.port_u16().unwrap_or(80)), uri))
        }
        _ => Err(wanted.to_owned()),
    }
}

const SIGNALS: [(&str, Signal); 7] = [
    ("HUP", Signal::HUP),
    ("USR1", Signal::USR1),
    ("USR2", Signal::USR2),
    ("TERM", Signal::TERM),
    ("INT", Signal::INT),
    ("QUIT", Signal::QUIT),
    ("WINCH", Signal::WINCH),
];
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(600);
