//! A child process whose output is kept in files, and which never outlives its value.
//!
//! Output goes to files, not pipes: a full pipe stops the child, and the files are what the canary scan reads.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::io::Errno;
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};

use crate::wait::wait_for;

/// A running or ended child process.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
    stop_signal: Signal,
}

impl Process {
    /// Starts `command` without standard input. What it writes goes to `NAME.stdout` and `NAME.stderr` in `logs`;
    /// started again under the same name, to `NAME-2.stdout` and so on.
    ///
    /// # Errors
    /// It cannot be started, or the files cannot be made.
    pub fn start(name: &str, mut command: Command, logs: &Path) -> Result<Self> {
        let (stdout, stdout_file) = fresh(logs, name, "stdout")?;
        let (stderr, stderr_file) = fresh(logs, name, "stderr")?;
        command.stdin(Stdio::null()).stdout(stdout_file).stderr(stderr_file);
        let program = command.get_program().to_owned();
        let child = command
            .spawn()
            .with_context(|| format!("`{name}` cannot be started from `{}`", program.display()))?;
        Ok(Self { name: name.to_owned(), child, stdout, stderr, stop_signal: Signal::TERM })
    }

    /// Asks the process to end by `signal` instead of SIGTERM when it is stopped or dropped.
    #[must_use]
    pub fn stopped_by(mut self, signal: Signal) -> Self {
        self.stop_signal = signal;
        self
    }

    /// The process id. Belongs to this process until its end was seen.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it wrote to standard output so far; bytes that are no UTF-8 are replaced.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn stdout(&self) -> Result<String> {
        text(&self.stdout)
    }

    /// What it wrote to standard error so far; bytes that are no UTF-8 are replaced.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn stderr(&self) -> Result<String> {
        text(&self.stderr)
    }

    /// Its name and the last lines it wrote, for the message of a test that fails.
    pub fn report(&self) -> String {
        format!("process `{}`: {}; {}", self.name, tail(&self.stdout), tail(&self.stderr))
    }

    /// Waits for a whole line that holds `part`, on either output, and returns it.
    ///
    /// # Errors
    /// The process ended first, or no such line came within `limit`; with the last lines it wrote.
    pub fn wait_for_line(&mut self, limit: Duration, part: &str) -> Result<String> {
        self.wait_for(limit, &format!("a line with `{part}`"), |process| {
            let whole = |output: String| {
                let mut lines = output.split_inclusive('\n').filter(|line| line.ends_with('\n'));
                lines.find(|line| line.contains(part)).map(|line| line.trim_end().to_owned())
            };
            Ok(whole(process.stdout()?).or(whole(process.stderr()?)))
        })
    }

    /// Polls `attempt` until it yields a value, for as long as the process lives.
    ///
    /// # Errors
    /// As [`wait_for`](crate::wait_for), or the process ended first; with the last lines it wrote.
    pub fn wait_for<T>(
        &mut self,
        limit: Duration,
        what: &str,
        mut attempt: impl FnMut(&Self) -> Result<Option<T>>,
    ) -> Result<T> {
        let found = wait_for(limit, what, || {
            // Asked before the attempt: a process that writes its last line and ends is not told apart otherwise.
            let ended = self.child.try_wait()?;
            let found = attempt(self)?;
            match ended {
                Some(status) if found.is_none() => bail!("it ended ({status}) before there was {what}"),
                _ => Ok(found),
            }
        });
        found.with_context(|| self.report())
    }

    /// What it holds in memory, as the kernel counts it. In KiB.
    ///
    /// # Errors
    /// The process has ended.
    pub fn resident(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        // As proc(5) has it: `VmRSS:    852 kB`.
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
        kib.with_context(|| format!("`{}` has ended", self.name))
    }

    /// How many files it has open.
    ///
    /// # Errors
    /// The process has ended.
    pub fn open_files(&self) -> Result<u64> {
        Ok(u64::try_from(fs::read_dir(format!("/proc/{}/fd", self.pid()))?.count())?)
    }

    /// Lets it have no more files open than these, from now on.
    ///
    /// # Errors
    /// The system refuses: only root may do that to others.
    pub fn limit_files(&self, files: u64) -> Result<()> {
        let limit = Rlimit { current: Some(files), maximum: Some(MOST_FILES.max(files)) };
        Ok(prlimit(Some(Pid::from_child(&self.child)), Resource::Nofile, limit).map(drop)?)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// It still runs after `limit`; with the last lines it wrote.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let ended = wait_for(limit, "its end", || Ok(self.child.try_wait()?));
        ended.with_context(|| self.report())
    }

    /// Sends `signal`.
    ///
    /// # Errors
    /// The process has ended: its id may belong to another by now.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("`{}` cannot be sent a signal, it has ended ({status})", self.name);
        }
        Ok(kill_process(Pid::from_child(&self.child), signal)?)
    }

    /// Asks it to end and waits. One that ended before is left at that.
    ///
    /// # Errors
    /// It did not end by itself in time, and was killed.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        if let Some(status) = self.child.try_wait()? {
            return Ok(status);
        }
        kill_process(Pid::from_child(&self.child), self.stop_signal)?;
        let stopped = self.wait(STOP_LIMIT);
        if stopped.is_err() {
            self.kill()?;
        }
        stopped.with_context(|| format!("`{}` did not end when asked to, and was killed", self.name))
    }

    /// Ends it by SIGKILL, as a power cut would. One that ended before is left at that.
    ///
    /// # Errors
    /// The system refuses.
    pub fn kill(&mut self) -> Result<ExitStatus> {
        self.child.kill()?;
        Ok(self.child.wait()?)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // A test that cares how the process ends has called `stop`; here it only must not stay.
        if self.stop().is_err() {
            drop(self.kill());
        }
    }
}

