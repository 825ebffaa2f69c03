//! The signals that a supervisor passes on to its program.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};

use rustix::process::Signal;
use tokio::signal::unix::{self, SignalKind, signal};

/// Listens for signals.
#[derive(Debug)]
pub(crate) struct Signals(Vec<(Signal, unix::Signal)>);

impl Signals {
    /// Listens for those that a program may be sent, but for what this process was started to ignore: under `nohup` a
    /// program is not to hear of SIGHUP, and what is ignored stays so for the program too.
    pub(crate) fn listen() -> io::Result<Self> {
        let ignored = ignored();
        let heard = PASSED.into_iter().filter(|(passed, _)| !ignores(ignored, *passed));
        Ok(Self(heard.map(|(passed, kind)| Ok((passed, signal(kind())?))).collect::<io::Result<_>>()?))
    }

    /// Waits for the next.
    pub(crate) async fn next(&mut self) -> Signal {
        poll_fn(|context| self.take(context).map_or(Poll::Pending, Poll::Ready)).await
    }

    /// Drops those that have come.
    pub(crate) async fn forget(&mut self) {
        poll_fn(|context| {
            while self.take(context).is_some() {}
            Poll::Ready(())
        })
        .await;
    }

    fn take(&mut self, context: &mut Context<'_>) -> Option<Signal> {
        let come = |(passed, stream): &mut (Signal, unix::Signal)| {
            stream.poll_recv(context).is_ready().then_some(*passed)
        };
        self.0.iter_mut().find_map(come)
    }
}

/// The mask of what this process ignores, as proc(5) has it; nothing where that cannot be read.
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default()
}

fn ignores(mask: u64, signal: Signal) -> bool {
    let bit = u32::try_from(signal.as_raw() - 1).unwrap_or_default();
    mask.checked_shr(bit).is_some_and(|rest| rest & 1 == 1)
}

/// A signal, as rustix and as tokio have it.
type Passed = (Signal, fn() -> SignalKind);

const PASSED: [Passed; 8] = [
    (Signal::TERM, SignalKind::terminate),
    (Signal::INT, SignalKind::interrupt),
    (Signal::QUIT, SignalKind::quit),
    (Signal::HUP, SignalKind::hangup),
    (Signal::USR1, SignalKind::user_defined1),
    (Signal::USR2, SignalKind::user_defined2),
    (Signal::WINCH, SignalKind::window_change),
    (Signal::TSTP, || SignalKind::from_raw(Signal::TSTP.as_raw())),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mask_counts_signals_from_one() {
        assert!(ignores(0b1, Signal::HUP) && !ignores(0b1, Signal::INT));
        assert!(ignores(0x4000, Signal::TERM));
    }
}
