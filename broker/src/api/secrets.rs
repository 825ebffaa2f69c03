//! `bursar.v1.Secrets`.

mod watch;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bursar_core::Reference;
use bursar_core::audit::Action;
use bursar_proto::convert::{duration_from_wire, duration_to_wire, wire_bytes};
use bursar_proto::limits;
use bursar_proto::v1::secrets_server::Secrets;
use bursar_proto::v1::{
    SecretsBatchReadRequest, SecretsBatchReadResponse, SecretsReadRequest, SecretsReadResponse,
    SecretsWatchRequest, SecretsWatchResponse,
};
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use self::watch::Listening;
use super::Api;
use super::page::text;
use crate::broker::{Disclosure, Query};
use crate::failure::Failure;
use crate::lease::grant::Terms;
use crate::policy::Resource;

#[tonic::async_trait]
impl Secrets for Api {
    async fn read(
        &self,
        request: Request<SecretsReadRequest>,
    ) -> Result<Response<SecretsReadResponse>, Status> {
        self.answer(request, query, |call, (query, terms)| async move {
            let mut read = self.broker.read(&call, terms, vec![query]).await?;
            read.pop().map(reply).ok_or(Failure::Stopping)
        })
        .await
    }

    async fn batch_read(
        &self,
        request: Request<SecretsBatchReadRequest>,
    ) -> Result<Response<SecretsBatchReadResponse>, Status> {
        self.answer(request, queries, |call, (queries, terms)| async move {
            let read = self.broker.read(&call, terms, queries).await?;
            Ok(SecretsBatchReadResponse { responses: read.into_iter().map(reply).collect() })
        })
        .await
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<SecretsWatchResponse, Status>> + Send>>;

    /// What happens to the leases of the caller or, for a node, to those it spoke for.
    async fn watch(
        &self,
        request: Request<SecretsWatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let read = |message: SecretsWatchRequest| Ok(message.after);
        self.answer(request, read, |call, after| async move {
            let draft = self.broker.permit(&call, Action::Watch, Resource::System, "watch", "").await?;
            self.broker.note(draft).await?;
            let (events, stream) = mpsc::channel(WATCH_BUFFER);
            let listener = call.caller.id().clone();
            let ledger = self.broker.ledger.clone();
            let origin = ledger.origin()?.to_owned();
            let opened = self.broker.leases.watch(listener.clone(), watch::place(&origin, after));
            let clock = Arc::clone(&self.broker.clock);
            let listening = Listening { listener, ledger, origin, clock, events };
            drop(self.tasks.finish(listening.send(opened, self.tasks.clone())));
            Ok(Box::pin(ReceiverStream::new(stream)) as Self::WatchStream)
        })
        .await
    }
}

fn query(message: SecretsReadRequest) -> Result<(Query, Terms), Failure> {
    if message.reference.len() > limits::REFERENCE {
        return Err(Failure::Invalid {
            field: "reference",
            message: format!("is at most {} bytes long", limits::REFERENCE),
        });
    }
    let query = Query {
        reference: Reference::parse(&message.reference)?,
        max_age: duration_from_wire("max_age", message.max_age)?,
    };
    let terms = terms(message.ttl, message.reason, message.instance)?;
    Ok((query, Terms { new_lease: message.new_lease, ..terms }))
}

fn queries(message: SecretsBatchReadRequest) -> Result<(Vec<Query>, Terms), Failure> {
    if message.requests.is_empty() || message.requests.len() > limits::BATCH {
        return Err(Failure::Invalid {
            field: "requests",
            message: format!("holds 1 to {} reads", limits::BATCH),
        });
    }
    let read = message.requests.into_iter().map(query).collect::<Result<Vec<_>, _>>()?;
    let mut common: Option<Terms> = None;
    let mut queries = Vec::with_capacity(read.len());
    for (query, terms) in read {
        if common.as_ref().is_some_and(|common| *common != terms) {
            return Err(Failure::Invalid {
                field: "requests",
                message: "have the same ttl, reason, instance and new_lease within one batch".to_owned(),
            });
        }
        common = Some(terms);
        queries.push(query);
    }
    Ok((queries, common.unwrap_or_default()))
}

/// The terms of a read or of a resolve.
pub(super) fn terms(
    ttl: Option<prost_types::Duration>,
    reason: String,
    instance: String,
) -> Result<Terms, Failure> {
    let ttl = duration_from_wire("ttl", ttl)?;
    if ttl.is_some_and(|ttl| ttl < Duration::from_secs(1)) {
        return Err(Failure::Invalid { field: "ttl", message: "is at least one second".to_owned() });
    }
    Ok(Terms {
        ttl,
        instance: text("instance", instance, limits::INSTANCE)?,
        environment: None,
        reason: text("reason", reason, limits::REASON)?,
        new_lease: false,
        kept: false,
    })
}

fn reply(disclosed: Disclosure) -> SecretsReadResponse {
    SecretsReadResponse {
        value: wire_bytes(&disclosed.value),
        version: disclosed.version.map(|version| version.to_string()).unwrap_or_default(),
        lease: Some(disclosed.lease.into()),
        age: Some(duration_to_wire(disclosed.age)),
    }
}

const WATCH_BUFFER: usize = 64;
