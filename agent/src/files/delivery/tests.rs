use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use bursar_core::tasks::Tasks;
use bursar_proto::Reason;
use tempfile::TempDir;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::course::TICK;
use super::*;
use crate::attempts::PACE;
use crate::attest::Attestor;
use crate::config::{Content, Format, Output};
use crate::files::board::Board;
use crate::files::hook;
use crate::testing::{Rig, eventually, eventually_said};

/// A set of one file, `app.env`, beside a fake broker.
struct Site {
    rig: Rig,
    folder: TempDir,
    board: Board,
    running: Option<JoinHandle<()>>,
}

impl Site {
    async fn start() -> Self {
        Self::of(Rig::new().await)
    }

    fn of(rig: Rig) -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let mut site = Self { rig, folder, board: Board::default(), running: None };
        site.run();
        site
    }

    /// Starts to deliver, as an agent does that starts.
    fn run(&mut self) {
        let set = self.set();
        let place = self.board.place();
        let (bell, _) = hook::of(&set, &self.rig.metrics, &place);
        let delivery = Delivery {
            directory: Directory::of(&set).expect("own"),
            record: self.record(),
            reader: Arc::new(Attestor::new().expect("attestor").delivery("web")),
            answers: Arc::clone(&self.rig.answers),
            cache: Arc::clone(&self.rig.cache),
            upstream: Arc::clone(&self.rig.upstream),
            clock: Arc::clone(&self.rig.clock) as _,
            metrics: self.rig.metrics.clone(),
            place,
            bell,
            set,
        };
        self.running = Some(Tasks::new().finish(async move { delivery.run().await }));
    }

    fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            running.abort();
        }
    }

    fn set(&self) -> FileSet {
        let content = Content::Listing { format: Format::Env, variables: None };
        FileSet {
            name: "web".to_owned(),
            directory: self.folder.path().join("set"),
            on_disk: true,
            environment: "shop".to_owned(),
            owner: None,
            group: None,
            hook: None,
            outputs: vec![Output { path: "app.env".to_owned(), mode: 0o400, content }],
        }
    }

    fn record(&self) -> Record {
        Record::of(&self.set(), self.folder.path())
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("set/app.env")
    }

    /// The password in the file.
    fn password(&self) -> Option<String> {
        let text = fs::read_to_string(self.path()).ok()?;
        Some(text.lines().find_map(|line| line.strip_prefix("PASSWORD="))?.to_owned())
    }

    async fn until(&self, password: Option<&str>) {
        eventually("the file to be as it has to be", || self.password().as_deref() == password).await;
    }

    fn put(&self, value: &str) {
        self.rig.broker.script.state().secrets.insert("kv/app".to_owned(), value.as_bytes().to_vec());
    }

    /// The id of the lease under which the file was delivered.
    fn lease(&self) -> String {
        self.rig.broker.script.state().leases.keys().next().expect("a lease").clone()
    }

    fn resolved(&self) -> usize {
        self.rig.broker.script.calls("resolve")
    }

    /// Deliveries in vain.
    fn failed(&self) -> u64 {
        self.rig.counted("bursar_agent_files_total{outcome=\"failed\"}")
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.stop();
    }
}

#[tokio::test]
async fn a_set_asks_as_itself_and_a_change_reaches_its_files_with_one_more_question() {
    let site = Site::start().await;
    site.until(Some("secret-value")).await;
    let context = site.rig.broker.script.state().contexts.first().cloned().expect("asked");
    assert_eq!((context.selectors, context.pid), (vec!["files:set:web".to_owned()], 0));
    assert!(context.instance.starts_with("files:web@"));
    site.put("rotated");
    site.rig.cache.changed("kv/app");
    site.until(Some("rotated")).await;
    assert_eq!(site.resolved(), 2);
    eventually("the board to show it", || site.board.count() == (1, 0)).await;
}

#[tokio::test]
async fn what_concerns_another_secret_asks_nothing() {
    let site = Site::start().await;
    site.until(Some("secret-value")).await;
    site.rig.cache.changed("kv/other");
    site.rig.cache.ended("another-lease");
    site.rig.pass(TICK * 2).await;
    // What does concern it is the first thing that it asks about.
    site.put("rotated");
    site.rig.cache.changed("kv/app");
    site.until(Some("rotated")).await;
    assert_eq!(site.resolved(), 2);
}

#[tokio::test]
async fn a_change_storm_costs_a_few_questions_a_second() {
    let site = Site::start().await;
    site.until(Some("secret-value")).await;
    let begun = Instant::now();
    eventually_said("four more questions", async || {
        site.rig.cache.changed("kv/app");
        site.rig.pass(Duration::from_millis(5)).await;
        site.resolved() >= 5
    })
    .await;
    assert!(begun.elapsed() >= PACE * 3, "they came within {:?}", begun.elapsed());
}

#[tokio::test]
async fn a_revoked_lease_takes_the_files_with_it_when_the_broker_says_no() {
    let site = Site::start().await;
    site.until(Some("secret-value")).await;
    site.rig.broker.script.state().refusal = Some(Reason::AccessDenied);
    site.rig.cache.ended(&site.lease());
    site.until(None).await;
    eventually("the name to be gone too", || fs::symlink_metadata(site.path()).is_err()).await;
    eventually("the record to be gone", || site.record().read().is_none()).await;
    eventually("the board to show it", || site.board.count() == (1, 1)).await;
    site.rig.broker.script.state().refusal = None;
    site.rig.broker.script.state().leases.insert("older".to_owned(), Default::default());
    site.until(Some("secret-value")).await;
}

