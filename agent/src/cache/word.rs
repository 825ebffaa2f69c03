//! Word of what happened, for those on this node who got what it happened to.
//!
//! The broker tells its events to the node, once. Whoever of the node listens hears of what it read through here, after
//! the cache has let go of it: whoever then asks again is not given the old value. Who that is is decided when it
//! happens, by who was given the value; nobody hears of a secret that others hold.

use std::sync::Arc;

use tokio::sync::broadcast;

use crate::attest::Identity;

/// Something that happened.
#[derive(Debug, Clone)]
pub struct Word {
    pub what: What,
    /// Who got the value.
    to: Arc<[Identity]>,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// The secret, `BACKEND/PATH`, has another version.
    Changed { secret: Arc<str> },
    /// The lease is over.
    Ended { lease_id: Arc<str>, secret: Arc<str> },
    /// Anything may have: events of the broker were missed.
    Missed,
}

impl Word {
    /// Whether it is for this workload.
    pub fn is_for(&self, identity: Identity) -> bool {
        self.what == What::Missed || self.to.contains(&identity)
    }
}

/// Where it is told.
#[derive(Debug)]
pub(super) struct Words(broadcast::Sender<Word>);

impl Words {
    pub(super) fn new() -> Self {
        Self(broadcast::Sender::new(BACKLOG))
    }

    pub(super) fn hear(&self) -> broadcast::Receiver<Word> {
        self.0.subscribe()
    }

    /// Says it, if anybody listens.
    pub(super) fn say(&self, what: What, to: impl FnOnce() -> Vec<Identity>) {
        if self.0.receiver_count() > 0 {
            let to = if what == What::Missed { Vec::new() } else { to() };
            // The last listener may have left meanwhile.
            drop(self.0.send(Word { what, to: to.into() }));
        }
    }
}

/// A listener that is further behind is told that it missed something.
const BACKLOG: usize = 256;
