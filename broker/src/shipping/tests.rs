//! Sinks against real files, sockets and servers, fed from a real ledger.

mod files;
mod otlp;
mod pruning;
mod stuck;
mod syslog;

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bursar_core::audit::{Action, Actor, AuditRecord, Outcome};
use bursar_core::clock::TestClock;
use bursar_core::tasks::Tasks;
use bursar_core::tlog::Signer;
use bursar_core::{Clock, SpiffeId};
use prometheus_client::registry::Registry;
use ring::rand::SystemRandom;
use ring::signature::Ed25519KeyPair;
use tempfile::TempDir;

use super::{Ground, Shipping, start};
use crate::call::own_record;
use crate::config::{AuditSettings, FileSink, SinkConfig, SinkKind};
use crate::ledger::{Entry, Ledger, LedgerConfig, LedgerPlace, Quotas};
use crate::telemetry::SinkMetrics;

/// A ledger, and what sinks are started with.
struct Site {
    ground: Ground,
    clock: Arc<TestClock>,
    key: Vec<u8>,
    folder: TempDir,
}

impl Site {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let clock = Arc::new(TestClock::new());
        let key = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("key").as_ref().to_vec();
        let ground = ground(&folder, &clock, &key);
        Self { ground, clock, key, folder }
    }

    /// The broker stops in order and starts again.
    async fn restart(self) -> Self {
        assert!(self.ground.tasks.drain(Duration::from_secs(30)).await, "the sinks did not stop");
        self.ground.ledger.close().await;
        let ground = ground(&self.folder, &self.clock, &self.key);
        Self { ground, ..self }
    }

    fn start(&self, sinks: Vec<SinkConfig>) -> Shipping {
        start(&AuditSettings { sinks, retention: None }, &self.ground)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Records the numbers, each as the resource of a record.
    async fn record(&self, numbers: std::ops::Range<u64>) {
        self.records(numbers.map(|number| self.plain(&number.to_string())).collect()).await;
    }

    async fn records(&self, records: Vec<AuditRecord>) {
        self.ground.ledger.commit(Entry { changes: Vec::new(), records }).await.expect("records");
    }

    fn plain(&self, resource: &str) -> AuditRecord {
        let actor = Actor {
            principal: "spiffe://example.org/user/ada".to_owned(),
            method: "mtls".to_owned(),
            credential: None,
            node: None,
            selectors: Vec::new(),
            peer: None,
        };
        own_record(actor, self.clock.now(), "request-1".to_owned(), Action::Read, resource.to_owned())
    }

    fn denied(&self, resource: &str) -> AuditRecord {
        AuditRecord { outcome: Outcome::Denied, ..self.plain(resource) }
    }

    async fn position(&self, sink: &str) -> u64 {
        self.ground.ledger.shipped(sink).await.expect("position")
    }
}

fn ground(folder: &TempDir, clock: &Arc<TestClock>, key: &[u8]) -> Ground {
    let config = LedgerConfig {
        place: LedgerPlace::sqlite(folder.path().join("ledger.db")),
        origin: ORIGIN.to_owned(),
        queue: 64,
        quotas: Quotas::default(),
    };
    let clock: Arc<dyn Clock> = Arc::clone(clock) as Arc<dyn Clock>;
    let ledger = Ledger::open(config, Arc::clone(&clock)).expect("ledger");
    ledger.start_signing(Signer::from_pkcs8(ORIGIN, key).expect("signer")).expect("signing");
    Ground {
        ledger,
        clock,
        metrics: SinkMetrics::register(&mut Registry::default()),
        origin: ORIGIN.to_owned(),
        broker: SpiffeId::parse("spiffe://example.org/broker/broker-1").expect("id"),
        tasks: Tasks::new(),
    }
}

fn sink(name: &str, kind: SinkKind) -> SinkConfig {
    SinkConfig { name: name.to_owned(), kind }
}

fn file(path: PathBuf) -> SinkConfig {
    sink("file", SinkKind::File(FileSink { path, rotate_bytes: 1 << 30, keep: 3 }))
}

/// Waits for `found` to answer something, for at most half a minute.
async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut found: impl FnMut() -> F) -> T {
    let wait = async {
        let mut tick = tokio::time::interval(Duration::from_millis(5));
        loop {
            if let Some(found) = found().await {
                return found;
            }
            tick.tick().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), wait)
        .await
        .unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

const ORIGIN: &str = "bursar.dev/example.org/broker-1";