#[tokio::test]
async fn a_revoked_lease_takes_the_files_with_it_however_long_the_broker_takes() {
    let site = Site::start().await;
    site.until(Some("secret-value")).await;
    site.rig.broker.script.state().gate = Some(Arc::new(Semaphore::new(0)));
    site.rig.cache.ended(&site.lease());
    site.until(None).await;
}

#[tokio::test]
async fn what_is_refused_now_does_not_stay_although_its_lease_runs() {
    let site = Site::start().await;
    site.until(Some("secret-value")).await;
    site.rig.broker.script.state().refusal = Some(Reason::AccessDenied);
    site.rig.cache.changed("kv/app");
    site.until(None).await;
}

#[tokio::test]
async fn what_is_refused_to_the_node_is_refused_to_its_sets() {
    let site = Site::start().await;
    site.until(Some("secret-value")).await;
    site.rig.broker.script.state().refusal = Some(Reason::CertificateInvalid);
    site.rig.cache.missed_events();
    site.until(None).await;
}

#[tokio::test]
async fn files_stay_while_the_broker_is_away_until_their_leases_end() {
    let mut site = Site::start().await;
    site.until(Some("secret-value")).await;
    site.rig.broker.kill();
    site.rig.cache.listening(false);
    site.rig.cache.changed("kv/app");
    site.rig.clock.advance(Duration::from_secs(3500));
    eventually("the board to show it", || site.board.count() == (1, 1)).await;
    assert_eq!(site.password().as_deref(), Some("secret-value"));
    site.rig.clock.advance(Duration::from_secs(101));
    site.until(None).await;
}

#[tokio::test]
async fn a_store_that_is_away_is_not_asked_at_each_answer_of_the_broker_to_others() {
    let site = Site::start().await;
    site.until(Some("secret-value")).await;
    site.rig.broker.script.state().refusal = Some(Reason::BackendUnavailable);
    site.rig.cache.changed("kv/app");
    let begun = Instant::now();
    eventually_said("three more questions", async || {
        site.rig.upstream.note(None);
        site.rig.pass(Duration::from_millis(5)).await;
        site.resolved() >= 4
    })
    .await;
    // Half of half a second, and half of one.
    assert!(begun.elapsed() >= Duration::from_millis(750), "they came within {:?}", begun.elapsed());
    assert_eq!(site.password().as_deref(), Some("secret-value"));
}

#[tokio::test]
async fn a_broker_that_is_back_is_asked_at_once() {
    let mut site = Site::start().await;
    site.until(Some("secret-value")).await;
    site.rig.broker.kill();
    site.put("rotated");
    site.rig.cache.changed("kv/app");
    eventually_said("some attempts in vain", async || {
        site.rig.pass(Duration::from_millis(50)).await;
        site.failed() >= 3
    })
    .await;
    site.rig.broker.resume().await;
    site.rig.upstream.note(None);
    site.until(Some("rotated")).await;
}

#[tokio::test]
async fn what_an_agent_before_left_stays_as_long_as_it_wrote_down() {
    let mut site = Site::start().await;
    site.until(Some("secret-value")).await;
    eventually("the record", || site.record().read().is_some()).await;
    site.stop();
    site.rig.broker.kill();
    // Another agent has an empty cache.
    site.rig.cache.clear();
    site.run();
    eventually("an attempt in vain", || site.failed() > 0).await;
    assert_eq!(site.password().as_deref(), Some("secret-value"));
    site.rig.clock.advance(Duration::from_secs(3601));
    site.until(None).await;
}

#[tokio::test]
async fn what_nobody_answers_for_does_not_outlast_a_start() {
    let mut site = Site::start().await;
    site.until(Some("secret-value")).await;
    eventually("the record", || site.record().read().is_some()).await;
    site.stop();
    site.record().remove().expect("removed");
    site.rig.broker.kill();
    site.rig.cache.clear();
    site.run();
    site.until(None).await;
}

#[tokio::test]
async fn a_set_that_is_configured_no_more_is_removed_at_the_start() {
    let mut site = Site::start().await;
    site.until(Some("secret-value")).await;
    eventually("the record", || site.record().read().is_some()).await;
    site.stop();
    let around = crate::files::Surroundings {
        attestor: Arc::new(Attestor::new().expect("attestor")),
        answers: Arc::clone(&site.rig.answers),
        cache: Arc::clone(&site.rig.cache),
        upstream: Arc::clone(&site.rig.upstream),
        clock: Arc::clone(&site.rig.clock) as _,
        metrics: site.rig.metrics.clone(),
    };
    let deliveries = crate::files::Deliveries::prepare(&[], site.folder.path(), &around).expect("prepared");
    site.running = Some(Tasks::new().finish(deliveries.run()));
    site.until(None).await;
    eventually("the record to be gone", || site.record().read().is_none()).await;
}

#[tokio::test]
async fn a_set_that_cannot_be_made_keeps_the_files_that_it_had() {
    let mut site = Site::start().await;
    site.until(Some("secret-value")).await;
    // Shown after it was written down.
    eventually("the delivery to be shown", || site.board.count() == (1, 0)).await;
    // A folder in the way of the name, where only a link can be.
    site.stop();
    let before = fs::read_link(site.folder.path().join("set/..data")).expect("a link");
    fs::remove_file(site.path()).expect("removed");
    fs::create_dir(site.path()).expect("made");
    site.put("rotated");
    site.run();
    eventually("a failure", || site.resolved() >= 2).await;
    eventually("the second agent to show it", || site.board.count() == (2, 1)).await;
    assert_eq!(fs::read_link(site.folder.path().join("set/..data")).expect("a link"), before);
    fs::remove_dir(site.path()).expect("removed");
    site.until(Some("rotated")).await;
}