/// Waits until every thread of a process that was sent SIGSTOP has stopped: until then it may still answer.
///
/// # Errors
/// The process has ended, or it goes on.
pub fn wait_stopped(pid: u32) -> Result<()> {
    wait_for(STOP_LIMIT, &format!("process {pid} to stop"), || {
        for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
            let status = match fs::read_to_string(thread?.path().join("stat")) {
                // It has ended meanwhile.
                Err(error) if is_gone(&error) => continue,
                status => status?,
            };
            // After the name, which is in brackets and may have any character: proc(5).
            let state = status.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
            // Stopped, or a zombie, which answers nothing either.
            if !matches!(state, Some('T' | 'Z' | 'X')) {
                return Ok(None);
            }
        }
        Ok(Some(()))
    })
}

/// Whether a process or thread ended while its files in `/proc` were read.
fn is_gone(error: &std::io::Error) -> bool {
    error.kind() == ErrorKind::NotFound || error.raw_os_error() == Some(Errno::SRCH.raw_os_error())
}

/// Makes the first of `NAME.KIND`, `NAME-2.KIND`, … that is not there yet.
fn fresh(logs: &Path, name: &str, kind: &str) -> Result<(PathBuf, File)> {
    let first = std::iter::once(format!("{name}.{kind}"));
    for file in first.chain((2..).map(|count| format!("{name}-{count}.{kind}"))) {
        let path = logs.join(file);
        match File::create_new(&path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            made => {
                let file = made.with_context(|| format!("log `{}` cannot be made", path.display()))?;
                return Ok((path, file));
            }
        }
    }
    bail!("every log name for `{name}` in `{}` is taken", logs.display())
}

fn text(path: &Path) -> Result<String> {
    let bytes = fs::read(path).with_context(|| format!("log `{}` cannot be read", path.display()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The last lines of a log, under a heading.
fn tail(path: &Path) -> String {
    match text(path) {
        Err(error) => format!("{error:#}"),
        Ok(text) if text.is_empty() => format!("`{}` is empty", path.display()),
        Ok(text) => {
            let lines: Vec<&str> = text.lines().collect();
            let last = lines.get(lines.len().saturating_sub(TAIL_LINES)..).unwrap_or_default();
            format!("`{}` ends with\n{}\n", path.display(), last.join("\n"))
        }
    }
}

/// As many as it may ask for itself again.
const MOST_FILES: u64 = 16_384;
const STOP_LIMIT: Duration = Duration::from_secs(20);
const TAIL_LINES: usize = 20;
