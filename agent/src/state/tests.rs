use std::os::unix::fs::PermissionsExt;

use bursar_core::settings::SecretSource;
use bursar_core::tasks::Tasks;
use bursar_proto::v1::{EnvironmentsResolveRequest, SecretsReadRequest};
use tempfile::TempDir;
use tonic::{Code, Status};

use super::*;
use crate::answer::Answers;
use crate::attest::Workload;
use crate::testing::{Harness, Rig, workload};

/// One life of an agent beside a fake broker, with a directory that outlasts it.
struct Life {
    cache: Arc<Cache>,
    journal: Arc<Journal>,
    answers: Answers,
    state: Arc<State>,
}

struct Site {
    rig: Rig,
    folder: TempDir,
    credential: watch::Sender<Option<Arc<Credential>>>,
    key: Option<SecretSource>,
}

impl Site {
    /// With a key in a file.
    async fn new() -> Self {
        let (rig, folder) = (Rig::new().await, tempfile::tempdir().expect("folder"));
        let path = folder.path().join("key");
        std::fs::write(&path, "0123456789abcdef0123456789abcdef").expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("mode");
        let credential = watch::Sender::new(Some(Arc::new(credential(&rig, "web-1"))));
        Self { rig, folder, credential, key: Some(SecretSource::File(path)) }
    }

    /// With a key in the kernel's keyring.
    async fn with_keyring() -> Self {
        Self { key: None, ..Self::new().await }
    }

    fn settings(&self) -> StateSettings {
        StateSettings {
            directory: self.folder.path().join("state"),
            key: self.key.clone(),
            bytes: 1024 * 1024,
        }
    }

    fn file(&self) -> std::path::PathBuf {
        self.folder.path().join("state/state")
    }

    /// An agent that starts.
    fn start(&self) -> Life {
        let rig = &self.rig;
        let cache = Arc::new(Cache::new(Rig::LIMITS, Arc::clone(&rig.clock) as _));
        let journal = Arc::new(Journal::new(Arc::clone(&rig.clock) as _));
        let around = Surroundings {
            cache: Arc::clone(&cache),
            journal: Arc::clone(&journal),
            attestor: Arc::new(Attestor::new().expect("attestor")),
            credential: self.credential.subscribe(),
            clock: Arc::clone(&rig.clock) as _,
            metrics: rig.metrics.clone(),
        };
        let state = Arc::new(State::open(self.settings(), around).expect("opened"));
        state.resume();
        let answers = Answers::new(
            Arc::clone(&cache),
            Arc::clone(&journal),
            Arc::clone(&rig.upstream),
            rig.metrics.clone(),
            Tasks::new(),
        );
        Life { cache, journal, answers, state }
    }

    fn counted(&self, outcome: &str) -> u64 {
        self.rig.counted(&format!("bursar_agent_state_resumed_total{{outcome=\"{outcome}\"}}"))
    }
}

impl Life {
    async fn read(&self, caller: &Arc<Workload>) -> Result<String, Status> {
        self.ask(caller, Harness::read("kv/app")).await
    }

    async fn ask(&self, caller: &Arc<Workload>, request: SecretsReadRequest) -> Result<String, Status> {
        let mut read = self.answers.read(&Rig::call(caller), request).await?;
        Ok(String::from_utf8(read.take_value().expose().to_vec()).expect("text"))
    }
}

fn credential(rig: &Rig, node: &str) -> Credential {
    let key = rcgen::KeyPair::generate().expect("key");
    let csr = rcgen::CertificateParams::default().serialize_request(&key).expect("request");
    let (life, root) =
        ((Duration::from_secs(60), Duration::from_secs(3600)), rig.broker.authority.root.clone());
    let leaf = rig.broker.authority.node(node, csr.der(), bursar_core::SystemClock.now(), life);
    Credential::new(&key, &[leaf], &[root]).expect("credential")
}

/// The process of the tests, as the agent would attest it.
fn itself() -> Arc<Workload> {
    let attestor = Attestor::new().expect("attestor");
    let peer = crate::attest::Peer {
        pid: std::process::id(),
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
    };
    Arc::new(attestor.attest(peer).expect("attested"))
}

