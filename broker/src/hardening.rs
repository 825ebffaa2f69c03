//! What the process asks of the kernel before it serves: its memory, and with it every secret, out of core dumps and other
//! users' debuggers; and as many open files as it may have.

use std::io;

use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};

/// Switches core dumps off for this process, by limit and by attribute: a pipe handler ignores the limit.
///
/// # Errors
/// That of the system call.
pub fn keep_out_of_dumps() -> io::Result<()> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

/// Lets the process open as many files as it may, and answers how many these are; nothing, where there is no limit. What
/// services are given at first is meant for programs that use `select`, and is a thousand.
///
/// # Errors
/// That of the system call.
pub fn raise_open_files() -> io::Result<Option<u64>> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    Ok(maximum)
}
