//! Calls to Secret Manager: with which token, how long they may take, what happens when the token is refused.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bursar_backend_http::NotReached;
use bursar_core::BackendName;
use bursar_core::backend::{self, BackendError, ErrorKind, Held, Operation, Session, repeat};
use bursar_core::secret::Gathered;
use http::{HeaderMap, StatusCode, header};
use reqwest::Url;
use serde::Deserialize;
use serde::de::IgnoredAny;
use tokio::time::Instant;

use crate::login::{Source, Token};
use crate::refusal::Refusal;

/// The way to the secrets of one project.
pub(crate) struct Client {
    pub(crate) backend: BackendName,
    pub(crate) http: reqwest::Client,
    /// Ends in `/v1/projects/PROJECT[/locations/LOCATION]`.
    pub(crate) parent: Url,
    /// None where no token is asked for.
    pub(crate) session: Option<Session<Source>>,
    pub(crate) timeout: Duration,
    pub(crate) well_at: Mutex<Option<Instant>>,
}

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request<'a> {
    pub(crate) operation: Operation,
    /// Below the project: `["secrets", ID, …]`.
    pub(crate) path: &'a [&'a str],
    pub(crate) query: &'a [(&'a str, &'a str)],
}

/// What came back, yes or no. No Debug: it holds values.
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) retry_after: Option<Duration>,
    pub(crate) body: Gathered,
}

/// An answer that was yes.
pub(crate) struct Answer {
    backend: BackendName,
    operation: Operation,
    status: u16,
    body: Gathered,
}

impl Client {
    /// Asks, again if need be: nothing that this backend asks changes anything.
    pub(crate) async fn ask(&self, request: Request<'_>) -> Result<Answer, BackendError> {
        repeat(self.timeout, || async { self.make(request).await.map_err(|refusal| refusal.error) }).await
    }

    /// Asks, and once more with another token where Google does not take the first.
    #[tracing::instrument(level = "debug", skip_all, fields(backend = %self.backend, operation = %request.operation))]
    pub(crate) async fn make(&self, request: Request<'_>) -> Result<Answer, Refusal> {
        let Some(session) = &self.session else { return self.once(request, None).await };
        let used = session.credential().await?;
        match self.once(request, Some(&used)).await {
            Err(refusal) if refusal.is_of_token() => match session.replace(&used).await? {
                true => self.once(request, Some(&session.credential().await?)).await,
                false => Err(refusal),
            },
            other => other,
        }
    }

    /// Whether the last call was answered, a moment ago: by somebody who knows the broker, be it that there is no such
    /// secret.
    pub(crate) fn was_well(&self) -> bool {
        let well_at = *self.well_at.lock().unwrap_or_else(PoisonError::into_inner);
        well_at.is_some_and(|at| at.elapsed() < MOMENT)
    }

    pub(crate) fn error(&self, kind: ErrorKind, operation: Operation) -> BackendError {
        BackendError::new(kind, &self.backend, operation)
    }

    async fn once(&self, request: Request<'_>, token: Option<&Arc<Held<Token>>>) -> Result<Answer, Refusal> {
        let answer = self.exchange(request, token).await;
        let well = answer.as_ref().err().is_none_or(Refusal::is_of_a_healthy_store);
        *self.well_at.lock().unwrap_or_else(PoisonError::into_inner) = well.then(Instant::now);
        answer
    }

    async fn exchange(
        &self,
        request: Request<'_>,
        token: Option<&Arc<Held<Token>>>,
    ) -> Result<Answer, Refusal> {
        let Request { operation, path, query } = request;
        let mut url = self.parent.clone();
        // A URL of HTTP always has segments.
        url.path_segments_mut().map_err(|()| self.error(ErrorKind::Misconfigured, operation))?.extend(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let call = match token {
            Some(token) => token.credential.sign(self.http.get(url)),
            None => self.http.get(url),
        };
        let reply =
            send(call).await.map_err(|failure| Refusal::not_reached(&self.backend, operation, &failure))?;
        if !reply.status.is_success() {
            return Err(Refusal::of(&self.backend, operation, &reply));
        }
        let Reply { status, body, .. } = reply;
        let answer = Answer { backend: self.backend.clone(), operation, status: status.as_u16(), body };
        // What is no JSON comes from somebody else, such as a page to log in at.
        answer.parse::<IgnoredAny>()?;
        Ok(answer)
    }
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

/// Sends a call, whatever it is, and reads the answer whole.
pub(crate) async fn send(call: reqwest::RequestBuilder) -> Result<Reply, NotReached> {
    let mut response = call.send().await?;
    let (status, retry_after) = (response.status(), retry_after(response.headers()));
    let body = bursar_backend_http::whole(&mut response, LONGEST_BODY).await?;
    Ok(Reply { status, retry_after, body })
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    backend::retry_after(headers.get(header::RETRY_AFTER)?.to_str().ok()?)
}

/// Google bills an access, and counts every call; health checks come every few seconds.
const MOMENT: Duration = Duration::from_secs(60);
/// The longest answer is a page of descriptions. A payload has 64 KiB at most.
const LONGEST_BODY: usize = 4 * 1024 * 1024;