#[tokio::test]
async fn an_agent_that_starts_again_in_an_outage_serves_what_it_had_to_whom_it_had_it_for() {
    let mut site = Site::with_keyring().await;
    let (app, other) = (workload("app"), workload("other"));
    let request = EnvironmentsResolveRequest { name: "app/prod".to_owned(), ..Default::default() };
    let life = site.start();
    life.read(&app).await.expect("read");
    let before = life.answers.resolve(&Rig::call(&app), request.clone()).await.expect("resolved");
    life.state.write();
    drop(life);
    site.rig.broker.kill();
    site.rig.clock.advance(Duration::from_secs(600));

    let life = site.start();
    assert_eq!(life.read(&app).await.expect("served"), "secret-value");
    let after = life.answers.resolve(&Rig::call(&app), request).await.expect("served");
    assert_eq!((after.revision, after.variables.len()), (before.revision, before.variables.len()));
    assert!(after.variables.iter().zip(&before.variables).all(|(after, before)| after.value == before.value));
    let read = life.answers.read(&Rig::call(&app), Harness::read("kv/app")).await.expect("served");
    assert_eq!(read.age.map(|age| age.seconds), Some(600));
    assert_eq!(life.read(&other).await.map_err(|status| status.code()), Err(Code::Unavailable));
    assert!(life.cache.can_serve());
    assert_eq!((site.counted("resumed"), site.counted("discarded")), (1, 0));

    // No longer than its lease, whatever the restart.
    site.rig.clock.advance(Duration::from_secs(3001));
    assert_eq!(life.read(&app).await.map_err(|status| status.code()), Err(Code::Unavailable));
    assert_eq!(site.start().cache.size().entries, 0);
}

#[tokio::test]
async fn the_broker_is_asked_first_where_it_can_be() {
    let site = Site::new().await;
    let app = workload("app");
    let life = site.start();
    life.read(&app).await.expect("read");
    life.state.write();
    let life = site.start();
    site.rig.broker.script.state().secrets.insert("kv/app".to_owned(), b"another".to_vec());
    assert_eq!(life.read(&app).await.expect("read"), "another");
}

#[tokio::test]
async fn what_the_broker_refuses_after_a_restart_is_gone_for_the_next_outage_too() {
    let mut site = Site::new().await;
    let app = workload("app");
    let life = site.start();
    life.read(&app).await.expect("read");
    life.state.write();
    let life = site.start();
    site.rig.broker.script.state().refusal = Some(bursar_proto::Reason::AccessDenied);
    assert!(life.read(&app).await.is_err());
    site.rig.broker.kill();
    assert_eq!(life.read(&app).await.map_err(|status| status.code()), Err(Code::Unavailable));
}

#[tokio::test]
async fn after_the_first_events_everything_is_unknown_until_it_was_asked_about() {
    let mut site = Site::new().await;
    let app = workload("app");
    let life = site.start();
    life.read(&app).await.expect("read");
    life.state.write();
    let life = site.start();
    life.cache.missed_events();
    site.rig.broker.kill();
    assert_eq!(life.read(&app).await.map_err(|status| status.code()), Err(Code::Unavailable));
    life.state.write();
    assert_eq!(site.start().cache.size().entries, 0, "what is unknown was kept");
}

#[tokio::test]
async fn what_was_revoked_is_out_of_the_file_and_an_older_file_does_not_bring_it_back() {
    let mut site = Site::with_keyring().await;
    let app = workload("app");
    let life = site.start();
    life.read(&app).await.expect("read");
    life.state.write();
    let older = std::fs::read(site.file()).expect("read");
    life.cache.ended("lease-0");
    life.state.write();
    site.rig.broker.kill();
    assert!(site.start().read(&app).await.is_err());
    std::fs::write(site.file(), &older).expect("written");
    assert!(site.start().read(&app).await.is_err());
    assert_eq!(site.counted("discarded"), 1);
    assert!(!site.file().exists());
}

