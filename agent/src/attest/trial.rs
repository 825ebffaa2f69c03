//! For those who try what can be done to the parsers of `/proc` by whoever names a process, or a control group.

use super::cgroup;
use super::process;

/// When a process was started, in clock ticks since boot, by its `stat`; and whether it is a zombie.
pub fn since(stat: &str) -> Option<(u64, bool)> {
    process::parse_stat(stat).map(|process::Started { started, zombie }| (started, zombie))
}

/// The user, the group and the further groups of a process, by its `status`.
pub fn owned(status: &str) -> Option<(u32, u32, Vec<u32>)> {
    process::parse_status(status).map(|process::Owner { uid, gid, groups }| (uid, gid, groups))
}

/// What its `cgroup` says of a process: kinds of selectors with their values.
pub fn grouped(lines: &str) -> Vec<(&'static str, String)> {
    let found = cgroup::selectors(lines).into_iter();
    found.map(|cgroup::Found { kind, value }| (kind, value)).collect()
}
