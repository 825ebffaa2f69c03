//! What has to happen in the program's process before it is the program.
//!
//! A session and a terminal of its own, a process group, the order to die with its supervisor: each can be asked for
//! only by the process itself. Between fork and exec that is `unsafe`, so it happens after an exec: this very
//! executable is started under another name ([`NAME`]), does it by safe calls, and becomes the program. The price is
//! one more exec, about a millisecond.
//!
//! When the supervisor dies, however it does, the program is killed: its secrets would no longer be renewed, and its
//! output would go nowhere. (The kernel forgets that for a program that is set-user-id, or has capabilities of its
//! file.) What the program started in turn is not killed; it has lost its output.

use std::convert::Infallible;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{
    Pid, Resource, Rlimit, Signal, getpid, getppid, getrlimit, ioctl_tiocsctty,
    set_parent_process_death_signal, setpgid, setrlimit, setsid,
};

/// Which processes the program is among.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// A session whose terminal is this standard stream of the program.
    Session { terminal: u8 },
    /// A process group of its own.
    Group,
    /// The supervisor's process group, which has the terminal.
    Shared,
}

/// Why the program was not become.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// Somebody else than a supervisor called it so.
    #[error("`{NAME}` is for `bursar run` alone")]
    Misused,
    /// The supervisor died before the program began.
    #[error("`bursar run` has ended before `{program}` began")]
    Orphaned { program: String },
    /// The system refused something besides the program.
    #[error("cannot prepare to execute `{program}`")]
    Prepare {
        program: String,
        #[source]
        source: io::Error,
    },
    /// The program cannot be executed.
    #[error("cannot execute `{program}`")]
    Execute {
        program: String,
        #[source]
        source: io::Error,
    },
}

/// Becomes the program, where this process was started to do so; comes back only when that fails, or with nothing
/// when it was started for something else. To be called first in `main`, with the process's arguments.
pub fn become_program(arguments: impl IntoIterator<Item = OsString>) -> Option<StageError> {
    let mut arguments = arguments.into_iter();
    if arguments.next().is_none_or(|name| name != NAME) {
        return None;
    }
    let Some(stage) = Stage::read(&mut arguments) else { return Some(StageError::Misused) };
    match stage.carry_out() {
        Ok(never) => match never {},
        Err(error) => Some(error),
    }
}

/// The command that becomes `program`; its streams and variables are up to the caller.
pub(crate) fn command(place: Place, core_limit: Option<u64>, program: &[OsString]) -> Command {
    let place = match place {
        Place::Session { terminal } => terminal.to_string(),
        Place::Group => GROUP.to_owned(),
        Place::Shared => SHARED.to_owned(),
    };
    let core_limit = core_limit.map_or_else(|| UNLIMITED.to_owned(), |bytes| bytes.to_string());
    // The file that runs, whatever lies at its path by now.
    let mut command = Command::new("/proc/self/exe");
    command.arg0(NAME).args([getpid().to_string(), place, core_limit]).args(program);
    command
}

struct Stage {
    supervisor: Pid,
    place: Place,
    /// On dumps, in bytes; without a limit when absent.
    core_limit: Option<u64>,
    program: OsString,
    arguments: Vec<OsString>,
}

impl Stage {
    fn read(arguments: &mut impl Iterator<Item = OsString>) -> Option<Self> {
        let mut next = || arguments.next()?.into_string().ok();
        let supervisor = Pid::from_raw(next()?.parse().ok()?)?;
        let place = match next()?.as_str() {
            GROUP => Place::Group,
            SHARED => Place::Shared,
            terminal => Place::Session { terminal: terminal.parse().ok()? },
        };
        let core_limit = match next()?.as_str() {
            UNLIMITED => None,
            bytes => Some(bytes.parse().ok()?),
        };
        let program = arguments.next()?;
        Some(Self { supervisor, place, core_limit, program, arguments: arguments.collect() })
    }

    fn carry_out(self) -> Result<Infallible, StageError> {
        let program = named(&self.program);
        if let Err(source) = self.prepare() {
            return Err(StageError::Prepare { program, source: source.into() });
        }
        // Looked at after the order was given: from then on, it cannot die unseen.
        if getppid() != Some(self.supervisor) {
            return Err(StageError::Orphaned { program });
        }
        let source = Command::new(self.program).args(self.arguments).exec();
        Err(StageError::Execute { program, source })
    }

    fn prepare(&self) -> rustix::io::Result<()> {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        match self.place {
            Place::Session { terminal } => {
                setsid()?;
                match terminal {
                    0 => ioctl_tiocsctty(io::stdin())?,
                    1 => ioctl_tiocsctty(io::stdout())?,
                    _ => ioctl_tiocsctty(io::stderr())?,
                }
            }
            Place::Group => setpgid(None, None)?,
            Place::Shared => {}
        }
        let maximum = getrlimit(Resource::Core).maximum;
        setrlimit(Resource::Core, Rlimit { current: self.core_limit, maximum })
    }
}

/// A program as people are told of it.
pub(crate) fn named(program: &OsStr) -> String {
    program.to_string_lossy().into_owned()
}

/// What this executable is called when it is to become a program.
const NAME: &str = "bursar-run-stage";
const GROUP: &str = "group";
const SHARED: &str = "shared";
const UNLIMITED: &str = "unlimited";

#[cfg(test)]
mod tests {
    use super::*;

    fn read(arguments: &[&str]) -> Option<Stage> {
        Stage::read(&mut arguments.iter().map(OsString::from))
    }

    #[test]
    fn what_a_supervisor_writes_is_read() {
        for place in [Place::Session { terminal: 2 }, Place::Group, Place::Shared] {
            for core_limit in [None, Some(0), Some(u64::MAX)] {
                let program = ["app", "--", "-x"].map(OsString::from);
                let command = command(place, core_limit, &program);
                let stage = Stage::read(&mut command.get_args().map(OsStr::to_owned)).expect("read");
                assert_eq!((stage.supervisor, stage.place, stage.core_limit), (getpid(), place, core_limit));
                assert_eq!((stage.program, stage.arguments), ("app".into(), vec!["--".into(), "-x".into()]));
            }
        }
    }

    #[test]
    fn anything_else_is_refused_or_left_alone() {
        for arguments in
            [&[][..], &["0", "group", "0", "app"], &["1", "elsewhere", "0", "app"], &["1", "group", "0"]]
        {
            assert!(read(arguments).is_none(), "{arguments:?}");
        }
        assert!(become_program(["bursar", "run"].map(OsString::from)).is_none());
        let misused = become_program([NAME, "run"].map(OsString::from));
        assert!(matches!(misused, Some(StageError::Misused)));
    }
}
