//! Looks after the leases that the cache holds: renews those whose readers still run, lets go of the others, and finds
//! out about those that a gap in the broker's events left unknown.
//!
//! A renewal is made under the attested identity of a process that got the value, or by the token that it brought, so the broker decides on it as if that
//! process had asked. When none of them runs any more, the value is dropped and the lease left to end by itself: the next
//! start may come before that. What was in a pod that is over does not start again, so its lease is given back at once, by
//! the node itself, which may do that for what it asked for. A
//! renewal that fails is tried again later, under the one retry policy; it never leads to a read, which could make the
//! store issue another credential while the old one lives.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bursar_core::Explained;
use bursar_core::retry::{Retry, Transient};
use bursar_core::tasks::Tasks;
use bursar_proto::Reason;
use bursar_proto::v1::leases_client::LeasesClient;
use bursar_proto::v1::{
    LeaseState, LeasesGetRequest, LeasesRenewRequest, LeasesRevokeRequest, WorkloadContext,
};
use futures_util::StreamExt;
use futures_util::stream;
use tonic::Request;

use crate::attest::{Attestor, Workload};
use crate::cache::{Cache, Holding};
use crate::telemetry::Metrics;
use crate::upstream::{Failure, Upstream};

/// Looks after leases.
#[derive(Debug)]
pub struct Tender {
    cache: Arc<Cache>,
    upstream: Arc<Upstream>,
    attestor: Arc<Attestor>,
    metrics: Metrics,
}

impl Tender {
    /// For the leases of `cache`, whose readers `attestor` knows.
    pub fn new(
        cache: Arc<Cache>,
        upstream: Arc<Upstream>,
        attestor: Arc<Attestor>,
        metrics: Metrics,
    ) -> Self {
        Self { cache, upstream, attestor, metrics }
    }

    /// Until the process stops.
    pub async fn tend(&self, tasks: &Tasks) {
        // Apart from each other: what is over is wiped in time, however long the broker takes to answer.
        tasks
            .until_stopping(async {
                tokio::join!(self.keep_swept(), self.keep_renewed(), self.keep_pods_looked_at())
            })
            .await;
    }

    async fn keep_swept(&self) {
        let mut tick = tokio::time::interval(TICK);
        loop {
            tick.tick().await;
            self.cache.sweep();
            let size = self.cache.size();
            self.metrics.cache_entries.set(i64::try_from(size.entries).unwrap_or(i64::MAX));
            self.metrics.cache_bytes.set(i64::try_from(size.bytes).unwrap_or(i64::MAX));
            self.metrics.leases.set(i64::try_from(size.leases).unwrap_or(i64::MAX));
        }
    }

    async fn keep_pods_looked_at(&self) {
        loop {
            tokio::time::sleep(TICK).await;
            let attestor = Arc::clone(&self.attestor);
            match tokio::task::spawn_blocking(move || attestor.look_at_pods()).await {
                Ok(Ok(true)) => self.cache.pods_left(),
                Ok(Ok(false)) => {}
                Ok(Err(error)) => {
                    tracing::warn!(
                        error = %Explained(&error),
                        "the pods of this node cannot be looked at"
                    );
                }
                // It has concluded nothing, and the next looks again.
                Err(_) => {}
            }
        }
    }

    async fn keep_renewed(&self) {
        let mut failed = 0;
        loop {
            tokio::time::sleep(TICK).await;
            if self.round().await {
                failed = 0;
                continue;
            }
            // Thousands of leases are one reason to try again, not thousands.
            failed += 1;
            let wait = tokio::time::sleep(Retry::BACKGROUND.delay(failed));
            tokio::select! {
                () = wait => {}
                () = self.upstream.answers_again() => {}
            }
        }
    }

    /// Does what is due; answers whether the broker could be asked. Once it cannot, the rest is left for later.
    pub async fn round(&self) -> bool {
        let reached = AtomicBool::new(true);
        let renew = |holding: Arc<Holding>| {
            let reached = &reached;
            async move {
                if reached.load(Ordering::Relaxed) {
                    reached.fetch_and(self.renew(&holding).await, Ordering::Relaxed);
                } else {
                    holding.put_off();
                }
            }
        };
        // One finds out whether the broker is back.
        let at_a_time = if self.upstream.is_away() { 1 } else { AT_A_TIME };
        stream::iter(self.cache.due()).for_each_concurrent(at_a_time, renew).await;
        let (unknown, epoch) = self.cache.unknown(CHECKS_PER_ROUND);
        let check = |holding: Arc<Holding>| {
            let reached = &reached;
            async move {
                if reached.load(Ordering::Relaxed) {
                    reached.fetch_and(self.check(&holding, epoch).await, Ordering::Relaxed);
                }
            }
        };
        stream::iter(unknown).for_each_concurrent(at_a_time, check).await;
        reached.into_inner()
    }

