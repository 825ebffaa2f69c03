use std::time::Duration;

use bursar_proto::Reason;
use bursar_proto::v1::VersionChanged;
use tokio::time::Instant;

use super::*;
use crate::fake::Fake;

async fn follow(fake: &Fake) -> Follower {
    let client = fake.client();
    let resolved = client.resolve("shop", &ResolveOptions::default()).await.expect("resolved");
    fake.state().reads = 0;
    client.follow("shop", ResolveOptions::default(), &resolved.leases)
}

fn changed(reference: &str) -> Event {
    Event::VersionChanged(VersionChanged { reference: reference.to_owned(), version: String::new() })
}

/// Waits for the next, in seconds, and says when it came.
async fn next(follower: &mut Follower, within: u64) -> Option<(Result<Followed, Error>, Duration)> {
    let began = Instant::now();
    let next = timeout(Duration::from_secs(within), follower.next()).await;
    next.ok().map(|next| (next, began.elapsed()))
}

fn has(followed: &Result<Followed, Error>, value: &str) -> bool {
    let Ok(Followed::Resolved(resolved)) = followed else { return false };
    resolved.variables.iter().all(|variable| variable.value.ct_eq(value.as_bytes()))
}

#[tokio::test(start_paused = true)]
async fn without_events_leases_are_extended_in_time_and_that_is_said_once() {
    let fake = Fake::new(false);
    let mut follower = follow(&fake).await;
    let (first, _) = next(&mut follower, 5).await.expect("said");
    assert!(matches!(first, Ok(Followed::Deaf(_))), "{first:?}");
    fake.state().value = "two";
    for _ in 0..3 {
        let (resolved, after) = next(&mut follower, 100).await.expect("resolved");
        assert!(has(&resolved, "two"), "{resolved:?}");
        assert!((55..=72).contains(&after.as_secs()), "after {after:?}");
    }
    assert_eq!(fake.state().issued, 1);
}

#[tokio::test(start_paused = true)]
async fn events_that_come_together_are_one_resolve() {
    let fake = Fake::new(false);
    let events = fake.events();
    let mut follower = follow(&fake).await;
    assert!(next(&mut follower, 1).await.is_none(), "nothing happened");
    fake.state().value = "two";
    for _ in 0..5 {
        events.send(changed("local/db")).expect("heard");
    }
    let (resolved, after) = next(&mut follower, 30).await.expect("resolved");
    assert!(has(&resolved, "two") && after < Duration::from_secs(2), "{resolved:?} after {after:?}");
    assert!(next(&mut follower, 30).await.is_none(), "once for all of them");
    assert_eq!(fake.state().reads, 1);
}

#[tokio::test(start_paused = true)]
async fn what_happens_to_other_secrets_is_nothing() {
    let fake = Fake::new(false);
    let events = fake.events();
    let mut follower = follow(&fake).await;
    assert!(next(&mut follower, 1).await.is_none(), "nothing happened");
    events.send(changed("local/db2")).expect("heard");
    events.send(Event::LeaseRevoked(bursar_proto::v1::LeaseRevoked::default())).expect("heard");
    assert!(next(&mut follower, 30).await.is_none(), "it concerns nothing that is held");
}

#[tokio::test(start_paused = true)]
async fn a_storm_is_a_resolve_every_few_seconds() {
    let fake = Fake::new(false);
    let events = fake.events();
    let mut follower = follow(&fake).await;
    let storm = async {
        for _ in 0..600 {
            sleep(Duration::from_millis(100)).await;
            drop(events.send(changed("local/db")));
        }
    };
    let calm = async {
        loop {
            assert!(follower.next().await.is_ok());
        }
    };
    tokio::select! {
        () = storm => {}
        () = calm => {}
    }
    let reads = fake.state().reads;
    assert!((6..=14).contains(&reads), "{reads} resolves in a minute");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_told_and_asked_about_again_later_each_time() {
    let fake = Fake::new(false);
    let _events = fake.events();
    let mut follower = follow(&fake).await;
    fake.state().refusal = Some((Reason::AccessDenied, None));
    let calls = fake.state().calls;
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(3600) {
        let (refused, _) = next(&mut follower, 200).await.expect("told");
        assert!(refused.is_err(), "{refused:?}");
    }
    let calls = fake.state().calls - calls;
    assert!(calls < 130, "{calls} calls in an hour");
    fake.state().refusal = None;
    let (resolved, _) = next(&mut follower, 200).await.expect("resolved");
    assert!(has(&resolved, "one"), "{resolved:?}");
}
