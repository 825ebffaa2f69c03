//! What a server costs: the time that its process spent on processors, as the kernel counts it.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

/// User and system time of all threads of process `pid` so far, in steps of a clock tick (10 ms on Linux).
///
/// # Errors
/// There is no such process.
pub(crate) fn time(pid: u32) -> Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let stat = fs::read_to_string(&path).with_context(|| format!("`{path}` cannot be read"))?;
    let ticks = ticks(&stat).with_context(|| format!("`{path}` is not in the form of proc(5)"))?;
    Ok(Duration::from_nanos(ticks * 1_000_000_000 / rustix::param::clock_ticks_per_second()))
}

/// The process that was started in `directory`: a server whose handle does not tell its id.
///
/// # Errors
/// None, or `/proc` cannot be read.
pub(crate) fn process_in(directory: &Path) -> Result<u32> {
    let directory = directory.canonicalize()?;
    for entry in fs::read_dir("/proc").context("`/proc` cannot be read")? {
        let entry = entry?;
        let pid = entry.file_name().to_str().and_then(|name| name.parse().ok());
        // Other users' processes do not tell, and some end meanwhile.
        let here = fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd == directory);
        if let (Some(pid), true) = (pid, here) {
            return Ok(pid);
        }
    }
    anyhow::bail!("no process runs in `{}`", directory.display())
}

/// Fields 14 and 15. They are counted from the last `)`, since the name before it may hold spaces and parentheses.
fn ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut times = fields.split_whitespace().skip(11).map(|field| field.parse::<u64>().ok());
    Some(times.next()?? + times.next()??)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_spaces_does_not_shift_the_fields() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194304 100 0 0 0 12 30 5 6 20 0 9 0 100 1 2";
        assert_eq!(ticks(stat), Some(42));
    }

    #[test]
    fn a_line_cut_off_is_refused() {
        assert_eq!(ticks("7 (a) S 1 7 7 0 -1 4194304 100 0 0 0 12"), None);
        assert_eq!(ticks(""), None);
    }

    #[test]
    fn this_process_is_found_and_has_a_time() {
        let here = std::env::current_dir().unwrap();
        time(process_in(&here).unwrap()).unwrap();
    }
}
