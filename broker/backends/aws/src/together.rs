//! Reads that come together, made as one call.
//!
//! An environment wants its secrets at once. Whoever comes first leads: it gives way once, so that all who are polled
//! beside it have joined, and then asks for all of them. Nobody waits for a timer, and a read that comes alone is made
//! alone. A leader that hangs up leaves the others without an answer, and each asks for itself; so does each that the
//! answer says nothing of. Doing this in front of the backend, where the cache is, was the alternative: a batch would then
//! need a second way through cache, single-flight and circuit breaker.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bursar_core::backend::{BackendError, ErrorKind, Fetched, Operation};
use tokio::sync::oneshot;
use tokio::task::yield_now;
use tokio::time::Instant;

use crate::backend::AwsBackend;
use crate::status;
use crate::value;

/// Who is about to ask.
#[derive(Default)]
pub(crate) struct Together {
    forming: Mutex<Option<Arc<Group>>>,
    /// When AWS last said that the broker may not ask for several.
    refused_at: Mutex<Option<Instant>>,
}

/// Those who have joined a leader.
#[derive(Default)]
struct Group(Mutex<Vec<Waiting>>);

struct Waiting {
    name: String,
    answer: oneshot::Sender<Result<Fetched, BackendError>>,
}

enum Part<'together> {
    Leads(Leading<'together>),
    Waits(oneshot::Receiver<Result<Fetched, BackendError>>),
}

/// A leader before it asks. Dropped without, it leaves nobody in its group.
struct Leading<'together> {
    together: &'together Together,
    group: Arc<Group>,
}

impl AwsBackend {
    /// Reads the newest version of a secret, with others where others are read now.
    pub(crate) async fn read_newest(&self, name: &str) -> Result<Fetched, BackendError> {
        if self.together.is_allowed() {
            match self.together.join(name) {
                Part::Waits(answer) => {
                    if let Ok(answer) = answer.await {
                        return answer;
                    }
                }
                Part::Leads(leading) => {
                    yield_now().await;
                    let others = leading.depart();
                    if !others.is_empty()
                        && let Some(answer) = self.read_all(name, others).await
                    {
                        return answer;
                    }
                }
            }
        }
        self.read_one(name, None).await
    }

    /// Asks for `name` and those of `others`, who get their answers; none where there is no answer about `name`.
    async fn read_all(&self, name: &str, others: Vec<Waiting>) -> Option<Result<Fetched, BackendError>> {
        let names: Vec<_> = others.iter().map(|other| other.name.clone()).chain([name.to_owned()]).collect();
        let call = || self.secrets.batch_get_secret_value().set_secret_id_list(Some(names.clone())).send();
        let mut answer = match self.caller.ask(Operation::Read, call).await {
            Ok(answer) => answer,
            // A login that failed would fail for each of them.
            Err(error) if error.operation == Operation::Read && is_of_asking_for_several(error.kind) => {
                self.together.refused();
                return None;
            }
            Err(error) => {
                others.into_iter().for_each(|other| drop(other.answer.send(Err(error.clone()))));
                return Some(Err(error));
            }
        };
        let mut values = answer.secret_values.take().unwrap_or_default();
        let errors = answer.errors();
        let mut about = |name: &str| {
            if let Some(at) = values.iter().position(|value| value.name() == Some(name)) {
                let value = values.swap_remove(at);
                let fetched = value::fetched(value.secret_string, value.secret_binary, value.version_id);
                return Some(fetched.ok_or_else(|| self.error(ErrorKind::Malformed, Operation::Read)));
            }
            let refused = errors.iter().find(|error| error.secret_id() == Some(name))?;
            let meaning = status::of_code(refused.error_code()?)?;
            tracing::warn!(backend = %self.caller.backend, kind = %meaning.kind, code = meaning.code, "store refused");
            Some(Err(self.error(meaning.kind, Operation::Read)))
        };
        for other in others {
            if let Some(answer) = about(&other.name) {
                // Whoever waited may be gone.
                drop(other.answer.send(answer));
            }
        }
        about(name)
    }
}

/// Whether asking for each may be answered: it may be allowed, and is shorter.
fn is_of_asking_for_several(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Denied | ErrorKind::Malformed | ErrorKind::Misconfigured)
}

impl Together {
    fn join(&self, name: &str) -> Part<'_> {
        let mut forming = lock(&self.forming);
        if let Some(group) = &*forming {
            let mut joined = lock(&group.0);
            if joined.len() + 1 < MOST {
                let (answer, receiver) = oneshot::channel();
                joined.push(Waiting { name: name.to_owned(), answer });
                return Part::Waits(receiver);
            }
        }
        let group = Arc::clone(forming.insert(Arc::default()));
        Part::Leads(Leading { together: self, group })
    }

    fn is_allowed(&self) -> bool {
        lock(&self.refused_at).is_none_or(|at| at.elapsed() > ASK_AGAIN)
    }

    fn refused(&self) {
        *lock(&self.refused_at) = Some(Instant::now());
    }
}

impl Leading<'_> {
    /// Nobody joins any more; answers who has.
    fn depart(self) -> Vec<Waiting> {
        self.leave()
    }

    fn leave(&self) -> Vec<Waiting> {
        lock(&self.together.forming).take_if(|group| Arc::ptr_eq(group, &self.group));
        std::mem::take(&mut *lock(&self.group.0))
    }
}

impl Drop for Leading<'_> {
    fn drop(&mut self) {
        drop(self.leave());
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// AWS takes so many names in one call.
const MOST: usize = 20;
/// After so long it may have been allowed.
const ASK_AGAIN: Duration = Duration::from_secs(600);
