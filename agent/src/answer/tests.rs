mod outage;

use std::sync::Arc;
use std::time::Duration;

use bursar_core::tasks::Tasks;
use bursar_proto::Reason;
use bursar_proto::convert::duration_to_wire;
use bursar_proto::v1::{
    EnvironmentsResolveRequest, LeasesRenewRequest, LeasesRevokeRequest, SecretsBatchReadRequest,
    SecretsReadRequest, SecretsReadResponse,
};
use tokio::sync::Semaphore;
use tonic::Code;

use crate::attest::Workload;
use crate::config::OnOutage;
use crate::testing::{Harness, LIMIT, Rig, eventually, workload};

#[tokio::test]
async fn a_second_read_of_the_same_workload_is_answered_from_the_cache_under_the_same_lease() {
    let rig = Rig::new().await;
    let call = Rig::call(&workload("app"));
    let first = rig.answers.read(&call, Harness::read("kv/app")).await.expect("read");
    let second = rig.answers.read(&call, Harness::read("kv/app")).await.expect("read");
    assert_eq!(rig.broker.script.calls("read"), 1);
    assert_eq!(first.lease.as_ref().map(|lease| &lease.id), second.lease.as_ref().map(|lease| &lease.id));
    assert_eq!(second.value, b"secret-value");
}

#[tokio::test]
async fn two_workloads_never_share_an_answer() {
    let rig = Rig::new().await;
    rig.read(&workload("one")).await.expect("read");
    rig.read(&workload("two")).await.expect("read");
    assert_eq!(rig.broker.script.calls("read"), 2);
}

#[tokio::test]
async fn another_reason_is_another_question() {
    let rig = Rig::new().await;
    let app = workload("app");
    rig.read(&app).await.expect("read");
    let request = SecretsReadRequest { reason: "audit".to_owned(), ..Harness::read("kv/app") };
    rig.ask(&app, request).await.expect("read");
    assert_eq!(rig.broker.script.calls("read"), 2);
}

#[tokio::test]
async fn a_value_that_is_no_longer_fresh_is_asked_for_again() {
    let rig = Rig::new().await;
    let app = workload("app");
    rig.read(&app).await.expect("read");
    rig.broker.script.state().secrets.insert("kv/app".to_owned(), b"rotated".to_vec());
    rig.clock.advance(Duration::from_secs(31));
    assert_eq!(rig.read(&app).await.expect("read"), "rotated");
}

#[tokio::test]
async fn an_age_of_zero_asks_the_broker_and_a_larger_one_is_compared_with_the_age_of_the_value() {
    let rig = Rig::new().await;
    let app = workload("app");
    let within = |secs| SecretsReadRequest {
        max_age: Some(duration_to_wire(Duration::from_secs(secs))),
        ..Harness::read("kv/app")
    };
    rig.read(&app).await.expect("read");
    rig.clock.advance(Duration::from_secs(10));
    rig.ask(&app, within(20)).await.expect("young enough");
    assert_eq!(rig.broker.script.calls("read"), 1);
    rig.ask(&app, within(0)).await.expect("asked");
    assert_eq!(rig.broker.script.calls("read"), 2);
}

#[tokio::test]
async fn a_new_lease_is_asked_of_the_broker_each_time_and_is_the_answer_to_the_next_read() {
    let rig = Rig::new().await;
    let app = workload("app");
    rig.read(&app).await.expect("read");
    rig.broker.script.state().secrets.insert("kv/app".to_owned(), b"another".to_vec());
    let anew = || SecretsReadRequest { new_lease: true, ..Harness::read("kv/app") };
    let (one, other) = tokio::join!(rig.ask(&app, anew()), rig.ask(&app, anew()));
    assert_eq!((one.expect("read"), other.expect("read")), ("another".to_owned(), "another".to_owned()));
    assert_eq!(rig.broker.script.calls("read"), 3);
    assert_eq!(rig.read(&app).await.expect("read"), "another");
    assert_eq!(rig.broker.script.calls("read"), 3);
}

#[tokio::test]
async fn callers_that_ask_the_same_at_the_same_time_share_one_call_and_all_but_one_are_journaled() {
    let rig = Rig::new().await;
    let gate = Arc::new(Semaphore::new(0));
    rig.broker.script.state().gate = Some(Arc::clone(&gate));
    let app = workload("app");
    let tasks = Tasks::new();
    let readers: Vec<_> = (0..10)
        .map(|_| {
            let (answers, app) = (Arc::clone(&rig.answers), Arc::clone(&app));
            tasks.finish(async move { answers.read(&Rig::call(&app), Harness::read("kv/app")).await })
        })
        .collect();
    eventually("the broker is asked", || rig.broker.script.calls("read") == 1).await;
    gate.add_permits(1);
    for reader in readers {
        let read = tokio::time::timeout(LIMIT, reader).await.expect("in time").expect("joined");
        assert!(read.is_ok());
    }
    assert_eq!(rig.broker.script.calls("read"), 1);
    assert_eq!(rig.journal.len(), 1);
}

