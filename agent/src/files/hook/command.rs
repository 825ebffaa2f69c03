//! A program, with nothing of the agent's.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::process::Stdio;

use rustix::io::retry_on_intr;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tokio::process::{Child, Command};

use super::HookError;

/// Runs `program` until it ends. It gets the variables in `told` and a plain `PATH`, no input, and a process group of its
/// own. Whatever is left of that group when the program ends, or when nobody waits for it any more, is killed.
pub(super) async fn run(
    program: &Path,
    arguments: &[String],
    told: &[(&str, &OsStr)],
) -> Result<(), HookError> {
    let not_started = |source| HookError::NotStarted { program: program.to_owned(), source };
    let child = Command::new(program)
        .args(arguments)
        .env_clear()
        .env("PATH", PATH)
        .envs(told.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .current_dir("/")
        .process_group(0)
        .spawn();
    let mut group = Group::of(child.map_err(not_started)?).map_err(not_started)?;
    // Before it is waited for: until then its number, and so the group's, is nobody else's.
    group.ended().await;
    group.kill();
    let status = group.child.wait().await.map_err(not_started)?;
    if status.success() { Ok(()) } else { Err(HookError::Failed { program: program.to_owned(), status }) }
}

/// A program and what it started, as far as that stayed with it.
struct Group {
    child: Child,
    leader: Pid,
    killed: bool,
}

impl Group {
    fn of(child: Child) -> io::Result<Self> {
        let leader = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let leader = leader.ok_or(io::ErrorKind::NotFound)?;
        Ok(Self { child, leader, killed: false })
    }

    /// Waits for the end of the program and leaves its status to be taken.
    async fn ended(&self) {
        let leader = self.leader;
        // On a thread of its own, which the end of the program ends, however that comes.
        let wait = move || {
            let flags = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            retry_on_intr(|| waitid(WaitId::Pid(leader), flags)).is_ok()
        };
        tokio::task::spawn_blocking(wait).await.unwrap_or_default();
    }

    fn kill(&mut self) {
        if !self.killed {
            self.killed = true;
            // That nothing is left to be killed is the usual case.
            kill_process_group(self.leader, Signal::KILL).unwrap_or_default();
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
