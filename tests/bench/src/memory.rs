//! What a server holds in memory, as the kernel counts it.

use std::fs;

use anyhow::{Context, Result};

/// The resident set of process `pid`, in MiB.
///
/// # Errors
/// There is no such process.
pub(crate) fn resident(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).with_context(|| format!("`{path}` cannot be read"))?;
    let kib = kib(&status).with_context(|| format!("`{path}` is not in the form of proc(5)"))?;
    Ok(kib as f64 / 1024.0)
}

fn kib(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_resident_set_is_found_among_the_other_figures() {
        assert_eq!(kib("Name:\ta VmRSS:\nVmHWM:\t   900 kB\nVmRSS:\t   852 kB\n"), Some(852));
        assert_eq!(kib("Name:\tzombie\n"), None);
        assert!(resident(std::process::id()).unwrap() > 0.0);
    }
}
