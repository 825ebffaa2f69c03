//! An answer of the store, until its values are secrets.

use bursar_core::BackendName;
use bursar_core::backend::{BackendError, ErrorKind, Operation};
use bursar_core::secret::Gathered;
use serde::Deserialize;

/// A body that was read whole. No Debug: it holds values.
pub(crate) struct Answer {
    pub(crate) backend: BackendName,
    pub(crate) operation: Operation,
    pub(crate) status: u16,
    pub(crate) body: Gathered,
}

impl Answer {
    /// The JSON of the body. What a JSON library says about text that it cannot read quotes that text, so its error
    /// ends here.
    pub(crate) fn parse<'body, T: Deserialize<'body>>(&'body self) -> Result<T, BackendError> {
        serde_json::from_slice(self.body.bytes()).map_err(|_| self.error(ErrorKind::Malformed))
    }

    /// Something wrong with this answer.
    pub(crate) fn error(&self, kind: ErrorKind) -> BackendError {
        BackendError::new(kind, &self.backend, self.operation).with_code(self.status)
    }
}

/// What most endpoints wrap their answer in.
#[derive(Deserialize)]
pub(crate) struct Reply<T> {
    pub(crate) data: T,
}

/// The longest body that is read. Vault's own limit on requests is 32 MiB and on a KV entry about 1 MiB.
pub(crate) const LONGEST_BODY: usize = 4 * 1024 * 1024;