#[tokio::test]
async fn word_of_a_revocation_has_the_file_written_at_once() {
    let site = Site::new().await;
    let life = site.start();
    life.read(&workload("app")).await.expect("read");
    life.state.write();
    let before = std::fs::read(site.file()).expect("read");
    let state = Arc::clone(&life.state);
    let keep = state.keep();
    let changed = crate::testing::eventually("another file", || {
        std::fs::read(site.file()).is_ok_and(|after| after.len() < before.len())
    });
    let ended = async {
        tokio::task::yield_now().await;
        life.cache.ended("lease-0");
        changed.await;
    };
    let begun = tokio::time::Instant::now();
    tokio::select! {
        () = keep => {}
        () = ended => {}
    }
    assert!(begun.elapsed() < INTERVAL, "it waited for its turn");
}

#[tokio::test]
async fn a_file_that_is_not_what_it_should_be_is_removed_and_nothing_of_it_served() {
    let mut site = Site::new().await;
    let app = workload("app");
    let life = site.start();
    life.read(&app).await.expect("read");
    life.state.write();
    let good = std::fs::read(site.file()).expect("read");
    site.rig.broker.kill();
    let mut flipped = good.clone();
    if let Some(byte) = flipped.last_mut() {
        *byte ^= 1;
    }
    let text = String::from_utf8_lossy(&good[..200]).into_owned();
    let boot = text.lines().nth(1).expect("boot").to_owned();
    let other_boot = replaced(&good, boot.as_bytes(), b"boot 00000000");
    let bad = [
        flipped,
        good[..good.len() - 1].to_vec(),
        good[..50].to_vec(),
        Vec::new(),
        other_boot,
        vec![0; 18 << 20],
    ];
    let count = bad.len();
    for file in bad {
        std::fs::write(site.file(), &file).expect("written");
        let life = site.start();
        assert_eq!(life.cache.size().entries, 0);
        assert!(life.read(&app).await.is_err());
        assert!(!site.file().exists());
    }
    assert_eq!(site.counted("discarded"), count as u64);

    // Another key, and another node.
    std::fs::write(site.file(), &good).expect("written");
    site.credential.send_replace(Some(Arc::new(credential(&site.rig, "web-2"))));
    assert_eq!(site.start().cache.size().entries, 0);
    site.credential.send_replace(Some(Arc::new(credential(&site.rig, "web-1"))));
    std::fs::write(site.file(), &good).expect("written");
    std::fs::write(site.folder.path().join("key"), "another key of thirty-two bytes.").expect("written");
    assert_eq!(site.start().cache.size().entries, 0);
    assert_eq!(site.counted("discarded"), count as u64 + 2);
}

#[tokio::test]
async fn what_a_kill_left_half_written_is_passed_over() {
    let mut site = Site::new().await;
    let app = workload("app");
    let life = site.start();
    life.read(&app).await.expect("read");
    life.state.write();
    std::fs::write(site.folder.path().join("state/state.new"), b"half").expect("written");
    site.rig.broker.kill();
    let life = site.start();
    assert!(life.read(&app).await.is_ok());
    life.state.write();
    assert!(!site.folder.path().join("state/state.new").exists());
}

#[tokio::test]
async fn reads_that_the_ledger_did_not_hear_of_outlast_the_restart() {
    let mut site = Site::new().await;
    let app = workload("app");
    let life = site.start();
    life.read(&app).await.expect("read");
    life.cache.listening(true);
    site.rig.broker.kill();
    for _ in 0..3 {
        assert!(life.read(&app).await.is_ok());
    }
    // Also those that are on their way when it ends.
    let shipping =
        life.journal.flush(&site.rig.upstream, &site.rig.metrics, bursar_core::retry::Retry::BACKGROUND);
    tokio::select! {
        biased;
        _ = shipping => panic!("shipped to nobody"),
        () = tokio::task::yield_now() => life.state.write(),
    }
    drop(life);
    let life = site.start();
    assert!(life.read(&app).await.is_ok());
    site.rig.broker.resume().await;
    life.journal.flush(&site.rig.upstream, &site.rig.metrics, bursar_core::retry::Retry::INTERACTIVE).await;
    let count: u64 = site.rig.broker.script.state().journal.iter().map(|line| line.count).sum();
    assert_eq!(count, 4);
}

