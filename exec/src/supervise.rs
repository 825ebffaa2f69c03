//! Starts a program, and stands before it until it ends.
//!
//! Whoever looks at the supervisor shall see the program: what is sent to the one reaches the other, the exit code is
//! the program's. Three arrangements, by what there is:
//!
//! - Output is masked, and goes to a terminal: the program gets a session with a terminal of its own
//!   ([`terminal`](crate::terminal)).
//! - Otherwise, where this process is in the foreground of some terminal (`bursar run … | less`): the program stays in
//!   the same process group, so that it can go on asking for a password there, and ^C and ^Z reach both. SIGINT and
//!   SIGQUIT come from the terminal then, to both, and are not passed on a second time.
//! - No terminal: a process group of its own.
//!
//! SIGINT and SIGQUIT go to the whole process group, as a terminal sends them; everything else to the program alone,
//! as `kill` would. What the program leaves orphaned becomes a child of this process, and is reaped.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, OwnedFd};
use std::process::Stdio;
use std::sync::Arc;

use rustix::process::{
    Pid, Signal, WaitOptions, WaitStatus, getpid, kill_process, kill_process_group, set_child_subreaper, wait,
};
use tokio::signal::unix::{SignalKind, signal};

use crate::mask::{Masker, Patterns};
use crate::relay::{Relay, Way};
use crate::signals::Signals;
use crate::stage::{self, Place};
use crate::terminal::{Terminal, inner_or_own, is_in_foreground};

/// What to run, and with what.
pub struct Program {
    /// The program and its arguments.
    pub command: Vec<OsString>,
    /// All that it sees; nothing is inherited.
    pub variables: BTreeMap<OsString, OsString>,
    /// The limit on its dumps, in bytes; without one when absent.
    pub core_limit: Option<u64>,
}

/// What becomes of what a program prints.
#[derive(Debug, Clone)]
pub enum Outputs {
    /// It goes where that of this process goes.
    Own,
    /// So, with values masked.
    Masked(Arc<Patterns>),
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    Exited(u8),
    /// By this signal.
    Killed(u8),
}

impl Ended {
    /// As a shell would tell it: 128 and the signal, for one that was killed.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Exited(code) => code,
            Self::Killed(signal) => signal.saturating_add(128),
        }
    }
}

impl Program {
    /// Runs it until it ends. To be called on the main thread, which lives as long as the
    /// process: the program dies with the thread that started it.
    ///
    /// # Errors
    /// What the system refuses before the program has begun. That it cannot be executed is told by the process that was
    /// to become it, on its standard error and by its exit code.
    pub async fn run(self, outputs: &Outputs) -> io::Result<Ended> {
        // Before it starts, so that its end is not missed.
        let mut deaths = signal(SignalKind::child())?;
        let mut signals = Signals::listen()?;
        set_child_subreaper(Some(getpid()))?;
        let mut running = Running::start(self, outputs)?;
        let ended = loop {
            tokio::select! {
                _ = deaths.recv() => if let Some(ended) = running.reap() { break ended },
                signal = signals.next() => running.pass(signal),
            }
        };
        // What came before the end was for the program: ^C reaches both, and must not cut off what it said to it.
        signals.forget().await;
        tokio::select! {
            () = running.drain() => {}
            // Whoever reads is slow, and somebody has had enough.
            () = async { while !is_an_end(signals.next().await) {} } => {}
        }
        Ok(ended)
    }
}

struct Running {
    pid: Pid,
    place: Place,
    terminal: Option<Terminal>,
    outputs: Vec<Relay>,
    /// Held for as long as the program lives; ends with this process.
    _keys: Option<Relay>,
}

