//! How soon a revocation has reached a program: from the beginning of the call until the agent has told a program on its
//! machine that holds the lease, which it does once it has let go of the value itself.

use std::time::Duration;

use anyhow::{Context, Result};
use bursar_proto::v1::secrets_watch_response::Event;
use bursar_proto::v1::{LeasesRevokeRequest, SecretsReadRequest, SecretsWatchRequest, SecretsWatchResponse};
use bursar_sdk::Client;
use tokio::time::{Instant, timeout};
use tonic::Streaming;

use crate::bursar::reference;
use crate::histogram::Histogram;
use crate::node::Node;

/// # Errors
/// Somebody refuses, or a revocation does not arrive.
pub(super) async fn measure(node: &Node, administrator: &Client, revocations: usize) -> Result<Histogram> {
    let program = node.connect().await?;
    let mut events = program.secrets().watch(SecretsWatchRequest::default()).await?.into_inner();
    let mut taken = Histogram::new();
    for _ in 0..revocations {
        let request = SecretsReadRequest { reference: reference(1), ..SecretsReadRequest::default() };
        let read = program.secrets().read(request).await?.into_inner();
        let lease_id = read.lease.as_ref().context("no lease")?.id.clone();
        let revoke =
            LeasesRevokeRequest { lease_id: lease_id.clone(), reason: "benchmark".to_owned(), force: false };
        let begun = Instant::now();
        administrator.leases().revoke(revoke).await?;
        timeout(LONGEST, told(&mut events, &lease_id)).await.context("a revocation did not arrive")??;
        taken.record(begun.elapsed());
    }
    Ok(taken)
}

async fn told(events: &mut Streaming<SecretsWatchResponse>, lease_id: &str) -> Result<()> {
    loop {
        let message = events.message().await?.context("the events ended")?;
        if matches!(message.event, Some(Event::LeaseRevoked(revoked)) if revoked.lease_id == lease_id) {
            return Ok(());
        }
    }
}

const LONGEST: Duration = Duration::from_secs(60);
