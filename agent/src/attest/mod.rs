//! Who is on the other end of a local connection.
//!
//! The kernel says which process connected (`SO_PEERCRED`); everything else is read from `/proc/PID`. A process id alone
//! proves nothing: the process may end while it is looked at and its number go to another. So the folder `/proc/PID` is
//! opened first, which ties every later read to one process; its start time and owner are read before the facts and
//! compared after them; and a handle on the process (a pidfd) stays with the connection, so that a caller that ended is
//! noticed at its next call. Whoever cannot be attested is refused.
//!
//! What is not believed, although `/proc` says it:
//! - A path of an executable that means another file to the agent. A process in a mount namespace of its own can run
//!   anything under any path, so the path is attested only where the agent finds the same file there.
//! - Names of control groups below one that was handed to a user: their owner chooses them. See [`cgroup`].
//!
//! What this cannot tell apart: processes of one user may trace each other or pass an open connection on, so a selector
//! of an executable is no border between programs of one user. The user id is. Give what must not meet two users.
//!
//! Only reads of `/proc` and of the executable happen here, and they may block: call it from a blocking thread.
//!
//! A unit for which systemd asks is known by the control group that systemd put the asking process into.
//!
//! Of a connection over TCP the kernel says the user and the socket's number; see [`holder`] for the process.
//!
//! A set of files that the agent delivers by itself is no process: what is attested of it is the name that the agent's own
//! configuration gives it, and nothing that a process could pass for. Neither is a pod for which the driver of a volume
//! asks: a token speaks for it, and what is noted beside that is whom the driver named.
//!
//! Whoever is in a pod is known to be in it: see [`pods`].
//!
//! A program that the agent keeps running is attested as what it is, like every other, and as what the agent started it as
//! besides. See [`started`].

mod bearer;
mod cgroup;
mod exe;
mod holder;
mod pods;
mod process;
mod selector;
mod started;
#[cfg(test)]
mod tests;
#[cfg(feature = "testing")]
mod trial;
mod workload;

use std::io;
use std::path::{Path, PathBuf};
use std::process::Child;

use bursar_proto::v1::WorkloadContext;

pub use bearer::{Bearer, NoBearer};
pub use holder::Held;
pub use started::Mark;
#[cfg(feature = "testing")]
pub use trial::{grouped, owned, since};
pub use workload::{Identity, Workload};

use exe::Hashes;
use pods::Pods;
use process::{Alive, Owner, Process};
use selector::Selectors;
use started::Started;
use workload::Life;

/// Attests local callers.
#[derive(Debug)]
pub struct Attestor {
    proc: PathBuf,
    /// The beginning of the kernel's boot id: process ids and start times begin anew with each boot.
    boot: String,
    hashes: Hashes,
    started: Started,
    pods: Pods,
}

impl Attestor {
    /// Reads the boot id.
    ///
    /// # Errors
    /// [`AttestError::Proc`] when `/proc` cannot be read.
    pub fn new() -> Result<Self, AttestError> {
        Self::with_proc(Path::new("/proc"))
    }

    fn with_proc(proc: &Path) -> Result<Self, AttestError> {
        let boot =
            std::fs::read_to_string(proc.join("sys/kernel/random/boot_id")).map_err(AttestError::Proc)?;
        let boot = boot.trim().split('-').next().unwrap_or_default().to_owned();
        Ok(Self {
            proc: proc.to_owned(),
            boot,
            hashes: Hashes::default(),
            started: Started::default(),
            pods: Pods::default(),
        })
    }

    /// Attests the process that the kernel names. Blocks.
    ///
    /// # Errors
    /// [`AttestError`]; the caller must be refused then.
    pub fn attest(&self, peer: Peer) -> Result<Workload, AttestError> {
        let process = Process::open(&self.proc, peer.pid)?;
        let alive = Alive::watch(peer.pid)?;
        let owner = process.owner()?;
        if (owner.uid, owner.gid) != (peer.uid, peer.gid) {
            return Err(AttestError::Changed { pid: peer.pid });
        }
        self.describe(&process, alive, owner)
    }

