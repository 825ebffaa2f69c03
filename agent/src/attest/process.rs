//! One process, by its folder in `/proc`.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags, Stat};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::AttestError;

/// An open folder `/proc/PID`. Once the process has ended, reads through it fail, whoever has its number by then.
#[derive(Debug)]
pub(super) struct Process {
    pid: u32,
    folder: OwnedFd,
    /// In clock ticks since boot.
    started: u64,
}

/// The ids that a process acts under.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Supplementary groups.
    pub(super) groups: Vec<u32>,
}

impl Process {
    pub(super) fn open(proc: &Path, pid: u32) -> Result<Self, AttestError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::openat(CWD, proc.join(pid.to_string()), flags, Mode::empty());
        let folder = folder.map_err(|error| fault(pid, "", error.into()))?;
        let mut process = Self { pid, folder, started: 0 };
        process.started = process.start_time()?;
        Ok(process)
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// Orders processes by when they started.
    pub(super) fn age(&self) -> (u64, u32) {
        (self.started, self.pid)
    }

    /// In clock ticks since boot.
    pub(super) fn started(&self) -> u64 {
        self.started
    }

    /// That it is still the process that was opened.
    pub(super) fn confirm(&self) -> Result<(), AttestError> {
        if self.start_time()? == self.started { Ok(()) } else { Err(AttestError::Changed { pid: self.pid }) }
    }

    /// Names the process among all of this machine, on every boot.
    pub(super) fn instance(&self, boot: &str) -> String {
        format!("{}:{}@{boot}", self.pid, self.started)
    }

    pub(super) fn owner(&self) -> Result<Owner, AttestError> {
        parse_status(&self.read("status")?).ok_or(AttestError::Malformed { pid: self.pid, file: "status" })
    }

    /// The lines of its control groups.
    pub(super) fn cgroups(&self) -> Result<String, AttestError> {
        self.read("cgroup")
    }

    /// The path of its executable, as the kernel writes it.
    pub(super) fn exe_path(&self) -> Result<Vec<u8>, Errno> {
        rustix::fs::readlinkat(&self.folder, "exe", Vec::new()).map(std::ffi::CString::into_bytes)
    }

