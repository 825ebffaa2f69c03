use std::time::Duration;

use bursar_core::clock::TestClock;
use bursar_proto::convert::{duration_to_wire, timestamp_to_wire};
use bursar_proto::v1::{LeaseState, SecretsReadRequest, SecretsReadResponse};

use super::*;

const CANARY: &[u8] = b"canary-4f1c";

struct Bench {
    cache: Cache,
    clock: Arc<TestClock>,
    caller: Arc<Workload>,
}

impl Bench {
    fn new(bytes: u64, entries: usize) -> Self {
        let clock = Arc::new(TestClock::new());
        let limits =
            CacheLimits { bytes, entries, fresh_for: Duration::from_secs(30), on_outage: OnOutage::Serve };
        let cache = Cache::new(limits, Arc::clone(&clock) as _);
        cache.listening(true);
        Self { cache, clock, caller: Arc::new(Workload::named("app")) }
    }

    fn ordinary() -> Self {
        Self::new(1024 * 1024, 100)
    }

    fn key(&self, reference: &str) -> Key {
        let request = SecretsReadRequest { reference: reference.to_owned(), ..Default::default() };
        Key::of_read(self.caller.identity(), &request)
    }

    fn lease(&self, id: &str, reference: &str, ttl: Duration) -> v1::Lease {
        v1::Lease {
            id: id.to_owned(),
            reference: format!("{reference}@1"),
            state: LeaseState::Active.into(),
            expires_at: Some(timestamp_to_wire(self.clock.now() + ttl)),
            ttl: Some(duration_to_wire(ttl)),
            renewable: true,
            ..Default::default()
        }
    }

    fn answer(&self, question: &Question, id: &str, reference: &str) -> Key {
        self.answer_for(question, id, reference, Duration::from_secs(600))
    }

    fn answer_for(&self, question: &Question, id: &str, reference: &str, ttl: Duration) -> Key {
        let lease = Some(self.lease(id, reference, ttl));
        let answer = answer_with(lease);
        let key = self.key(reference);
        let entry = self.cache.store(question, &self.caller, key, Payload::of_read(answer), None);
        entry.holdings().iter().for_each(|holding| holding.read_by(&self.caller));
        key
    }

    fn put(&self, id: &str, reference: &str) -> Key {
        self.answer(&self.cache.question(&self.caller), id, reference)
    }

    fn is_fresh(&self, key: &Key) -> bool {
        matches!(self.cache.find(key, None), Found::Fresh(_))
    }

    fn lasts(&self, key: &Key) -> bool {
        matches!(self.cache.find(key, None), Found::Lasting(_))
    }

    async fn pass(&self, by: Duration) {
        tokio::time::advance(by).await;
        self.clock.advance(by);
    }
}

