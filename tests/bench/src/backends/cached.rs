//! What a secret that is in the broker's cache costs a read: the cache by itself, in this process, since a fraction of a
//! microsecond is lost in what a request costs besides.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use async_trait::async_trait;
use bursar_broker::config::{CacheContract, OnOutage, RevocationLimits};
use bursar_broker::mounts::{Mount, Mounts};
use bursar_broker::telemetry::Metrics;
use bursar_core::backend::{Backend, BackendError, Capabilities, Fetched, VersionInfo, fields_from};
use bursar_core::{BackendName, Reference, Secret, SecretPath, Version};
use tokio::runtime::Runtime;
use tokio::time::Instant;

use super::figure;
use crate::load::{Plan, median};
use crate::report::Figure;

pub(super) fn measure(runtime: &Runtime, plan: &Plan) -> Result<Figure> {
    let name = BackendName::parse("store")?;
    let contract = CacheContract {
        max_stale: Duration::from_secs(3600),
        on_outage: OnOutage::Fail,
        poll: Duration::from_secs(3600),
    };
    let revocation = RevocationLimits { concurrency: 1, per_second: NonZeroU32::MIN, attempts: 1 };
    let metrics = Metrics::register(&mut prometheus_client::registry::Registry::default());
    let mount = Mount::new(name.clone(), Arc::new(Store), contract, revocation, metrics.clone());
    let mounts = Mounts::new([mount], CACHE, metrics);
    let references: Vec<_> = (0..plan.secrets)
        .map(|number| Reference::parse(&format!("store/bench/{number:04}")))
        .collect::<Result<_, _>>()?;
    let mut rounds = Vec::new();
    for _ in 0..plan.repeats {
        // The first round of all fills the cache.
        runtime.block_on(fetch(&mounts, &name, &references, references.len()))?;
        let begun = Instant::now();
        runtime.block_on(fetch(&mounts, &name, &references, plan.fetches))?;
        rounds.push(begun.elapsed().as_secs_f64() * 1e6 / plan.fetches as f64);
    }
    let note = format!("{} secrets in turn, by one thread", plan.secrets);
    Ok(figure("cached.cpu_us", "us", median(rounds)).noted(&note))
}

async fn fetch(mounts: &Mounts, name: &BackendName, references: &[Reference], times: usize) -> Result<()> {
    let mount = mounts.mount(name).ok_or_else(|| anyhow::anyhow!("`{name}` is not mounted"))?;
    for reference in references.iter().cycle().take(times) {
        std::hint::black_box(mounts.fetch(mount, reference, None).await?);
    }
    Ok(())
}

/// A store of secrets of two fields.
struct Store;

#[async_trait]
impl Backend for Store {
    fn capabilities(&self) -> Capabilities {
        Capabilities { kind: "bench", versions: true, list: false, leasing: false, writing: false }
    }

    async fn read(&self, _: &SecretPath, _: Option<&Version>) -> Result<Fetched, BackendError> {
        let fields = crate::bursar::FIELDS.map(|(name, value)| (name, Secret::from(value.to_owned())));
        #[expect(clippy::expect_used, reason = "the names are constants")]
        let data = fields_from(fields).expect("names of fields");
        Ok(Fetched { data, version: Some(Version::number(1)), expires_at: None })
    }

    async fn list(
        &self,
        _: Option<&SecretPath>,
        _: Option<&str>,
        _: usize,
    ) -> Result<Vec<String>, BackendError> {
        Ok(Vec::new())
    }

    async fn versions(&self, _: &SecretPath) -> Result<Vec<VersionInfo>, BackendError> {
        Ok(Vec::new())
    }

    async fn health(&self) -> Result<(), BackendError> {
        Ok(())
    }
}

const CACHE: u64 = 64 * 1024 * 1024;
