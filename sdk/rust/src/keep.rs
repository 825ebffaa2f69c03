//! Resolving environments that are to be kept, for when there is no broker.

use bursar_core::SpiffeId;
use bursar_proto::convert::{WireError, timestamp_from_wire};
use bursar_proto::v1;
use jiff::Timestamp;

use crate::client::Client;
use crate::environment::{ResolveOptions, ResolvedEnvironment};
use crate::error::Error;

/// An environment that may be kept, encrypted, on the caller's own machine.
#[derive(Debug)]
pub struct KeptEnvironment {
    /// What it has. Nothing renews its leases.
    pub environment: ResolvedEnvironment,
    /// To whom it was given.
    pub principal: SpiffeId,
    /// When, by the broker's clock.
    pub given_at: Timestamp,
    /// It must not be used from then on.
    pub usable_until: Timestamp,
}

impl Client {
    /// Reads everything that an environment names, to be kept: all of it or nothing. A broker answers it where the
    /// environment and policy allow that; an agent does not. Repeated like [`Client::read`].
    ///
    /// # Errors
    /// [`Error`]; [`Error::Malformed`] from a broker of an earlier release, which knows nothing of copies.
    pub async fn resolve_to_keep(
        &self,
        environment: &str,
        options: &ResolveOptions,
    ) -> Result<KeptEnvironment, Error> {
        let message = v1::EnvironmentsResolveRequest { offline: true, ..options.message(environment) };
        let response = self
            .guarded(message, |client, request| async move { client.environments().resolve(request).await });
        KeptEnvironment::try_from(response.await?).map_err(|source| self.malformed(source))
    }
}

impl TryFrom<v1::EnvironmentsResolveResponse> for KeptEnvironment {
    type Error = WireError;

    fn try_from(mut response: v1::EnvironmentsResolveResponse) -> Result<Self, WireError> {
        let copy = response.offline.take().ok_or(WireError::Missing { field: "offline" })?;
        let principal = SpiffeId::parse(&copy.principal)
            .map_err(|source| WireError::SpiffeId { field: "offline.principal", source })?;
        Ok(Self {
            principal,
            given_at: timestamp_from_wire("offline.given_at", copy.given_at)?,
            usable_until: timestamp_from_wire("offline.usable_until", copy.usable_until)?,
            environment: response.try_into()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::Fake;

    fn response(copy: Option<v1::OfflineCopy>) -> v1::EnvironmentsResolveResponse {
        v1::EnvironmentsResolveResponse { revision: 7, offline: copy, ..Default::default() }
    }

    fn copy() -> v1::OfflineCopy {
        let at = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
        v1::OfflineCopy {
            given_at: at(1_767_225_600),
            usable_until: at(1_767_254_400),
            principal: "spiffe://example.org/user/ada".to_owned(),
        }
    }

    #[test]
    fn what_a_copy_is_bound_to_is_read() {
        let kept = KeptEnvironment::try_from(response(Some(copy()))).expect("kept");
        assert_eq!(kept.principal.to_string(), "spiffe://example.org/user/ada");
        assert_eq!(kept.usable_until.duration_since(kept.given_at).as_secs(), 8 * 3_600);
        assert_eq!(kept.environment.revision, 7);
    }

    #[test]
    fn nothing_is_kept_without_a_word_on_whom_it_is_for_and_until_when() {
        let refused = |copy| KeptEnvironment::try_from(response(copy)).err();
        assert_eq!(refused(None), Some(WireError::Missing { field: "offline" }));
        let nobody = v1::OfflineCopy { principal: String::new(), ..copy() };
        assert!(matches!(refused(Some(nobody)), Some(WireError::SpiffeId { .. })));
        let endless = v1::OfflineCopy { usable_until: None, ..copy() };
        assert_eq!(refused(Some(endless)), Some(WireError::Missing { field: "offline.usable_until" }));
    }

    #[tokio::test(start_paused = true)]
    async fn a_broker_that_knows_nothing_of_copies_gives_none() {
        let refused = Fake::new(false).client().resolve_to_keep("shop", &ResolveOptions::default()).await;
        assert!(matches!(refused, Err(Error::Malformed { .. })));
    }
}
