//! Where a store's client gets a credential of the broker's own.

use std::fmt;
use std::io;
use std::sync::Arc;

use super::Secret;

/// Reads a credential of the broker's own, afresh each time. Cheap to clone.
#[derive(Clone)]
pub struct SecretReader {
    source: Arc<str>,
    read: Arc<dyn Fn() -> io::Result<Secret> + Send + Sync>,
}

impl SecretReader {
    /// Reads by calling `read`, which may block. `source` names the place in logs: ``file `/run/secret-id` ``.
    pub fn new(source: &str, read: impl Fn() -> io::Result<Secret> + Send + Sync + 'static) -> Self {
        Self { source: Arc::from(source), read: Arc::new(read) }
    }

    /// The credential as it is now. May block.
    ///
    /// # Errors
    /// Only the kind may be shown: what a source says about its content may quote it.
    pub fn read(&self) -> io::Result<Secret> {
        (self.read)()
    }

    /// The same where blocking is allowed.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub async fn read_apart(&self) -> io::Result<Secret> {
        let reader = self.clone();
        let read = tokio::task::spawn_blocking(move || reader.read()).await;
        read.unwrap_or_else(|_| Err(io::ErrorKind::Other.into()))
    }

    /// Where it comes from.
    pub fn source(&self) -> &str {
        &self.source
    }
}

impl fmt::Debug for SecretReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}
