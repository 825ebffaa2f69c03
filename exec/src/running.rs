//! One program that was started, and where it is among processes. Three arrangements, by what there is:
//!
//! - Output is masked, and goes to a terminal: the program gets a session with a terminal of its own
//!   ([`terminal`](crate::terminal)).
//! - Otherwise, where this process is in the foreground of some terminal (`bursar run … | less`): the program stays in
//!   the same process group, so that it can go on asking for a password there, and ^C and ^Z reach both. SIGINT and
//!   SIGQUIT come from the terminal then, to both, and are not passed on a second time.
//! - No terminal: a process group of its own.
//!
//! SIGINT and SIGQUIT go to the whole process group, as a terminal sends them; everything else to the program alone,
//! as `kill` would.

use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, OwnedFd};
use std::process::Stdio;
use std::sync::Arc;

use rustix::process::{Pid, Signal, getpid, kill_process, kill_process_group};

use crate::mask::Masker;
use crate::relay::{Relay, Way};
use crate::stage::{self, Place};
use crate::supervise::{Outputs, Program};
use crate::terminal::{Terminal, inner_or_own, is_in_foreground};
use crate::tie::Order;

/// Who has the terminal and the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Program,
    /// Another has them, or nobody.
    Beside,
}

/// A program that was started.
#[derive(Debug)]
pub struct Running {
    pid: Pid,
    place: Place,
    terminal: Option<Terminal>,
    outputs: Vec<Relay>,
    /// Held for as long as the program lives; ends with this process.
    _keys: Option<Relay>,
}

impl Running {
    pub(crate) fn start(program: Program, outputs: &Outputs, role: Role) -> io::Result<Self> {
        let opened = match (outputs, role) {
            (Outputs::Masked(_), Role::Program) => Terminal::open()?,
            (Outputs::Own, _) | (_, Role::Beside) => None,
        };
        let (terminal, inner) =
            opened.map_or((None, None), |(terminal, inner)| (Some(terminal), Some(inner)));
        let place = match &inner {
            Some(_) if io::stdout().is_terminal() => Place::Session { terminal: 1 },
            Some(_) => Place::Session { terminal: 2 },
            None if role == Role::Program && has_terminal() => Place::Shared,
            None => Place::Group,
        };
        let mut command = stage::command(place, program.core_limit, &program.command);
        command.env_clear().envs(program.variables);
        command.stdin(match role {
            Role::Program => inner_or_own(&io::stdin(), inner.as_ref())?,
            Role::Beside => Stdio::null(),
        });
        let mut relays = Vec::new();
        if let Outputs::Masked(sought) = outputs {
            let masked = || Way::Masked(Masker::new(Arc::clone(sought)));
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

    /// Its process.
    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// Sends it a signal, as if somebody had sent it to this process.
    pub fn signal(&self, signal: Signal) {
        self.pass(signal);
    }

    /// Ends it, and its process group where it has its own, at once.
    pub(crate) fn kill(&self) {
        let _ = match self.place {
            Place::Shared => kill_process(self.pid, Signal::KILL),
            Place::Group | Place::Session { .. } => kill_process_group(self.pid, Signal::KILL),
        };
    }

    /// Ends with what it was tied to.
    pub(crate) fn obey(&self, order: Order) {
        match order {
            Order::End => self.pass(Signal::TERM),
            Order::Kill => self.kill(),
        }
    }

    /// Passes a signal on; what fails is that nobody is there any more.
    pub(crate) fn pass(&self, signal: Signal) {
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
    pub(crate) async fn drain(&mut self) {
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
