//! Calls: each has a deadline, and each says how often it may be sent.

use std::future::Future;
use std::time::Duration;

use bursar_core::retry::{Retry, Transient};
use tonic::{Code, Request, Response, Status};

use crate::client::Client;
use crate::error::Error;
use crate::token::Presented;

impl Client {
    /// Makes a call that may be repeated without harm, and repeats it while that may help.
    ///
    /// ```no_run
    /// # use bursar_proto::v1::LeasesTopRequest;
    /// # async fn example(client: bursar_sdk::Client) -> Result<(), bursar_sdk::Error> {
    /// let message = LeasesTopRequest { group_by: 1, limit: 10 };
    /// let top = client.repeatable(message, |client, request| async move { client.leases().top(request).await });
    /// # top.await?; Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of the last attempt, or [`Error::Deadline`].
    pub async fn repeatable<M, R, F>(
        &self,
        message: M,
        call: impl Fn(Self, Request<M>) -> F,
    ) -> Result<R, Error>
    where
        M: Clone,
        F: Future<Output = Result<Response<R>, Status>>,
    {
        self.run(Error::may_pass, || self.send(message.clone(), &call)).await
    }

    /// Makes a call that is sent at most once. The message is not copied, so it may carry a secret.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn once<M, R, F>(
        &self,
        message: M,
        call: impl FnOnce(Self, Request<M>) -> F,
    ) -> Result<R, Error>
    where
        F: Future<Output = Result<Response<R>, Status>>,
    {
        self.within_deadline(self.send(message, call)).await
    }

    /// Opens a stream, which has no deadline. What goes wrong on it later is for [`Client::error`].
    ///
    /// # Errors
    /// [`Error`].
    pub async fn stream<M, R, F>(&self, message: M, call: impl Fn(Self, Request<M>) -> F) -> Result<R, Error>
    where
        M: Clone,
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let open = || async {
            let (request, token) = self.request(message.clone()).await?;
            self.answer(call(self.clone(), request), token).await
        };
        self.run(Error::may_pass, open).await
    }

    /// Reads the status that ended a stream.
    pub fn error(&self, status: Status) -> Error {
        Error::of(status, self.address(), self.deadline())
    }

    /// Makes a call that may have created something when its answer is lost: it is repeated only where it had no effect.
    pub(crate) async fn guarded<M, R, F>(
        &self,
        message: M,
        call: impl Fn(Self, Request<M>) -> F,
    ) -> Result<R, Error>
    where
        M: Clone,
        F: Future<Output = Result<Response<R>, Status>>,
    {
        self.run(Error::had_no_effect_and_may_pass, || self.send(message.clone(), &call)).await
    }

    async fn run<R, F>(&self, again: fn(&Error) -> bool, attempt: impl Fn() -> F) -> Result<R, Error>
    where
        F: Future<Output = Result<R, Error>>,
    {
        let attempts = Retry::INTERACTIVE
            .run(|| async { attempt().await.map_err(|error| Attempt { again: again(&error), error }) });
        self.within_deadline(async { attempts.await.map_err(|attempt| attempt.error) }).await
    }

    /// The server is told how long anybody waits, so that it does not work for nobody.
    async fn send<M, R, F>(&self, message: M, call: impl FnOnce(Self, Request<M>) -> F) -> Result<R, Error>
    where
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let (mut request, token) = self.request(message).await?;
        request.set_timeout(self.deadline());
        self.answer(call(self.clone(), request), token).await
    }

    async fn answer<R>(
        &self,
        call: impl Future<Output = Result<Response<R>, Status>>,
        token: Option<Presented>,
    ) -> Result<R, Error> {
        let answered = call.await;
        if let (Err(status), Some(source), Some(used)) = (&answered, self.token_source(), &token)
            && status.code() == Code::Unauthenticated
        {
            source.refused(used).await;
        }
        answered.map(Response::into_inner).map_err(|status| self.error(status))
    }

    async fn within_deadline<R>(&self, call: impl Future<Output = Result<R, Error>>) -> Result<R, Error> {
        if let Some(source) = self.token_source() {
            source.prepare().await?;
        }
        let limit = self.deadline();
        let answered = tokio::time::timeout(limit, call).await;
        answered.unwrap_or_else(|_| Err(Error::Deadline { address: self.address().clone(), limit }))
    }

    /// A message with the token that speaks for it, if there is one.
    async fn request<M>(&self, message: M) -> Result<(Request<M>, Option<Presented>), Error> {
        let mut request = Request::new(message);
        let Some(source) = self.token_source() else { return Ok((request, None)) };
        let token = source.token().await?;
        request.metadata_mut().insert(AUTHORIZATION, token.header.clone());
        Ok((request, Some(token)))
    }
}

/// A failed attempt, with what the kind of call says about another one.
struct Attempt {
    error: Error,
    again: bool,
}

impl Transient for Attempt {
    fn is_transient(&self) -> bool {
        self.again
    }

    fn retry_after(&self) -> Option<Duration> {
        self.error.refusal().and_then(|refusal| refusal.retry_after)
    }
}

/// A failed attempt at work that has time, with whether another may succeed.
pub(crate) struct Setback {
    pub(crate) error: Error,
    pub(crate) passes: bool,
}

impl Transient for Setback {
    fn is_transient(&self) -> bool {
        self.passes
    }

    fn retry_after(&self) -> Option<Duration> {
        self.error.refusal().and_then(|refusal| refusal.retry_after)
    }
}

const AUTHORIZATION: &str = "authorization";