    /// Attests the process that holds a socket, or the oldest of several that are the same workload. Blocks, and takes a
    /// look at every process of its user.
    ///
    /// # Errors
    /// [`AttestError`]; the caller must be refused then.
    pub fn attest_holder(&self, held: Held) -> Result<Workload, AttestError> {
        let mut oldest: Option<Workload> = None;
        for process in holder::all(&self.proc, held)? {
            match (self.look_at_holder(&process, held), &oldest) {
                (Ok(None) | Err(AttestError::Gone { pid: _ }), _) => {}
                (Ok(Some(workload)), None) => oldest = Some(workload),
                (Ok(Some(workload)), Some(oldest)) if workload.identity() == oldest.identity() => {}
                (Ok(Some(_)), Some(_)) => return Err(AttestError::Shared),
                (Err(error), _) => return Err(error),
            }
        }
        oldest.ok_or(AttestError::Unheld)
    }

    /// It held the socket before and does so after, and [`Attestor::describe`] says that it is one process that did both.
    fn look_at_holder(&self, process: &Process, held: Held) -> Result<Option<Workload>, AttestError> {
        let alive = Alive::watch(process.pid())?;
        let owner = process.owner()?;
        if owner.uid != held.uid {
            return Err(AttestError::Changed { pid: process.pid() });
        }
        let workload = self.describe(process, alive, owner)?;
        Ok(process.holds(held.inode)?.then_some(workload))
    }

    /// Whoever runs as the user with this number, where that is all that is known.
    pub fn user(&self, uid: u32) -> Workload {
        let mut selectors = Selectors::default();
        selectors.add("unix:uid", uid);
        let instance = format!("user:{uid}@{}", self.boot);
        Workload::new(WorkloadContext { selectors: selectors.into_sorted(), instance, pid: 0 }, Life::Agent)
    }

    /// Reads the facts, and says last that they are of one process.
    fn describe(&self, process: &Process, alive: Alive, owner: Owner) -> Result<Workload, AttestError> {
        let mut selectors = Selectors::default();
        let run = self.started.name_of(process);
        if let Some(name) = &run {
            selectors.add("run:name", name);
        }
        selectors.add("unix:uid", owner.uid);
        selectors.add("unix:gid", owner.gid);
        let groups = process.cgroups()?;
        for found in cgroup::selectors(&groups) {
            selectors.add(found.kind, found.value);
        }
        let exe = exe::look(process, &self.hashes);
        selectors.add_bytes("unix:exe", exe.path.as_deref());
        selectors.add_bytes("unix:exe-sha256", exe.sha256.as_deref());
        // Last: a user may be in more groups than there is room for.
        for group in owner.groups {
            selectors.add("unix:group", group);
        }
        process.confirm()?;
        let context = WorkloadContext {
            selectors: selectors.into_sorted(),
            // One that starts again, under another agent even, asks under the name of the one before.
            instance: match run {
                Some(name) => format!("run:{name}@{}", self.boot),
                None => process.instance(&self.boot),
            },
            pid: process.pid(),
        };
        let pod = cgroup::pod_of(&groups).map(|uid| self.pods.running(&uid));
        Ok(Workload::new(context, Life::Process(alive)).within(pod))
    }

    /// Looks whether the pods are there that somebody was attested to be in, and says whether one is over that was not.
    /// Blocks.
    ///
    /// # Errors
    /// [`AttestError`]; nothing is concluded then.
    pub fn look_at_pods(&self) -> Result<bool, AttestError> {
        self.pods.look(&self.proc)
    }

    /// Attests the process again that was `instance` when it was attested before. Blocks.
    ///
    /// # Errors
    /// [`AttestError`]; it has ended, or it cannot be seen any more.
    pub fn attest_again(&self, pid: u32, instance: &str) -> Result<Workload, AttestError> {
        let process = Process::open(&self.proc, pid)?;
        if process.instance(&self.boot) != instance {
            return Err(AttestError::Gone { pid });
        }
        let owner = process.owner()?;
        let workload = self.attest(Peer { pid, uid: owner.uid, gid: owner.gid })?;
        if workload.instance() == instance { Ok(workload) } else { Err(AttestError::Gone { pid }) }
    }

    /// The beginning of the kernel's boot id.
    pub fn boot(&self) -> &str {
        &self.boot
    }

    /// Starts a process by `start`, which is attested as the program `name` of the agent's configuration until the mark is
    /// dropped. Blocks.
    ///
    /// # Errors
    /// Those of `start`.
    pub fn start(&self, name: &str, start: impl FnOnce() -> io::Result<Child>) -> io::Result<(Child, Mark)> {
        self.started.start(name, &self.proc, start)
    }

