use super::*;
use crate::testing::{Rig, eventually, workload};

/// Follows the broker's events as the agent of `rig`.
fn listen(rig: &Rig) {
    let listener = Listener {
        cache: Arc::clone(&rig.cache),
        upstream: Arc::clone(&rig.upstream),
        clock: Arc::clone(&rig.clock) as _,
        metrics: rig.metrics.clone(),
        signed: Arc::new(Notify::new()),
    };
    let tasks = rig.tasks.clone();
    rig.tasks.run("events", async move {
        tasks.until_stopping(listener.listen()).await;
    });
}

#[tokio::test]
async fn after_a_long_outage_events_arrive_soon_after_the_broker_answered_anybody() {
    let mut rig = Rig::new().await;
    rig.broker.script.state().tells_anybody = true;
    listen(&rig);
    eventually("the events", || rig.metrics.listening.get() == 1).await;
    rig.broker.kill();
    eventually("the end of the stream", || rig.metrics.listening.get() == 0).await;
    for _ in 0..30 {
        let before = rig.counted(UNREACHABLE);
        rig.pass(Duration::from_secs(60)).await;
        eventually("another attempt", || rig.counted(UNREACHABLE) > before).await;
    }
    rig.broker.resume().await;
    // By itself it would be half a minute at least.
    rig.read(&workload("app")).await.expect("read");
    eventually("the events again", || rig.metrics.listening.get() == 1).await;
}

#[tokio::test]
async fn whom_the_broker_refuses_its_events_asks_no_more_often_for_getting_other_answers() {
    let rig = Rig::new().await;
    listen(&rig);
    eventually("the first refusal", || rig.broker.script.calls("watch") == 1).await;
    for number in 0..50 {
        rig.read(&workload(&format!("app-{number}"))).await.expect("read");
    }
    let asked = rig.broker.script.calls("watch");
    assert!(asked < 10, "it asked {asked} times");
}

const UNREACHABLE: &str = "bursar_agent_broker_calls_total{outcome=\"unreachable\"}";