#[tokio::test]
async fn a_process_that_still_runs_is_found_again_and_its_leases_are_renewed() {
    let site = Site::new().await;
    let (here, gone) = (itself(), Arc::new(Workload::ended("gone")));
    let life = site.start();
    life.read(&here).await.expect("read");
    life.read(&gone).await.expect("read");
    let ids: Vec<_> = [&here, &gone]
        .iter()
        .map(|by| {
            let state = site.rig.broker.script.state();
            let held = state.leases.values().find(|lease| lease.instance == by.instance());
            held.expect("lease").id.clone()
        })
        .collect();
    life.state.write();
    let life = site.start();
    let reader = |id: &str| life.cache.holding(id).and_then(|holding| holding.reader());
    let (found, context) = reader(&ids[0]).expect("found");
    assert_eq!((found.identity(), context.instance.as_str()), (here.identity(), here.instance()));
    assert!(reader(&ids[1]).is_none());
}

#[tokio::test]
async fn a_crashed_process_asks_under_the_name_of_the_one_before_it_after_a_restart_too() {
    let site = Site::new().await;
    let life = site.start();
    life.read(&Arc::new(Workload::named_instance("app", "1:1@test"))).await.expect("read");
    life.state.write();
    let life = site.start();
    life.read(&Arc::new(Workload::named_instance("app", "2:2@test"))).await.expect("read");
    assert_eq!(site.rig.broker.script.state().leases.len(), 1);
}

#[tokio::test]
async fn no_more_is_kept_than_may_be() {
    let site = Site::new().await;
    let life = site.start();
    for number in 0..8 {
        let reference = format!("kv/{number}");
        site.rig.broker.script.state().secrets.insert(reference.clone(), vec![b'x'; 200 * 1024]);
        life.ask(&workload("app"), Harness::read(&reference)).await.expect("read");
    }
    life.state.write();
    assert!(std::fs::metadata(site.file()).is_ok_and(|about| about.len() < 1100 * 1024));
    let kept = site.start().cache.size().entries;
    assert!((1..8).contains(&kept), "{kept} were kept");
}

#[tokio::test]
async fn a_key_beside_the_state_and_a_directory_that_is_open_are_refused() {
    let mut site = Site::new().await;
    drop(site.start());
    let open = |site: &Site| {
        let around = Surroundings {
            cache: Arc::clone(&site.rig.cache),
            journal: Arc::clone(&site.rig.journal),
            attestor: Arc::new(Attestor::new().expect("attestor")),
            credential: site.credential.subscribe(),
            clock: Arc::clone(&site.rig.clock) as _,
            metrics: site.rig.metrics.clone(),
        };
        State::open(site.settings(), around)
    };
    let beside = site.folder.path().join("state/key");
    std::fs::copy(site.folder.path().join("key"), &beside).expect("copied");
    let elsewhere = site.key.replace(SecretSource::File(beside));
    assert!(matches!(open(&site), Err(StateError::Key { source: KeyFault::Beside { .. } })));
    site.key = elsewhere;
    std::fs::write(site.folder.path().join("key"), "short").expect("written");
    assert!(matches!(open(&site), Err(StateError::Key { source: KeyFault::Short })));
    std::fs::set_permissions(site.folder.path().join("state"), std::fs::Permissions::from_mode(0o750))
        .expect("mode");
    assert!(matches!(open(&site), Err(StateError::File(FileFault::Open { .. }))));
}

#[tokio::test]
async fn no_value_is_in_the_file() {
    let site = Site::new().await;
    let canary = format!("canary-{:032x}", fastrand::u128(..));
    site.rig.broker.script.state().secrets.insert("kv/app".to_owned(), canary.clone().into_bytes());
    let life = site.start();
    life.read(&workload("app")).await.expect("read");
    life.state.write();
    let file = std::fs::read(site.file()).expect("read");
    for form in bursar_core::secret::forms(canary.as_bytes()) {
        let found = file.windows(form.text.len()).any(|window| window == form.text.as_slice());
        assert!(!found, "it is there as {:?}", form.kind);
    }
    let mode = std::fs::metadata(site.file()).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

fn replaced(file: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let at = file.windows(from.len()).position(|window| window == from).expect("there");
    [&file[..at], to, &file[at + from.len()..]].concat()
}
