//! Reading secrets.

use std::fmt;
use std::time::Duration;

use bursar_core::reference::Version;
use bursar_proto::convert::{WireError, duration_from_wire, duration_to_wire};
use bursar_proto::v1::{SecretsBatchReadRequest, SecretsReadRequest, SecretsReadResponse};

use crate::client::Client;
use crate::error::Error;
use crate::{Lease, Reference, Secret};

/// What a read asks for besides the secret.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReadOptions {
    /// How long the lease should last; what the broker grants by default when absent.
    pub ttl: Option<Duration>,
    /// Why, for the audit record. At most 1,024 bytes; may be empty where policy does not ask for one.
    pub reason: String,
    /// Tells instances of one workload apart. At most 256 bytes; empty where there is only one.
    pub instance: String,
    /// How old a value from a cache may be; what the backend's configuration says when absent. Zero asks the store.
    pub max_age: Option<Duration>,
    /// Whether the store is to make another credential although the caller holds a live one. Means nothing for a static
    /// secret.
    pub new_lease: bool,
}

/// A secret under its lease.
pub struct Leased {
    pub value: Secret,
    /// The caller's right to it.
    pub lease: Lease,
    /// How long ago the store was asked for the value.
    pub age: Duration,
}

impl Leased {
    /// The version that was read, where the store has versions.
    pub fn version(&self) -> Option<&Version> {
        self.lease.reference.version.as_ref()
    }
}

impl Client {
    /// Reads one secret and leases it.
    ///
    /// The call is repeated when it was never sent, or when the server says when to send it again. It is not repeated
    /// when an answer may have been lost: the broker would hand out the same lease again, but what a store made for an
    /// issuance that was interrupted is taken back, and it has worked for nothing.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn read(&self, reference: &Reference, options: &ReadOptions) -> Result<Leased, Error> {
        let message = options.message(reference);
        let response =
            self.guarded(message, |client, request| async move { client.secrets().read(request).await });
        self.leased(response.await?)
    }

    /// As [`Client::read`], in one attempt.
    pub(crate) async fn read_once(
        &self,
        reference: &Reference,
        options: &ReadOptions,
    ) -> Result<Leased, Error> {
        let message = options.message(reference);
        let response =
            self.once(message, |client, request| async move { client.secrets().read(request).await });
        self.leased(response.await?)
    }

    /// Reads at most 256 secrets in one round trip: all of them, in the order asked for, or none. Repeated like
    /// [`Client::read`].
    ///
    /// # Errors
    /// [`Error`]; a refusal names the first secret that failed.
    pub async fn read_many(
        &self,
        references: &[Reference],
        options: &ReadOptions,
    ) -> Result<Vec<Leased>, Error> {
        let requests = references.iter().map(|reference| options.message(reference)).collect();
        let message = SecretsBatchReadRequest { requests };
        let call = self
            .guarded(message, |client, request| async move { client.secrets().batch_read(request).await });
        let responses = call.await?.responses;
        if responses.len() != references.len() {
            return Err(self.malformed(WireError::Missing { field: "responses" }));
        }
        responses.into_iter().map(|response| self.leased(response)).collect()
    }

    fn leased(&self, mut response: SecretsReadResponse) -> Result<Leased, Error> {
        let value = response.take_value();
        let lease = self.lease("lease", response.lease.take())?;
        let age = duration_from_wire("age", response.age).map_err(|source| self.malformed(source))?;
        Ok(Leased { value, lease, age: age.unwrap_or_default() })
    }
}

impl ReadOptions {
    fn message(&self, reference: &Reference) -> SecretsReadRequest {
        SecretsReadRequest {
            reference: reference.to_string(),
            ttl: self.ttl.map(duration_to_wire),
            reason: self.reason.clone(),
            instance: self.instance.clone(),
            max_age: self.max_age.map(duration_to_wire),
            new_lease: self.new_lease,
        }
    }
}

impl fmt::Debug for Leased {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leased").field("lease", &self.lease).field("age", &self.age).finish_non_exhaustive()
    }
}
