//! What the process gives up before it holds a secret.

use rustix::fs::Mode;
use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit, umask,
};

/// No core dumps, no tracing by other processes of the same user, no files for others, and, where the limit on locked
/// memory allows it, no swapping.
///
/// # Errors
/// [`HardeningError`]: a process that cannot give these up should not hold secrets.
pub fn harden() -> Result<Hardened, HardeningError> {
    umask(Mode::RWXG | Mode::RWXO);
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(HardeningError::Dumpable)?;
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }).map_err(HardeningError::Core)?;
    Ok(Hardened { locked: lock_memory() })
}

/// Lets the process open as many files as it may: each connection takes one, and one more for the process behind it.
///
/// # Errors
/// That of the system call.
pub fn raise_open_files() -> rustix::io::Result<()> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
}

/// What was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hardened {
    /// Whether memory stays out of swap.
    pub locked: bool,
}

/// Only without a limit: under one, an allocation past it would fail later and end the process. Pages are locked as they
/// are touched, so that reserved address space does not become resident.
fn lock_memory() -> bool {
    let unlimited = getrlimit(Resource::Memlock).current.is_none();
    unlimited && mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT).is_ok()
}

/// What could not be given up.
#[derive(Debug, thiserror::Error)]
pub enum HardeningError {
    #[error("the process cannot be made undumpable")]
    Dumpable(#[source] rustix::io::Errno),
    #[error("core dumps cannot be switched off")]
    Core(#[source] rustix::io::Errno),
}
