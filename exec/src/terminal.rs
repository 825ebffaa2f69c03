//! A terminal for the program, between it and the one that this process has.
//!
//! Through a pipe a program would print no colours, take 80 columns for granted and buffer whole blocks, which is how
//! masking gets switched off. So where output goes to a terminal, the program gets one too: a pair of which it has the
//! one end, with size and settings of the outer. Keys are passed as they come: the outer terminal is raw meanwhile, so
//! that ^C is a byte on its way to the inner one, which makes a signal of it for whoever is in its foreground.
//!
//! While this process is in the background of its own terminal, it must not read keys or change settings, as either
//! would stop it. It decides that once, at the start.

use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::Stdio;

use rustix::process::{Pid, getpgrp};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{
    OptionalActions, OutputModes, Termios, tcgetattr, tcgetpgrp, tcgetwinsize, tcsetattr, tcsetwinsize,
};

/// The pair, and the outer terminal.
#[derive(Debug)]
pub(crate) struct Terminal {
    master: OwnedFd,
    outer: OwnedFd,
    /// While keys are passed.
    raw: Option<Raw>,
}

impl Terminal {
    /// A new pair, and the program's end of it; none where neither standard output nor standard error is a terminal.
    pub(crate) fn open() -> io::Result<Option<(Self, OwnedFd)>> {
        let outer = if io::stdout().is_terminal() {
            io::stdout().as_fd().try_clone_to_owned()?
        } else if io::stderr().is_terminal() {
            io::stderr().as_fd().try_clone_to_owned()?
        } else {
            return Ok(None);
        };
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let inner = ioctl_tiocgptpeer(&master, flags)?;
        let keys = io::stdin();
        let passes_keys = keys.is_terminal() && is_in_foreground(keys.as_fd());
        let mut settings = tcgetattr(&outer)?;
        if !passes_keys {
            // The outer one goes on treating line ends.
            settings.output_modes.remove(OutputModes::OPOST);
        }
        tcsetattr(&inner, OptionalActions::Now, &settings)?;
        let raw = if passes_keys { Some(Raw::enter(keys.as_fd().try_clone_to_owned()?)?) } else { None };
        let terminal = Self { master, outer, raw };
        terminal.follow_size();
        Ok(Some((terminal, inner)))
    }

    /// Gives the program the size that the outer terminal has now.
    pub(crate) fn follow_size(&self) {
        if let Ok(size) = tcgetwinsize(&self.outer) {
            // What fails is the program's end being closed.
            let _ = tcsetwinsize(&self.master, size);
        }
    }

    /// Another descriptor of this end of the pair.
    pub(crate) fn end(&self) -> io::Result<OwnedFd> {
        self.master.try_clone()
    }

    /// Another descriptor of the outer terminal.
    pub(crate) fn outer(&self) -> io::Result<OwnedFd> {
        self.outer.try_clone()
    }

    /// Where keys come from, while they are passed.
    pub(crate) fn keys(&self) -> Option<io::Result<OwnedFd>> {
        self.raw.as_ref().map(|raw| raw.keys.try_clone())
    }

    /// Who would get what is typed: the process group in the foreground of the program's terminal.
    pub(crate) fn foreground(&self) -> Option<Pid> {
        tcgetpgrp(&self.master).ok()
    }

    /// Gives the outer terminal back for a while.
    pub(crate) fn suspend(&self) {
        if let Some(raw) = &self.raw {
            raw.restore();
        }
    }

    /// Takes the outer terminal again.
    pub(crate) fn resume(&self) {
        if let Some(raw) = &self.raw {
            raw.take();
        }
        self.follow_size();
    }
}

/// What a standard stream of the program is: its end of the pair where ours is a terminal, else ours.
pub(crate) fn inner_or_own(own: &impl IsTerminal, inner: Option<&OwnedFd>) -> io::Result<Stdio> {
    match inner {
        Some(inner) if own.is_terminal() => Ok(inner.try_clone()?.into()),
        _ => Ok(Stdio::inherit()),
    }
}

/// Whether this process is in the foreground of the terminal `of`.
pub(crate) fn is_in_foreground(of: BorrowedFd<'_>) -> bool {
    tcgetpgrp(of).is_ok_and(|group| group == getpgrp())
}

/// A terminal whose keys come as they are typed, and which is as before afterwards.
#[derive(Debug)]
struct Raw {
    keys: OwnedFd,
    before: Termios,
}

impl Raw {
    fn enter(keys: OwnedFd) -> io::Result<Self> {
        let before = tcgetattr(&keys)?;
        let raw = Self { keys, before };
        raw.take();
        Ok(raw)
    }

    fn take(&self) {
        let mut settings = self.before.clone();
        settings.make_raw();
        self.set(&settings);
    }

    fn restore(&self) {
        self.set(&self.before);
    }

    fn set(&self, settings: &Termios) {
        // What fails is the terminal being gone, and then nobody types.
        let _ = tcsetattr(&self.keys, OptionalActions::Now, settings);
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        self.restore();
    }
}
