use super::*;

/// The leases of a site end after an hour.
async fn with_reaper() -> (Site, LeaseId, LeaseId) {
    let store = Store::new("store", well());
    let site = Site::start(&[&store]);
    site.tasks.run("reaper", Arc::clone(&site.leases).reap());
    let (held, made) = (site.grant("local/a").await, site.issue("store/a").await.id);
    (site, held, made)
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_two_hours_ahead_expires_nothing_before_its_time() {
    let (site, held, made) = with_reaper().await;
    site.wall.jump(SignedDuration::from_hours(2));
    // A tenth early at most: after 54 minutes and a half.
    for _ in 0..54 {
        site.pass(Duration::from_secs(60)).await;
        for id in [held, made] {
            let state = site.get(id).await.state;
            assert_eq!(state, LeaseState::Active, "after {:?}", site.wall.passed());
        }
    }
    for id in [held, made] {
        site.until_in_time(id, LeaseState::Gone).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_two_hours_back_lets_no_lease_live_on() {
    let (site, held, made) = with_reaper().await;
    site.wall.jump(SignedDuration::from_hours(-2));
    site.pass(HOUR).await;
    for id in [held, made] {
        site.until_in_time(id, LeaseState::Gone).await;
    }
    // A ninth late at most, and what the reaper and the store take.
    let passed = site.wall.passed();
    assert!(passed < Duration::from_secs(75 * 60), "the last went after {passed:?}");
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_ahead_and_back_changes_next_to_nothing() {
    let (site, held, _) = with_reaper().await;
    site.wall.jump(SignedDuration::from_hours(1));
    site.pass(Duration::from_secs(60)).await;
    site.wall.jump(SignedDuration::from_hours(-1));
    site.pass(Duration::from_secs(600)).await;
    assert_eq!(site.get(held).await.state, LeaseState::Active);
    assert_eq!(site.clock.now(), site.wall.now());
}
