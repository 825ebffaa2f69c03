//! A program of Bursar as a child process, with its output in a file.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use super::place::Place;
use crate::error::Error;

/// A running program.
#[derive(Debug)]
pub(super) struct Program {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Program {
    /// Starts the program that lies beside this one.
    pub(super) fn start(place: &Place, name: &'static str, arguments: &[&str]) -> Result<Self, Error> {
        let log = place.log(name);
        let mut command = command(place, name, arguments)?;
        let child = command.spawn().map_err(|source| Error::Start { program: name.to_owned(), source })?;
        Ok(Self { name, child, log })
    }

    /// Runs it to its end.
    pub(super) async fn run(place: &Place, name: &'static str, arguments: &[&str]) -> Result<(), Error> {
        let mut program = Self::start(place, name, arguments)?;
        let status = program.child.wait().await?;
        if status.success() { Ok(()) } else { Err(program.ended(status)) }
    }

    /// Asks it to end, and ends it when it does not.
    pub(super) async fn stop(mut self) -> Result<(), Error> {
        if let (None, Some(pid)) = (self.child.try_wait()?, self.pid()) {
            kill_process(pid, Signal::TERM).map_err(std::io::Error::from)?;
            if tokio::time::timeout(GRACE, self.child.wait()).await.is_err() {
                self.child.kill().await?;
            }
        }
        Ok(())
    }

    fn pid(&self) -> Option<Pid> {
        self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw)
    }

    fn ended(&self, status: ExitStatus) -> Error {
        Error::Dev(format!("`{}` ended ({status}); its log is `{}`", self.name, self.log.display()))
    }
}

/// Waits until one of the programs ends, which none should.
pub(super) async fn any_end(programs: &mut [Program]) -> Result<(), Error> {
    let mut waits: Vec<_> = programs.iter_mut().map(|program| Box::pin(end(program))).collect();
    std::future::poll_fn(|context| {
        let ended = waits.iter_mut().map(|wait| wait.as_mut().poll(context));
        ended.filter(std::task::Poll::is_ready).last().unwrap_or(std::task::Poll::Pending)
    })
    .await
}

async fn end(program: &mut Program) -> Result<(), Error> {
    let status = program.child.wait().await?;
    Err(program.ended(status))
}

fn command(place: &Place, name: &'static str, arguments: &[&str]) -> Result<Command, Error> {
    let start = |source| Error::Start { program: name.to_owned(), source };
    let this = std::env::current_exe().map_err(start)?;
    let log = log(&place.log(name)).and_then(|log| Ok((log.try_clone()?, log))).map_err(start)?;
    let mut command = Command::new(this.with_file_name(name));
    command.arg("--config").arg(place.config(name)).args(arguments);
    command.env_clear().stdin(Stdio::null()).stdout(log.0).stderr(log.1);
    // A group of its own: Ctrl-C is for this process, which ends the others in their order.
    command.process_group(0).kill_on_drop(true);
    Ok(command)
}

fn log(path: &std::path::Path) -> std::io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

const GRACE: Duration = Duration::from_secs(15);