fn answer_with(lease: Option<v1::Lease>) -> SecretsReadResponse {
    SecretsReadResponse { value: CANARY.to_vec(), version: String::new(), lease, age: None }
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_fresh_for_its_time_and_lasts_until_its_lease_ends() {
    let bench = Bench::ordinary();
    let key = bench.put("l", "kv/a");
    assert!(bench.is_fresh(&key));
    bench.pass(Duration::from_secs(30)).await;
    assert!(bench.lasts(&key));
    bench.pass(Duration::from_secs(569)).await;
    assert!(bench.lasts(&key));
    bench.pass(Duration::from_secs(1)).await;
    assert!(bench.cache.find(&key, None).entry().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_lease_ends_by_whichever_clock_says_so_first() {
    let bench = Bench::ordinary();
    let (slept, set_back) = (bench.put("slept", "kv/a"), bench.put("set-back", "kv/b"));
    bench.clock.advance(Duration::from_secs(600));
    assert!(bench.cache.find(&slept, None).entry().is_none());
    let bench = Bench::ordinary();
    let key = bench.put("l", "kv/a");
    tokio::time::advance(Duration::from_secs(600)).await;
    assert!(bench.cache.find(&key, None).entry().is_none());
    assert_ne!(slept, set_back);
}

#[tokio::test(start_paused = true)]
async fn what_is_over_is_wiped_by_the_next_sweep() {
    let bench = Bench::ordinary();
    bench.put("l", "kv/a");
    bench.pass(Duration::from_secs(600)).await;
    bench.cache.sweep();
    assert_eq!(bench.cache.size(), Size { entries: 0, bytes: 0, leases: 0 });
}

#[tokio::test(start_paused = true)]
async fn a_revocation_removes_every_answer_that_stands_on_the_lease_and_no_other() {
    let bench = Bench::ordinary();
    let (one, other) = (bench.put("one", "kv/a"), bench.put("other", "kv/b"));
    bench.cache.ended("one");
    assert!(bench.cache.find(&one, None).entry().is_none() && bench.is_fresh(&other));
    assert_eq!(bench.cache.size().entries, 1);
}

#[tokio::test(start_paused = true)]
async fn a_revocation_that_overtakes_the_answer_keeps_it_out_of_the_cache() {
    let bench = Bench::ordinary();
    let question = bench.cache.question(&bench.caller);
    bench.cache.ended("l");
    let key = bench.answer(&question, "l", "kv/a");
    assert!(bench.cache.find(&key, None).entry().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_new_version_makes_the_old_value_last_but_not_fresh() {
    let bench = Bench::ordinary();
    let (changed, other) = (bench.put("l", "kv/a"), bench.put("m", "kv/b"));
    bench.cache.changed("kv/a");
    assert!(bench.lasts(&changed) && bench.is_fresh(&other));
}

#[tokio::test(start_paused = true)]
async fn a_new_version_that_overtakes_the_answer_is_not_lost() {
    let bench = Bench::ordinary();
    let question = bench.cache.question(&bench.caller);
    bench.cache.changed("kv/a");
    let key = bench.answer(&question, "l", "kv/a");
    assert!(bench.lasts(&key));
}

#[tokio::test(start_paused = true)]
async fn after_missed_events_nothing_is_good_before_the_broker_was_asked() {
    let bench = Bench::ordinary();
    let key = bench.put("l", "kv/a");
    bench.cache.missed_events();
    assert!(bench.cache.find(&key, None).entry().is_none());
    let (unknown, epoch) = bench.cache.unknown(10);
    assert_eq!(unknown.len(), 1);
    unknown[0].validate(epoch);
    assert!(bench.lasts(&key), "the lease is known again, the value is still old");
    assert!({
        bench.put("l", "kv/a");
        bench.is_fresh(&key)
    });
}

#[tokio::test(start_paused = true)]
async fn without_events_nothing_is_fresh() {
    let bench = Bench::ordinary();
    let key = bench.put("l", "kv/a");
    bench.cache.listening(false);
    assert!(bench.lasts(&key));
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_due_between_60_and_70_per_cent_of_its_life_and_once() {
    let bench = Bench::ordinary();
    bench.put("l", "kv/a");
    bench.pass(Duration::from_secs(359)).await;
    assert!(bench.cache.due().is_empty());
    bench.pass(Duration::from_secs(61)).await;
    assert_eq!(bench.cache.due().len(), 1);
    assert!(bench.cache.due().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_failed_for_now_is_due_again_and_one_that_failed_for_good_is_not() {
    let bench = Bench::ordinary();
    bench.put("l", "kv/a");
    bench.pass(Duration::from_secs(420)).await;
    let due = bench.cache.due();
    due[0].renewal_failed(true);
    bench.pass(Duration::from_secs(60)).await;
    assert_eq!(bench.cache.due().len(), 1);
    due[0].renewal_failed(false);
    bench.pass(Duration::from_secs(60)).await;
    assert!(bench.cache.due().is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_caps_on_bytes_and_on_entries_hold() {
    let few = Bench::new(1024 * 1024, 10);
    let small = Bench::new(64 * 1024, 1000);
    for number in 0..200 {
        few.put(&format!("l{number}"), &format!("kv/{number}"));
        small.put(&format!("l{number}"), &format!("kv/{number}"));
    }
    assert!(few.cache.size().entries <= 10, "{:?}", few.cache.size());
    assert!(small.cache.size().bytes <= 64 * 1024, "{:?}", small.cache.size());
    few.cache.sweep();
    assert!(few.cache.size().leases <= 10, "leases go with the last answer on them");
}

#[tokio::test(start_paused = true)]
async fn an_answer_without_a_live_lease_is_handed_out_and_not_kept() {
    let bench = Bench::ordinary();
    let question = bench.cache.question(&bench.caller);
    let expired = v1::Lease { state: LeaseState::Expired.into(), ..bench.lease("l", "kv/a", Duration::ZERO) };
    for lease in [Some(expired), None] {
        let answer = answer_with(lease);
        let key = bench.key("kv/a");
        let entry = bench.cache.store(&question, &bench.caller, key, Payload::of_read(answer), None);
        assert!(entry.secret(&bench.cache.now()).is_some());
        assert!(bench.cache.find(&key, None).entry().is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_read_again_is_extended_wherever_it_is_used() {
    let bench = Bench::ordinary();
    let (one, two) = (bench.put("l", "kv/a"), bench.put("l", "kv/b"));
    bench.pass(Duration::from_secs(500)).await;
    bench.put("l", "kv/b");
    bench.pass(Duration::from_secs(500)).await;
    assert!(bench.lasts(&one) && bench.lasts(&two));
    assert_eq!(bench.cache.size().leases, 1);
}

#[tokio::test(start_paused = true)]
async fn nothing_that_can_be_formatted_shows_a_value() {
    let bench = Bench::ordinary();
    let key = bench.put("l", "kv/a");
    let found = bench.cache.find(&key, None);
    let (payload, _) = Payload::of_read(answer_with(None));
    let text = format!("{:?} {found:?} {payload:?} {:?}", bench.cache, found.entry());
    assert!(!text.contains("canary"), "{text}");
}

#[test]
fn what_stands_somewhere_is_good_until_its_secret_changes_or_events_were_missed() {
    let bench = Bench::ordinary();
    let good = |bench: &Bench, id: &str| {
        let key = bench.put(id, "kv/a");
        let entry = bench.cache.find(&key, None).entry().cloned().expect("stored");
        let standing = Standing::of(&entry);
        assert_eq!(standing.state(&bench.cache, None), State::Good);
        standing
    };
    let standing = good(&bench, "1");
    bench.cache.changed("kv/b");
    assert_eq!(standing.state(&bench.cache, Some(Duration::from_secs(3600))), State::Good);
    bench.clock.advance(Duration::from_secs(31));
    assert_eq!(standing.state(&bench.cache, Some(Duration::from_secs(29))), State::Good);
    assert_eq!(standing.state(&bench.cache, Some(Duration::from_secs(31))), State::Old);
    bench.cache.changed("kv/a");
    assert_eq!(standing.state(&bench.cache, None), State::Old);
    let standing = good(&bench, "2");
    bench.cache.missed_events();
    assert_eq!(standing.state(&bench.cache, None), State::Old);
}

#[test]
fn what_stands_somewhere_is_old_before_its_lease_ends_and_over_after_it() {
    let bench = Bench::ordinary();
    let (question, lease) = (bench.cache.question(&bench.caller), "1");
    let key = bench.answer_for(&question, lease, "kv/a", Duration::from_secs(100));
    let standing = Standing::of(bench.cache.find(&key, None).entry().expect("stored"));
    assert_eq!(standing.until(), Some(bench.clock.now() + Duration::from_secs(100)));
    bench.clock.advance(Duration::from_secs(70));
    assert_eq!(standing.state(&bench.cache, None), State::Good);
    bench.clock.advance(Duration::from_secs(10));
    assert_eq!(standing.state(&bench.cache, None), State::Old);
    bench.cache.clear();
    bench.clock.advance(Duration::from_secs(30));
    assert_eq!(standing.state(&bench.cache, None), State::Over);
}

#[test]
fn what_happened_between_question_and_answer_concerns_what_stands_on_it() {
    let bench = Bench::ordinary();
    let question = bench.cache.question(&bench.caller);
    bench.cache.ended("1");
    bench.cache.changed("kv/b");
    let standing = |id: &str, reference: &str| {
        let answer = answer_with(Some(bench.lease(id, reference, Duration::from_secs(600))));
        let key = bench.key(reference);
        Standing::of(&bench.cache.store(&question, &bench.caller, key, Payload::of_read(answer), None))
    };
    assert_eq!(standing("1", "kv/a").state(&bench.cache, None), State::Over);
    assert_eq!(standing("2", "kv/b").state(&bench.cache, None), State::Old);
    assert_eq!(standing("3", "kv/c").state(&bench.cache, None), State::Good);
}

#[test]
fn where_nothing_is_served_through_an_outage_nothing_stands_through_one() {
    let mut bench = Bench::ordinary();
    bench.cache.limits.on_outage = OnOutage::Fail;
    let key = bench.put("1", "kv/a");
    let entry = bench.cache.find(&key, None).entry().cloned().expect("stored");
    let state = |seconds| Standing::of(&entry).state(&bench.cache, Some(Duration::from_secs(seconds)));
    assert_eq!((state(29), state(31)), (State::Good, State::Over));
}

#[test]
fn whoever_listens_hears_of_each_thing_that_may_concern_him() {
    let bench = Bench::ordinary();
    bench.put("1", "kv/b");
    let mut news = bench.cache.news();
    type Tell = fn(&Cache);
    let tells: [Tell; 3] = [|cache| cache.changed("kv/a"), |cache| cache.ended("1"), Cache::missed_events];
    for tell in tells {
        assert!(!news.has_changed().expect("open"));
        tell(&bench.cache);
        assert!(news.has_changed().expect("open"));
        news.mark_unchanged();
    }
}