#[tokio::test]
async fn a_caller_that_hangs_up_does_not_lose_what_the_broker_disclosed() {
    let rig = Rig::new().await;
    let gate = Arc::new(Semaphore::new(0));
    rig.broker.script.state().gate = Some(Arc::clone(&gate));
    let app = workload("app");
    {
        let read = rig.read(&app);
        tokio::pin!(read);
        let asked = eventually("the broker is asked", || rig.broker.script.calls("read") == 1);
        tokio::select! {
            _ = &mut read => panic!("answered behind a closed gate"),
            () = asked => {}
        }
    }
    gate.add_permits(1);
    eventually("the answer is cached", || rig.cache.size().entries == 1).await;
    rig.broker.script.state().gate = None;
    rig.read(&app).await.expect("read");
    assert_eq!(rig.broker.script.calls("read"), 1);
}

#[tokio::test]
async fn while_the_broker_is_away_a_live_lease_is_served_with_its_age() {
    let mut rig = Rig::new().await;
    let app = workload("app");
    rig.read(&app).await.expect("read");
    rig.broker.kill();
    rig.cache.listening(false);
    rig.clock.advance(Duration::from_secs(600));
    let read = rig.answers.read(&Rig::call(&app), Harness::read("kv/app")).await.expect("served");
    assert_eq!(read.age.map(|age| age.seconds), Some(600));
}

#[tokio::test]
async fn while_the_broker_is_away_a_lease_that_ended_is_not_served() {
    let mut rig = Rig::new().await;
    let app = workload("app");
    rig.read(&app).await.expect("read");
    rig.broker.kill();
    rig.clock.advance(Duration::from_secs(3601));
    assert_eq!(rig.read(&app).await.map_err(|status| status.code()), Err(Code::Unavailable));
}

#[tokio::test]
async fn while_the_broker_is_away_nothing_is_served_where_the_configuration_says_fail() {
    let mut rig = Rig::with(OnOutage::Fail, 100).await;
    let app = workload("app");
    rig.read(&app).await.expect("read");
    rig.broker.kill();
    rig.clock.advance(Duration::from_secs(60));
    assert_eq!(rig.read(&app).await.map_err(|status| status.code()), Err(Code::Unavailable));
}

#[tokio::test]
async fn while_the_broker_is_away_what_may_have_been_revoked_unheard_is_not_served() {
    let mut rig = Rig::new().await;
    let app = workload("app");
    rig.read(&app).await.expect("read");
    rig.cache.missed_events();
    rig.broker.kill();
    assert_eq!(rig.read(&app).await.map_err(|status| status.code()), Err(Code::Unavailable));
}

#[tokio::test]
async fn a_refusal_removes_what_was_allowed_before_so_that_no_outage_brings_it_back() {
    let mut rig = Rig::new().await;
    let app = workload("app");
    rig.read(&app).await.expect("read");
    rig.clock.advance(Duration::from_secs(31));
    rig.broker.script.state().refusal = Some(Reason::AccessDenied);
    let refused = rig.read(&app).await.expect_err("refused");
    assert_eq!(Reason::of(&refused), Some(Reason::AccessDenied));
    rig.broker.kill();
    assert_eq!(rig.read(&app).await.map_err(|status| status.code()), Err(Code::Unavailable));
}

#[tokio::test]
async fn an_answer_that_a_store_is_down_is_an_answer_and_no_outage() {
    let rig = Rig::new().await;
    let app = workload("app");
    rig.read(&app).await.expect("read");
    rig.clock.advance(Duration::from_secs(31));
    rig.broker.script.state().refusal = Some(Reason::BackendUnavailable);
    let refused = rig.read(&app).await.expect_err("refused");
    assert_eq!(Reason::of(&refused), Some(Reason::BackendUnavailable));
}

#[tokio::test]
async fn a_broker_that_goes_down_in_order_is_away() {
    let rig = Rig::new().await;
    let app = workload("app");
    rig.read(&app).await.expect("read");
    rig.clock.advance(Duration::from_secs(31));
    rig.broker.script.state().refusal = Some(Reason::ShuttingDown);
    assert_eq!(rig.read(&app).await.expect("served"), "secret-value");
}

