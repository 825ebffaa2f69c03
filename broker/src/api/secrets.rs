//! `bursar.v1.Secrets`.

use std::pin::Pin;
use std::time::Duration;

use bursar_core::Reference;
use bursar_core::audit::Action;
use bursar_proto::convert::{duration_from_wire, duration_to_wire, wire_bytes};
use bursar_proto::limits;
use bursar_proto::v1::secrets_server::Secrets;
use bursar_proto::v1::{
    LeaseRevoked, Resync, SecretsBatchReadRequest, SecretsBatchReadResponse, SecretsReadRequest,
    SecretsReadResponse, SecretsWatchRequest, SecretsWatchResponse, VersionChanged,
    secrets_watch_response::Event,
};
use tokio::sync::broadcast::error::RecvError;
use tokio_stream::Stream;
use tonic::{Request, Response, Status};

use super::page::text;
use super::{Api, Arrival, status};
use crate::broker::{Disclosure, Query};
use crate::failure::Failure;
use crate::lease::Heard;
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

    /// Revocations as they happen, for the leases of the caller or, for a node, of those it spoke for. The stream holds
    /// no history: it begins with a resync, and one that falls behind gets another.
    async fn watch(
        &self,
        request: Request<SecretsWatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let (Arrival { call, action: _ }, _) = Arrival::of(request)?;
        let permitted = self.broker.permit(&call, Action::Watch, Resource::System, "watch", "").await;
        let draft = permitted.map_err(|failure| status::of(&failure, &call.request_id))?;
        let kept = self.broker.note(draft).await;
        kept.map_err(|failure| status::of(&failure, &call.request_id))?;
        let (watcher, stop) = (call.caller.id().clone(), self.tasks.clone());
        let mut watch = self.broker.leases.watch(watcher.clone());
        let (events, stream) = tokio::sync::mpsc::channel(WATCH_BUFFER);
        drop(self.tasks.finish(async move {
            let mut next = Some(Event::Resync(Resync {}));
            loop {
                if let Some(event) = next.take() {
                    let message = SecretsWatchResponse { position: None, time: None, event: Some(event) };
                    if events.send(Ok(message)).await.is_err() {
                        return;
                    }
                }
                tokio::select! {
                    heard = watch.hear() => next = match heard {
                        Ok(Heard::Ended { id, reference, principal, node }) => {
                            let mine = principal == watcher || node.as_ref() == Some(&watcher);
                            let revoked = LeaseRevoked {
                                lease_id: id.to_string(),
                                reference: reference.to_string(),
                                reason: String::new(),
                            };
                            mine.then_some(Event::LeaseRevoked(revoked))
                        }
                        Ok(Heard::Changed { reference, version, holders }) => {
                            let version = version.map(|version| version.to_string()).unwrap_or_default();
                            let changed = VersionChanged { reference: reference.to_string(), version };
                            holders.contains(&watcher).then_some(Event::VersionChanged(changed))
                        }
                        Ok(Heard::ManyEnded) | Err(RecvError::Lagged(_)) => Some(Event::Resync(Resync {})),
                        Err(RecvError::Closed) => return,
                    },
                    () = events.closed() => return,
                    _ = stop.stopping() => return,
                }
            }
        }));
        Ok(Response::new(Box::pin(tokio_stream::wrappers::ReceiverStream::new(stream))))
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
