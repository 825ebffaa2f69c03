//! One life of a program: a process that was started, and what can be done about it.

use std::io::{self, PipeWriter};
use std::os::fd::OwnedFd;
use std::process::{Child, ExitStatus};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustix::io::retry_on_intr;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid,
};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::launch::{Launch, NotStarted};
use crate::attest::{Attestor, Mark};

/// A process that runs. When this is dropped, the process ends by itself.
#[derive(Debug)]
pub(super) struct Life {
    pid: u32,
    /// Never means another process.
    handle: OwnedFd,
    /// Held for as long as it may run.
    line: Option<PipeWriter>,
    end: oneshot::Receiver<ExitStatus>,
}

impl Life {
    /// Starts the program.
    ///
    /// # Errors
    /// [`NotStarted`].
    pub(super) async fn start(launch: &Launch, attestor: &Arc<Attestor>) -> Result<Self, NotStarted> {
        let (launch, attestor) = (launch.clone(), Arc::clone(attestor));
        let start = move || {
            let (mut command, line) = launch.prepare()?;
            let started = attestor.start(&launch.run.name, || command.spawn());
            let (child, mark) = started.map_err(|source| launch.refused(source))?;
            Self::of(child, mark, line).map_err(|source| launch.refused(source))
        };
        tokio::task::spawn_blocking(start).await.map_err(|_| NotStarted::Panicked)?
    }

    fn of(child: Child, mark: Mark, line: PipeWriter) -> io::Result<Self> {
        let (tell, end) = oneshot::channel();
        let pid = child.id();
        let handle = pidfd_open(Pid::from_child(&child), PidfdFlags::empty())?;
        // A thread of its own, and not one that the end of the agent would have to wait for.
        thread::Builder::new().name("run".to_owned()).spawn(move || see_it_end(child, mark, tell))?;
        Ok(Self { pid, handle, line: Some(line), end })
    }

    /// Its number, for people.
    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// Waits for its end, and says how it ended if that is known. Nothing is lost when this is dropped before and called
    /// again.
    pub(super) async fn ended(&mut self) -> Option<ExitStatus> {
        (&mut self.end).await.ok()
    }

    /// Has it end in order, within `limit`, and kills it then. Answers whether it ended by itself.
    pub(super) async fn stop(&mut self, limit: Duration) -> bool {
        self.line = None;
        if timeout(limit, self.ended()).await.is_ok() {
            return true;
        }
        if let Err(error) = pidfd_send_signal(&self.handle, Signal::KILL).map_err(io::Error::from) {
            let pid = self.pid;
            tracing::warn!(pid, %error, "a program cannot be killed; the agent needs CAP_KILL for that");
        }
        // One that is still there then has been told of, and is nobody's to wait for.
        drop(timeout(LAST_WAIT, self.ended()).await);
        false
    }
}

fn see_it_end(mut child: Child, mark: Mark, tell: oneshot::Sender<ExitStatus>) {
    let flags = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    let _ = retry_on_intr(|| waitid(WaitId::Pid(Pid::from_child(&child)), flags));
    // Before its number can be another's, which it can once it is waited for.
    drop(mark);
    if let Ok(status) = child.wait() {
        // Whoever stopped the program may have stopped waiting.
        let _ = tell.send(status);
    }
}

const LAST_WAIT: Duration = Duration::from_secs(2);
