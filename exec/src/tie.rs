//! Ties programs to whoever started this process, by its standard input: while somebody holds the other end, they run.
//!
//! A parent death signal is no such tie where the parent belongs to another user: the kernel forgets the order when the
//! user changes, and asks whether the one may signal the other. The end of a pipe reaches everybody, whoever has it and
//! however its holder ended.

use std::io::{self, ErrorKind, Read};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};

/// What is to be done about the programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// They are asked to end.
    End,
    /// They had their time.
    Kill,
}

/// The tie, and what has become of it.
#[derive(Debug)]
pub(crate) enum Tie {
    /// There is none.
    Free,
    Held {
        cut: oneshot::Receiver<()>,
        /// So long they have to end.
        limit: Duration,
    },
    Cut {
        kill_at: Instant,
    },
    Killed,
}

impl Tie {
    /// Reads standard input until it ends. What comes in means nothing.
    pub(crate) fn to_input(limit: Duration) -> io::Result<Self> {
        let (tell, cut) = oneshot::channel();
        // A thread, which the end of the process ends; a blocking task would hold the runtime up.
        std::thread::Builder::new().name("tie".to_owned()).spawn(move || {
            let mut ignored = [0; 512];
            let mut input = io::stdin().lock();
            while match input.read(&mut ignored) {
                Ok(read) => read > 0,
                Err(error) => error.kind() == ErrorKind::Interrupted,
            } {}
            // Nobody listens any more when the program has ended by itself.
            tell.send(()).unwrap_or_default();
        })?;
        Ok(Self::Held { cut, limit })
    }

    /// Whether there is one, or was.
    pub(crate) fn is_there(&self) -> bool {
        !matches!(self, Self::Free)
    }

    /// Whether nobody holds the other end any more.
    pub(crate) fn is_cut(&self) -> bool {
        matches!(self, Self::Cut { .. } | Self::Killed)
    }

    /// Waits for the next order. Nothing is lost when this is dropped and called again.
    pub(crate) async fn order(&mut self) -> Order {
        match self {
            Self::Free | Self::Killed => std::future::pending().await,
            Self::Held { cut, limit } => {
                // A thread that is gone says as much.
                cut.await.unwrap_or_default();
                *self = Self::Cut { kill_at: Instant::now() + *limit };
                Order::End
            }
            Self::Cut { kill_at } => {
                sleep_until(*kill_at).await;
                *self = Self::Killed;
                Order::Kill
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_is_tied_is_asked_to_end_and_killed_when_the_time_is_over_and_not_twice() {
        let (tell, cut) = oneshot::channel();
        let mut tie = Tie::Held { cut, limit: Duration::from_secs(10) };
        assert!(tie.is_there() && !tie.is_cut());
        let early = tokio::time::timeout(Duration::from_secs(3600), tie.order()).await;
        assert!(early.is_err(), "{early:?}");
        let began = Instant::now();
        tell.send(()).expect("held");
        assert_eq!(tie.order().await, Order::End);
        assert!(tie.is_cut());
        assert_eq!(tie.order().await, Order::Kill);
        assert_eq!(began.elapsed(), Duration::from_secs(10));
        assert!(tokio::time::timeout(Duration::from_secs(3600), tie.order()).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_free_is_never_told_to_end() {
        assert!(tokio::time::timeout(Duration::from_secs(3600), Tie::Free.order()).await.is_err());
    }
}
