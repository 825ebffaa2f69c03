//! An answer of the store, until its values are secrets.

use bursar_core::BackendName;
use bursar_core::backend::{BackendError, ErrorKind, Operation};
use bytes::Bytes;
use serde::Deserialize;
use zeroize::Zeroizing;

/// A body that was read whole. No Debug: it holds values.
pub(crate) struct Answer {
    pub(crate) backend: BackendName,
    pub(crate) operation: Operation,
    pub(crate) status: u16,
    pub(crate) body: Body,
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

/// The bytes of a body, at most [`Body::LIMIT`]; wiped, and so are the smaller buffers that it outgrew.
#[derive(Default)]
pub(crate) struct Body(Zeroizing<Vec<u8>>);

impl Body {
    /// The longest body that is read. Vault's own limit on requests is 32 MiB and on a KV entry about 1 MiB.
    pub(crate) const LIMIT: usize = 4 * 1024 * 1024;

    /// Adds what arrived; false when it is too much.
    pub(crate) fn push(&mut self, chunk: &Bytes) -> bool {
        let needed = self.0.len() + chunk.len();
        if needed > Self::LIMIT {
            return false;
        }
        if needed > self.0.capacity() {
            let mut larger = Zeroizing::new(Vec::with_capacity(needed.next_power_of_two()));
            larger.extend_from_slice(&self.0);
            self.0 = larger;
        }
        self.0.extend_from_slice(chunk);
        true
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_read_up_to_its_limit() {
        let mut body = Body::default();
        let chunk = Bytes::from(vec![b'x'; Body::LIMIT / 4]);
        assert_eq!([(); 5].map(|()| body.push(&chunk)), [true, true, true, true, false]);
        assert_eq!(body.bytes().len(), Body::LIMIT);
    }
}
