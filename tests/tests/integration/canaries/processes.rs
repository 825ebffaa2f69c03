//! What is seen of a process from outside, and whether it could leave a dump.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use bursar_tests::Signal;
use rustix::process::{Resource, Rlimit, setrlimit};

/// What `/proc` shows of a process.
pub(super) struct Seen {
    pub(super) arguments: Vec<(String, Vec<u8>)>,
    environment: Vec<(String, Vec<u8>)>,
}

impl Seen {
    pub(super) fn of(pid: u32) -> Result<Self> {
        let read =
            |file: &str| Ok::<_, anyhow::Error>((file.to_owned(), fs::read(format!("/proc/{pid}/{file}"))?));
        Ok(Self { arguments: vec![read("cmdline")?, read("comm")?], environment: vec![read("environ")?] })
    }

    /// Of a process that must not be dumped: its files in `/proc` belong to root, whoever runs it, and its limit on the
    /// size of dumps is zero for good.
    pub(super) fn undumpable(pid: u32) -> Result<Self> {
        let limits = fs::read_to_string(format!("/proc/{pid}/limits"))?;
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).context("no limit")?;
        let figures: Vec<_> = core.split_whitespace().skip(4).take(2).collect();
        ensure!(figures == ["0", "0"], "the limits on dumps are {figures:?}");
        Self::of(pid)
    }

    pub(super) fn everything(&self) -> Vec<(String, Vec<u8>)> {
        self.arguments.iter().chain(&self.environment).cloned().collect()
    }
}

/// Lifts the limit on core dumps from what this process starts: a dump that the surroundings forbid would not show that
/// a program forbids it.
pub(super) fn dumps_are_allowed() -> Result<()> {
    let unlimited = Rlimit { current: None, maximum: None };
    setrlimit(Resource::Core, unlimited).context("core dumps cannot be allowed: run the tests as root")?;
    let place = tempfile::tempdir()?;
    let mut child = sleeper(place.path())?;
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), Signal::ABORT)?;
    let status = child.wait()?;
    let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern")?;
    ensure!(
        status.core_dumped() || pattern.starts_with('|'),
        "a program that does not forbid it leaves no dump here ({status}, pattern `{}`), so nothing would be shown",
        pattern.trim()
    );
    Ok(())
}

fn sleeper(place: &Path) -> Result<Child> {
    let mut command = Command::new("tail");
    command.args(["-f", "/dev/null"]).current_dir(place).stdin(Stdio::null());
    Ok(command.spawn()?)
}
