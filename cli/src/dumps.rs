//! Keeps this process, which may hold secrets and always holds a credential, out of core dumps.
//!
//! By the limit on their size, and not by making the process undumpable as broker and agent do: that would also close
//! `/proc/PID` to an agent of the same user, which could then not attest what calls it.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The limit as it was, for the program that this process may become.
#[derive(Debug)]
pub(crate) struct CoreLimit(Rlimit);

impl CoreLimit {
    /// Allows no dump from now on.
    pub(crate) fn forbid() -> rustix::io::Result<Self> {
        let before = getrlimit(Resource::Core);
        setrlimit(Resource::Core, Rlimit { current: Some(ONE_BYTE), maximum: before.maximum })
            // Where less is allowed already, none can be written.
            .or_else(|error| if before.maximum == Some(0) { Ok(()) } else { Err(error) })?;
        Ok(Self(before))
    }

    /// As it was, in bytes; without a limit when absent. For a program that another process becomes.
    pub(crate) fn before(&self) -> Option<u64> {
        self.0.current
    }

    /// Puts it back: a program that is run decides about its own dumps.
    pub(crate) fn restore(&self) -> rustix::io::Result<()> {
        setrlimit(Resource::Core, self.0)
    }
}

/// Smaller than any dump, so no file is written; and the one value that also keeps Linux from handing a dump to a
/// program, for which it ignores every other limit (`do_coredump` in `fs/coredump.c`).
const ONE_BYTE: u64 = 1;
