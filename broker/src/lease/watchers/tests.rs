use bursar_core::clock::TestClock;
use bursar_core::lease::TtlBound;
use bursar_core::{LeaseId, LeaseState, Version};
use tokio::sync::broadcast::error::TryRecvError;

use super::*;

fn id(name: &str) -> SpiffeId {
    SpiffeId::parse(&format!("spiffe://example.org/{name}")).expect("id")
}

fn lease(path: &str, principal: &str, node: Option<&str>) -> Lease {
    Lease {
        id: LeaseId::from_bytes([0; 16]),
        reference: Reference::parse(&format!("store/{path}@1")).expect("reference"),
        principal: id(principal),
        node: node.map(id),
        instance: String::new(),
        environment: None,
        state: LeaseState::Active,
        dynamic: false,
        issued_at: BEGUN,
        renewed_at: BEGUN,
        expires_at: END,
        max_expires_at: None,
        renewable: true,
        ttl_bound: TtlBound::Policy,
        attempts: 0,
        last_error: None,
        reason: None,
    }
}

fn version(number: u64) -> Content {
    Content::Version(Version::number(number))
}

fn store() -> BackendName {
    BackendName::parse("store").expect("name")
}

fn path(text: &str) -> SecretPath {
    SecretPath::from_store(text).expect("path")
}

fn watchers() -> Arc<Watchers> {
    Watchers::new(Arc::new(TestClock::new()), Gauge::default())
}

fn open(watchers: &Arc<Watchers>, listener: SpiffeId) -> Watch {
    watchers.open(listener, None).watch
}

async fn told(watch: &mut Watch) -> Arc<Told> {
    match watch.hear().await {
        Next::Told(told) => told,
        Next::Lost { position } => panic!("what was before {position} is lost"),
    }
}

fn noted(watchers: &Watchers, path: &str, principal: &str, node: Option<&str>) {
    watchers.note(&lease(path, principal, node), Some(&version(1)), POLL);
}

/// What is due once all of it is.
async fn due(watchers: &Watchers, now: Timestamp) -> Vec<String> {
    tokio::time::advance(POLL * 2).await;
    let due = watchers.due(&store(), now, |_| POLL);
    due.into_iter().map(|(path, _)| path.as_str().to_owned()).collect()
}

#[tokio::test(start_paused = true)]
async fn only_those_who_listen_are_noted() {
    let watchers = watchers();
    noted(&watchers, "a", "workload/web", Some("node/one"));
    let _watch = open(&watchers, id("node/two"));
    noted(&watchers, "b", "workload/web", Some("node/one"));
    noted(&watchers, "c", "workload/web", Some("node/two"));
    assert_eq!(due(&watchers, BEGUN).await, ["c"]);
}

