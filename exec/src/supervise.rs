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

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, OwnedFd};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{
    Pid, Signal, WaitOptions, WaitStatus, getpid, kill_process, kill_process_group, set_child_subreaper, wait,
};
use tokio::signal::unix::{self, SignalKind, signal};
use tokio::time::timeout;

use crate::mask::{Masker, Sought};
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
    /// So, with what is looked for now masked.
    Masked(Arc<Sought>),
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

/// Looks after the programs that it starts. To be used on the main thread, which lives as long as the process: a
/// program dies with the thread that started it.
#[derive(Debug)]
pub struct Supervisor {
    deaths: unix::Signal,
    signals: Signals,
    /// The programs that were started and not waited for to the end, with how they ended.
    started: HashMap<Pid, Option<Ended>>,
    is_to_end: bool,
}

impl Supervisor {
    /// Listens for signals from now on, and takes in orphans.
    ///
    /// # Errors
    /// What the system refuses.
    pub fn new() -> io::Result<Self> {
        let (deaths, signals) = (signal(SignalKind::child())?, Signals::listen()?);
        set_child_subreaper(Some(getpid()))?;
        Ok(Self { deaths, signals, started: HashMap::new(), is_to_end: false })
    }

    /// Starts a program. That it cannot be executed is told by the process that was to become it, on its standard error
    /// and by its exit code.
    ///
    /// # Errors
    /// What the system refuses before the program has begun.
    pub fn start(&mut self, program: Program, outputs: &Outputs) -> io::Result<Running> {
        let running = Running::start(program, outputs, Role::Program)?;
        self.started.insert(running.pid, None);
        Ok(running)
    }

    /// Starts a program beside another, which has the terminal and the input.
    ///
    /// # Errors
    /// As [`Supervisor::start`].
    pub fn start_beside(&mut self, program: Program, outputs: &Outputs) -> io::Result<Running> {
        let running = Running::start(program, outputs, Role::Beside)?;
        self.started.insert(running.pid, None);
        Ok(running)
    }

    /// Whether somebody asked this process to end while a program was stopped, so that no other is to be started.
    pub fn is_to_end(&self) -> bool {
        self.is_to_end
    }

    /// Passes signals on to `program` until `awaited` has ended, which may be another. Nothing is lost when this is
    /// dropped and called again.
    pub async fn wait(&mut self, awaited: &Running, program: &Running) -> Ended {
        loop {
            self.reap();
            if let Some(ended) = self.started.get(&awaited.pid).copied().flatten() {
                return ended;
            }
            tokio::select! {
                _ = self.deaths.recv() => {}
                signal = self.signals.next() => {
                    self.is_to_end |= matches!(signal, Signal::TERM | Signal::INT | Signal::QUIT);
                    program.pass(signal);
                }
            }
        }
    }

    /// Asks the program to end, and kills it when it has not after `limit`.
    pub async fn stop(&mut self, running: &Running, limit: Duration) -> Ended {
        // A program may have had such signals before, and gone on.
        self.is_to_end = false;
        running.pass(Signal::TERM);
        if let Ok(ended) = timeout(limit, self.wait(running, running)).await {
            return ended;
        }
        running.kill();
        self.wait(running, running).await
    }

    /// Lets all out that a program wrote before it ended.
    pub async fn drain(&mut self, mut ended: Running) {
        self.started.remove(&ended.pid);
        // What came before the end was for the program: ^C reaches both, and must not cut off what it said to it.
        self.signals.forget().await;
        tokio::select! {
            () = ended.drain() => {}
            // Whoever reads is slow, and somebody has had enough.
            () = async { while !is_an_end(self.signals.next().await) {} } => {}
        }
    }

    /// Takes the ends of all children that have ended, orphans that were taken in among them.
    fn reap(&mut self) {
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            if let Some(program) = self.started.get_mut(&pid) {
                *program = ended(status);
            }
        }
    }
}

/// Who has the terminal and the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Program,
    /// Another has them.
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
    fn start(program: Program, outputs: &Outputs, role: Role) -> io::Result<Self> {
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

    /// Sends it a signal, as if somebody had sent it to this process.
    pub fn signal(&self, signal: Signal) {
        self.pass(signal);
    }

    /// Ends it, and its process group where it has its own, at once.
    fn kill(&self) {
        let _ = match self.place {
            Place::Shared => kill_process(self.pid, Signal::KILL),
            Place::Group | Place::Session { .. } => kill_process_group(self.pid, Signal::KILL),
        };
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
