//! Which process holds a socket, by the open files that `/proc` shows of each.
//!
//! The kernel says of a connection over loopback whose it is, a user's, and the number of its socket; which process that is
//! has to be looked for. Only processes of that very user count: the user is the border, and whoever gave a connection
//! to somebody else gave it away. One that the agent may not look into is passed over: what it could hide is no more than
//! any process of the user can, by having a connection under way to another when it is looked for.

use std::path::Path;

use rustix::fs::{AtFlags, CWD};

use super::AttestError;
use super::process::{self, Process};

/// A socket, as the kernel names it, and the user who made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Never 0, which is that of sockets that no file stands for.
    pub inode: u32,
    pub uid: u32,
}

/// The processes that hold the socket, the oldest first.
pub(super) fn all(proc: &Path, held: Held) -> Result<Vec<Process>, AttestError> {
    let mut holders = Vec::new();
    for pid in process::pids(proc)? {
        match look(proc, pid, held) {
            Ok(None) | Err(AttestError::Gone { pid: _ } | AttestError::Unreadable { file: "fd", .. }) => {}
            Ok(Some(_)) if holders.len() == MOST => return Err(AttestError::Shared),
            Ok(Some(process)) => holders.push(process),
            Err(error) => return Err(error),
        }
    }
    holders.sort_by_key(Process::age);
    Ok(holders)
}

fn look(proc: &Path, pid: u32, held: Held) -> Result<Option<Process>, AttestError> {
    // Cheap, and rules most of them out. What forbids that it is traced belongs to root as a folder, whoever's it is.
    let owner = rustix::fs::statat(CWD, proc.join(pid.to_string()), AtFlags::empty()).map(|stat| stat.st_uid);
    if !owner.is_ok_and(|owner| owner == held.uid || owner == 0) {
        return Ok(None);
    }
    let process = Process::open(proc, pid)?;
    if process.owner()?.uid != held.uid || !process.holds(held.inode)? {
        return Ok(None);
    }
    Ok(Some(process))
}

/// Each is attested.
const MOST: usize = 32;

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;

    use super::*;

    fn held(stream: &TcpStream) -> Held {
        let stat = rustix::fs::fstat(stream.as_fd()).expect("stat");
        Held { inode: u32::try_from(stat.st_ino).expect("inode"), uid: rustix::process::geteuid().as_raw() }
    }

    fn connected() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listener");
        let stream = TcpStream::connect(listener.local_addr().expect("address")).expect("connected");
        (stream, listener.accept().expect("accepted").0)
    }

    fn holders(held: Held) -> Vec<u32> {
        let all = all(Path::new("/proc"), held).expect("looked");
        // Other tests start programs, and a child has what its parent has until it executes something.
        all.iter().map(Process::pid).filter(|pid| *pid == std::process::id()).collect()
    }

    #[test]
    fn the_process_that_holds_a_socket_is_found_by_it_and_by_no_other() {
        let (stream, _other) = connected();
        let held = held(&stream);
        assert_eq!(holders(held), [std::process::id()]);
        assert_eq!(holders(Held { uid: held.uid + 1, ..held }), [0; 0]);
        drop(stream);
        assert_eq!(holders(held), [0; 0]);
    }

    #[test]
    fn all_that_hold_a_socket_are_found_and_the_oldest_comes_first() {
        let (stream, _other) = connected();
        let copy = stream.try_clone().expect("copy");
        let mut child = std::process::Command::new("cat");
        child.stdin(std::os::fd::OwnedFd::from(copy)).stdout(std::process::Stdio::null());
        let mut child = child.spawn().expect("child");
        let found = all(Path::new("/proc"), held(&stream)).expect("looked");
        let found: Vec<_> = found.iter().map(Process::pid).collect();
        child.kill().expect("killed");
        child.wait().expect("ended");
        assert!(found.first() == Some(&std::process::id()) && found.contains(&child.id()), "{found:?}");
    }
}
