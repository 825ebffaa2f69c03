//! Secrets for Envoy, by its own protocol: the secret discovery service (SDS), over a socket of its own.
//!
//! Envoy is a process like every other. Whoever connects is attested as on the agent's socket, within the same limits, and
//! asks by the way of every reader: a registration says who it is, policy decides, the broker grants leases, the cache
//! answers, the journal accounts for it. What is different is that Envoy does not ask again by itself. It says what it wants
//! once, and is to be told of every change; so each stream follows what it gave ([`stream`], [`subject`]), as a set of files
//! is followed.
//!
//! The [`name`] of a secret in Envoy's configuration says everything: where it comes from and in which form it is wanted.
//! Nothing is configured for one here. [`content`] makes what Envoy takes of a value; [`exchange`] is the protocol's part
//! of a stream, without any secret in it; [`stand_in`] makes what is given in place of a secret that is over.
//!
//! Responses have what changed and nothing else, which the protocol allows for secrets. So a stream keeps no value beyond
//! the moment in which it is sent: digests are enough to see a change.

mod content;
mod exchange;
mod name;
mod pem;
mod stand_in;
mod stream;
mod subject;
#[cfg(test)]
mod tests;

use std::pin::Pin;
use std::sync::Arc;

use bursar_core::tasks::Tasks;
use bursar_proto::limits;
use bursar_proto::sds::secret_discovery_service_server::{
    SecretDiscoveryService, SecretDiscoveryServiceServer,
};
use bursar_proto::sds::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse};
use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::admission::Admission;
use crate::answer::{Answers, Call};
use crate::attest::Attestor;
use crate::cache::Cache;
use crate::config::Limits;
use crate::socket::{self, Admitted};
use crate::telemetry::Metrics;
use crate::upstream::Upstream;

/// What the service needs of the agent around it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Discovery {
    pub answers: Arc<Answers>,
    pub cache: Arc<Cache>,
    pub upstream: Arc<Upstream>,
    pub metrics: Metrics,
    pub tasks: Tasks,
}

/// Serves whoever connects to `listener` until the process stops, and ends once they are done.
///
/// # Errors
/// The transport's.
pub async fn serve(
    listener: UnixListener,
    attestor: Arc<Attestor>,
    discovery: Discovery,
    admission: Arc<Admission>,
    limits: Limits,
) -> Result<(), tonic::transport::Error> {
    let (metrics, tasks) = (discovery.metrics.clone(), discovery.tasks.clone());
    let service = SecretDiscoveryServiceServer::new(discovery)
        .max_decoding_message_size(REQUEST)
        .max_encoding_message_size(limits::MESSAGE);
    socket::serve(listener, attestor, Admitted(service), admission, limits, metrics, tasks).await
}

#[tonic::async_trait]
impl SecretDiscoveryService for Discovery {
    type StreamSecretsStream = ReceiverStream<Result<DiscoveryResponse, Status>>;

    async fn stream_secrets(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamSecretsStream>, Status> {
        let call = called(&request)?;
        self.metrics.call(STREAM, "cache");
        // One that is sent and one that waits: whoever does not read is given no more than that.
        let (responses, given) = mpsc::channel(1);
        let stream = stream::Stream::new(self.clone(), call, request.into_inner(), responses);
        drop(self.tasks.finish(stream.run()));
        Ok(Response::new(ReceiverStream::new(given)))
    }

    type DeltaSecretsStream =
        Pin<Box<dyn Stream<Item = Result<DeltaDiscoveryResponse, Status>> + Send + 'static>>;

    async fn delta_secrets(
        &self,
        _: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaSecretsStream>, Status> {
        Err(Status::unimplemented(
            "secrets are not given by deltas; configure `api_type: GRPC` for them in place of `DELTA_GRPC`",
        ))
    }

    async fn fetch_secrets(
        &self,
        request: Request<DiscoveryRequest>,
    ) -> Result<Response<DiscoveryResponse>, Status> {
        let call = called(&request)?;
        self.metrics.call(FETCH, "cache");
        let names = exchange::wanted(request.get_ref())?;
        let reads = names.iter().map(|name| subject::read(self, &call, name, false));
        let mut secrets = Vec::with_capacity(names.len());
        for (name, answer) in names.iter().zip(futures_util::future::join_all(reads).await) {
            let (value, _) = answer?;
            let content = content::content(name, &value)
                .map_err(|fault| Status::failed_precondition(format!("`{}`: {fault}", name.text)))?;
            self.metrics.sds_secret("delivered");
            secrets.push(content);
        }
        Ok(Response::new(exchange::response(&secrets, FETCHED)))
    }
}

/// What a resource name asks for, for those who try what can be done to its parser: a reference, or nothing where it is a
/// variable of an environment.
///
/// # Errors
/// What Envoy is told.
#[cfg(feature = "testing")]
pub fn named(text: &str) -> Result<Option<bursar_core::Reference>, String> {
    let name = name::Name::parse(text).map_err(|error| error.line())?;
    match name.source {
        name::Source::Secret(reference) => {
            bursar_core::Reference::parse(&reference).map(Some).map_err(|error| error.to_string())
        }
        name::Source::Variable { environment: _, variable: _ } => Ok(None),
    }
}

/// Who calls; [`Admitted`] says so.
fn called<M>(request: &Request<M>) -> Result<Call, Status> {
    let call = request.extensions().get::<Call>().cloned();
    call.ok_or_else(|| Status::internal("nobody says who calls"))
}

/// Largest request, encoded. In bytes. Envoy says a lot of itself in the first one of a stream.
const REQUEST: usize = 256 * 1024;
const STREAM: &str = "/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets";
const FETCH: &str = "/envoy.service.secret.v3.SecretDiscoveryService/FetchSecrets";
/// Of an answer that nobody follows.
const FETCHED: &str = "1";
