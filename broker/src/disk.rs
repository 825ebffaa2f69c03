//! Room on the disk that the data directory is on.
//!
//! A full disk stops everything that has to be written down, taking secrets back included. So the broker stops issuing
//! while there is room left, and what takes back goes on in the room that is kept for it:
//!
//! | free space | what is refused |
//! |---|---|
//! | above `warn` | nothing |
//! | below `warn` | nothing; the broker is degraded |
//! | below `refuse` | whatever hands out or stores something new; the broker is not ready |
//! | below half of `refuse` | also renewals and the journals of agents |
//!
//! A request that is refused for this leaves no record: it disclosed nothing, and records are what fills the disk.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bursar_core::audit::Action;
use bursar_core::tasks::Tasks;
use tokio::sync::watch;

use crate::config::{DiskLimits, Threshold};
use crate::failure::Failure;

/// Looks at the disk from time to time, and knows what still may be done.
#[derive(Debug)]
pub struct Disk {
    path: PathBuf,
    limits: DiskLimits,
    space: watch::Sender<Option<Space>>,
}

/// What a file system has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// For a process without privileges, in bytes.
    pub free: u64,
    pub total: u64,
}

/// How much room there is, against the limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Room {
    Plenty,
    /// Somebody should look.
    Low,
    /// Nothing new.
    Refusing,
    /// Only taking back.
    Reserve,
}

impl Disk {
    /// Looks for the first time. Where the file system does not say how full it is, nothing is refused.
    pub fn new(path: &Path, limits: DiskLimits) -> Self {
        let disk = Self { path: path.to_owned(), limits, space: watch::Sender::new(None) };
        disk.took(look(path));
        disk
    }

    /// Looks again and again, until the process stops.
    pub async fn watch(self: Arc<Self>, tasks: Tasks) {
        let mut ticks = tasks.ticks(TICK);
        while ticks.next().await {
            // A file system can take its time to answer.
            let path = self.path.clone();
            let found = tasks.until_stopping(tokio::task::spawn_blocking(move || look(&path))).await;
            if let Some(found) = found {
                self.took(found.ok().flatten());
            }
        }
    }

    /// What the last look found.
    pub fn space(&self) -> Option<Space> {
        *self.space.borrow()
    }

    /// How much room that is.
    pub fn room(&self) -> Room {
        self.space().map_or(Room::Plenty, |space| room(space, self.limits))
    }

    /// The limits in bytes: `warn`, `refuse`.
    pub fn limits(&self) -> Option<(u64, u64)> {
        let space = self.space()?;
        Some((self.limits.warn.of(space.total), self.limits.refuse.of(space.total)))
    }

    /// What is wrong, in words; nothing while there is plenty of room.
    pub fn finding(&self) -> Option<String> {
        let (space, room) = (self.space()?, self.room());
        let free = mebibytes(space.free);
        let consequence = match room {
            Room::Plenty => return None,
            Room::Low => "below `disk.warn`",
            Room::Refusing => "nothing new is issued",
            Room::Reserve => "nothing is issued or renewed",
        };
        Some(format!("{free} are free at `{}`, {consequence}; make room there", self.path.display()))
    }

    /// Whether there is room for `action`.
    ///
    /// # Errors
    /// [`Failure::DiskLow`].
    pub fn admit(&self, action: Action) -> Result<(), Failure> {
        let room = self.room();
        if refused_from(action).is_none_or(|least| room < least) {
            return Ok(());
        }
        Err(Failure::DiskLow { free: mebibytes(self.space().map_or(0, |space| space.free)) })
    }

    fn took(&self, space: Option<Space>) {
        let before = self.room();
        if let Some(space) = space {
            self.space.send_replace(Some(space));
        }
        let (now, free) = (self.room(), self.space().map_or(0, |space| space.free));
        match now {
            _ if now == before => {}
            Room::Plenty => tracing::info!(free, "the disk has room again"),
            Room::Low => tracing::warn!(free, "the disk is getting full"),
            Room::Refusing => tracing::error!(free, "the disk is nearly full, nothing new is issued"),
            Room::Reserve => tracing::error!(free, "the disk is nearly full, nothing is issued or renewed"),
        }
    }
}

impl Threshold {
    fn of(self, total: u64) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Percent(percent) => total / 100 * u64::from(percent),
        }
    }
}

fn room(space: Space, limits: DiskLimits) -> Room {
    let (warn, refuse) = (limits.warn.of(space.total), limits.refuse.of(space.total));
    match space.free {
        free if free < refuse / 2 => Room::Reserve,
        free if free < refuse => Room::Refusing,
        free if free < warn => Room::Low,
        _ => Room::Plenty,
    }
}

/// The room in which an action is refused; none for what is done as long as anything can be written.
fn refused_from(action: Action) -> Option<Room> {
    match action {
        Action::Read
        | Action::Resolve
        | Action::Write
        | Action::ApplyEnvironment
        | Action::CreateJoinToken
        | Action::Approve => Some(Room::Refusing),
        Action::Renew | Action::LocalRead => Some(Room::Reserve),
        _ => None,
    }
}

fn look(path: &Path) -> Option<Space> {
    match rustix::fs::statvfs(path) {
        Ok(found) => Some(Space {
            free: found.f_bavail.saturating_mul(found.f_frsize),
            total: found.f_blocks.saturating_mul(found.f_frsize),
        }),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "the file system does not say how full it is");
            None
        }
    }
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

const TICK: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn limits() -> DiskLimits {
        DiskLimits { warn: Threshold::Percent(10), refuse: Threshold::Bytes(100 * MIB) }
    }

    fn with(free: u64) -> Disk {
        let disk = Disk { path: "/data".into(), limits: limits(), space: watch::Sender::new(None) };
        disk.took(Some(Space { free, total: 10_000 * MIB }));
        disk
    }

    #[test]
    fn the_limits_follow_each_other() {
        let rooms = [1000, 999, 100, 99, 50, 49, 0].map(|free| with(free * MIB).room());
        use Room::{Low, Plenty, Refusing, Reserve};
        assert_eq!(rooms, [Plenty, Low, Low, Refusing, Refusing, Reserve, Reserve]);
    }

    #[test]
    fn issuing_stops_first_renewing_later_and_revoking_never() {
        let admitted = |free: u64, action| with(free * MIB).admit(action).is_ok();
        assert!(admitted(100, Action::Read) && !admitted(99, Action::Read));
        assert!(admitted(99, Action::Renew) && !admitted(49, Action::Renew));
        for action in [Action::Revoke, Action::ListLeases, Action::QueryAudit, Action::EvictNode] {
            assert!(admitted(0, action), "{action:?}");
        }
    }

    #[test]
    fn a_file_system_that_does_not_answer_refuses_nothing() {
        let disk = Disk::new(Path::new("/nowhere/at/all"), limits());
        assert_eq!((disk.space(), disk.room(), disk.finding()), (None, Room::Plenty, None));
    }

    #[test]
    fn the_finding_names_the_place_and_the_consequence() {
        let finding = with(60 * MIB).finding();
        assert_eq!(
            finding.as_deref(),
            Some("60 MiB are free at `/data`, nothing new is issued; make room there")
        );
    }
}