    /// Answers whether the broker could be asked.
    #[tracing::instrument(skip_all, fields(lease_id = holding.id()))]
    async fn renew(&self, holding: &Holding) -> bool {
        let Some(reader) = holding.reader() else { return self.let_go(holding).await };
        let began = self.cache.now();
        let message = LeasesRenewRequest { lease_id: holding.id().to_owned(), ttl: holding.ttl() };
        let renew = |channel, request| async { LeasesClient::new(channel).renew(request).await };
        match self.ask(message, &reader, renew).await {
            Ok(renewed) => {
                self.metrics.renewal("renewed");
                // Without a lease in it the answer says nothing; the lease runs on to the end it had.
                renewed.lease.into_iter().for_each(|lease| self.cache.extended(lease, began));
                true
            }
            Err(Failure::Unreachable(_)) => {
                self.metrics.renewal("failed");
                holding.put_off();
                false
            }
            Err(failure) => {
                self.metrics.renewal("failed");
                tracing::warn!(error = %failure, "a lease could not be renewed; it runs on to the end it had");
                holding.renewal_failed(failure.is_transient());
                // The same words for one that is gone and one that its owner may not renew: looking tells them apart.
                failure.reason() != Some(Reason::LeaseNotFound) || self.check(holding, 0).await
            }
        }
    }

    /// Asks whether a lease is in force, and validates it for `epoch` if so. Answers whether the broker could be asked.
    async fn check(&self, holding: &Holding, epoch: u64) -> bool {
        let Some(reader) = holding.reader() else { return self.let_go(holding).await };
        let message = LeasesGetRequest { lease_id: holding.id().to_owned() };
        let get = |channel, request| async { LeasesClient::new(channel).get(request).await };
        match self.ask(message, &reader, get).await {
            Ok(found) if found.lease.as_ref().is_some_and(|lease| lease.state() == LeaseState::Active) => {
                self.metrics.renewal("checked");
                holding.validate(epoch);
                true
            }
            // It stays unknown, which serves nobody, and is asked about again.
            Err(failure) if failure.is_transient() => !matches!(failure, Failure::Unreachable(_)),
            Ok(_) | Err(_) => {
                self.metrics.renewal("ended");
                self.cache.ended(holding.id());
                true
            }
        }
    }

    /// Nobody needs the lease. Answers whether the broker could be asked, where it has to be.
    async fn let_go(&self, holding: &Holding) -> bool {
        if !holding.is_left() {
            self.metrics.renewal("unread");
            self.cache.ended(holding.id());
            return true;
        }
        let request = LeasesRevokeRequest {
            lease_id: holding.id().to_owned(),
            reason: POD_OVER.to_owned(),
            force: false,
        };
        let revoke = |channel| async { LeasesClient::new(channel).revoke(request).await };
        match self.upstream.ask(revoke).await {
            Ok(_) => {
                self.metrics.renewal("given_back");
                self.cache.ended(holding.id());
                true
            }
            Err(failure) if failure.is_transient() => {
                self.metrics.renewal("failed");
                match failure {
                    Failure::Unreachable(_) => holding.put_off(),
                    Failure::Answered(_) => holding.renewal_failed(true),
                }
                failure.is_answer()
            }
            Err(failure) => {
                self.metrics.renewal("failed");
                tracing::warn!(error = %failure, "the lease of a pod that is over could not be given back; it ends by itself");
                self.cache.ended(holding.id());
                true
            }
        }
    }

    async fn ask<M, R, F>(
        &self,
        message: M,
        (reader, context): &(Arc<Workload>, WorkloadContext),
        call: impl FnOnce(tonic::transport::Channel, Request<M>) -> F,
    ) -> Result<R, Failure>
    where
        F: Future<Output = Result<tonic::Response<R>, tonic::Status>>,
    {
        let mut request = Request::new(message);
        let introduced = reader.introduce(context, request.metadata_mut());
        introduced.map_err(|fault| Failure::Answered(tonic::Status::internal(fault)))?;
        self.upstream.ask(|channel| call(channel, request)).await
    }
}

const TICK: Duration = Duration::from_secs(1);
const AT_A_TIME: usize = 8;
/// In the audit record.
const POD_OVER: &str = "the pod is over";
/// A broker that comes back is not asked about every lease of every node at once.
const CHECKS_PER_ROUND: usize = 16;

#[cfg(test)]
mod tests;
