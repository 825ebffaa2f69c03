//! `Leases.Renew` and `Leases.Revoke`: the broker does it, and the cache follows.

use bursar_proto::v1::leases_client::LeasesClient;
use bursar_proto::v1::{LeasesRenewRequest, LeasesRenewResponse, LeasesRevokeRequest, LeasesRevokeResponse};
use tonic::Status;

use super::{Answers, Call};
use crate::upstream::Failure;

impl Answers {
    /// Extends a lease.
    ///
    /// # Errors
    /// What the broker says, or that it cannot be reached. The lease runs on to the end it had.
    pub async fn renew(
        &self,
        call: &Call,
        request: LeasesRenewRequest,
    ) -> Result<LeasesRenewResponse, Status> {
        let (began, question) = (self.cache.now(), self.cache.question(&call.caller));
        let request = call.request(request, &question.context).map_err(Failure::into_status)?;
        let renew = |channel| async { LeasesClient::new(channel).renew(request).await };
        let renewed = self.upstream.ask(renew).await.map_err(Failure::into_status)?;
        if let Some(lease) = &renewed.lease {
            self.cache.extended(lease.clone(), began);
        }
        Ok(renewed)
    }

    /// Takes a lease back. Once the broker agrees, which is what tells that it is the caller's to revoke, nothing that
    /// stands on it is left in the cache when this returns.
    ///
    /// # Errors
    /// What the broker says, or that it cannot be reached; nothing is revoked then.
    pub async fn revoke(
        &self,
        call: &Call,
        request: LeasesRevokeRequest,
    ) -> Result<LeasesRevokeResponse, Status> {
        let question = self.cache.question(&call.caller);
        let lease_id = request.lease_id.clone();
        let request = call.request(request, &question.context).map_err(Failure::into_status)?;
        let revoke = |channel| async { LeasesClient::new(channel).revoke(request).await };
        let revoked = self.upstream.ask(revoke).await.map_err(Failure::into_status)?;
        self.cache.ended(&lease_id);
        Ok(revoked)
    }
}