impl Running {
    fn start(program: Program, outputs: &Outputs) -> io::Result<Self> {
        let opened = match outputs {
            Outputs::Own => None,
            Outputs::Masked(_) => Terminal::open()?,
        };
        let (terminal, inner) =
            opened.map_or((None, None), |(terminal, inner)| (Some(terminal), Some(inner)));
        let place = match &inner {
            Some(_) if io::stdout().is_terminal() => Place::Session { terminal: 1 },
            Some(_) => Place::Session { terminal: 2 },
            None if has_terminal() => Place::Shared,
            None => Place::Group,
        };
        let mut command = stage::command(place, program.core_limit, &program.command);
        command.env_clear().envs(program.variables);
        command.stdin(inner_or_own(&io::stdin(), inner.as_ref())?);
        let mut relays = Vec::new();
        if let Outputs::Masked(patterns) = outputs {
            let masked = || Way::Masked(Masker::new(Arc::clone(patterns)));
            let (end, reader) = output(&io::stdout(), inner.as_ref())?;
            command.stdout(end);
            relays.extend(reader.map(|reader| ("stdout", reader, own(&io::stdout()), masked())));
            let (end, reader) = output(&io::stderr(), inner.as_ref())?;
            command.stderr(end);
            relays.extend(reader.map(|reader| ("stderr", reader, own(&io::stderr()), masked())));
            if let Some(terminal) = &terminal {
                relays.push(("terminal", terminal.end()?, terminal.outer(), masked()));
            }
        }
        let pid = Pid::from_child(&command.spawn()?);
        // The ends that the program has must be its alone, or their closing would not be seen.
        drop((command, inner));

        let start = |(name, from, to, way)| Relay::start(name, from, to?, way);
        let outputs = relays.into_iter().map(start).collect::<io::Result<_>>()?;
        let keys = match &terminal {
            Some(terminal) => match terminal.keys() {
                Some(keys) => Some(Relay::start("keys", keys?, terminal.end()?, Way::Plain)?),
                None => None,
            },
            None => None,
        };
        Ok(Self { pid, place, terminal, outputs, _keys: keys })
    }

    /// Takes the ends of all children that have ended, and answers the program's.
    fn reap(&self) -> Option<Ended> {
        let mut own = None;
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            if pid == self.pid {
                own = ended(status);
            }
        }
        own
    }

    /// Passes a signal on; what fails is that nobody is there any more.
    fn pass(&self, signal: Signal) {
        match (signal, self.place) {
            (Signal::WINCH, Place::Session { .. }) => {
                if let Some(terminal) = &self.terminal {
                    terminal.follow_size();
                }
            }
            (Signal::INT | Signal::QUIT | Signal::WINCH, Place::Shared) => {}
            (Signal::TSTP, _) => self.stop_with_it(),
            (Signal::INT | Signal::QUIT, _) => {
                let _ = kill_process_group(self.group(), signal);
            }
            _ => {
                let _ = kill_process(self.pid, signal);
            }
        }
    }

    /// Stops the program and this process, as ^Z does, and goes on when somebody has it go on. SIGSTOP, since a
    /// process group without a parent in its session may not be stopped by less.
    fn stop_with_it(&self) {
        let group = self.group();
        if self.place != Place::Shared {
            let _ = kill_process_group(group, Signal::STOP);
        }
        if let Some(terminal) = &self.terminal {
            terminal.suspend();
        }
        let _ = kill_process(getpid(), Signal::STOP);
        if let Some(terminal) = &self.terminal {
            terminal.resume();
        }
        if self.place != Place::Shared {
            let _ = kill_process_group(group, Signal::CONT);
        }
    }

    /// Who would get what is typed, where there is a terminal; else the program's own group.
    fn group(&self) -> Pid {
        self.terminal.as_ref().and_then(Terminal::foreground).unwrap_or(self.pid)
    }

    /// Lets all that the program wrote out.
    async fn drain(&mut self) {
        for relay in self.outputs.drain(..) {
            relay.finish().await;
        }
    }
}

/// An output of the program: what it writes to, and where that is read. A terminal is read once, for all.
fn output(own: &impl IsTerminal, inner: Option<&OwnedFd>) -> io::Result<(Stdio, Option<OwnedFd>)> {
    if inner.is_some() && own.is_terminal() {
        return Ok((inner_or_own(own, inner)?, None));
    }
    let (reader, writer) = io::pipe()?;
    Ok((writer.into(), Some(reader.into())))
}

fn own(stream: &impl AsFd) -> io::Result<OwnedFd> {
    stream.as_fd().try_clone_to_owned()
}

/// Whether this process is in the foreground of a terminal, whatever its streams are.
fn has_terminal() -> bool {
    File::open("/dev/tty").is_ok_and(|terminal| is_in_foreground(terminal.as_fd()))
}

fn is_an_end(signal: Signal) -> bool {
    matches!(signal, Signal::TERM | Signal::INT | Signal::QUIT | Signal::HUP)
}

/// None for one that was stopped.
fn ended(status: WaitStatus) -> Option<Ended> {
    let byte = |number: i32| u8::try_from(number).unwrap_or(u8::MAX);
    let exited = status.exit_status().map(|code| Ended::Exited(byte(code)));
    exited.or_else(|| status.terminating_signal().map(|signal| Ended::Killed(byte(signal))))
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program").field("command", &self.command).finish_non_exhaustive()
    }
}
