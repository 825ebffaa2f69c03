//! Keeps the memory of the process, and with it every secret, out of core dumps and other users' debuggers.

use std::io;

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// Switches core dumps off for this process, by limit and by attribute: a pipe handler ignores the limit.
///
/// # Errors
/// That of the system call.
pub fn keep_out_of_dumps() -> io::Result<()> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}
