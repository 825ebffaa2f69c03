//! `Environments.Resolve`.

use std::sync::Arc;
use std::time::Duration;

use bursar_proto::Reason;
use bursar_proto::v1::environments_client::EnvironmentsClient;
use bursar_proto::v1::{EnvironmentsResolveRequest, EnvironmentsResolveResponse};
use tonic::Status;

use super::{Answered, Answers, Call, Wanted, refuse, unanswered};
use crate::cache::{Entry, Key, Payload, Question, Standing};
use crate::upstream::{Failure, Upstream};

impl Answers {
    /// An environment with all its values, or nothing.
    ///
    /// Not one that is to be kept: what the agent hands out it takes back when it hears of a revocation, and whom it
    /// attests is a process on a node that has a broker. Whoever keeps a copy asks the broker as himself.
    ///
    /// # Errors
    /// What the broker says, or that it cannot be reached.
    pub async fn resolve(
        &self,
        call: &Call,
        request: EnvironmentsResolveRequest,
    ) -> Result<EnvironmentsResolveResponse, Status> {
        if request.offline {
            return Err(refuse(Reason::EnvironmentNotKept, NOT_KEPT));
        }
        let entry = self.environment(call, request, None).await?;
        entry.environment(&self.cache.now()).ok_or_else(unanswered)
    }

    /// The same for values that are put where others read them, with what they stand on. With `anew` the broker is asked,
    /// whatever the cache has.
    ///
    /// # Errors
    /// As [`Answers::resolve`].
    pub async fn resolve_to_stand(
        &self,
        call: &Call,
        request: EnvironmentsResolveRequest,
        anew: bool,
    ) -> Result<(EnvironmentsResolveResponse, Standing), Status> {
        let entry = self.environment(call, request, anew.then_some(Duration::ZERO)).await?;
        let answer = entry.environment(&self.cache.now()).ok_or_else(unanswered)?;
        Ok((answer, Standing::of(&entry)))
    }

    async fn environment(
        &self,
        call: &Call,
        request: EnvironmentsResolveRequest,
        max_age: Option<Duration>,
    ) -> Result<Arc<Entry>, Status> {
        let key = Key::of_resolve(call.caller.identity(), &request);
        let (ttl, new_lease) = (request.ttl, request.new_lease);
        let wanted = Wanted { key, max_age, ttl, new_lease, question: request };
        self.answer(call, vec![wanted], ask).await?.pop().ok_or_else(unanswered)
    }
}

async fn ask(
    upstream: Arc<Upstream>,
    question: Arc<Question>,
    call: Call,
    mut requests: Vec<EnvironmentsResolveRequest>,
) -> Result<Vec<Answered>, Failure> {
    let request = requests.pop().ok_or_else(|| Failure::Answered(unanswered()))?;
    let request = call.request(request, &question.context)?;
    let resolve = |channel| async { EnvironmentsClient::new(channel).resolve(request).await };
    Ok(vec![Payload::of_resolve(upstream.ask(resolve).await?)])
}

const NOT_KEPT: &str =
    "an agent gives out no copies to be kept; ask the broker itself, with a certificate or token of your own";
