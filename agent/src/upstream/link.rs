//! The channel of the moment, and how another is made in its place.
//!
//! A connection whose other end has vanished without a word looks like one with nothing on it, until keep-alive has waited
//! in vain; and while calls wait on it, the broker may long be back, at its address or as another machine. So a connection
//! over which the broker has answered, and over which it now does not say that it is there, is given up, and calls go over
//! another. One that never answered is being made, which has a limit of its own. And once a minute is enough: a broker
//! that is overloaded says nothing either, and is not helped by the handshakes of all its nodes.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bursar_sdk::ConnectError;
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::transport::Channel;

/// The way to the broker.
pub(super) struct Link {
    channel: watch::Sender<Option<Channel>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    connect: Option<Connect>,
    /// Whether the broker has answered over the channel of the moment.
    is_proven: bool,
    given_up: Option<Instant>,
}

/// Makes a channel that connects when it is used.
type Connect = Box<dyn Fn() -> Result<Channel, ConnectError> + Send>;

impl Link {
    /// There is none yet.
    pub(super) fn new() -> Self {
        Self { channel: watch::Sender::new(None), state: Mutex::default() }
    }

    /// The channel is one that `connect` makes, from now on.
    ///
    /// # Errors
    /// That of `connect`; all is as it was then.
    pub(super) fn replace(
        &self,
        connect: impl Fn() -> Result<Channel, ConnectError> + Send + 'static,
    ) -> Result<(), ConnectError> {
        let channel = connect()?;
        let mut state = self.state();
        state.connect = Some(Box::new(connect));
        state.is_proven = false;
        self.channel.send_replace(Some(channel));
        Ok(())
    }

    /// The channel, once there is one.
    pub(super) fn channel(&self) -> Option<Channel> {
        self.channel.borrow().clone()
    }

    /// Follows the channel through its replacements.
    pub(super) fn channels(&self) -> watch::Receiver<Option<Channel>> {
        self.channel.subscribe()
    }

    /// The broker answered over it.
    pub(super) fn answered(&self) {
        self.state().is_proven = true;
    }

    /// The broker does not say that it is there. Answers whether the channel is another now.
    pub(super) fn is_silent(&self) -> bool {
        let (mut state, now) = (self.state(), Instant::now());
        if !state.is_proven || state.given_up.is_some_and(|at| now < at + PAUSE) {
            return false;
        }
        let Some(Ok(channel)) = state.connect.as_ref().map(|connect| connect()) else { return false };
        (state.is_proven, state.given_up) = (false, Some(now));
        self.channel.send_replace(Some(channel));
        true
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("channel", &self.channel).finish_non_exhaustive()
    }
}

/// Between two connections that are given up.
const PAUSE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use bursar_sdk::Address;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_answered_and_is_silent_is_given_up_once_a_minute_and_what_never_answered_is_not() {
        let (link, made) = (Link::new(), Arc::new(AtomicUsize::new(0)));
        assert!(!link.is_silent(), "there is nothing to give up");
        let counted = Arc::clone(&made);
        let connect = move || {
            counted.fetch_add(1, Ordering::Relaxed);
            bursar_sdk::channel_lazy(&Address::unix("/nowhere"), None)
        };
        link.replace(connect).expect("a channel");
        let mut channels = link.channels();
        channels.mark_unchanged();
        assert!(!link.is_silent(), "it is being made");
        link.answered();
        assert!(link.is_silent() && channels.has_changed().expect("there"));
        assert!(!link.is_silent(), "the next one is being made");
        link.answered();
        assert!(!link.is_silent(), "a broker that is overloaded is not helped by handshakes");
        tokio::time::advance(PAUSE).await;
        assert!(link.is_silent());
        assert_eq!(made.load(Ordering::Relaxed), 3);
    }
}
