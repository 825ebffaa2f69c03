//! What is done when the files of a set have changed.
//!
//! One runs at a time for each set, and what changes meanwhile is one more reason and not one more run. Between two lies
//! the time that is configured, however often secrets change. It is told which set it is and whether the files were
//! delivered or removed, and no value. What it writes goes nowhere: it has read the files, and may say what is in them.
//!
//! A program that did not hear of a change goes on with what is about to end, so a hook that fails is run again, under the
//! one retry policy, until it succeeds. It holds up neither deliveries nor the hooks of other sets.

mod command;
mod named;
mod post;
mod signal;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::Duration;

use bursar_core::Explained;
use bursar_core::retry::Retry;
use tokio::sync::watch;
use tokio::time::Instant;

use super::board::Place;
use crate::config::{FileSet, Hook, HookAction};
use crate::telemetry::Metrics;

/// Why a hook runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    Delivered,
    Removed,
}

impl Event {
    fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Removed => "removed",
        }
    }
}

/// Tells a hook that something happened.
#[derive(Debug)]
pub(crate) struct Bell(Option<watch::Sender<Event>>);

impl Bell {
    /// Does not wait.
    pub(crate) fn ring(&self, event: Event) {
        if let Some(sender) = &self.0 {
            sender.send_replace(event);
        }
    }
}

/// Runs the hook of one set.
#[derive(Debug)]
pub(crate) struct Runner {
    set: String,
    directory: PathBuf,
    hook: Hook,
    events: watch::Receiver<Event>,
    metrics: Metrics,
    place: Place,
}

/// The hook of `set`, if it has one, and what makes it run.
pub(crate) fn of(set: &FileSet, metrics: &Metrics, place: &Place) -> (Bell, Option<Runner>) {
    let Some(hook) = set.hook.clone() else { return (Bell(None), None) };
    let (sender, events) = watch::channel(Event::Delivered);
    let runner = Runner {
        set: set.name.clone(),
        directory: set.directory.clone(),
        hook,
        events,
        metrics: metrics.clone(),
        place: place.clone(),
    };
    (Bell(Some(sender)), Some(runner))
}

impl Runner {
    /// Ends with the set.
    pub(crate) async fn run(mut self) {
        let mut next = Instant::now();
        while self.events.changed().await.is_ok() {
            let mut failed = 0;
            loop {
                tokio::time::sleep_until(next).await;
                let event = *self.events.borrow_and_update();
                let outcome = self.once(event).await;
                next = Instant::now() + self.hook.every;
                self.told(event, outcome.as_ref().err());
                if outcome.is_ok() {
                    break;
                }
                failed += 1;
                tokio::select! {
                    () = tokio::time::sleep(Retry::BACKGROUND.delay(failed)) => {}
                    _ = self.events.changed() => {}
                }
            }
        }
    }

    async fn once(&self, event: Event) -> Result<(), HookError> {
        let work = async {
            match &self.hook.action {
                HookAction::Command { program, arguments } => {
                    let told = [
                        ("BURSAR_FILES_SET", self.set.as_ref()),
                        ("BURSAR_FILES_DIRECTORY", self.directory.as_os_str()),
                        ("BURSAR_FILES_EVENT", event.as_str().as_ref()),
                    ];
                    command::run(program, arguments, &told).await
                }
                HookAction::Signal { signal, pid_file } => {
                    let (signal, pid_file) = (*signal, pid_file.clone());
                    let sent = tokio::task::spawn_blocking(move || signal::send(signal, &pid_file));
                    sent.await.unwrap_or(Err(HookError::Panicked))
                }
                HookAction::Named { signal, name } => {
                    let (signal, name) = (*signal, name.clone());
                    let sent = tokio::task::spawn_blocking(move || named::send(signal, &name));
                    sent.await.unwrap_or(Err(HookError::Panicked))
                }
                HookAction::Http { address, uri } => post::post(*address, uri).await,
            }
        };
        let late = HookError::TimedOut { after: self.hook.timeout };
        tokio::time::timeout(self.hook.timeout, work).await.unwrap_or(Err(late))
    }

    fn told(&self, event: Event, error: Option<&HookError>) {
        self.place.hooked(error.is_none());
        self.metrics.hook(match error {
            None => "done",
            Some(HookError::TimedOut { .. }) => "timed_out",
            Some(_) => "failed",
        });
        let (set, event) = (&self.set, event.as_str());
        match error {
            None => tracing::info!(set, event, "the hook of a set of files is done"),
            Some(error) => {
                let error = Explained(error);
                tracing::warn!(set, event, %error, "the hook of a set of files failed; it is run again");
            }
        }
    }
}

/// Why a hook failed. Says nothing that it wrote.
#[derive(Debug, thiserror::Error)]
pub(super) enum HookError {
    #[error("`{}` cannot be started", program.display())]
    NotStarted {
        program: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("`{}` ended with {status}", program.display())]
    Failed { program: PathBuf, status: std::process::ExitStatus },
    #[error("it was not done after {after:?}, and was ended")]
    TimedOut { after: Duration },
    #[error("`{}` cannot be read", path.display())]
    NoPidFile {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("`{}` is a link, or no file, or others may write to it: anybody could say who gets the signal", path.display())]
    UnsafePidFile { path: PathBuf },
    #[error("`{}` has no number of a process greater than 1", path.display())]
    NoNumber { path: PathBuf },
    #[error("process {pid}, of `{}`, does not run", path.display())]
    NotRunning { pid: i32, path: PathBuf },
    #[error("`{}` belongs to user {owner}, and process {pid} to another: whoever wrote it may not signal that one", path.display())]
    NotTheirs { path: PathBuf, owner: u32, pid: i32 },
    #[error("the agent may not signal process {pid}; it needs the capability CAP_KILL")]
    NotSent {
        pid: i32,
        #[source]
        source: std::io::Error,
    },
    #[error("the processes of the pod cannot be seen")]
    Unseen {
        #[source]
        source: std::io::Error,
    },
    #[error("no process `{name}` of user {user} runs in the pod")]
    NoProcess { name: String, user: u32 },
    #[error("the server at {address} cannot be reached, or does not speak HTTP")]
    Unreachable {
        address: std::net::SocketAddr,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("the server answered {status}")]
    Refused { status: http::StatusCode },
    #[error("it did not end as it should; the lines before this one say why")]
    Panicked,
}
