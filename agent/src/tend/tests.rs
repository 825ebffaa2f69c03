use std::time::Duration;

use super::*;
use crate::attest::Workload;
use crate::testing::{Harness, Rig, workload};

/// Reads `kv/app`, and lets 75 % of its lease pass.
async fn due(rig: &Rig, reader: Workload) {
    rig.broker.script.state().ttl = Duration::from_secs(20);
    rig.read(&Arc::new(reader)).await.expect("read");
    pass(Duration::from_secs(15)).await;
}

/// Paused only for the moment: what goes over real sockets does not wait for paused time.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

fn app() -> Workload {
    Workload::named("app")
}

#[tokio::test]
async fn a_lease_whose_reader_runs_is_renewed_in_its_name() {
    let rig = Rig::new().await;
    due(&rig, app()).await;
    rig.tender.round().await;
    assert_eq!(rig.broker.script.calls("renew"), 1);
    let last = rig.broker.script.state().contexts.last().cloned();
    assert_eq!(last.as_ref(), Some(&**workload("app").context()));
}

#[tokio::test]
async fn a_failed_renewal_changes_nothing_and_asks_for_no_new_credential() {
    let rig = Rig::new().await;
    due(&rig, app()).await;
    rig.broker.script.state().refusal = Some(Reason::LeaseNotRenewable);
    rig.tender.round().await;
    rig.tender.round().await;
    assert_eq!((rig.broker.script.calls("renew"), rig.broker.script.calls("read")), (1, 1));
    assert_eq!(rig.cache.size().entries, 1);
}

#[tokio::test]
async fn a_lease_that_the_broker_no_longer_knows_is_dropped() {
    let rig = Rig::new().await;
    due(&rig, app()).await;
    rig.broker.script.state().refusal = Some(Reason::LeaseNotFound);
    rig.tender.round().await;
    assert_eq!(rig.cache.size().entries, 0);
}

#[tokio::test]
async fn a_lease_that_its_owner_may_not_renew_is_kept_to_its_end() {
    let rig = Rig::new().await;
    due(&rig, app()).await;
    rig.broker.script.state().unrenewable = true;
    rig.tender.round().await;
    assert_eq!((rig.broker.script.calls("renew"), rig.broker.script.calls("get")), (1, 1));
    assert_eq!(rig.cache.size().entries, 1);
}

#[tokio::test]
async fn with_the_broker_away_many_due_leases_are_few_calls_and_all_come_again() {
    let mut rig = Rig::new().await;
    for number in 0..50 {
        rig.broker.script.state().secrets.insert(format!("kv/{number}"), b"x".to_vec());
        rig.broker.script.state().ttl = Duration::from_secs(20);
        rig.ask(&workload("app"), Harness::read(&format!("kv/{number}"))).await.expect("read");
    }
    pass(Duration::from_secs(15)).await;
    rig.broker.kill();
    assert!(!rig.tender.round().await);
    rig.broker.resume().await;
    pass(Duration::from_secs(3)).await;
    assert!(rig.tender.round().await);
    assert_eq!(rig.broker.script.calls("renew"), 50);
}

#[tokio::test]
async fn what_an_outage_put_off_is_renewed_bit_by_bit_after_it() {
    let mut rig = Rig::new().await;
    for number in 0..80 {
        rig.broker.script.state().secrets.insert(format!("kv/{number}"), b"x".to_vec());
        rig.broker.script.state().ttl = Duration::from_secs(1000);
        rig.ask(&workload("app"), Harness::read(&format!("kv/{number}"))).await.expect("read");
    }
    pass(Duration::from_secs(750)).await;
    rig.broker.kill();
    assert!(!rig.tender.round().await);
    rig.broker.resume().await;
    let mut most = 0;
    for _ in 0..40 {
        let before = rig.broker.script.calls("renew");
        pass(Duration::from_secs(1)).await;
        rig.tender.round().await;
        most = most.max(rig.broker.script.calls("renew") - before);
    }
    assert_eq!(rig.broker.script.calls("renew"), 80);
    assert!(most <= 20, "{most} of 80 came within a second");
}

#[tokio::test]
async fn a_lease_whose_reader_ended_is_dropped_and_not_renewed() {
    let rig = Rig::new().await;
    due(&rig, Workload::ended("app")).await;
    rig.tender.round().await;
    assert_eq!((rig.broker.script.calls("renew"), rig.cache.size().entries), (0, 0));
}