    /// The set of files `name`, which the administrator of this machine configured. The name has no character that a
    /// selector may not have.
    pub fn delivery(&self, name: &str) -> Workload {
        let mut selectors = Selectors::default();
        selectors.add("files:set", name);
        self.lasting(selectors, &format!("files:{name}"))
    }

    /// The pod for which the driver of a volume asks, as the driver names it. A token has to speak for it; see
    /// [`Workload::bearing`]. The uid has no character that a selector may not have.
    pub fn mount(&self, pod_uid: &str) -> Workload {
        let mut selectors = Selectors::default();
        selectors.add("csi:pod-uid", pod_uid);
        let pod = Some(self.pods.coming(pod_uid));
        self.lasting(selectors, &format!("csi:{pod_uid}")).within(pod)
    }

    /// The service `unit`, for which systemd asks by the process `peer`. Blocks.
    ///
    /// systemd puts what becomes the service into the unit's control group before it asks, so a process that is not there
    /// does not ask for this unit, whoever it says that it is.
    ///
    /// # Errors
    /// [`AttestError`]; the caller must be refused then.
    pub fn unit(&self, peer: Peer, unit: &str) -> Result<Workload, AttestError> {
        let process = Process::open(&self.proc, peer.pid)?;
        let owner = process.owner()?;
        if (owner.uid, owner.gid) != (peer.uid, peer.gid) {
            return Err(AttestError::Changed { pid: peer.pid });
        }
        let groups = process.cgroups()?;
        process.confirm()?;
        let found = cgroup::selectors(&groups);
        let other = AttestError::OtherUnit { pid: peer.pid };
        if !found.iter().any(|found| found.kind == "systemd:unit" && found.value == unit) {
            return Err(other);
        }
        let group = cgroup::of_unit(&groups, unit).ok_or(other)?;
        let mut selectors = Selectors::default();
        for found in found {
            selectors.add(found.kind, found.value);
        }
        let instance = format!("unit:{unit}@{}", self.boot);
        let context = WorkloadContext { selectors: selectors.into_sorted(), instance, pid: 0 };
        Ok(Workload::new(context, Life::Unit(GROUPS.map(|root| Path::new(root).join(group)))))
    }

    /// Somebody who is no process, and is there as long as the agent.
    fn lasting(&self, selectors: Selectors, name: &str) -> Workload {
        let instance = format!("{name}@{}", self.boot);
        Workload::new(WorkloadContext { selectors: selectors.into_sorted(), instance, pid: 0 }, Life::Agent)
    }
}

/// What the kernel says of a peer when it connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    pub pid: u32,
    /// Effective ids.
    pub uid: u32,
    pub gid: u32,
}

impl Peer {
    /// Whoever connected.
    ///
    /// # Errors
    /// [`AttestError::Invisible`] for a process of a namespace that the agent cannot see into.
    pub fn of(stream: &tokio::net::UnixStream) -> Result<Self, AttestError> {
        let peer = stream.peer_cred().map_err(AttestError::Proc)?;
        let pid = peer.pid().and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid > 0);
        Ok(Self { pid: pid.ok_or(AttestError::Invisible)?, uid: peer.uid(), gid: peer.gid() })
    }
}

/// Why a caller could not be attested. Says nothing of it beyond its process id.
#[derive(Debug, thiserror::Error)]
pub enum AttestError {
    #[error("the caller runs in a process namespace that the agent cannot see into")]
    Invisible,
    #[error("process {pid} ended while it was looked at")]
    Gone { pid: u32 },
    #[error("process {pid} is not in the control group of the unit for which it asks")]
    OtherUnit { pid: u32 },
    #[error("process {pid} is not, or no longer, what connected")]
    Changed { pid: u32 },
    #[error("`{file}` of process {pid} cannot be read; check that `/proc` is mounted without `hidepid`")]
    Unreadable {
        pid: u32,
        file: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("`{file}` of process {pid} does not look as the kernel writes it")]
    Malformed { pid: u32, file: &'static str },
    #[error("several programs hold the connection, so none of them can be told to be the caller")]
    Shared,
    #[error("no process that the agent can see holds the connection")]
    Unheld,
    #[error("`/proc` cannot be read")]
    Proc(#[source] io::Error),
}

/// Where machines mount control groups: the one hierarchy, or beside the old ones the new and systemd's.
const GROUPS: [&str; 3] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd"];
