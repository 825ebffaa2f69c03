//! The client: a channel, and what every call needs besides.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bursar_proto::limits;
use bursar_proto::v1::audit_client::AuditClient;
use bursar_proto::v1::environments_client::EnvironmentsClient;
use bursar_proto::v1::leases_client::LeasesClient;
use bursar_proto::v1::local_store_client::LocalStoreClient;
use bursar_proto::v1::nodes_client::NodesClient;
use bursar_proto::v1::policies_client::PoliciesClient;
use bursar_proto::v1::secrets_client::SecretsClient;
use bursar_proto::v1::system_client::SystemClient;
use bursar_proto::v1::{LeasesRenewRequest, LeasesRevokeRequest};
use bursar_proto::{convert, v1};
use tonic::transport::Channel;

use crate::address::Address;
use crate::connect::{self, Tls};
use crate::error::Error;
use crate::token::{TokenCommand, TokenSource};
use crate::{Lease, LeaseId};

/// Talks to one broker or agent. Cheap to clone; clones share the connection.
#[derive(Debug, Clone)]
pub struct Client {
    channel: Channel,
    address: Arc<Address>,
    deadline: Duration,
    token: Option<TokenSource>,
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// [`Error::Connect`].
    pub async fn connect(address: &Address, tls: Option<&Tls>) -> Result<Self, Error> {
        let channel = connect::channel(address, tls).await;
        channel
            .map(|channel| Self::over(channel, address.clone()))
            .map_err(|source| Error::Connect { address: address.clone(), source })
    }

    /// Connects when the first call is made. Has to be called inside a tokio runtime.
    ///
    /// # Errors
    /// [`Error::Connect`], when `tls` cannot be used.
    pub fn connect_lazy(address: &Address, tls: Option<&Tls>) -> Result<Self, Error> {
        let channel = connect::channel_lazy(address, tls);
        channel
            .map(|channel| Self::over(channel, address.clone()))
            .map_err(|source| Error::Connect { address: address.clone(), source })
    }

    /// Uses a channel that was made before; `address` is for error messages.
    pub fn over(channel: Channel, address: Address) -> Self {
        Self { channel, address: Arc::new(address), deadline: DEADLINE, token: None }
    }

    /// Lets each call take this long, attempts and waits included, instead of 15 seconds.
    #[must_use]
    pub fn with_deadline(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    /// Presents the token in this file with each call, instead of or beside a client certificate: the token speaks. It is
    /// read anew for each call, so that one that is replaced in time never ends. An agent passes it on, and goes by it instead of
    /// what it sees of the caller.
    #[must_use]
    pub fn with_token_file(self, path: &Path) -> Self {
        Self { token: Some(TokenSource::File(Arc::from(path))), ..self }
    }

    /// Presents the token that `command` writes with each call, as [`Client::with_token_file`] does that of a file. The
    /// command is run when the first call needs a token, shortly before that ends, and after a server refused it; calls
    /// wait for it meanwhile, and their own deadlines begin after. Clones share the token.
    #[must_use]
    pub fn with_token_command(self, command: TokenCommand) -> Self {
        Self { token: Some(TokenSource::Command(Arc::new(command))), ..self }
    }

    pub(crate) fn token_source(&self) -> Option<&TokenSource> {
        self.token.as_ref()
    }

    /// Where broker or agent is.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// How long each call may take.
    pub fn deadline(&self) -> Duration {
        self.deadline
    }

    /// Extends a lease by `ttl` from now, or by what the broker grants by default. A renewal that fails changes nothing.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn renew(&self, lease: LeaseId, ttl: Option<Duration>) -> Result<Lease, Error> {
        let renewed = self.repeatable(renewal(lease, ttl), |client, request| async move {
            client.leases().renew(request).await
        });
        self.lease("lease", renewed.await?.lease)
    }

    /// As [`Client::renew`], in one attempt.
    pub(crate) async fn renew_once(&self, lease: LeaseId, ttl: Option<Duration>) -> Result<Lease, Error> {
        let renewed = self
            .once(renewal(lease, ttl), |client, request| async move { client.leases().renew(request).await });
        self.lease("lease", renewed.await?.lease)
    }

    /// Takes a lease back; `reason` is kept in the audit record.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn revoke(&self, lease: LeaseId, reason: &str) -> Result<Lease, Error> {
        let message =
            LeasesRevokeRequest { lease_id: lease.to_string(), reason: reason.to_owned(), force: false };
        let revoked =
            self.repeatable(message, |client, request| async move { client.leases().revoke(request).await });
        self.lease("lease", revoked.await?.lease)
    }

    pub(crate) fn lease(&self, field: &'static str, lease: Option<v1::Lease>) -> Result<Lease, Error> {
        let lease = lease.ok_or(convert::WireError::Missing { field });
        lease.and_then(Lease::try_from).map_err(|source| self.malformed(source))
    }

    pub(crate) fn malformed(&self, source: convert::WireError) -> Error {
        Error::Malformed { address: self.address().clone(), source }
    }
}

fn renewal(lease: LeaseId, ttl: Option<Duration>) -> LeasesRenewRequest {
    LeasesRenewRequest { lease_id: lease.to_string(), ttl: ttl.map(convert::duration_to_wire) }
}

macro_rules! services {
    ($($service:ident: $client:ident),+ $(,)?) => {
        impl Client {$(
            #[doc = concat!("The generated [`", stringify!($client), "`], for calls that there is no method for here.")]
            /// Make them through [`Client::repeatable`], [`Client::once`] or [`Client::stream`].
            pub fn $service(&self) -> $client<Channel> {
                $client::new(self.channel.clone())
                    .max_decoding_message_size(limits::MESSAGE)
                    .max_encoding_message_size(limits::MESSAGE)
            }
        )+}
    };
}
services! {
    audit: AuditClient,
    environments: EnvironmentsClient,
    leases: LeasesClient,
    local_store: LocalStoreClient,
    nodes: NodesClient,
    policies: PoliciesClient,
    secrets: SecretsClient,
    system: SystemClient,
}

/// Somewhat longer than the broker gives a request by default, so that its answer, which says more, comes first.
const DEADLINE: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests;
