use super::*;

#[tokio::test]
async fn a_store_that_hangs_holds_up_no_other() {
    let (hangs, serves) = (Store::new("hangs", Conduct::Hangs), Store::new("serves", well()));
    let site = Site::start(&[&hangs, &serves]);
    // The hanging store's are due first, and more of them than any batch takes.
    let mut held_up = Vec::new();
    for _ in 0..300 {
        held_up.push(site.revoked("hangs/a").await);
    }
    let id = site.revoked("serves/a").await;
    site.until(id, LeaseState::Gone).await;
    assert!((1..=hangs.limits.concurrency).contains(&hangs.most_at_a_time()));
    for id in held_up {
        assert_eq!(site.get(id).await.state, LeaseState::Revoked);
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_gets_so_many_calls_at_a_time_and_so_many_a_second_as_it_is_configured_for() {
    let limits = RevocationLimits {
        concurrency: 3,
        per_second: std::num::NonZeroU32::new(10).expect("not 0"),
        attempts: 3,
    };
    let store = Store::with("store", Conduct::Well { taking: Duration::from_secs(2) }, limits);
    let site = Site::start(&[&store]);
    let mut ids = Vec::new();
    for _ in 0..40 {
        ids.push(site.revoked("store/a").await);
    }
    for id in ids {
        site.until(id, LeaseState::Gone).await;
    }
    let calls = store.calls();
    assert_eq!(calls.len(), 40, "a credential was taken back twice");
    assert!(store.most_at_a_time() <= 3, "{} at a time", store.most_at_a_time());
    let apart = calls.windows(2).map(|pair| pair[1].0.duration_since(pair[0].0));
    let least = apart.min().expect("two calls");
    assert!(least >= Duration::from_millis(99), "calls {least:?} apart");
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_refused_again_and_again_is_stuck_with_the_reason_and_told_once() {
    let store = Store::new("store", Conduct::Fails(ErrorKind::Denied));
    let site = Site::start(&[&store]);
    let id = site.revoked("store/a").await;
    let stuck = site.until_in_time(id, LeaseState::Stuck).await;
    assert_eq!((stuck.attempts, stuck.last_error.as_deref()), (3, Some("denied")));
    let before = store.calls().len();
    site.pass(HOUR).await;
    assert_eq!(site.records(Action::Stuck).await.len(), 1);
    let calls = store.calls().len() - before;
    assert!(calls <= 13, "{calls} calls in an hour");
    store.turn(well());
    site.until_in_time(id, LeaseState::Gone).await;
    assert_eq!(site.records(Action::Gone).await.len(), 1);
}

#[tokio::test]
async fn stuck_leases_are_due_at_once_when_their_store_is_well_again() {
    let store = Store::with(
        "store",
        Conduct::Fails(ErrorKind::Sealed),
        RevocationLimits {
            concurrency: 4,
            per_second: std::num::NonZeroU32::new(1000).expect("not 0"),
            attempts: 1,
        },
    );
    let site = Site::start(&[&store]);
    let (one, other) = (site.revoked("store/a").await, site.revoked("store/b").await);
    site.until(one, LeaseState::Stuck).await;
    site.until(other, LeaseState::Stuck).await;
    let mount = site.leases.mounts.mount(&store.name).expect("mounted");
    assert!(mount.examine(HOUR).await.is_err());
    store.turn(well());
    mount.examine(HOUR).await.expect("well");
    // Their next attempts by themselves are minutes away, and time is not paused here.
    site.until(one, LeaseState::Gone).await;
    site.until(other, LeaseState::Gone).await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_costs_few_calls_and_no_lease_its_attempts() {
    let store = Store::new("store", Conduct::Fails(ErrorKind::Unavailable));
    let site = Site::start(&[&store]);
    let mut ids = Vec::new();
    for _ in 0..200 {
        ids.push(site.revoked("store/a").await);
    }
    // Tokio's paused time goes on while the ledger writes these down, and nobody measures how far.
    let before = store.calls().len();
    let hours = site.pass(HOUR).await;
    let calls = store.calls().len() - before;
    assert!(calls as f64 <= 10.0 + 130.0 * hours, "{calls} calls in {hours} hours for 200 leases");
    let mut attempts = 0;
    for id in &ids {
        attempts += site.get(*id).await.attempts;
    }
    // Others are made while these are read.
    let calls = store.calls().len();
    assert!(attempts as usize <= calls, "{attempts} attempts counted for {calls} calls");
    store.turn(well());
    for id in ids {
        site.until_in_time(id, LeaseState::Gone).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_of_a_backend_that_is_not_configured_any_more_is_stuck_and_not_lost() {
    let store = Store::new("store", well());
    let site = Site::start(&[&store]);
    let id = site.revoked("removed/a").await;
    let stuck = site.until_in_time(id, LeaseState::Stuck).await;
    assert_eq!(stuck.last_error.as_deref(), Some("misconfigured"));
    let back = Store::new("removed", well());
    let site = site.restart(&[&store, &back]).await;
    site.until_in_time(id, LeaseState::Gone).await;
    assert_eq!(back.calls().len(), 1);
}

#[tokio::test]
async fn a_stop_does_not_wait_for_a_store_that_hangs() {
    let store = Store::new("store", Conduct::Hangs);
    let site = Site::start(&[&store]);
    let id = site.revoked("store/a").await;
    while store.calls().is_empty() {
        tokio::time::sleep(ROUND).await;
    }
    store.turn(well());
    let site = site.restart(&[&store]).await;
    site.until(id, LeaseState::Gone).await;
}

#[tokio::test]
async fn what_its_store_takes_back_never_is_held_until_it_ends_by_itself() {
    let store = Store::new("store", well());
    let site = Site::start(&[&store]);
    let end = site.clock.now().checked_add(HOUR).expect("time");
    store.turn(Conduct::KeepsUntil(end));
    let id = site.revoked("store/a").await;
    let held = site.until(id, LeaseState::Revoking).await;
    assert_eq!((held.attempts, held.last_error), (1, None));
    store.turn(well());
    site.until(id, LeaseState::Revoking).await;
    assert_eq!(store.calls().len(), 1, "it was asked again before the end");
    site.wall.pass(HOUR);
    site.until(id, LeaseState::Gone).await;
    assert_eq!(store.calls().len(), 2);
}

#[tokio::test]
async fn giving_up_what_ends_by_itself_says_that_it_lives_on() {
    let store = Store::new("store", Conduct::KeepsUntil(Timestamp::MAX));
    let site = Site::start(&[&store]);
    let lease = site.issue("store/a").await;
    let given_up = site.leases.give_up(lease, site.draft(Action::ForceRevoke)).await.expect("given up");
    assert_eq!((given_up.state, given_up.last_error.as_deref()), (LeaseState::Gone, Some("misconfigured")));
}

#[tokio::test]
async fn a_lease_that_its_store_does_not_take_back_is_given_up_and_the_record_says_so() {
    let store = Store::new("store", Conduct::Fails(ErrorKind::Denied));
    let site = Site::start(&[&store]);
    let lease = site.issue("store/a").await;
    let given_up = site.leases.give_up(lease, site.draft(Action::ForceRevoke)).await.expect("given up");
    assert_eq!((given_up.state, given_up.last_error.as_deref()), (LeaseState::Gone, Some("denied")));
    let records = site.records(Action::ForceRevoke).await;
    let record = records.first().expect("a record");
    assert_eq!((record.error_kind.as_deref(), record.reason.as_deref()), (Some("denied"), Some("a test")));
    assert_eq!(record.actor.principal, principal().to_string());
}

#[tokio::test]
async fn a_store_that_does_take_it_back_leaves_nothing_to_be_given_up() {
    let store = Store::new("store", well());
    let site = Site::start(&[&store]);
    let lease = site.issue("store/a").await;
    let id = lease.id;
    let gone = site.leases.give_up(lease, site.draft(Action::ForceRevoke)).await.expect("gone");
    assert_eq!((gone.state, gone.last_error), (LeaseState::Gone, None));
    assert_eq!(store.calls().first().map(|(_, handle)| handle.clone()), Some(id.to_string()));
    assert_eq!(site.records(Action::ForceRevoke).await.first().expect("a record").error_kind, None);
    // Again, it is no error: what was asked for is so.
    let again = site.leases.give_up(site.get(id).await, site.draft(Action::ForceRevoke)).await;
    assert_eq!(again.expect("gone").state, LeaseState::Gone);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_is_given_up_on_within_a_request() {
    let store = Store::new("store", Conduct::Hangs);
    let site = Site::start(&[&store]);
    let lease = site.issue("store/a").await;
    let given_up = site.leases.give_up(lease, site.draft(Action::ForceRevoke)).await.expect("given up");
    assert_eq!((given_up.state, given_up.last_error.as_deref()), (LeaseState::Gone, Some("timeout")));
}
