//! `Environments.Resolve`.

use std::sync::Arc;

use bursar_proto::v1::environments_client::EnvironmentsClient;
use bursar_proto::v1::{EnvironmentsResolveRequest, EnvironmentsResolveResponse};
use tonic::Status;

use super::{Answered, Answers, Call, Wanted, unanswered};
use crate::cache::{Key, Payload, Question};
use crate::upstream::{Failure, Upstream};

impl Answers {
    /// An environment with all its values, or nothing.
    ///
    /// # Errors
    /// What the broker says, or that it cannot be reached.
    pub async fn resolve(
        &self,
        call: &Call,
        request: EnvironmentsResolveRequest,
    ) -> Result<EnvironmentsResolveResponse, Status> {
        let key = Key::of_resolve(call.caller.identity(), &request);
        let (ttl, new_lease) = (request.ttl, request.new_lease);
        let wanted = Wanted { key, max_age: None, ttl, new_lease, question: request };
        let entries = self.answer(call, vec![wanted], ask).await?;
        let now = self.cache.now();
        entries.first().and_then(|entry| entry.environment(&now)).ok_or_else(unanswered)
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
