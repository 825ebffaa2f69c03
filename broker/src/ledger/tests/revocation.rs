use bursar_core::audit::Action;
use bursar_core::lease::LeaseEvent;
use bursar_core::{BackendName, Lease, LeaseState, SecretPath};

use super::super::{AuditQuery, Change, HolderKind, Outcome, RevokeSelector};
use super::{Fixture, first, spiffe, within};

#[tokio::test]
async fn a_path_takes_itself_and_what_is_below() {
    let fixture = Fixture::new();
    let mut taken = Vec::new();
    for path in ["vault/a/b", "vault/a/b/c", "vault/a/b/c/d"] {
        taken.push(fixture.grant(fixture.lease(path)).await);
    }
    let mut left = Vec::new();
    for path in ["vault/a/bc", "vault/a/b-2", "vault/a/b0", "vault/a", "local/a/b"] {
        left.push(fixture.grant(fixture.lease(path)).await);
    }
    assert_eq!(fixture.revoke(path("vault", Some("a/b"))).await, 3);
    for id in taken {
        assert_eq!(fixture.state(id).await, LeaseState::Gone);
    }
    for id in left {
        assert_eq!(fixture.state(id).await, LeaseState::Active);
    }
}

#[tokio::test]
async fn a_backend_is_taken_whole() {
    let fixture = Fixture::new();
    fixture.grant(fixture.lease("vault/a")).await;
    fixture.grant(fixture.lease("vault/b/c")).await;
    let other = fixture.grant(fixture.lease("local/a")).await;
    assert_eq!(fixture.revoke(path("vault", None)).await, 2);
    assert_eq!(fixture.state(other).await, LeaseState::Active);
}

#[tokio::test]
async fn each_selector_takes_its_own() {
    let fixture = Fixture::new();
    let ada = spiffe("spiffe://example.org/user/ada");
    let node = spiffe("spiffe://example.org/node/n2");
    fixture.grant(Lease { principal: ada.clone(), ..fixture.lease("vault/a") }).await;
    fixture.grant(Lease { node: Some(node.clone()), ..fixture.lease("vault/b") }).await;
    fixture.grant(Lease { environment: Some("shop/pr-1".to_owned()), ..fixture.lease("vault/c") }).await;
    let other = fixture.grant(fixture.lease("vault/d")).await;
    for selector in [
        RevokeSelector::Principal(ada),
        RevokeSelector::Node(node),
        RevokeSelector::Environment("shop/pr-1".to_owned()),
    ] {
        assert_eq!(fixture.revoke(selector.clone()).await, 1, "{selector:?}");
        assert_eq!(fixture.revoke(selector.clone()).await, 0, "{selector:?} again");
    }
    assert_eq!(fixture.state(other).await, LeaseState::Active);
}

#[tokio::test]
async fn dynamic_leases_are_revoked_and_due_at_once() {
    let fixture = Fixture::new();
    let issued = fixture.issue(fixture.lease("vault/creds/app"), "h1").await;
    let intent = fixture.lease("vault/creds/app");
    let intended = intent.id;
    fixture.change(Change::Intent(intent)).await.expect("intent");
    assert_eq!(fixture.revoke(path("vault", Some("creds"))).await, 2);
    let waiting = fixture.to_revoke().await;
    let mut ids: Vec<_> = waiting.iter().map(|item| (item.lease.id, item.handle.is_some())).collect();
    ids.sort();
    let mut expected = [(issued, true), (intended, false)];
    expected.sort();
    assert_eq!(ids, expected);
}

#[tokio::test]
async fn a_bulk_revocation_lowers_the_counts() {
    let fixture = Fixture::new();
    fixture.grant(fixture.lease("vault/a")).await;
    fixture.grant(fixture.lease("vault/b")).await;
    fixture.revoke(path("vault", None)).await;
    let counts = within(fixture.ledger.lease_counts()).await.expect("counts");
    assert!(
        counts.contains(&(LeaseState::Gone, 2)) && counts.contains(&(LeaseState::Active, 0)),
        "{counts:?}"
    );
    assert!(within(fixture.ledger.top_holders(HolderKind::Backend, 10)).await.expect("holders").is_empty());
}

#[tokio::test]
async fn leases_that_are_granted_after_the_order_are_not_taken() {
    for selector in [path("vault", None), RevokeSelector::Principal(spiffe(WEB))] {
        let fixture = Fixture::new();
        let mut before = Vec::new();
        for number in 0..5 {
            before.push(fixture.grant(fixture.lease(&format!("vault/{number}"))).await);
        }
        let revocation = fixture.order(selector).await;
        fixture.clock.advance(std::time::Duration::from_millis(1));
        assert!(!fixture.step(revocation, 2).await);
        let after = fixture.grant(fixture.lease("vault/after")).await;
        while !fixture.step(revocation, 2).await {}
        for id in before {
            assert_eq!(fixture.state(id).await, LeaseState::Gone);
        }
        assert_eq!(fixture.state(after).await, LeaseState::Active);
        assert_eq!(fixture.revocation(revocation).await.marked, 5);
    }
}

