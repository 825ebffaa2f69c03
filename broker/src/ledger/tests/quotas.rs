use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;

use bursar_core::lease::{LeaseEvent, TtlBound};
use bursar_core::{BackendName, Lease};

use super::super::{Change, HolderKind, LedgerError, Limit, Quota, QuotaExceeded, Quotas, RevokeSelector};
use super::{Fixture, spiffe};

#[tokio::test]
async fn a_principal_gets_as_many_leases_as_its_quota_says_and_another_its_own() {
    let fixture = Fixture::with(64, live(2));
    let [first, _] = fill(&fixture).await;
    let exceeded = refusal(&fixture, fixture.lease("local/three")).await;
    assert_eq!((exceeded.of, exceeded.limit), (HolderKind::Principal, Limit::Live(2)));
    let text = exceeded.to_string();
    assert!(text.contains("ns/shop/sa/web` has 2 leases") && text.contains("revoke some"), "{text}");
    fixture.change(Change::Intent(fixture.lease("vault/creds/app"))).await.expect_err("an intent is one too");

    // What is live costs nothing, whatever is done with it.
    assert_eq!(fixture.grant(fixture.lease("local/one")).await, first);
    let renewal = Change::Renew {
        id: first,
        expires_at: fixture.after(7200),
        ttl_bound: TtlBound::Policy,
        at: fixture.now(),
    };
    fixture.change(renewal).await.expect("a renewal meets no quota");
    let other =
        Lease { principal: spiffe("spiffe://example.org/ns/shop/sa/api"), ..fixture.lease("local/a") };
    fixture.grant(other).await;
}

#[tokio::test]
async fn whatever_ends_a_lease_makes_room_for_another() {
    let fixture = Fixture::with(64, live(2));
    let [first, second] = fill(&fixture).await;
    fixture.apply(first, LeaseEvent::Revoke).await.expect("revoked");
    let third = fixture.grant(fixture.lease("local/three")).await;
    refusal(&fixture, fixture.lease("local/four")).await;

    let event = LeaseEvent::Expire;
    let expire =
        Change::Apply { id: second, event, at: fixture.after(7200), error: None, next_attempt_at: None };
    fixture.change(expire).await.expect("expired");
    fixture.grant(fixture.lease("local/four")).await;
    refusal(&fixture, fixture.lease("local/five")).await;

    assert_eq!(fixture.revoke(RevokeSelector::Principal(fixture.lease("local/a").principal)).await, 2);
    fill(&fixture).await;
    fixture.change(Change::Forget { before: fixture.after(60), limit: 10 }).await.expect("forgotten");
    refusal(&fixture, fixture.lease("local/three")).await;
    assert!(fixture.ledger.lease(third).await.expect("answer").is_none(), "it was not forgotten");
}

#[tokio::test]
async fn a_credential_counts_until_it_is_gone_at_its_store() {
    let fixture = Fixture::with(64, live(1));
    let id = fixture.issue(fixture.lease("vault/creds/app"), "h1").await;
    fixture.apply(id, LeaseEvent::Revoke).await.expect("revoked");
    refusal(&fixture, fixture.lease("local/a")).await;
    let gone = vec![fixture.event(id, LeaseEvent::Attempt), fixture.event(id, LeaseEvent::Removed)];
    fixture.changes(gone).await.expect("gone");
    fixture.grant(fixture.lease("local/a")).await;
}

#[tokio::test]
async fn counts_are_exact_after_a_restart_and_within_one_entry() {
    let fixture = Fixture::with(64, live(2));
    fixture.grant(fixture.lease("local/one")).await;
    let fixture = fixture.reopen().await;
    let two = vec![Change::Grant(fixture.lease("local/two")), Change::Grant(fixture.lease("local/three"))];
    let refused = fixture.changes(two).await;
    assert!(matches!(refused, Err(LedgerError::Quota(_))), "{refused:?}");
    // All of an entry or nothing of it: the first of the two is not there, and counts no more.
    fixture.grant(fixture.lease("local/two")).await;
    let fixture = fixture.reopen().await;
    refusal(&fixture, fixture.lease("local/three")).await;
}

#[tokio::test]
async fn a_backend_has_a_quota_of_its_own() {
    let quota = Quota { live: NonZeroU64::new(1), issued_per_minute: None };
    let backends = [("vault".to_owned(), quota)].into();
    let fixture = Fixture::with(64, Quotas { principal: Quota::default(), backends });
    fixture.issue(fixture.lease("vault/creds/app"), "h1").await;
    fixture.grant(fixture.lease("local/a")).await;
    let exceeded = refusal(&fixture, fixture.lease("vault/kv/a")).await;
    assert_eq!((exceeded.of, exceeded.holder.as_str()), (HolderKind::Backend, "vault"));
    let selector =
        RevokeSelector::PathPrefix { backend: BackendName::parse("vault").expect("name"), path: None };
    fixture.revoke(selector).await;
    refusal(&fixture, fixture.lease("vault/kv/a")).await;
}

#[tokio::test]
async fn new_leases_that_come_too_fast_are_told_when_to_come_again() {
    let quota = Quota { live: None, issued_per_minute: NonZeroU32::new(2) };
    let fixture = Fixture::with(64, Quotas { principal: quota, ..Quotas::default() });
    fill(&fixture).await;
    let exceeded = refusal(&fixture, fixture.lease("local/three")).await;
    assert_eq!((exceeded.limit, exceeded.retry_after), (Limit::IssuedPerMinute(2), Duration::from_secs(30)));
    for _ in 0..10 {
        fixture.grant(fixture.lease("local/one")).await;
    }
    fixture.clock.advance(Duration::from_secs(30));
    fixture.grant(fixture.lease("local/three")).await;
    refusal(&fixture, fixture.lease("local/four")).await;
}

fn live(live: u64) -> Quotas {
    let principal = Quota { live: NonZeroU64::new(live), issued_per_minute: None };
    Quotas { principal, ..Quotas::default() }
}

async fn fill(fixture: &Fixture) -> [bursar_core::LeaseId; 2] {
    [fixture.grant(fixture.lease("local/one")).await, fixture.grant(fixture.lease("local/two")).await]
}

async fn refusal(fixture: &Fixture, lease: Lease) -> QuotaExceeded {
    match fixture.change(Change::Grant(lease)).await {
        Err(LedgerError::Quota(exceeded)) => exceeded,
        other => panic!("not refused: {other:?}"),
    }
}
