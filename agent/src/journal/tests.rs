use bursar_proto::v1::SecretsReadRequest;
use futures_util::FutureExt;

use super::*;
use crate::testing::{Harness, Rig, eventually, workload};

/// A rig in which `app` read `kv/app` once from the broker and once from the cache.
async fn rig_with_a_line() -> Rig {
    let rig = Rig::new().await;
    let app = workload("app");
    rig.read(&app).await.expect("read");
    rig.read(&app).await.expect("read");
    rig
}

#[tokio::test]
async fn reads_are_counted_by_lease_and_process() {
    let rig = rig_with_a_line().await;
    rig.read(&workload("app")).await.expect("read");
    rig.journal.flush(&rig.upstream, &rig.metrics, Retry::INTERACTIVE).await;
    let journal = rig.broker.script.state().journal.clone();
    assert_eq!(journal.len(), 1);
    assert_eq!((journal[0].count, journal[0].lease_id.as_str()), (2, "lease-0"));
    assert_eq!(journal[0].workload.as_ref(), Some(&**workload("app").context()));
    assert!(rig.journal.is_empty());
}

#[tokio::test]
async fn more_than_a_batch_is_shipped_in_batches() {
    let rig = Rig::new().await;
    rig.read(&workload("app")).await.expect("read");
    let holding = rig.cache.holding("lease-0").expect("held");
    for number in 0..300 {
        rig.journal.write(&workload(&number.to_string()), [&holding].into_iter()).expect("room");
    }
    rig.journal.flush(&rig.upstream, &rig.metrics, Retry::INTERACTIVE).await;
    assert_eq!(rig.broker.script.state().journal.len(), 300);
    assert_eq!(rig.broker.script.calls("journal"), 2);
}

#[tokio::test]
async fn many_readers_wait_for_the_time_to_ship_and_a_journal_that_fills_does_not() {
    let rig = Rig::new().await;
    rig.read(&workload("app")).await.expect("read");
    let holding = rig.cache.holding("lease-0").expect("held");
    let journal = Journal::with_capacity(Arc::clone(&rig.clock) as _, 1_000);
    let write = |number: u32| journal.write(&workload(&number.to_string()), [&holding].into_iter());
    let is_filling = || journal.filling.notified().now_or_never().is_some();
    for number in (0..500).chain(0..500) {
        write(number).expect("room");
    }
    assert_eq!((journal.len(), is_filling()), (500, false));
    write(500).expect("room");
    assert!(is_filling());
}

#[tokio::test]
async fn what_is_on_its_way_takes_its_room_and_comes_back() {
    let rig = Rig::new().await;
    rig.read(&workload("app")).await.expect("read");
    let holding = rig.cache.holding("lease-0").expect("held");
    let journal = Journal::with_capacity(Arc::clone(&rig.clock) as _, 2);
    let write = |name: &str| journal.write(&workload(name), [&holding].into_iter());
    write("a").expect("room");
    let taken = Taken::from(&journal);
    write("a").expect("room");
    assert_eq!((write("b"), write("a")), (Err(Full), Ok(())));
    drop(taken);
    let counted: Vec<_> = journal.waiting().iter().map(|line| line.read.count).collect();
    assert_eq!(counted, [3]);
    assert_eq!(write("b"), Ok(()));
}

#[tokio::test]
async fn what_could_not_be_shipped_is_kept_and_shipped_later() {
    let mut rig = rig_with_a_line().await;
    rig.broker.kill();
    rig.journal.flush(&rig.upstream, &rig.metrics, Retry::INTERACTIVE).await;
    assert_eq!(rig.journal.len(), 1);
    rig.broker.resume().await;
    rig.journal.flush(&rig.upstream, &rig.metrics, Retry::INTERACTIVE).await;
    assert_eq!(rig.broker.script.state().journal.len(), 1);
}

#[tokio::test]
async fn one_line_that_the_broker_refuses_does_not_keep_the_others_back() {
    let rig = rig_with_a_line().await;
    rig.broker.script.state().secrets.insert("kv/b".to_owned(), b"b".to_vec());
    let app = workload("app");
    for _ in 0..2 {
        let request = SecretsReadRequest { reference: "kv/b".to_owned(), ..Harness::read("kv/b") };
        rig.ask(&app, request).await.expect("read");
    }
    rig.broker.script.state().unjournaled = Some("lease-0".to_owned());
    rig.journal.flush(&rig.upstream, &rig.metrics, Retry::INTERACTIVE).await;
    let shipped: Vec<_> =
        rig.broker.script.state().journal.iter().map(|read| read.lease_id.clone()).collect();
    assert_eq!(shipped, ["lease-1"]);
    assert!(rig.journal.is_empty());
}

#[tokio::test]
async fn a_broker_that_takes_no_journal_at_all_loses_no_line() {
    let rig = rig_with_a_line().await;
    rig.broker.script.state().refusal = Some(bursar_proto::Reason::NotImplemented);
    rig.journal.flush(&rig.upstream, &rig.metrics, Retry::INTERACTIVE).await;
    assert_eq!(rig.journal.len(), 1);
}

#[tokio::test]
async fn what_waits_is_shipped_when_the_agent_stops() {
    let rig = rig_with_a_line().await;
    let (journal, upstream) = (Arc::clone(&rig.journal), Arc::clone(&rig.upstream));
    let (metrics, stop) = (rig.metrics.clone(), rig.tasks.clone());
    rig.tasks.run("journal", async move { journal.ship(&upstream, &metrics, &stop).await });
    rig.tasks.stop();
    eventually("the journal is shipped", || !rig.broker.script.state().journal.is_empty()).await;
}

#[test]
fn a_line_that_is_there_counts_on_in_a_full_journal_and_a_new_one_is_refused() {
    let clock = Arc::new(bursar_core::clock::TestClock::new());
    let journal = Journal::with_capacity(clock, 0);
    let none = std::iter::empty();
    assert_eq!(journal.write(&workload("app"), none), Ok(()));
    assert!(!journal.has_room(1));
}
