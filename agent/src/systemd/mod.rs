//! Credentials of systemd's services: `LoadCredential=ID:/run/bursar/systemd.sock`.
//!
//! systemd connects for each credential before it starts a service, says which by the abstract name that its end has, reads
//! until the end, and puts what it read where the service alone can read it.
//!
//! Anybody may bind any abstract name, so the name is believed only where the kernel agrees: the process that connected is
//! root's, and it is in the unit's own control group, where systemd puts it before it asks. Then the unit is a workload
//! with the selector `systemd:unit:NAME`, which means what it means of a process that runs in the unit, and asks like every
//! other: by registrations, policy, leases, cache and journal. It is there as long as its control group, so that its leases
//! are renewed while it runs.
//!
//! Whoever may not have a credential has to be kept from starting with an empty one; see [`give`].

mod asked;
mod give;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use bursar_core::tasks::Tasks;
use bursar_core::{Explained, Secret};
use bursar_proto::v1::{EnvironmentsResolveRequest, EnvironmentsResolveResponse};
use http::HeaderMap;
use tokio::net::{UnixListener, UnixStream};
use tonic::Status;

use crate::admission::{Admission, Place};
use crate::answer::{Answers, Call};
use crate::attest::{AttestError, Attestor, Peer, Workload};
use crate::config::{Limits, Systemd};
use crate::socket::{Accepted, Acceptor};
use crate::telemetry::Metrics;
use asked::Asked;

/// Serves systemd on `listener` until the process stops.
pub async fn serve(listener: UnixListener, credentials: Credentials, limits: Limits, tasks: Tasks) {
    let admission = Admission::new(limits.connections, limits.connections_per_user);
    let acceptor = Acceptor::new(listener, admission, credentials.metrics.clone(), tasks);
    let credentials = Arc::new(credentials);
    let receive = move |accepted| {
        let credentials = Arc::clone(&credentials);
        async move { credentials.receive(accepted).await }
    };
    acceptor.accept(receive).await;
}

/// Answers systemd.
#[derive(Debug)]
pub struct Credentials {
    pub config: Systemd,
    pub answers: Arc<Answers>,
    pub attestor: Arc<Attestor>,
    pub metrics: Metrics,
}

impl Credentials {
    async fn receive(&self, accepted: Accepted) {
        let Accepted { mut stream, peer, place } = accepted;
        if peer.uid() != 0 {
            self.metrics.connection("not_allowed");
            tracing::warn!(uid = peer.uid(), "somebody who is not root asked for a credential of a unit");
            return;
        }
        let Some(asked) = name_of(&stream) else {
            self.metrics.connection("silent");
            tracing::warn!(
                pid = peer.pid(),
                "whoever asked for a credential does not say which as systemd does"
            );
            return;
        };
        self.metrics.connection("served");
        let Asked { unit, id } = &asked;
        let answered = tokio::time::timeout(ANSWER, self.answer(&stream, &asked, &place)).await;
        // Neither of these has an end of its own: what is cut off is a credential to whoever reads it. systemd ends a unit that
        // does not get on with its start.
        match answered.unwrap_or(Err(Refused::Slow)) {
            Ok(value) => match give::give(&mut stream, &value).await {
                Ok(()) => self.metrics.credential("given"),
                Err(error) => {
                    self.metrics.credential("failed");
                    tracing::warn!(unit, credential = id, %error, "a credential was not taken");
                }
            },
            Err(refused) => {
                self.tell(&asked, &refused);
                give::refuse(&mut stream).await;
            }
        }
    }

    fn tell(&self, Asked { unit, id }: &Asked, refused: &Refused) {
        self.metrics.credential(if refused.is_failure() { "failed" } else { "refused" });
        let error = Explained(refused);
        tracing::warn!(unit, credential = id, %error, "a unit is kept from starting without its credential");
    }

    async fn answer(&self, stream: &UnixStream, asked: &Asked, place: &Place) -> Result<Secret, Refused> {
        let not_configured = || Refused::NotConfigured { unit: asked.unit.clone() };
        let environment = &self.config.unit(&asked.unit).ok_or_else(not_configured)?.environment;
        let workload = self.attest(Peer::of(stream)?, asked.unit.clone(), place).await?;
        let request = EnvironmentsResolveRequest {
            name: environment.clone(),
            reason: REASON.to_owned(),
            ..EnvironmentsResolveRequest::default()
        };
        let call = Call::new(Arc::new(workload), &HeaderMap::new());
        let resolved = self.answers.resolve(&call, request).await?;
        let value = pick(resolved, &asked.id, environment)?;
        if value.len() > give::LONGEST {
            return Err(Refused::TooLong { id: asked.id.clone(), size: value.len() });
        }
        Ok(value)
    }

    async fn attest(&self, peer: Peer, unit: String, place: &Place) -> Result<Workload, Refused> {
        let turn = place.turn().await.ok_or(Refused::Slow)?;
        let attestor = Arc::clone(&self.attestor);
        let attested = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            attestor.unit(peer, &unit)
        });
        Ok(attested.await.map_err(|_| Refused::Slow)??)
    }
}

/// By the name that the other end is bound to.
fn name_of(stream: &UnixStream) -> Option<Asked> {
    Asked::read(stream.peer_addr().ok()?.as_abstract_name()?)
}

/// The unit and the credential that a name asks for, for those who try what can be done to its parser.
#[cfg(feature = "testing")]
pub fn named(name: &[u8]) -> Option<(String, String)> {
    Asked::read(name).map(|Asked { unit, id }| (unit, id))
}

/// The variable, or the file at the top of the environment, that is called `id`.
fn pick(mut resolved: EnvironmentsResolveResponse, id: &str, environment: &str) -> Result<Secret, Refused> {
    let variable = resolved.variables.iter_mut().find(|variable| variable.name == id);
    let file = resolved.files.iter_mut().find(|file| file.path == id);
    match (variable, file) {
        (Some(variable), None) => Ok(variable.take_value()),
        (None, Some(file)) => Ok(file.take_contents()),
        (None, None) => Err(Refused::None { id: id.to_owned(), environment: environment.to_owned() }),
        (Some(_), Some(_)) => Err(Refused::Two { id: id.to_owned(), environment: environment.to_owned() }),
    }
}

/// Why there is no credential.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("`{unit}` is not among `systemd.units`; say there which environment it has")]
    NotConfigured { unit: String },
    #[error(transparent)]
    Unattested(#[from] AttestError),
    #[error("{}", .0.message())]
    Unanswered(#[from] Status),
    #[error(
        "the environment `{environment}` has no variable `{id}`, and no file of this name that is in no folder"
    )]
    None { id: String, environment: String },
    #[error(
        "the environment `{environment}` has a variable and a file called `{id}`; call one of them something else"
    )]
    Two { id: String, environment: String },
    #[error("`{id}` is {size} bytes; systemd takes 1 MiB for all credentials of a unit")]
    TooLong { id: String, size: usize },
    #[error("there was no answer in time")]
    Slow,
}

impl Refused {
    fn is_failure(&self) -> bool {
        match self {
            Self::Unanswered(status) => status.code() == tonic::Code::Unavailable,
            Self::Slow => true,
            _ => false,
        }
    }
}

/// In the audit record.
const REASON: &str = "systemd credential";
/// For whatever the broker needs; it has a deadline of its own.
const ANSWER: Duration = Duration::from_secs(60);