#[tokio::test]
async fn a_batch_asks_for_what_is_missing_only_and_answers_in_order() {
    let rig = Rig::new().await;
    rig.broker
        .script
        .state()
        .secrets
        .extend([("kv/b".to_owned(), b"value-b".to_vec()), ("kv/c".to_owned(), b"value-c".to_vec())]);
    let app = workload("app");
    rig.read(&app).await.expect("read");
    let requests = ["kv/b", "kv/app", "kv/c"].map(Harness::read).to_vec();
    let batch = SecretsBatchReadRequest { requests };
    let mut read = rig.answers.batch_read(&Rig::call(&app), batch).await.expect("read");
    let values: Vec<_> = read.responses.iter_mut().map(SecretsReadResponse::take_value).collect();
    let wanted: [&[u8]; 3] = [b"value-b", b"secret-value", b"value-c"];
    assert!(values.len() == 3 && values.iter().zip(wanted).all(|(value, wanted)| value.ct_eq(wanted)));
    assert_eq!((rig.broker.script.calls("read"), rig.broker.script.calls("batch_read")), (1, 1));
}

#[tokio::test]
async fn a_batch_with_one_that_fails_answers_nothing() {
    let rig = Rig::new().await;
    let requests = ["kv/app", "kv/none"].map(Harness::read).to_vec();
    let refused =
        rig.answers.batch_read(&Rig::call(&workload("app")), SecretsBatchReadRequest { requests }).await;
    assert_eq!(Reason::of(&refused.expect_err("refused")), Some(Reason::SecretNotFound));
}

#[tokio::test]
async fn a_batch_without_or_with_too_many_requests_is_refused() {
    let rig = Rig::new().await;
    for count in [0, 257] {
        let requests = vec![Harness::read("kv/app"); count];
        let batch = SecretsBatchReadRequest { requests };
        let refused = rig.answers.batch_read(&Rig::call(&workload("app")), batch).await.expect_err("refused");
        assert_eq!(Reason::of(&refused), Some(Reason::RequestInvalid));
    }
}

#[tokio::test]
async fn an_environment_is_cached_whole_with_its_leases() {
    let rig = Rig::new().await;
    let call = Rig::call(&workload("app"));
    let request = EnvironmentsResolveRequest { name: "app/prod".to_owned(), ..Default::default() };
    let first = rig.answers.resolve(&call, request.clone()).await.expect("resolved");
    let second = rig.answers.resolve(&call, request).await.expect("resolved");
    assert_eq!(rig.broker.script.calls("resolve"), 1);
    assert_eq!(second.revision, 7);
    assert!(first == second);
}

#[tokio::test]
async fn a_revocation_through_the_socket_drops_the_value_at_once() {
    let rig = Rig::new().await;
    let app = workload("app");
    let call = Rig::call(&app);
    let read = rig.answers.read(&call, Harness::read("kv/app")).await.expect("read");
    let lease_id = read.lease.as_ref().map(|lease| lease.id.clone()).unwrap_or_default();
    rig.answers.revoke(&call, LeasesRevokeRequest { lease_id, ..Default::default() }).await.expect("revoked");
    assert_eq!(rig.cache.size().entries, 0);
}

#[tokio::test]
async fn a_revocation_that_the_broker_refuses_drops_nothing() {
    let rig = Rig::new().await;
    let app = workload("app");
    let read = rig.answers.read(&Rig::call(&app), Harness::read("kv/app")).await.expect("read");
    let lease_id = read.lease.as_ref().map(|lease| lease.id.clone()).unwrap_or_default();
    rig.broker.script.state().refusal = Some(Reason::LeaseNotFound);
    let thief = Rig::call(&workload("thief"));
    let refused = rig.answers.revoke(&thief, LeasesRevokeRequest { lease_id, ..Default::default() }).await;
    assert!(refused.is_err());
    assert_eq!(rig.cache.size().entries, 1);
}

#[tokio::test]
async fn a_renewal_through_the_socket_lets_the_cached_value_live_longer() {
    let mut rig = Rig::new().await;
    let app = workload("app");
    let call = Rig::call(&app);
    let read = rig.answers.read(&call, Harness::read("kv/app")).await.expect("read");
    let lease_id = read.lease.as_ref().map(|lease| lease.id.clone()).unwrap_or_default();
    rig.clock.advance(Duration::from_secs(3000));
    rig.answers.renew(&call, LeasesRenewRequest { lease_id, ttl: None }).await.expect("renewed");
    rig.clock.advance(Duration::from_secs(3000));
    rig.broker.kill();
    assert!(rig.read(&app).await.is_ok());
}

#[tokio::test]
async fn what_cannot_be_journaled_is_not_served_from_the_cache() {
    let rig = Rig::with(OnOutage::Serve, 0).await;
    let app = workload("app");
    rig.read(&app).await.expect("read");
    rig.read(&app).await.expect("read");
    assert_eq!(rig.broker.script.calls("read"), 2);
}

