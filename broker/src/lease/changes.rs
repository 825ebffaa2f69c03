//! Looking at the stores for new versions of what listeners hold.
//!
//! One look for each secret, however many hold it: nodes do not poll. Each store has a loop of its own, so that one that
//! hangs holds up no other, and asks by the cheapest call that it has. What is found to be the newest still is as good as
//! read, so that its readers meet the cache.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use bursar_core::backend::{BackendError, ErrorKind, Operation};
use bursar_core::{BackendName, Reference, SecretPath, Version};
use futures_util::future::join_all;
use futures_util::stream::{self, StreamExt};

use super::Leases;
use crate::mounts::{Content, Mount};

impl Leases {
    /// Looks at every store until the process stops.
    pub async fn look_for_changes(self: Arc<Self>) {
        let stores = self.mounts.iter().map(|(name, mount)| self.look_at(name, mount));
        // Without a store there is nothing to look at, and no end.
        let looks = async { (join_all(stores).await, pending::<()>().await) };
        tokio::select! {
            _ = looks => {}
            () = self.hear_of_writes() => {}
            _ = self.tasks.stopping() => {}
        }
    }

    /// What is written by this broker is looked at in that moment.
    async fn hear_of_writes(&self) {
        let mut written = self.mounts.written();
        loop {
            // Those that were missed are looked at in their time. The sender lives in `self`.
            if let Ok((backend, path)) = written.recv().await {
                self.watchers.written(&backend, &path);
            }
        }
    }

    async fn look_at(&self, name: &BackendName, mount: &Mount) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(TICK) => {}
                () = self.watchers.hurried() => {}
            }
            let due = self.watchers.due(name, self.clock.now(), |path| mount.contracts.of(path).poll);
            let looks = due.into_iter().map(|(path, known)| self.look(name, mount, path, known));
            stream::iter(looks).buffer_unordered(AT_A_TIME).for_each(|()| std::future::ready(())).await;
        }
    }

    async fn look(&self, name: &BackendName, mount: &Mount, path: SecretPath, known: Option<Content>) {
        let reference = Reference { backend: name.clone(), path, field: None, version: None };
        let found = match self.newest(mount, &reference.path).await {
            Ok(Some(version)) if known.as_ref().and_then(Content::version) == Some(&version) => {
                return self.mounts.confirm(&reference, &version);
            }
            // It has another version, or only reading tells.
            Ok(_) => self.mounts.fetch(mount, &reference, Some(Duration::ZERO)).await,
            Err(error) => Err(error),
        };
        match found {
            Ok(cached) => {
                if self.watchers.found(name, &reference.path, cached.content.clone()) {
                    self.metrics.change(name.as_str());
                }
            }
            // Looked at again in its time; its readers hear of the failure when they ask.
            Err(error) => tracing::debug!(backend = %name, %error, "a secret could not be looked at"),
        }
    }

    async fn newest(&self, mount: &Mount, path: &SecretPath) -> Result<Option<Version>, BackendError> {
        match mount.call(Operation::Newest, mount.backend.newest(path)).await {
            // The broker may read it and not look at its versions.
            Err(error) if error.kind == ErrorKind::Denied => Ok(None),
            other => other,
        }
    }
}

const TICK: Duration = Duration::from_secs(1);
/// Looks at one store at a time.
const AT_A_TIME: usize = 8;
