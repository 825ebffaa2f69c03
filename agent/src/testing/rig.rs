//! The inside of an agent, piece by piece, beside a fake broker. Time moves when the test says so.

use std::sync::Arc;
use std::time::Duration;

use bursar_core::clock::TestClock;
use bursar_core::tasks::Tasks;
use bursar_proto::v1::SecretsReadRequest;
use http::HeaderMap;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use tonic::Status;

use super::{FakeBroker, Harness};
use crate::answer::{Answers, Call};
use crate::attest::{Attestor, Workload};
use crate::cache::Cache;
use crate::config::{CacheLimits, OnOutage};
use crate::journal::Journal;
use crate::telemetry::Metrics;
use crate::tend::Tender;
use crate::upstream::Upstream;

pub(crate) struct Rig {
    pub(crate) broker: FakeBroker,
    pub(crate) clock: Arc<TestClock>,
    pub(crate) cache: Arc<Cache>,
    pub(crate) journal: Arc<Journal>,
    pub(crate) upstream: Arc<Upstream>,
    pub(crate) answers: Arc<Answers>,
    pub(crate) tender: Tender,
    pub(crate) tasks: Tasks,
    pub(crate) metrics: Metrics,
    registry: Registry,
}

impl Rig {
    /// Everything is fresh for 30 s, and served through an outage.
    pub(crate) const LIMITS: CacheLimits = CacheLimits {
        bytes: 4 * 1024 * 1024,
        entries: 100,
        fresh_for: Duration::from_secs(30),
        on_outage: OnOutage::Serve,
    };

    /// Everything is fresh for 30 s, and served through an outage.
    pub(crate) async fn new() -> Self {
        Self::with(OnOutage::Serve, 1024).await
    }

    pub(crate) async fn with(on_outage: OnOutage, journal_lines: usize) -> Self {
        let broker = FakeBroker::start().await;
        let clock = Arc::new(TestClock::new());
        broker.script.state().clock = Arc::clone(&clock) as _;
        let mut registry = Registry::default();
        let (tasks, metrics) = (Tasks::new(), Metrics::register(&mut registry));
        let limits = CacheLimits { on_outage, ..Self::LIMITS };
        let cache = Arc::new(Cache::new(limits, Arc::clone(&clock) as _));
        cache.listening(true);
        let journal = Arc::new(Journal::with_capacity(Arc::clone(&clock) as _, journal_lines));
        let upstream = Arc::new(Upstream::new(Duration::from_secs(10), metrics.clone()));
        let tls = bursar_sdk::Tls {
            ca_pem: broker.authority.root_pem.clone().into_bytes(),
            identity: None,
            server_name: None,
        };
        let address = bursar_sdk::Address::parse(&broker.url()).expect("address");
        upstream.replace(move || bursar_sdk::channel_lazy(&address, Some(&tls))).expect("channel");
        let answers = Answers::new(
            Arc::clone(&cache),
            Arc::clone(&journal),
            Arc::clone(&upstream),
            metrics.clone(),
            tasks.clone(),
        );
        let attestor = Arc::new(Attestor::new().expect("attestor"));
        let tender = Tender::new(Arc::clone(&cache), Arc::clone(&upstream), attestor, metrics.clone());
        let answers = Arc::new(answers);
        Self { broker, clock, cache, journal, upstream, answers, tender, tasks, metrics, registry }
    }

    /// Lets time pass by both clocks. Tokio's is paused only for the moment: what goes over real sockets does not wait for
    /// paused time.
    pub(crate) async fn pass(&self, time: Duration) {
        self.clock.advance(time);
        tokio::time::pause();
        tokio::time::advance(time).await;
        tokio::time::resume();
    }

    /// What a counter stands at.
    pub(crate) fn counted(&self, name: &str) -> u64 {
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("encoded");
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|value| value.trim().parse().ok()).unwrap_or_default()
    }

    pub(crate) fn call(caller: &Arc<Workload>) -> Call {
        Call::new(Arc::clone(caller), &HeaderMap::new())
    }

    /// Reads `kv/app` and says whether it is what the store has.
    pub(crate) async fn read(&self, caller: &Arc<Workload>) -> Result<String, Status> {
        self.ask(caller, Harness::read("kv/app")).await
    }

    pub(crate) async fn ask(
        &self,
        caller: &Arc<Workload>,
        request: SecretsReadRequest,
    ) -> Result<String, Status> {
        let mut read = self.answers.read(&Self::call(caller), request).await?;
        Ok(String::from_utf8(read.take_value().expose().to_vec()).expect("text"))
    }
}

pub(crate) fn workload(name: &str) -> Arc<Workload> {
    Arc::new(Workload::named(name))
}
