use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};

use bursar_core::backend::{Capabilities, ErrorKind, Fetched, VersionInfo};
use futures_util::future::join_all;
use prometheus_client::registry::Registry;

use super::*;
use crate::config::CacheContract;

/// A store that takes a second to fail.
struct Failing {
    reads: AtomicUsize,
}

#[tonic::async_trait]
impl Backend for Failing {
    fn capabilities(&self) -> Capabilities {
        Capabilities { kind: "failing", versions: false, list: false, leasing: false, writing: false }
    }

    async fn read(&self, _: &SecretPath, _: Option<&Version>) -> Result<Fetched, BackendError> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_secs(1)).await;
        Err(error(Operation::Read))
    }

    async fn list(
        &self,
        _: Option<&SecretPath>,
        _: Option<&str>,
        _: usize,
    ) -> Result<Vec<String>, BackendError> {
        Err(error(Operation::List))
    }

    async fn versions(&self, _: &SecretPath) -> Result<Vec<VersionInfo>, BackendError> {
        Err(error(Operation::Versions))
    }

    async fn health(&self) -> Result<(), BackendError> {
        Err(error(Operation::Health))
    }
}

#[tokio::test(start_paused = true)]
async fn those_who_wait_for_a_read_share_its_failure_and_those_who_come_later_ask_again() {
    let (mounts, store) = mounts();
    let reference = reference("failing/a");
    let fetch = || async {
        let mount = mounts.mount(&reference.backend).expect("mount");
        mounts.fetch(mount, &reference, None).await.map(drop)
    };
    let begun = Instant::now();
    let all = join_all((0..50).map(|_| fetch())).await;
    assert!(all.iter().all(|fetched| fetched.as_ref().is_err_and(|error| error.kind == ErrorKind::Timeout)));
    assert_eq!(store.reads.load(Ordering::Relaxed), 1);
    assert_eq!(begun.elapsed(), Duration::from_secs(1));

    fetch().await.expect_err("failed");
    assert_eq!(store.reads.load(Ordering::Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn the_failure_of_one_secret_is_no_answer_for_another() {
    let (mounts, store) = mounts();
    let references = [reference("failing/a"), reference("failing/b"), reference("failing/a@2")];
    let fetches = references.iter().map(|reference| {
        let mount = mounts.mount(&reference.backend).expect("mount");
        mounts.fetch(mount, reference, None)
    });
    join_all(fetches).await;
    assert_eq!(store.reads.load(Ordering::Relaxed), 3);
}

fn mounts() -> (Mounts, Arc<Failing>) {
    let store = Arc::new(Failing { reads: AtomicUsize::new(0) });
    let contract = CacheContract {
        max_stale: Duration::from_secs(30),
        on_outage: OnOutage::Fail,
        poll: Duration::from_secs(3600),
    };
    let revocation = RevocationLimits { concurrency: 1, per_second: NonZeroU32::MIN, attempts: 1 };
    let name = BackendName::parse("failing").expect("name");
    let metrics = Metrics::register(&mut Registry::default());
    let backend = Arc::clone(&store) as Arc<dyn Backend>;
    let mount = Mount::new(name, backend, contract, revocation, metrics.clone());
    (Mounts::new([mount], 1024 * 1024, metrics), store)
}

fn reference(text: &str) -> Reference {
    Reference::parse(text).expect("reference")
}

fn error(operation: Operation) -> BackendError {
    let name = BackendName::parse("failing").expect("name");
    BackendError::new(ErrorKind::Timeout, &name, operation)
}