    /// The file that it executes, for reading, whatever has become of its path.
    pub(super) fn exe_file(&self) -> Result<File, Errno> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        rustix::fs::openat(&self.folder, "exe", flags, Mode::empty()).map(File::from)
    }

    /// What is known of the file that it executes, for which it need not be readable.
    pub(super) fn exe_stat(&self) -> Result<Stat, Errno> {
        rustix::fs::statat(&self.folder, "exe", AtFlags::empty())
    }

    /// Whether one of its open files is the socket with this number.
    pub(super) fn holds(&self, inode: u32) -> Result<bool, AttestError> {
        let fault = |error: Errno| fault(self.pid, "fd", error.into());
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::openat(&self.folder, "fd", flags, Mode::empty()).map_err(fault)?;
        let wanted = format!("socket:[{inode}]").into_bytes();
        let mut link = Vec::with_capacity(64);
        for entry in Dir::read_from(&folder).map_err(fault)? {
            match rustix::fs::readlinkat(&folder, entry.map_err(fault)?.file_name(), link) {
                Ok(target) if target.as_bytes() == wanted => return Ok(true),
                Ok(target) => link = target.into_bytes(),
                // `.` and `..` are no links, and a file may be closed meanwhile.
                Err(Errno::INVAL | Errno::NOENT) => link = Vec::with_capacity(64),
                Err(error) => return Err(fault(error)),
            }
        }
        Ok(false)
    }

    fn start_time(&self) -> Result<u64, AttestError> {
        let stat = parse_stat(&self.read("stat")?);
        let stat = stat.ok_or(AttestError::Malformed { pid: self.pid, file: "stat" })?;
        if stat.zombie { Err(AttestError::Gone { pid: self.pid }) } else { Ok(stat.started) }
    }

    fn read(&self, file: &'static str) -> Result<String, AttestError> {
        let fault = |error: io::Error| fault(self.pid, file, error);
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(&self.folder, file, flags, Mode::empty());
        let opened = File::from(opened.map_err(|error| fault(error.into()))?);
        let mut bytes = Vec::with_capacity(1024);
        opened.take(MAX_FILE).read_to_end(&mut bytes).map_err(fault)?;
        // Names of processes and control groups need not be UTF-8. What is parsed here is.
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// A handle on a process that tells whether it still runs. It never means another process.
#[derive(Debug)]
pub(super) struct Alive(OwnedFd);

impl Alive {
    /// Has to be taken between opening the process and confirming it, which ties the two together.
    pub(super) fn watch(pid: u32) -> Result<Self, AttestError> {
        let number = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(AttestError::Gone { pid })?;
        let handle = pidfd_open(number, PidfdFlags::empty());
        handle.map(Self).map_err(|error| fault(pid, "pidfd", error.into()))
    }

    /// One system call. An error counts as an end: who cannot be seen to run is not served.
    pub(super) fn check(&self) -> bool {
        let mut handle = [PollFd::new(&self.0, PollFlags::IN)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        matches!(poll(&mut handle, Some(&now)), Ok(0))
    }
}

/// The numbers of all processes that the agent sees.
pub(super) fn pids(proc: &Path) -> Result<Vec<u32>, AttestError> {
    let unreadable = |error: Errno| AttestError::Proc(error.into());
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::open(proc, flags, Mode::empty()).map_err(unreadable)?;
    let mut pids = Vec::new();
    for entry in Dir::new(folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        pids.extend(entry.file_name().to_str().ok().and_then(|name| name.parse::<u32>().ok()));
    }
    Ok(pids)
}

fn fault(pid: u32, file: &'static str, error: io::Error) -> AttestError {
    match Errno::from_io_error(&error) {
        Some(Errno::NOENT | Errno::SRCH) => AttestError::Gone { pid },
        _ => AttestError::Unreadable { pid, file, source: error },
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Started {
    pub(super) started: u64,
    pub(super) zombie: bool,
}

/// Reads `/proc/PID/stat` (proc(5)): the command in parentheses may hold anything, parentheses too, so fields are
/// counted from the last one. The state is field 3, the start time field 22.
pub(super) fn parse_stat(text: &str) -> Option<Started> {
    let (_, fields) = text.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace();
    let zombie = matches!(fields.next()?, "Z" | "X" | "x");
    Some(Started { started: fields.nth(18)?.parse().ok()?, zombie })
}

/// Reads `/proc/PID/status`: real, effective, saved and filesystem ids, of which the effective ones count.
pub(super) fn parse_status(text: &str) -> Option<Owner> {
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
    let effective = |name| field(name)?.split_ascii_whitespace().nth(1)?.parse().ok();
    let groups = field("Groups:")?.split_ascii_whitespace().map(str::parse);
    let mut groups = groups.collect::<Result<Vec<_>, _>>().ok()?;
    groups.sort_unstable();
    Some(Owner { uid: effective("Uid:")?, gid: effective("Gid:")?, groups })
}

/// A process in 65,536 groups has a status of about half a megabyte.
const MAX_FILE: u64 = 1024 * 1024;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STAT: &str = "42 (a) b (c) S 1 42 42 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 98765 1000 10 184467";

    #[test]
    fn a_command_full_of_parentheses_does_not_shift_the_fields() {
        assert_eq!(parse_stat(STAT), Some(Started { started: 98765, zombie: false }));
    }

    #[test]
    fn a_zombie_is_told_apart() {
        assert!(parse_stat(&STAT.replace(") S ", ") Z ")).is_some_and(|stat| stat.zombie));
    }

    #[test]
    fn a_cut_off_stat_is_refused() {
        assert_eq!(parse_stat("42 (a) S 1 42"), None);
        assert_eq!(parse_stat(""), None);
    }

    #[test]
    fn the_effective_ids_count() {
        let text = "Name:\tUid:\nUid:\t1000\t0\t0\t0\nGid:\t1000\t7\t0\t0\nGroups:\t4 24 \n";
        assert_eq!(parse_status(text), Some(Owner { uid: 0, gid: 7, groups: vec![4, 24] }));
    }

    #[test]
    fn a_status_without_ids_is_refused() {
        assert_eq!(parse_status("Name:\ta\nUid:\tx\nGid:\t0\t0\nGroups:\t\n"), None);
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_parsers(text in "(.|\\n|\\)| |[0-9]|Uid:|Gid:|Groups:|\\t){0,80}") {
            drop((parse_stat(&text), parse_status(&text)));
        }
    }
}
