//! The sidecar of a pod: one set of files in a memory volume, by the pod's own token, straight from the broker.
//!
//! It is not the node's agent in small. There is no cache that others could ask and so nothing to journal: every value it
//! has was just disclosed to this pod, and the broker has the record. What it shares with the agent is how files are made
//! and written, and what a program is told of a change.
//!
//! What was delivered stays no longer than it may: when the broker refuses the pod, or the first lease ends and there is
//! nothing else, the files go. Everything that fails is tried again under the one policy. The process ends when it is told
//! to, and never by itself: kubelet would only start it again.

mod arguments;
mod install;
mod source;

use std::path::Path;
use std::sync::Arc;

use bursar_core::tasks::Tasks;
use bursar_core::{Clock, Explained};
use bursar_sdk::{Client, Error, Tls};
use tokio::time::Instant;
use tonic::Code;

pub use arguments::Arguments;
pub use install::{InstallError, Installation};

use crate::config::FileSet;
use crate::files::board::Board;
use crate::files::directory::{Delivered, Directory};
use crate::files::hook::{self, Bell, Event};
use crate::files::put::put;
use crate::files::render::render_in_pod;
use crate::telemetry::Metrics;
use source::{Contents, Source, Wanted};

/// Delivers until `tasks` stop.
///
/// # Errors
/// The broker's trust bundle cannot be used.
pub async fn run(arguments: Arguments, clock: Arc<dyn Clock>, tasks: &Tasks) -> Result<(), Error> {
    let set = arguments.set();
    let tls = Tls { ca_pem: arguments.ca_pem.into_bytes(), identity: None, server_name: None };
    let client = Client::connect_lazy(&arguments.address, Some(&tls))?.with_token_file(&arguments.token_file);
    let wanted = arguments.env.map_or(Wanted::Secrets(arguments.secret), Wanted::Environment);
    let (bell, hook) = hook::of(&set, &Metrics::default(), &Board::default().place());
    if let Some(runner) = hook {
        let stop = tasks.clone();
        tasks.run("hook", async move {
            stop.until_stopping(runner.run()).await;
        });
    }
    let directory = Directory::in_pod(&set.directory);
    let mut delivery =
        Delivery { set, mode: arguments.mode, directory, clock, bell, end: None, has_files: false };
    let mut source = Source::new(client, wanted, arguments.ttl);
    tasks.until_stopping(delivery.follow(&mut source)).await;
    Ok(())
}

/// Whether the first set was delivered into `directory`.
pub fn is_delivered(directory: &Path) -> bool {
    directory.join("..data").is_dir()
}

struct Delivery {
    set: FileSet,
    /// Of variables that are files of their own.
    mode: u32,
    directory: Directory,
    clock: Arc<dyn Clock>,
    bell: Bell,
    /// When what is there must be gone.
    end: Option<Instant>,
    has_files: bool,
}

impl Delivery {
    /// Never ends.
    async fn follow(&mut self, source: &mut Source) {
        // Of a sidecar before this one, which may have ended before what it delivered did.
        self.has_files = is_delivered(&self.set.directory);
        loop {
            let end = self.end;
            let over = async {
                match end {
                    Some(end) => tokio::time::sleep_until(end).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                next = source.next() => self.take(next).await,
                () = over => {
                    tracing::warn!("what the files stand on is over, and there is nothing else");
                    self.remove().await;
                }
            }
        }
    }

    async fn take(&mut self, next: Result<Contents, Error>) {
        let contents = match next {
            Ok(contents) => contents,
            Err(error) => {
                let refused = error.refusal().map(|refusal| refusal.code);
                let why = Explained(&error);
                tracing::warn!(error = %why, "the pod's secrets cannot be had");
                if matches!(refused, Some(Code::PermissionDenied | Code::Unauthenticated)) {
                    self.remove().await;
                }
                return;
            }
        };
        let end = contents.end;
        let (outputs, mode) = (self.set.outputs.clone(), self.mode);
        let make = move || render_in_pod(&outputs, (contents.variables, contents.files), mode);
        match put(self.directory.clone(), Arc::clone(&self.clock), make).await {
            Ok((delivered, _)) => {
                self.end = end;
                if delivered == Delivered::Replaced {
                    tracing::info!("the files were delivered");
                    if std::mem::replace(&mut self.has_files, true) {
                        self.bell.ring(Event::Delivered);
                    }
                }
            }
            Err(error) => {
                let error = Explained(&error);
                tracing::error!(
                    %error,
                    "the files could not be delivered; those from before stay until their end"
                );
            }
        }
    }

    async fn remove(&mut self) {
        self.end = None;
        let directory = self.directory.clone();
        let removed = tokio::task::spawn_blocking(move || directory.clear()).await;
        match removed {
            Ok(Ok(had)) => {
                if had {
                    tracing::warn!("the files were removed");
                    self.bell.ring(Event::Removed);
                }
            }
            Ok(Err(error)) => {
                let error = Explained(&error);
                tracing::error!(%error, "files that are over could not be removed; it is tried again");
                self.end = Some(Instant::now() + AGAIN);
            }
            Err(_) => {
                tracing::error!("the removal did not end as it should; the lines before this one say why");
            }
        }
    }
}

const AGAIN: std::time::Duration = std::time::Duration::from_secs(5);
