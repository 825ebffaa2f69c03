//! Carries bytes from one descriptor to another, on a thread of its own.
//!
//! A thread, and not a task: what a terminal, a pipe or a file of ours is at the other end belongs to others too, and
//! making it non-blocking would change it for them. A reader that is slow holds up this stream alone; signals go on
//! being passed.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use tokio::sync::oneshot;
use zeroize::Zeroizing;

use crate::mask::Masker;

/// A relay that runs.
#[derive(Debug)]
pub(crate) struct Relay {
    /// Its other end goes to the thread, which sees it closed.
    stop: OwnedFd,
    ended: oneshot::Receiver<()>,
}

/// What happens to the bytes on their way.
pub(crate) enum Way {
    Masked(Masker),
    Plain,
}

impl Relay {
    /// Carries from `from` to `to` until `from` ends, `to` is closed, or [`Relay::finish`].
    pub(crate) fn start(name: &str, from: OwnedFd, to: OwnedFd, way: Way) -> io::Result<Self> {
        let (stopped, stop) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        let (end, ended) = oneshot::channel();
        let carrier = Carrier { from, to, stopped, way };
        thread::Builder::new().name(name.to_owned()).spawn(move || {
            // What fails is the other end going away, which whoever was there knows.
            drop(carrier.carry());
            drop(end);
        })?;
        Ok(Self { stop, ended })
    }

    /// Carries what is there already, and no more: whoever wrote has ended, and what it left running may hold the
    /// other end open for ever.
    pub(crate) async fn finish(self) {
        drop(self.stop);
        // Closed without a message, always.
        drop(self.ended.await);
    }
}

struct Carrier {
    from: OwnedFd,
    to: OwnedFd,
    stopped: OwnedFd,
    way: Way,
}

impl Carrier {
    fn carry(mut self) -> io::Result<()> {
        let mut buffer = Zeroizing::new(vec![0; BUFFER]);
        let mut shown = Vec::new();
        // Counted from the stop: a program that was left running must not keep this going.
        let mut last = LAST;
        while last > 0 {
            let (ready, stopping) = self.wait()?;
            match ready {
                Ready::Bytes => {
                    let count = match rustix::io::read(&self.from, &mut **buffer) {
                        Ok(0) | Err(Errno::IO) => break,
                        Err(Errno::INTR | Errno::AGAIN) => continue,
                        read => read?,
                    };
                    let bytes = buffer.get(..count).unwrap_or_default();
                    match &mut self.way {
                        Way::Masked(masker) => masker.push(bytes, &mut shown),
                        Way::Plain => shown.extend_from_slice(bytes),
                    }
                    if stopping {
                        last = last.saturating_sub(count);
                    }
                }
                Ready::Nothing if stopping => break,
                Ready::Nothing => self.release(&mut shown),
            }
            self.write(&mut shown)?;
        }
        self.release(&mut shown);
        self.write(&mut shown)
    }

    /// Waits for bytes, for the stop, or until what is held back has been so for long enough.
    fn wait(&self) -> io::Result<(Ready, bool)> {
        let patience = match &self.way {
            Way::Masked(masker) => masker.patience(),
            Way::Plain => None,
        };
        let mut descriptors =
            [PollFd::new(&self.from, PollFlags::IN), PollFd::new(&self.stopped, PollFlags::IN)];
        loop {
            match poll(&mut descriptors, patience.map(timespec).as_ref()) {
                Err(Errno::INTR) => {}
                waited => break waited.map(drop)?,
            }
        }
        let [from, stopped] = descriptors.map(|descriptor| !descriptor.revents().is_empty());
        Ok((if from { Ready::Bytes } else { Ready::Nothing }, stopped))
    }

    fn release(&mut self, shown: &mut Vec<u8>) {
        if let Way::Masked(masker) = &mut self.way {
            masker.release(shown);
        }
    }

    fn write(&self, shown: &mut Vec<u8>) -> io::Result<()> {
        let mut left = shown.as_slice();
        while !left.is_empty() {
            match rustix::io::write(&self.to, left) {
                Ok(count) => left = left.get(count..).unwrap_or_default(),
                Err(Errno::INTR) => {}
                // Somebody else who has it made it non-blocking.
                Err(Errno::AGAIN) => {
                    let mut full = [PollFd::from_borrowed_fd(self.to.as_fd(), PollFlags::OUT)];
                    poll(&mut full, None).map(drop).or_else(|error| match error {
                        Errno::INTR => Ok(()),
                        error => Err(error),
                    })?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        shown.clear();
        Ok(())
    }
}

enum Ready {
    Bytes,
    Nothing,
}

fn timespec(duration: Duration) -> Timespec {
    Timespec { tv_sec: duration.as_secs().cast_signed(), tv_nsec: duration.subsec_nanos().into() }
}

const BUFFER: usize = 64 * 1024;
/// More than a pipe or a terminal can hold.
const LAST: usize = 4 << 20;
