//! What the process gives up before it holds a secret.

use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit, umask,
};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set, set_capabilities,
};

/// No core dumps, no tracing by other processes of the same user, no files for others, no capability for what it starts,
/// and, where the limit on locked memory allows it, no swapping. To be called while the process has one thread.
///
/// # Errors
/// [`HardeningError`]: a process that cannot give these up should not hold secrets.
pub fn harden() -> Result<Hardened, HardeningError> {
    umask(Mode::RWXG | Mode::RWXO);
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(HardeningError::Dumpable)?;
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }).map_err(HardeningError::Core)?;
    keep_capabilities().map_err(HardeningError::Capabilities)?;
    Ok(Hardened { locked: lock_memory() })
}

/// Lets the process open as many files as it may, and answers how many these are; nothing, where there is no limit. Each
/// connection takes one, and one more for the process behind it.
///
/// # Errors
/// That of the system call.
pub fn raise_open_files() -> rustix::io::Result<Option<u64>> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    Ok(maximum)
}

/// What was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hardened {
    /// Whether memory stays out of swap.
    pub locked: bool,
}

/// An agent that is not root has its capabilities as ambient ones, which every program inherits: hooks would read the
/// files of other users, and programs that run as another user would become a third.
fn keep_capabilities() -> Result<(), Errno> {
    clear_ambient_capability_set()?;
    let own = capabilities(None)?;
    set_capabilities(None, CapabilitySets { inheritable: CapabilitySet::empty(), ..own })
}

/// Only without a limit, which CAP_IPC_LOCK lifts: under one, an allocation past it would fail later and end the process.
/// Pages are locked as they are touched, so that reserved address space does not become resident.
fn lock_memory() -> bool {
    let lifted = || capabilities(None).is_ok_and(|own| own.effective.contains(CapabilitySet::IPC_LOCK));
    let unlimited = getrlimit(Resource::Memlock).current.is_none() || lifted();
    unlimited && mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT).is_ok()
}

/// What could not be given up.
#[derive(Debug, thiserror::Error)]
pub enum HardeningError {
    #[error("the process cannot be made undumpable")]
    Dumpable(#[source] Errno),
    #[error("core dumps cannot be switched off")]
    Core(#[source] Errno),
    #[error("capabilities cannot be kept from what is started")]
    Capabilities(#[source] Errno),
}
