//! A broker that is away for long, with callers that do not stop asking.

use bursar_core::retry::Retry;
use tokio::time::Instant;

use super::*;

#[tokio::test]
async fn an_hour_without_the_broker_under_load_serves_each_lease_to_its_end_and_costs_few_calls() {
    let mut rig = Rig::new().await;
    let apps: Vec<_> = (0..APPS).map(|number| workload(&format!("app-{number}"))).collect();
    for (reference, minutes) in [("kv/long", 90), ("kv/short", 20)] {
        rig.broker.script.state().secrets.insert(reference.to_owned(), b"value".to_vec());
        rig.broker.script.state().ttl = Duration::from_secs(minutes * 60);
        for app in &apps {
            rig.ask(app, Harness::read(reference)).await.expect("read");
        }
    }
    rig.broker.kill();
    rig.cache.listening(false);
    let mut served = 0;
    for minute in 0..60 {
        rig.pass(Duration::from_secs(60)).await;
        for (number, app) in apps.iter().enumerate() {
            for _ in 0..20 {
                assert!(rig.ask(app, Harness::read("kv/long")).await.is_ok(), "minute {minute}");
                served += 1;
            }
            let short = rig.ask(app, Harness::read("kv/short")).await;
            assert_eq!(short.is_ok(), minute < 19, "minute {minute}, app {number}");
            served += u64::from(short.is_ok());
        }
        rig.tender.round().await;
    }
    // One trial a minute here, since no more time passes; and each read for which there is nothing to serve.
    let refused = 41 * APPS;
    let calls = rig.counted("bursar_agent_broker_calls_total{outcome=\"unreachable\"}");
    assert!(calls <= refused + 3 * 60, "{calls} calls to a broker that is away");
    assert_eq!(rig.counted("bursar_agent_reads_total{outcome=\"outage\"}"), served);

    // It comes back, and hears of every read.
    rig.broker.resume().await;
    rig.journal.flush(&rig.upstream, &rig.metrics, Retry::INTERACTIVE).await;
    let journaled: u64 = rig.broker.script.state().journal.iter().map(|line| line.count).sum();
    assert_eq!((journaled, rig.journal.len()), (served, 0));
}

#[tokio::test]
async fn the_first_read_after_the_return_is_answered_by_the_broker_again() {
    let mut rig = Rig::new().await;
    let app = workload("app");
    rig.read(&app).await.expect("read");
    rig.broker.kill();
    rig.cache.listening(false);
    assert!(rig.read(&app).await.is_ok());
    assert!(rig.upstream.is_away());
    rig.broker.resume().await;
    rig.broker.script.state().secrets.insert("kv/app".to_owned(), b"another".to_vec());
    rig.pass(Duration::from_secs(2)).await;
    // This one is served what there is, and shows that the broker is back.
    assert_eq!(rig.read(&app).await.expect("served"), "secret-value");
    eventually("the trial", || !rig.upstream.is_away()).await;
    assert_eq!(rig.read(&app).await.expect("read"), "another");
}

#[tokio::test]
async fn a_broker_that_neither_answers_nor_hangs_up_is_noticed_in_seconds_and_waited_for_once() {
    let rig = Rig::new().await;
    let app = workload("app");
    rig.read(&app).await.expect("read");
    let frozen = rig.broker.freeze().await;
    rig.clock.advance(Duration::from_secs(31));
    let begun = Instant::now();
    assert_eq!(rig.read(&app).await.expect("served"), "secret-value");
    assert!(begun.elapsed() < Duration::from_secs(9), "it was waited for {:?}", begun.elapsed());
    let unreachable = "bursar_agent_broker_calls_total{outcome=\"unreachable\"}";
    let before = rig.counted(unreachable);
    for _ in 0..50 {
        assert!(rig.read(&app).await.is_ok());
    }
    assert!(rig.counted(unreachable) <= before + 3, "each asked anew");
    assert_eq!(rig.counted("bursar_agent_broker_connections_given_up_total"), 1);
    drop(frozen);
    rig.pass(Duration::from_secs(2)).await;
    assert!(rig.read(&app).await.is_ok());
    eventually("the broker to be there again", || !rig.upstream.is_away()).await;
}

#[tokio::test]
async fn a_broker_that_is_slow_and_there_is_waited_for() {
    let rig = Rig::new().await;
    let app = workload("app");
    rig.read(&app).await.expect("read");
    rig.clock.advance(Duration::from_secs(31));
    let gate = Arc::new(Semaphore::new(0));
    rig.broker.script.state().gate = Some(Arc::clone(&gate));
    rig.broker.script.state().secrets.insert("kv/app".to_owned(), b"another".to_vec());
    let opened = async {
        eventually("the broker is asked", || rig.broker.script.calls("read") == 2).await;
        // Longer than a broker that is gone would be waited for.
        for _ in 0..8 {
            rig.pass(Duration::from_secs(1)).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        gate.add_permits(1);
    };
    let (read, ()) = tokio::join!(rig.read(&app), opened);
    assert_eq!(read.expect("read"), "another");
    assert!(!rig.upstream.is_away());
}

const APPS: u64 = 5;
