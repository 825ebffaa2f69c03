//! Which processes the agent itself has started, and as what.
//!
//! What a process says of itself proves nothing, and neither does its number alone. A number is written down before the
//! process can have said anything: whoever asks for it waits until the start is over. And it is forgotten before the
//! process is waited for, until when the kernel gives the number to nobody else; the start time is compared besides.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::process::Child;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::AttestError;
use super::process::Process;

/// The processes that run.
#[derive(Debug, Clone, Default)]
pub(super) struct Started(Arc<Mutex<HashMap<u32, Known>>>);

#[derive(Debug)]
struct Known {
    name: String,
    /// In clock ticks since boot.
    started: u64,
}

/// That a process was started by the agent. To be dropped before the process is waited for.
#[derive(Debug)]
pub struct Mark {
    started: Started,
    pid: u32,
}

impl Started {
    /// Starts a process by `start`, and knows it as `name` until the mark is dropped.
    pub(super) fn start(
        &self,
        name: &str,
        proc: &Path,
        start: impl FnOnce() -> io::Result<Child>,
    ) -> io::Result<(Child, Mark)> {
        let mut known = self.known();
        let child = start()?;
        let pid = child.id();
        match Process::open(proc, pid) {
            Ok(process) => {
                known.insert(pid, Known { name: name.to_owned(), started: process.started() });
            }
            // It has nothing to ask any more.
            Err(AttestError::Gone { .. }) => {}
            // What it asks is refused, and why is told there.
            Err(error) => tracing::warn!(run = name, %error, "a program that was started cannot be attested"),
        }
        drop(known);
        Ok((child, Mark { started: self.clone(), pid }))
    }

    /// What the agent knows this process as, if it started it.
    pub(super) fn name_of(&self, process: &Process) -> Option<String> {
        let known = self.known();
        let found = known.get(&process.pid()).filter(|known| known.started == process.started());
        found.map(|known| known.name.clone())
    }

    fn known(&self) -> MutexGuard<'_, HashMap<u32, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        self.started.known().remove(&self.pid);
    }
}
