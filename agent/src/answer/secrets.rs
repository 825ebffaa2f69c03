//! `Secrets.Read` and `Secrets.BatchRead`.

use std::sync::Arc;
use std::time::Duration;

use bursar_proto::convert::duration_from_wire;
use bursar_proto::v1::secrets_client::SecretsClient;
use bursar_proto::v1::{
    SecretsBatchReadRequest, SecretsBatchReadResponse, SecretsReadRequest, SecretsReadResponse,
};
use bursar_proto::{Reason, limits};
use tonic::Status;

use super::{Answered, Answers, Call, Wanted, invalid, refuse, unanswered};
use crate::cache::{Entry, Key, Payload, Question, Standing};
use crate::upstream::{Failure, Upstream};

impl Answers {
    /// One secret.
    ///
    /// # Errors
    /// What the broker says, or that it cannot be reached.
    pub async fn read(
        &self,
        call: &Call,
        request: SecretsReadRequest,
    ) -> Result<SecretsReadResponse, Status> {
        let mut read = self.read_all(call, vec![request]).await?;
        read.pop().ok_or_else(unanswered)
    }

    /// Several secrets: all or none. Those that the cache does not have are asked for in one call.
    ///
    /// # Errors
    /// As [`Answers::read`], for the first that fails.
    pub async fn batch_read(
        &self,
        call: &Call,
        request: SecretsBatchReadRequest,
    ) -> Result<SecretsBatchReadResponse, Status> {
        let count = request.requests.len();
        if count == 0 || count > limits::BATCH {
            let message = format!("`requests` holds 1 to {} reads", limits::BATCH);
            return Err(refuse(Reason::RequestInvalid, &message));
        }
        Ok(SecretsBatchReadResponse { responses: self.read_all(call, request.requests).await? })
    }

    /// One secret for a value that is put where others read it, with what it stands on. With `anew` the broker is asked,
    /// whatever the cache has.
    ///
    /// # Errors
    /// As [`Answers::read`].
    pub async fn read_to_stand(
        &self,
        call: &Call,
        request: SecretsReadRequest,
        anew: bool,
    ) -> Result<(SecretsReadResponse, Standing), Status> {
        let key = Key::of_read(call.caller.identity(), &request);
        let (max_age, ttl, new_lease) = (anew.then_some(Duration::ZERO), request.ttl, request.new_lease);
        let wanted = Wanted { key, max_age, ttl, new_lease, question: request };
        let entry = self.answer(call, vec![wanted], ask).await?.pop().ok_or_else(unanswered)?;
        let answer = entry.secret(&self.cache.now()).ok_or_else(unanswered)?;
        Ok((answer, Standing::of(&entry)))
    }

    async fn read_all(
        &self,
        call: &Call,
        requests: Vec<SecretsReadRequest>,
    ) -> Result<Vec<SecretsReadResponse>, Status> {
        let wanted = |request: SecretsReadRequest| {
            let max_age = duration_from_wire("max_age", request.max_age).map_err(|error| invalid(&error))?;
            let key = Key::of_read(call.caller.identity(), &request);
            let new_lease = request.new_lease;
            Ok(Wanted { key, max_age, ttl: request.ttl, new_lease, question: request })
        };
        let wanted = requests.into_iter().map(wanted).collect::<Result<_, Status>>()?;
        let entries = self.answer(call, wanted, ask).await?;
        let now = self.cache.now();
        let reply = |entry: Arc<Entry>| entry.secret(&now).ok_or_else(unanswered);
        entries.into_iter().map(reply).collect()
    }
}

async fn ask(
    upstream: Arc<Upstream>,
    question: Arc<Question>,
    call: Call,
    mut requests: Vec<SecretsReadRequest>,
) -> Result<Vec<Answered>, Failure> {
    let single = if requests.len() == 1 { requests.pop() } else { None };
    let responses = match single {
        Some(request) => {
            let request = call.request(request, &question.context)?;
            vec![upstream.ask(|channel| async { SecretsClient::new(channel).read(request).await }).await?]
        }
        None => {
            let request = call.request(SecretsBatchReadRequest { requests }, &question.context)?;
            let read = |channel| async { SecretsClient::new(channel).batch_read(request).await };
            upstream.ask(read).await?.responses
        }
    };
    Ok(responses.into_iter().map(Payload::of_read).collect())
}
