//! Named points at which the process can be made to end as `kill -9` ends it.
//!
//! The promises about crashes are promises about every place where one can happen, so the places that matter have names
//! and the torture suite (`cargo xtask torture`) ends real brokers at each of them. It is armed by a hidden option of a
//! broker built with the feature `killpoints`, which nobody's build has but the suite's. Without the feature
//! [`at`] is empty and nothing of this module is left in the program.

use std::fmt;
use std::str::FromStr;

macro_rules! points {
    ($($(#[doc = $doc:literal])+ $point:ident = $name:literal,)+) => {
        /// A step that a crash must not break.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Point {
            $($(#[doc = $doc])+ $point,)+
        }

        impl Point {
            /// Every point.
            pub const ALL: &[Self] = &[$(Self::$point,)+];

            /// The name by which it is armed.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$point => $name,)+
                }
            }
        }
    };
}

points! {
    /// The ledger is open and signs; nothing is served yet.
    Opened = "opened",
    /// A request came in. What its client asked before was answered.
    Arrived = "arrived",
    /// An answer is made, and not yet written.
    Answered = "answered",

    /// Before an intent is committed.
    IssueBegun = "issue-begun",
    /// The intent is durable; the store was not asked yet.
    IntentDurable = "intent-durable",
    /// The store created the credential; only its answer tells.
    StoreCreated = "store-created",
    /// Leases and records of a request are durable; no value has left.
    LeaseDurable = "lease-durable",
    /// A request failed after a credential was created for it.
    AbandonBegun = "abandon-begun",
    /// That credential is the revoker's.
    AbandonDurable = "abandon-durable",

    /// A renewal is permitted; the store was not asked yet.
    RenewBegun = "renew-begun",
    /// The store extended the credential.
    StoreRenewed = "store-renewed",
    /// The renewal is durable.
    RenewalDurable = "renewal-durable",

    /// A revocation is permitted and not marked.
    RevokeBegun = "revoke-begun",
    /// A revocation is marked; the store was not asked yet.
    RevocationDurable = "revocation-durable",
    /// The store removed the credential.
    StoreRemoved = "store-removed",
    /// The ledger has what came of asking the store.
    AttemptDurable = "attempt-durable",

    /// A lease is about to be given up; nothing is marked, and the store was not asked.
    GiveUpBegun = "give-up-begun",
    /// It is revoked; the store was not asked yet.
    GiveUpMarked = "give-up-marked",
    /// The store was asked a last time; the ledger does not know what came of it.
    GiveUpTried = "give-up-tried",
    /// It is given up.
    GiveUpDurable = "give-up-durable",

    /// A bulk revocation is permitted and not written down.
    OrderBegun = "order-begun",
    /// It is written down, and no lease of it is marked.
    OrderDurable = "order-durable",
    /// The next leases of it are found and not marked.
    MarkBegun = "mark-begun",
    /// Some of its leases are marked; nobody was told.
    MarkDurable = "mark-durable",

    /// What went long ago is about to be forgotten.
    ForgetBegun = "forget-begun",
    /// Some of it is forgotten.
    ForgetDurable = "forget-durable",

    /// A lease that ended is not marked yet.
    ExpireBegun = "expire-begun",
    /// A lease that ended is marked.
    ExpiryDurable = "expiry-durable",

    /// An intent that lost its outcome is marked.
    IntentGivenUp = "intent-given-up",
    /// A credential without a lease was found; it is still at the store.
    OrphanFound = "orphan-found",

    /// A transaction is open.
    BatchBegun = "batch-begun",
    /// Every entry of it is applied.
    BatchApplied = "batch-applied",
    /// The new head is signed and in the transaction.
    HeadSealed = "head-sealed",
    /// The transaction is durable; nobody was told.
    BatchDurable = "batch-durable",

    /// The write-ahead log is about to be copied into the database.
    CopyBegun = "copy-begun",
    /// It is copied, and the copy is not synced.
    CopyWritten = "copy-written",
    /// The copy is synced.
    CopySynced = "copy-synced",
    /// The writer is about to copy the rest, so that the log starts anew.
    LogRestart = "log-restart",
}

#[cfg(feature = "killpoints")]
pub use armed::{arm, at};

/// Ends the process here, if this point is armed and it is the passing that was asked for. Not in this build.
#[cfg(not(feature = "killpoints"))]
#[inline(always)]
pub fn at(_: Point) {}

/// Which point ends the process, and at which passing: `NAME` or `NAME:N`, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trigger {
    pub point: Point,
    pub passing: u32,
}

impl FromStr for Trigger {
    type Err = TriggerError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, passing) = match text.split_once(':') {
            Some((name, passing)) => (name, passing.parse().ok().filter(|passing| *passing > 0)),
            None => (text, Some(1)),
        };
        let point = Point::ALL.iter().copied().find(|point| point.as_str() == name);
        match (point, passing) {
            (Some(point), Some(passing)) => Ok(Self { point, passing }),
            _ => Err(TriggerError { text: text.to_owned() }),
        }
    }
}

/// Text that arms nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TriggerError {
    text: String,
}

impl fmt::Display for TriggerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` is no kill point; write NAME or NAME:N, with a name that `kill-points` lists",
            self.text
        )
    }
}

impl std::error::Error for TriggerError {}

#[cfg(feature = "killpoints")]
mod armed {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    use rustix::process::{Signal, getpid, kill_process};

    use super::{Point, Trigger};

    /// Arms one point for the life of the process; a second call changes nothing.
    pub fn arm(trigger: Trigger) {
        ARMED.get_or_init(|| (trigger.point, AtomicU32::new(trigger.passing)));
    }

    /// Ends the process here, if this point is armed and it is the passing that was asked for.
    pub fn at(point: Point) {
        if let Some((armed, left)) = ARMED.get()
            && *armed == point
            && left.fetch_sub(1, Ordering::Relaxed) == 1
        {
            // SIGKILL runs no destructor and flushes no buffer, and is delivered before the call returns.
            let refused = kill_process(getpid(), Signal::KILL);
            tracing::error!(?refused, "the system did not let the process end itself");
            std::process::abort();
        }
    }

    static ARMED: OnceLock<(Point, AtomicU32)> = OnceLock::new();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trigger_is_a_name_and_a_passing() {
        let trigger = |point, passing| Ok(Trigger { point, passing });
        assert_eq!("store-created".parse(), trigger(Point::StoreCreated, 1));
        assert_eq!("copy-begun:3".parse(), trigger(Point::CopyBegun, 3));
    }

    #[test]
    fn what_names_no_point_is_refused_and_told_so() {
        for text in ["", "nowhere", "copy-begun:", "copy-begun:0", "copy-begun:-1", "copy-begun:1:2"] {
            let error = text.parse::<Trigger>().expect_err(text).to_string();
            assert!(error.contains("kill-points"), "{error}");
        }
    }

    #[test]
    fn names_are_told_apart() {
        let mut names: Vec<_> = Point::ALL.iter().map(|point| point.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Point::ALL.len());
    }
}
