//! Why the vault did not answer a call, in names and numbers. What it wrote ends here.

use bursar_core::BackendName;
use bursar_core::backend::{BackendError, ErrorKind, Operation};
use serde::Deserialize;

use crate::exchange::Reply;
use crate::status::{self, Meaning};

/// A call that was not answered.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) error: BackendError,
    /// What the vault's code means, where it gave one that is known.
    pub(crate) meaning: Option<Meaning>,
}

impl Refusal {
    /// What the vault says.
    pub(crate) fn of(backend: &BackendName, operation: Operation, reply: &Reply) -> Self {
        let meaning = meaning(reply.body.bytes());
        let kind = meaning.map_or_else(|| status::of_status(reply.status), |meaning| meaning.kind);
        let (status, code) = (reply.status, meaning.map(|meaning| meaning.code));
        // Who asks for what is not there is told so, and nobody else has to know.
        match kind {
            ErrorKind::NotFound => tracing::debug!(%backend, %operation, code, "store has none"),
            _ => tracing::warn!(%backend, %operation, %kind, status, code, "store refused"),
        }
        let error = BackendError::new(kind, backend, operation).with_code(status);
        Self { error: BackendError { retry_after: reply.retry_after, ..error }, meaning }
    }

    /// Nothing that the vault said.
    pub(crate) fn unsaid(error: BackendError) -> Self {
        Self { error, meaning: None }
    }

    /// Whether the token is no good any more.
    pub(crate) fn is_of_login(&self) -> bool {
        self.error.code == Some(401)
    }

    /// Whether the token is good, and does not allow what was asked.
    pub(crate) fn is_of_rights(&self) -> bool {
        !self.is_of_login() && self.meaning.is_some_and(Meaning::is_of_rights)
    }

    /// Whether it shows that the store is reached, knows the broker and answers.
    pub(crate) fn is_of_a_healthy_store(&self) -> bool {
        self.is_of_rights() || self.meaning.is_some_and(|meaning| meaning.kind == ErrorKind::NotFound)
    }
}

/// The innermost code that is known: it is the most exact.
fn meaning(body: &[u8]) -> Option<Meaning> {
    let said: Said = serde_json::from_slice(body).ok()?;
    let inner = said.error.innererror.and_then(|inner| inner.code);
    let known = |code: Option<String>| status::of_code(&code?);
    known(inner).or_else(|| known(said.error.code))
}

#[derive(Deserialize)]
struct Said {
    error: Fault,
}

#[derive(Deserialize)]
struct Fault {
    code: Option<String>,
    innererror: Option<Inner>,
}

#[derive(Deserialize)]
struct Inner {
    code: Option<String>,
}
