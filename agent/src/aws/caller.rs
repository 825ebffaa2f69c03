//! Who is at the other end of a connection, as far as that can be proved.
//!
//! The kernel says whose the socket is, when the connection is accepted. That is enough for a place, and for whoever brings
//! a token, for which its issuer answers. Whoever brings none has to be a process that the agent can attest, unless the
//! configuration is content with the user. What is not proved is refused; nobody is anybody by default.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bursar_core::Explained;
use tokio::sync::OnceCell;

use super::credential::Credential;
use super::fault::Fault;
use super::kernel::{self, NoSocket};
use crate::admission::Place;
use crate::attest::{AttestError, Attestor, Held, Workload};
use crate::config::Callers;

/// Somebody who connected. The place is given back with the connection.
#[derive(Debug)]
pub(super) struct Caller {
    ends: Ends,
    held: Held,
    attestor: Arc<Attestor>,
    /// Looked for once there is a request that needs it.
    process: OnceCell<Arc<Workload>>,
    place: Place,
}

/// Both ends of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ends {
    pub(super) peer: SocketAddr,
    pub(super) local: SocketAddr,
}

impl Ends {
    /// The socket at the other end.
    pub(super) fn ask_kernel(self) -> Result<Held, NoSocket> {
        kernel::socket_of(self.peer, self.local)
    }
}

impl Caller {
    pub(super) fn new(ends: Ends, held: Held, place: Place, attestor: Arc<Attestor>) -> Self {
        Self { ends, held, attestor, process: OnceCell::new(), place }
    }

    /// Who asks, by a request's `credential`.
    pub(super) async fn workload(
        &self,
        credential: Credential,
        callers: Callers,
    ) -> Result<Arc<Workload>, Fault> {
        match (credential, callers) {
            (Credential::Token(bearer), _) => Ok(Arc::new(self.attestor.user(self.held.uid).bearing(bearer))),
            (Credential::Kernel, Callers::User) => Ok(Arc::new(self.attestor.user(self.held.uid))),
            (Credential::Kernel, Callers::Process) => {
                let process = self.process.get_or_try_init(|| self.attest()).await?;
                if process.is_alive() {
                    return Ok(Arc::clone(process));
                }
                Err(Fault::unknown_caller("the process that opened this connection has ended; open another"))
            }
        }
    }

    async fn attest(&self) -> Result<Arc<Workload>, Fault> {
        let slow = || Fault::unknown_caller("the calling process could not be looked at in time");
        let attested = async {
            let turn = self.place.turn().await.ok_or_else(slow)?;
            let (attestor, ends, held) = (Arc::clone(&self.attestor), self.ends, self.held);
            let look = move || {
                // Held until the reading has really ended, also when nobody waits for it any more.
                let _turn = turn;
                let workload = attestor.attest_holder(held)?;
                match ends.ask_kernel() {
                    Ok(now) if now == held => Ok(workload),
                    _ => Err(AttestError::Unheld),
                }
            };
            tokio::task::spawn_blocking(look).await.map_err(|_| slow())?.map_err(|error| {
                let cause = Explained(&error);
                tracing::warn!(uid = held.uid, error = %cause, "a caller could not be attested");
                Fault::unknown_caller(format!("it is not known which process asks: {error}"))
            })
        };
        tokio::time::timeout(LIMIT, attested).await.map_err(|_| slow())?.map(Arc::new)
    }
}

const LIMIT: Duration = Duration::from_secs(5);
