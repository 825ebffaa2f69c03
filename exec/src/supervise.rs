//! Stands before programs until they end: hears what is sent to this process and who of its children has ended.
//!
//! Whoever looks at the supervisor shall see the program: what is sent to the one reaches the other, and the exit code
//! is the program's. What the program leaves orphaned becomes a child of this process, and is reaped.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, getpid, set_child_subreaper, wait};
use tokio::signal::unix::{self, SignalKind, signal};
use tokio::time::timeout;

use crate::mask::Sought;
use crate::running::{Role, Running};
use crate::signals::Signals;
use crate::tie::Tie;

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
    tie: Tie,
}

impl Supervisor {
    /// Listens for signals from now on, and takes in orphans.
    ///
    /// # Errors
    /// What the system refuses.
    pub fn new() -> io::Result<Self> {
        let (deaths, signals) = (signal(SignalKind::child())?, Signals::listen()?);
        set_child_subreaper(Some(getpid()))?;
        Ok(Self { deaths, signals, started: HashMap::new(), is_to_end: false, tie: Tie::Free })
    }

    /// Ends all programs once the standard input of this process ends, and kills those that have not after `limit`.
    /// Programs that are started from then on have no input, and no terminal.
    ///
    /// # Errors
    /// What the system refuses.
    pub fn tie_to_input(&mut self, limit: Duration) -> io::Result<()> {
        self.tie = Tie::to_input(limit)?;
        Ok(())
    }

    /// Starts a program. That it cannot be executed is told by the process that was to become it, on its standard error
    /// and by its exit code.
    ///
    /// # Errors
    /// What the system refuses before the program has begun.
    pub fn start(&mut self, program: Program, outputs: &Outputs) -> io::Result<Running> {
        let role = if self.tie.is_there() { Role::Beside } else { Role::Program };
        let running = Running::start(program, outputs, role)?;
        self.started.insert(running.pid(), None);
        Ok(running)
    }

    /// Starts a program beside another, which has the terminal and the input.
    ///
    /// # Errors
    /// As [`Supervisor::start`].
    pub fn start_beside(&mut self, program: Program, outputs: &Outputs) -> io::Result<Running> {
        let running = Running::start(program, outputs, Role::Beside)?;
        self.started.insert(running.pid(), None);
        Ok(running)
    }

    /// Whether somebody asked this process to end while a program was stopped, so that no other is to be started.
    pub fn is_to_end(&self) -> bool {
        self.is_to_end || self.tie.is_cut()
    }

    /// Passes signals on to `program` until `awaited` has ended, which may be another. Nothing is lost when this is
    /// dropped and called again.
    pub async fn wait(&mut self, awaited: &Running, program: &Running) -> Ended {
        loop {
            self.reap();
            if let Some(ended) = self.started.get(&awaited.pid()).copied().flatten() {
                return ended;
            }
            tokio::select! {
                _ = self.deaths.recv() => {}
                signal = self.signals.next() => {
                    self.is_to_end |= matches!(signal, Signal::TERM | Signal::INT | Signal::QUIT);
                    program.pass(signal);
                }
                order = self.tie.order() => {
                    awaited.obey(order);
                    if program.pid() != awaited.pid() {
                        program.obey(order);
                    }
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
        self.started.remove(&ended.pid());
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