#[tokio::test]
async fn an_order_goes_on_after_a_restart_and_each_lease_has_its_record() {
    let fixture = Fixture::new();
    let mut ids = Vec::new();
    for number in 0..5 {
        ids.push(fixture.grant(fixture.lease(&format!("vault/{number}"))).await);
    }
    ids.sort();
    let revocation = fixture.order(path("vault", None)).await;
    assert!(!fixture.step(revocation, 2).await);
    let fixture = fixture.reopen().await;
    assert_eq!(within(fixture.ledger.open_revocations()).await.expect("open"), [revocation]);
    while !fixture.step(revocation, 2).await {}
    assert!(within(fixture.ledger.open_revocations()).await.expect("open").is_empty());

    let query = AuditQuery { actions: vec![Action::Revoke], ..AuditQuery::default() };
    let records = within(fixture.ledger.audit(query, first(20))).await.expect("records").items;
    let of_leases: Vec<_> = records.iter().rev().filter_map(|record| record.lease_id.clone()).collect();
    assert_eq!(of_leases, ids.iter().map(ToString::to_string).collect::<Vec<_>>());
    assert!(records.iter().any(|record| record.resource == "vault/3" && record.request_id == "request-1"));
    assert_eq!(records.first().map(|record| record.resource.as_str()), Some("leases of a test: 5"));
    // A step that is repeated, since its answer was lost, changes nothing.
    let again = Change::Mark { revocation, ids, place: None, at: fixture.now() };
    assert_eq!(fixture.change(again).await.expect("step"), Outcome::Many { count: 0 });
}

#[tokio::test]
async fn what_is_left_of_an_order_is_counted_until_it_is_gone_at_the_store() {
    let fixture = Fixture::new();
    let one = fixture.issue(fixture.lease("vault/creds/a"), "h1").await;
    let second = fixture.issue(fixture.lease("vault/creds/b"), "h2").await;
    fixture.grant(fixture.lease("vault/c")).await;
    fixture.revoke(path("vault", None)).await;
    let revocation = within(fixture.ledger.revocations(None, 5)).await.expect("revocations").remove(0).id;
    let shown = fixture.revocation(revocation).await;
    assert_eq!((shown.marked, shown.dynamic, shown.waiting, shown.stuck), (3, 2, 2, 0));
    for event in [LeaseEvent::Attempt, LeaseEvent::Removed] {
        fixture.apply(one, event).await.expect("removal");
    }
    for event in [LeaseEvent::Attempt, LeaseEvent::GaveUp] {
        fixture.apply(second, event).await.expect("giving up");
    }
    let shown = fixture.revocation(revocation).await;
    assert_eq!((shown.dynamic, shown.waiting, shown.stuck), (2, 1, 1));

    // It is kept for as long as something is left of it, however old.
    fixture.clock.advance(std::time::Duration::from_secs(60));
    fixture.change(Change::Forget { before: fixture.now(), limit: 10 }).await.expect("forgotten");
    assert_eq!(fixture.revocation(revocation).await.waiting, 1);
    fixture.apply(second, LeaseEvent::Abandoned).await.expect("given up");
    fixture.change(Change::Forget { before: fixture.now(), limit: 10 }).await.expect("forgotten");
    assert!(within(fixture.ledger.revocations(None, 5)).await.expect("revocations").is_empty());
}

#[tokio::test]
async fn an_order_for_nothing_ends_at_once() {
    let fixture = Fixture::new();
    let revocation = fixture.order(path("vault", None)).await;
    assert!(fixture.step(revocation, 2).await);
    let shown = fixture.revocation(revocation).await;
    assert_eq!((shown.marked, shown.marked_at), (0, Some(fixture.now())));
}

const WEB: &str = "spiffe://example.org/ns/shop/sa/web";

fn path(backend: &str, path: Option<&str>) -> RevokeSelector {
    RevokeSelector::PathPrefix {
        backend: BackendName::parse(backend).expect("backend"),
        path: path.map(|path| SecretPath::from_store(path).expect("path")),
    }
}

#[tokio::test]
async fn the_next_leases_can_be_looked_for_before_a_step_is_durable() {
    for selector in [path("vault", None), RevokeSelector::Principal(spiffe(WEB))] {
        let fixture = Fixture::new();
        for number in 0..5 {
            fixture.grant(fixture.lease(&format!("vault/{number}"))).await;
        }
        let revocation = fixture.order(selector).await;
        let walk = |from| within(fixture.ledger.walk(revocation, from, 2));
        let first = walk(None).await.expect("walk");
        let ahead = walk(first.place.clone()).await.expect("walk ahead");
        assert!(!fixture.step(revocation, 2).await);
        assert_eq!(walk(None).await.expect("walk"), ahead);
        assert!(first.ids.iter().all(|id| !ahead.ids.contains(id)));
    }
}
