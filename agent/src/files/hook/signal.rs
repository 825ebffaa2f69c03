//! A signal to the process whose number a file has.
//!
//! Whoever writes the file says which process a privileged agent signals. So nobody may write it but its owner, and unless
//! that is root or the agent itself, the process has to be the owner's too.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, geteuid, pidfd_open, pidfd_send_signal};

use super::HookError;

/// Sends `signal`. Blocks.
pub(super) fn send(signal: Signal, pid_file: &Path) -> Result<(), HookError> {
    let path = || pid_file.to_owned();
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = rustix::fs::openat(CWD, pid_file, flags, Mode::empty()).map_err(|error| match error {
        Errno::LOOP => HookError::UnsafePidFile { path: path() },
        other => HookError::NoPidFile { path: path(), source: other.into() },
    })?;
    let unreadable = |source| HookError::NoPidFile { path: path(), source };
    let found = rustix::fs::fstat(&opened).map_err(|error| unreadable(error.into()))?;
    if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile || found.st_mode & 0o022 != 0 {
        return Err(HookError::UnsafePidFile { path: path() });
    }
    let mut text = String::new();
    File::from(opened).take(MAX_FILE).read_to_string(&mut text).map_err(unreadable)?;
    let number = text.trim().parse::<i32>().ok().filter(|number| *number > 1).and_then(Pid::from_raw);
    let number = number.ok_or_else(|| HookError::NoNumber { path: path() })?;
    let pid = number.as_raw_nonzero().get();

    // Opened first, so that what is looked at after is the process that gets the signal.
    let process = pidfd_open(number, PidfdFlags::empty());
    let process = process.map_err(|_| HookError::NotRunning { pid, path: path() })?;
    if found.st_uid != 0 && found.st_uid != geteuid().as_raw() {
        let runs_as = rustix::fs::stat(format!("/proc/{pid}")).map(|process| process.st_uid);
        if runs_as != Ok(found.st_uid) {
            return Err(HookError::NotTheirs { path: path(), owner: found.st_uid, pid });
        }
    }
    pidfd_send_signal(process, signal).map_err(|error| match error {
        Errno::SRCH => HookError::NotRunning { pid, path: path() },
        other => HookError::NotSent { pid, source: other.into() },
    })
}

const MAX_FILE: u64 = 64;
