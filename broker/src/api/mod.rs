//! The gRPC services: each handler reads its message, calls the broker once, and wraps the answer.
//!
//! Everything that all calls share happens in [`layer`] and in [`Api::answer`]: who is asking, the request id, the
//! deadline, the metrics, the record of a request that could not even be read, and the mapping of failures.

mod audit;
mod cut;
mod environments;
mod layer;
mod leases;
mod local_store;
mod nodes;
mod page;
mod policies;
mod secrets;
mod services;
pub mod status;
pub mod surface;
mod system;
mod unread;

use std::future::Future;
use std::sync::Arc;

use bursar_core::tasks::Tasks;
use tokio::time::Instant;
use tonic::{Request, Response, Status};

pub use layer::{Arrival, Identified, Identify};
pub use services::Services;

use crate::broker::Broker;
use crate::call::Call;
use crate::failure::Failure;
use crate::health::Health;
use crate::identity::tls::ServerCertificate;
use crate::identity::token::Tokens;
use crate::membership::Membership;
use crate::pace::Pace;
use crate::telemetry::Metrics;

/// What the services work with.
#[derive(Debug, Clone)]
pub struct Api {
    pub broker: Arc<Broker>,
    pub membership: Arc<Membership>,
    pub tokens: Arc<Tokens>,
    pub pace: Arc<Pace>,
    pub metrics: Metrics,
    pub health: Arc<Health>,
    pub tasks: Tasks,
    pub certificate: Arc<ServerCertificate>,
    /// The key that checks the log's checkpoints, as text.
    pub verifier_key: String,
    pub message_bytes: usize,
    pub started: Instant,
}

impl Api {
    /// Answers one call of a known caller: `read` turns the message into what `work` takes. A message that cannot be
    /// read is kept in the ledger as a failed attempt at the RPC's action.
    async fn answer<M, Q, R, W>(
        &self,
        request: Request<M>,
        read: impl FnOnce(M) -> Result<Q, Failure>,
        work: impl FnOnce(Call, Q) -> W,
    ) -> Result<Response<R>, Status>
    where
        W: Future<Output = Result<R, Failure>>,
    {
        let (arrival, message) = Arrival::of(request)?;
        let Arrival { call, action } = arrival;
        let request_id = call.request_id.clone();
        let done = match read(message) {
            Ok(query) => work(call, query).await,
            Err(fault) => Err(self.broker.failed(call.asks(action, UNREADABLE), fault).await),
        };
        done.map(Response::new).map_err(|failure| status::of(&failure, &request_id))
    }
}

/// The resource of a record whose request could not be read.
const UNREADABLE: &str = "(unreadable request)";