#[tokio::test]
async fn with_a_full_journal_and_no_broker_nothing_is_served() {
    let mut rig = Rig::with(OnOutage::Serve, 0).await;
    let app = workload("app");
    rig.read(&app).await.expect("read");
    rig.broker.kill();
    assert!(rig.read(&app).await.is_err());
}

#[tokio::test]
async fn a_process_that_crashes_and_starts_again_gets_the_lease_of_the_one_before() {
    let rig = Rig::new().await;
    let mut leases = std::collections::BTreeSet::new();
    for life in 0..5 {
        let process = Arc::new(Workload::named_instance("app", &format!("{life}:1@test")));
        let read = rig.answers.read(&Rig::call(&process), Harness::read("kv/app")).await.expect("read");
        leases.extend(read.lease.as_ref().map(|lease| lease.id.clone()));
        rig.clock.advance(Duration::from_secs(31));
    }
    assert_eq!((leases.len(), rig.broker.script.calls("read")), (1, 5));
}

#[tokio::test]
async fn the_broker_is_told_the_attested_context_and_the_callers_request_id() {
    let rig = Rig::new().await;
    let app = workload("app");
    let mut headers = http::HeaderMap::new();
    headers.insert(bursar_proto::REQUEST_ID_METADATA_KEY, "mine-1".parse().expect("header"));
    let call = super::Call::new(Arc::clone(&app), &headers);
    rig.answers.read(&call, Harness::read("kv/app")).await.expect("read");
    let state = rig.broker.script.state();
    assert_eq!(state.contexts, [bursar_proto::v1::WorkloadContext::clone(app.context())]);
    assert_eq!(state.request_ids, ["mine-1"]);
}

#[tokio::test]
async fn a_malformed_age_is_refused_without_asking() {
    let rig = Rig::new().await;
    let request = SecretsReadRequest {
        max_age: Some(prost_types::Duration { seconds: -1, nanos: 0 }),
        ..Harness::read("kv/app")
    };
    let refused = rig.ask(&workload("app"), request).await.expect_err("refused");
    assert_eq!(Reason::of(&refused), Some(Reason::RequestInvalid));
    assert_eq!(rig.broker.script.calls("read"), 0);
}

#[tokio::test]
async fn what_a_token_got_is_for_whoever_presents_that_very_token_and_is_the_same_workload() {
    let rig = Rig::new().await;
    let bearing = |name, token| Arc::new(Workload::named_bearing(name, token));
    rig.read(&bearing("app", "a.b.c")).await.expect("read");
    rig.read(&bearing("app", "a.b.c")).await.expect("read");
    assert_eq!(rig.broker.script.calls("read"), 1);
    rig.read(&bearing("app", "a.b.d")).await.expect("read");
    rig.read(&bearing("other", "a.b.c")).await.expect("read");
    rig.read(&workload("app")).await.expect("read");
    assert_eq!(rig.broker.script.calls("read"), 4);
    let state = rig.broker.script.state();
    assert_eq!(state.authorizations, ["Bearer a.b.c", "Bearer a.b.d", "Bearer a.b.c"]);
    // What the agent saw is said only where no token speaks.
    assert_eq!(state.contexts, [bursar_proto::v1::WorkloadContext::clone(workload("app").context())]);
}

#[tokio::test]
async fn those_who_wait_for_one_answer_have_one_token() {
    let rig = Rig::new().await;
    let gate = Arc::new(Semaphore::new(0));
    rig.broker.script.state().gate = Some(Arc::clone(&gate));
    let (one, other) =
        (Arc::new(Workload::named_bearing("app", "a")), Arc::new(Workload::named_bearing("app", "b")));
    let opened = async {
        eventually("both ask", || rig.broker.script.calls("read") == 2).await;
        gate.add_permits(2);
    };
    let (first, second, ()) = tokio::join!(rig.read(&one), rig.read(&other), opened);
    assert!(first.is_ok() && second.is_ok());
}

#[tokio::test]
async fn a_refused_token_finds_nothing_in_the_cache_any_more() {
    let rig = Rig::new().await;
    let app = Arc::new(Workload::named_bearing("app", "a.b.c"));
    rig.read(&app).await.expect("read");
    rig.clock.advance(Duration::from_secs(31));
    rig.broker.script.state().refusal = Some(Reason::TokenExpired);
    let refused = rig.read(&app).await.expect_err("refused");
    assert_eq!(Reason::of(&refused), Some(Reason::TokenExpired));
    assert_eq!(rig.cache.size().entries, 0);
}
