//! A signal to the processes of one name, in a pod whose containers see each other's processes.
//!
//! Only processes of the user that this is run as count: nobody else's would take a signal of ours. Of a server with workers
//! of the same name, the workers hear of it from the one that started them.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt;

use rustix::process::{Pid, PidfdFlags, Signal, geteuid, pidfd_open, pidfd_send_signal};

use super::HookError;

/// Sends `signal` to each. Blocks.
pub(super) fn send(signal: Signal, name: &str) -> Result<(), HookError> {
    let unseen = |source| HookError::Unseen { source };
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").map_err(unseen)? {
        let number = entry.map_err(unseen)?.file_name().to_str().and_then(|name| name.parse().ok());
        found.extend(number.and_then(|number| Found::look(number, name)));
    }
    let all: HashSet<i32> = found.iter().map(|found| found.number).collect();
    let mut told = false;
    for Found { number, handle, .. } in found.iter().filter(|found| !all.contains(&found.parent)) {
        match pidfd_send_signal(handle, signal) {
            Ok(()) => told = true,
            // It ended meanwhile.
            Err(rustix::io::Errno::SRCH) => {}
            Err(error) => return Err(HookError::NotSent { pid: *number, source: error.into() }),
        }
    }
    if told { Ok(()) } else { Err(HookError::NoProcess { name: name.to_owned(), user: geteuid().as_raw() }) }
}

struct Found {
    number: i32,
    parent: i32,
    handle: std::os::fd::OwnedFd,
}

impl Found {
    /// The process with this number, if it has this name and is ours. The handle comes first, so that what is looked at after
    /// is the process that gets the signal.
    fn look(number: i32, name: &str) -> Option<Self> {
        let handle = pidfd_open(Pid::from_raw(number)?, PidfdFlags::empty()).ok()?;
        let folder = format!("/proc/{number}");
        let is_ours = fs::metadata(&folder).is_ok_and(|folder| folder.uid() == geteuid().as_raw());
        let stat = fs::read(format!("{folder}/stat")).ok().filter(|_| is_ours)?;
        let (called, parent) = parse(&String::from_utf8_lossy(&stat))?;
        (called == name).then_some(Self { number, parent, handle })
    }
}

/// The name of a process and the number of its parent (proc(5)): the name may hold anything, parentheses too.
fn parse(stat: &str) -> Option<(String, i32)> {
    let (_, rest) = stat.split_once('(')?;
    let (name, fields) = rest.rsplit_once(')')?;
    Some((name.to_owned(), fields.split_ascii_whitespace().nth(1)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_process_of_that_name_gets_the_signal_and_one_of_another_does_not() {
        let folder = tempfile::tempdir().expect("folder");
        // A name that no process of another test has, of 15 bytes: as many as the kernel keeps.
        let name = format!("sig{:012x}", fastrand::u64(..1 << 48));
        let copy = folder.path().join(&name);
        fs::copy("/bin/cat", &copy).expect("copied");
        let start = |program: &std::path::Path| {
            Command::new(program).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("started")
        };
        let (mut told, mut other) = (start(&copy), start(std::path::Path::new("/bin/cat")));
        send(Signal::TERM, &name).expect("sent");
        assert_eq!(told.wait().expect("ended").signal(), Some(Signal::TERM.as_raw()));
        drop(other.stdin.take());
        assert!(other.wait().expect("ended").success(), "another process got it");
        assert!(matches!(send(Signal::TERM, &name), Err(HookError::NoProcess { .. })));
    }

    #[test]
    fn a_name_may_hold_anything() {
        assert_eq!(parse("42 (a) b) S 7 1"), Some(("a) b".to_owned(), 7)));
        for bad in ["", "42", "42 (a", "42 (a) S", "42 (a) S x"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