#[tokio::test(start_paused = true)]
async fn a_secret_of_many_holders_is_looked_at_once_in_its_time() {
    let watchers = watchers();
    let watches: Vec<_> = (0..50).map(|number| open(&watchers, id(&format!("node/{number}")))).collect();
    for number in 0..50 {
        noted(&watchers, "a", "workload/web", Some(&format!("node/{number}")));
    }
    assert_eq!((watches.len(), watchers.gauge.get()), (50, 50));
    assert!(watchers.due(&store(), BEGUN, |_| POLL).is_empty(), "it was just read");
    assert_eq!(due(&watchers, BEGUN).await, ["a"]);
    assert!(watchers.due(&store(), BEGUN, |_| POLL).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_change_is_told_once_and_names_those_who_hold_it() {
    let watchers = watchers();
    let (mut holds, _other) = (open(&watchers, id("node/one")), open(&watchers, id("node/two")));
    noted(&watchers, "a", "workload/web", Some("node/one"));
    noted(&watchers, "b", "workload/web", Some("node/two"));
    assert!(!watchers.found(&store(), &path("a"), version(1)));
    assert!(watchers.found(&store(), &path("a"), version(2)));
    assert!(!watchers.found(&store(), &path("a"), version(2)), "it was told");
    assert!(!watchers.found(&store(), &path("unknown"), version(2)));
    let told = told(&mut holds).await;
    let Heard::Changed { reference, version, holders } = &told.heard else { panic!("{told:?}") };
    assert_eq!((reference.to_string().as_str(), version), ("store/a", &Some(Version::number(2))));
    assert_eq!(**holders, [id("node/one")].into());
    assert!(matches!(holds.events.try_recv(), Err(TryRecvError::Empty)));
}

#[tokio::test(start_paused = true)]
async fn what_nobody_knew_before_is_no_change() {
    let watchers = watchers();
    let _watch = open(&watchers, id("node/one"));
    watchers.note(&lease("a", "node/one", None), None, POLL);
    assert!(!watchers.found(&store(), &path("a"), Content::Hash(7)));
    assert!(watchers.found(&store(), &path("a"), Content::Hash(8)));
}

#[tokio::test(start_paused = true)]
async fn a_holding_ends_with_its_lease_and_a_while_after_the_last_stream_of_its_listener() {
    let watchers = watchers();
    let (first, second) = (open(&watchers, id("node/one")), open(&watchers, id("node/one")));
    noted(&watchers, "a", "workload/web", Some("node/one"));
    drop(first);
    assert_eq!(due(&watchers, BEGUN).await, ["a"]);
    assert!(due(&watchers, END).await.is_empty(), "its lease is over");
    assert_eq!(watchers.gauge.get(), 0);
    noted(&watchers, "a", "workload/web", Some("node/one"));
    drop(second);
    tokio::time::advance(AWAY).await;
    assert!(due(&watchers, BEGUN).await.is_empty());
    assert_eq!(watchers.gauge.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn whoever_comes_back_soon_has_missed_nothing() {
    let watchers = watchers();
    let first = watchers.open(id("node/one"), None);
    assert!(!first.resumes);
    noted(&watchers, "a", "workload/web", Some("node/one"));
    drop(first.watch);
    tokio::time::advance(AWAY / 2).await;
    assert!(watchers.found(&store(), &path("a"), version(2)), "it is looked at while its holder is away");
    let mut again = watchers.open(id("node/one"), Some(first.position));
    assert!(again.resumes);
    let missed = told(&mut again.watch).await;
    assert_eq!(missed.sequence, first.position + 1);
    assert!(watchers.found(&store(), &path("a"), version(3)));
    assert_eq!(told(&mut again.watch).await.sequence, missed.sequence + 1, "it goes on where it was");

    drop(again.watch);
    tokio::time::advance(AWAY).await;
    let late = watchers.open(id("node/one"), Some(missed.sequence + 1));
    assert!(!late.resumes, "nobody looked for whoever is away for long");
}

#[tokio::test(start_paused = true)]
async fn a_position_that_is_not_kept_or_was_never_given_resumes_nothing() {
    let watchers = watchers();
    let begun = watchers.open(id("node/one"), None);
    for _ in 0..history::BACKLOG + 1 {
        watchers.tell(Heard::ManyEnded);
    }
    let newest = begun.position + history::BACKLOG as u64 + 1;
    for (after, resumes) in
        [(begun.position, false), (begun.position + 1, true), (newest, true), (newest + 1, false)]
    {
        let opened = watchers.open(id("node/one"), Some(after));
        assert_eq!(
            (opened.resumes, opened.position),
            (resumes, if resumes { after } else { newest }),
            "{after}"
        );
    }
    // Whoever is slower than that is told, and goes on from what is newest.
    let mut slow = begun.watch;
    assert!(matches!(slow.hear().await, Next::Lost { position } if position == newest));
    watchers.tell(Heard::ManyEnded);
    assert_eq!(told(&mut slow).await.sequence, newest + 1);
}

#[tokio::test(start_paused = true)]
async fn no_more_than_so_many_are_waited_for() {
    let watchers = watchers();
    for number in 0..MOST_AWAY + 2 {
        drop(watchers.open(id(&format!("node/{number}")), None));
    }
    assert_eq!(watchers.listeners.load(Ordering::Acquire), MOST_AWAY);
    let first = watchers.history.heed(None).position;
    let (kept, gone) = (watchers.open(id("node/2"), Some(first)), watchers.open(id("node/1"), Some(first)));
    assert!(kept.resumes && !gone.resumes);
}

#[tokio::test(start_paused = true)]
async fn one_that_comes_and_goes_takes_no_place_of_another() {
    let watchers = watchers();
    let position = watchers.open(id("node/quiet"), None).position;
    for _ in 0..MOST_AWAY * 2 {
        drop(watchers.open(id("node/restless"), None));
    }
    assert!(watchers.open(id("node/quiet"), Some(position)).resumes);
}

#[tokio::test(start_paused = true)]
async fn there_is_room_for_so_many_and_no_more() {
    let watchers = watchers();
    let _watch = open(&watchers, id("node/one"));
    for number in 0..MOST + 5 {
        noted(&watchers, &number.to_string(), "workload/web", Some("node/one"));
    }
    assert_eq!(due(&watchers, BEGUN).await.len(), MOST);
}

#[tokio::test(start_paused = true)]
async fn what_was_written_here_is_looked_at_at_once() {
    let watchers = watchers();
    let _watch = open(&watchers, id("node/one"));
    noted(&watchers, "a", "workload/web", Some("node/one"));
    let hurried = watchers.hurried();
    tokio::pin!(hurried);
    assert!(futures_util::poll!(hurried.as_mut()).is_pending());
    watchers.written(&store(), &path("a"));
    hurried.await;
    assert_eq!(watchers.due(&store(), BEGUN, |_| POLL).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn who_lost_his_lease_hears_of_no_change() {
    let watchers = watchers();
    let mut watch = open(&watchers, id("node/one"));
    let lost = |path: &str| {
        let Lease { id, reference, principal, node, .. } = lease(path, "workload/web", Some("node/one"));
        Heard::Ended { id, reference, principal, node }
    };
    noted(&watchers, "a", "workload/web", Some("node/one"));
    noted(&watchers, "b", "workload/web", Some("node/one"));
    watchers.tell(lost("a"));
    assert!(!watchers.found(&store(), &path("a"), version(2)));
    assert_eq!((due(&watchers, BEGUN).await, watchers.gauge.get()), (vec!["b".to_owned()], 1));
    watchers.tell(Heard::ManyEnded);
    assert!(!watchers.found(&store(), &path("b"), version(2)));
    assert_eq!(watchers.gauge.get(), 0);
    // Whoever reads it again is noted again.
    noted(&watchers, "b", "workload/web", Some("node/one"));
    assert!(watchers.found(&store(), &path("b"), version(2)));
    for expected in ["ended", "many ended", "changed"] {
        let said = match told(&mut watch).await.heard {
            Heard::Ended { .. } => "ended",
            Heard::ManyEnded => "many ended",
            Heard::Changed { .. } => "changed",
        };
        assert_eq!(said, expected);
    }
}

const BEGUN: Timestamp = Timestamp::constant(1_767_225_600, 0);
const END: Timestamp = Timestamp::constant(1_767_229_200, 0);
const POLL: Duration = Duration::from_secs(30);