#[tokio::test]
async fn a_lease_in_a_pod_is_renewed_while_no_container_of_it_runs() {
    let rig = Rig::new().await;
    due(&rig, Workload::in_pod("app", POD)).await;
    rig.tender.round().await;
    assert_eq!((rig.broker.script.calls("renew"), rig.broker.script.calls("revoke")), (1, 0));
}

#[tokio::test]
async fn the_lease_of_a_pod_that_is_over_is_given_back_at_once_and_by_the_node_itself() {
    let rig = Rig::new().await;
    rig.read(&Arc::new(Workload::left("app", POD))).await.expect("read");
    let told = rig.broker.script.state().contexts.len();
    rig.tender.round().await;
    assert_eq!(rig.broker.script.calls("revoke"), 0, "nobody said that a pod is over");
    rig.cache.pods_left();
    rig.tender.round().await;
    assert_eq!((rig.broker.script.calls("revoke"), rig.cache.size().entries), (1, 0));
    assert_eq!(rig.broker.script.state().contexts.len(), told, "a workload was spoken for");
    assert_eq!(rig.counted("bursar_agent_lease_renewals_total{outcome=\"given_back\"}"), 1);
}

#[tokio::test]
async fn what_a_pod_left_is_given_back_once_the_broker_can_be_asked() {
    let mut rig = Rig::new().await;
    rig.read(&Arc::new(Workload::left("app", POD))).await.expect("read");
    rig.broker.kill();
    rig.cache.pods_left();
    assert!(!rig.tender.round().await);
    rig.broker.resume().await;
    pass(Duration::from_secs(40)).await;
    assert!(rig.tender.round().await);
    assert_eq!(rig.broker.script.calls("revoke"), 1);
}

#[tokio::test]
async fn a_lease_that_the_node_may_not_give_back_is_asked_about_once() {
    let rig = Rig::new().await;
    rig.read(&Arc::new(Workload::left("app", POD))).await.expect("read");
    rig.broker.script.state().refusal = Some(Reason::LeaseNotFound);
    rig.cache.pods_left();
    rig.tender.round().await;
    rig.tender.round().await;
    assert_eq!((rig.broker.script.calls("revoke"), rig.cache.size().entries), (1, 0));
}

#[tokio::test]
async fn a_container_that_starts_again_in_its_pod_asks_under_the_same_instance() {
    let rig = Rig::new().await;
    // As another container, what is attested of it is not the same.
    for name in ["first", "again"] {
        rig.read(&Arc::new(Workload::in_pod(name, POD))).await.expect("read");
    }
    let state = rig.broker.script.state();
    let instances: Vec<_> = state.contexts.iter().map(|context| context.instance.as_str()).collect();
    let pod = format!("pod:{POD}@test");
    assert_eq!(instances, [&pod, &pod]);
}

#[tokio::test]
async fn after_missed_events_leases_are_asked_about_a_few_at_a_time() {
    let rig = Rig::new().await;
    for number in 0..20 {
        rig.broker.script.state().secrets.insert(format!("kv/{number}"), b"x".to_vec());
        let request = Harness::read(&format!("kv/{number}"));
        rig.ask(&workload("app"), request).await.expect("read");
    }
    rig.cache.missed_events();
    rig.tender.round().await;
    assert_eq!(rig.broker.script.calls("get"), CHECKS_PER_ROUND);
    rig.tender.round().await;
    assert_eq!(rig.broker.script.calls("get"), 20);
    assert_eq!(rig.broker.script.calls("read"), 20);
}

#[tokio::test]
async fn a_lease_that_is_found_to_be_over_is_dropped() {
    let rig = Rig::new().await;
    rig.read(&workload("app")).await.expect("read");
    rig.broker.script.state().leases.clear();
    rig.cache.missed_events();
    rig.tender.round().await;
    assert_eq!(rig.cache.size().entries, 0);
}

#[tokio::test]
async fn a_lease_that_a_token_got_is_renewed_by_the_newest_of_its_process() {
    let rig = Rig::new().await;
    due(&rig, Workload::named_bearing("app", "first")).await;
    let holding = rig.cache.due().pop().expect("due");
    holding.read_by(&Arc::new(Workload::named_bearing("app", "second")));
    holding.put_off();
    pass(Duration::from_secs(3)).await;
    rig.tender.round().await;
    assert_eq!(rig.broker.script.calls("renew"), 1);
    let state = rig.broker.script.state();
    assert_eq!(
        (state.authorizations.last().map(String::as_str), state.contexts.len()),
        (Some("Bearer second"), 0)
    );
}

const POD: &str = "0f8e6c1a-2b3d-4c5e-8f70-91a2b3c4d5e6";
