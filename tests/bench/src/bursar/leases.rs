//! Leases in bulk: granted by `Secrets.BatchRead`, as many a call as it takes, and renewed one by one.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bursar_proto::v1::leases_client::LeasesClient;
use bursar_proto::v1::leases_revoke_many_request::Selector;
use bursar_proto::v1::secrets_client::SecretsClient;
use bursar_proto::v1::{
    LeasesRenewRequest, LeasesRevocationsRequest, LeasesRevokeManyRequest, SecretsBatchReadRequest,
    SecretsReadRequest,
};
use bursar_sdk::Client;
use prost_types::Duration as WireDuration;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval};
use tonic::transport::Channel;

use super::reference;
use crate::load::Caller;

/// What is to be granted: to each of some instances a lease on each of the first `secrets` secrets.
#[derive(Clone, Copy)]
pub(crate) struct Grants {
    /// Number of the first instance. Instances of other numbers have other leases.
    pub(crate) first: usize,
    pub(crate) instances: usize,
    /// At most [`Grants::SECRETS`].
    pub(crate) secrets: usize,
}

impl Grants {
    /// The most that one call may ask for.
    pub(crate) const SECRETS: usize = bursar_proto::limits::BATCH;

    /// At least `leases` leases, as few instances as that takes.
    pub(crate) fn of(leases: usize, first: usize) -> Self {
        Self { first, instances: leases.div_ceil(Self::SECRETS), secrets: Self::SECRETS }
    }

    pub(crate) fn leases(self) -> usize {
        self.instances * self.secrets
    }

    /// Makes them, by all of `clients` at once. Answers the ids of each instance's leases, in the order of the instances.
    ///
    /// # Errors
    /// The broker refuses.
    pub(crate) async fn make(self, clients: &[Client]) -> Result<Vec<Vec<String>>> {
        let next = Arc::new(AtomicUsize::new(0));
        let mut makers = JoinSet::new();
        for client in clients.iter().cycle().take(clients.len() * PER_CLIENT).cloned() {
            makers.spawn(self.make_some(client, Arc::clone(&next)));
        }
        let mut made = Vec::with_capacity(self.instances);
        while let Some(some) = makers.join_next().await {
            made.extend(some??);
        }
        made.sort_by_key(|(number, _)| *number);
        Ok(made.into_iter().map(|(_, ids)| ids).collect())
    }

    async fn make_some(self, client: Client, next: Arc<AtomicUsize>) -> Result<Vec<(usize, Vec<String>)>> {
        let mut made = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= self.instances {
                return Ok(made);
            }
            made.push((number, grant(&client, self.first + number, self.secrets).await?));
        }
    }
}

async fn grant(client: &Client, instance: usize, secrets: usize) -> Result<Vec<String>> {
    let instance = format!("bulk-{instance}");
    let read = |number| SecretsReadRequest {
        reference: reference(number),
        instance: instance.clone(),
        ..SecretsReadRequest::default()
    };
    let request = SecretsBatchReadRequest { requests: (0..secrets).map(read).collect() };
    let answer = client.secrets().batch_read(request).await.context("`Secrets.BatchRead` failed")?;
    let leases = answer.into_inner().responses.into_iter().filter_map(|mut response| response.lease.take());
    let ids: Vec<String> = leases.map(|lease| lease.id).collect();
    ensure!(ids.len() == secrets, "`Secrets.BatchRead` answered {} leases of {secrets}", ids.len());
    Ok(ids)
}

/// Revokes everything under `prefix`, which is `count` leases at least, by one order. Answers how long it took until the
/// last was gone.
///
/// # Errors
/// The broker refuses.
pub(crate) async fn revoke(clients: &[Client], prefix: &str, count: usize) -> Result<Duration> {
    let mut leases = clients.first().context("there is no connection")?.leases();
    let selector = Selector::PathPrefix(prefix.to_owned());
    let request =
        LeasesRevokeManyRequest { selector: Some(selector), reason: "benchmark".to_owned(), dry_run: false };
    let start = Instant::now();
    let ordered = leases.revoke_many(request).await.context("`Leases.RevokeMany` failed")?.into_inner();
    let mut revocation = ordered.revocation.context("`Leases.RevokeMany` answered no revocation")?;
    let mut tick = interval(POLL);
    while revocation.marked_at.is_none() || revocation.waiting > 0 {
        tick.tick().await;
        ensure!(start.elapsed() < REVOKED, "the leases were not revoked within {REVOKED:?}");
        let request = LeasesRevocationsRequest { id: revocation.id, limit: 1 };
        let found = leases.revocations(request).await.context("`Leases.Revocations` failed")?.into_inner();
        revocation = found.revocations.into_iter().next().context("the revocation is not known any more")?;
    }
    let taken = start.elapsed();
    let least = u64::try_from(count)?;
    ensure!(revocation.marked >= least, "{} leases of {least} were revoked", revocation.marked);
    Ok(taken)
}

/// Reads one path that creates a credential, as another instance each time, so that each is a new one.
pub(crate) struct Issuer {
    client: SecretsClient<Channel>,
    path: String,
    number: usize,
    issued: usize,
}

impl Issuer {
    /// `number` tells it from others that do the same.
    pub(crate) fn new(client: &Client, path: &str, number: usize) -> Self {
        Self { client: client.secrets(), path: path.to_owned(), number, issued: 0 }
    }
}

impl Caller for Issuer {
    async fn call(&mut self) -> Result<()> {
        self.issued += 1;
        let request = SecretsReadRequest {
            reference: format!("{}#password", self.path),
            instance: format!("issuer-{}-{}", self.number, self.issued),
            ..SecretsReadRequest::default()
        };
        let answer = self.client.read(request).await.context("`Secrets.Read` failed")?.into_inner();
        ensure!(
            answer.lease.as_ref().is_some_and(|lease| lease.dynamic),
            "`Secrets.Read` answered no new credential"
        );
        Ok(())
    }
}

/// Renews its leases in turn by `Leases.Renew`, each time to a later end.
pub(crate) struct Renewer {
    client: LeasesClient<Channel>,
    leases: Vec<String>,
    next: usize,
}

impl Renewer {
    /// Renews `leases`, of which there is at least one.
    pub(crate) fn new(client: &Client, leases: Vec<String>) -> Self {
        Self { client: client.leases(), leases, next: 0 }
    }
}

impl Caller for Renewer {
    async fn call(&mut self) -> Result<()> {
        let lease_id = self.leases.get(self.next).context("there is no lease to renew")?.clone();
        self.next = (self.next + 1) % self.leases.len();
        // More than leases get by themselves, and asked for, so that it is granted as it is: each renewal moves the end.
        let ttl = WireDuration { seconds: TTL.as_secs() as i64, nanos: 0 };
        let request = LeasesRenewRequest { lease_id, ttl: Some(ttl) };
        let renewed = self.client.renew(request).await.context("`Leases.Renew` failed")?.into_inner();
        ensure!(renewed.lease.is_some(), "`Leases.Renew` answered no lease");
        Ok(())
    }
}

/// Calls under way of one client.
const PER_CLIENT: usize = 2;
const TTL: Duration = Duration::from_secs(2 * 3600);
const POLL: Duration = Duration::from_millis(10);
const REVOKED: Duration = Duration::from_secs(300);
