use bursar_core::backend::{ErrorKind, StoreHandle};
use bursar_core::lease::{LeaseEvent, TtlBound};
use bursar_core::{BackendName, Lease, LeaseId, LeaseState, Version};

use super::super::{Change, CredentialSlot, Kept, LedgerError, Outcome, RevokeSelector};
use super::{Fixture, new_id, within};

#[tokio::test]
async fn an_intent_becomes_active_with_what_the_store_granted() {
    let fixture = Fixture::new();
    let lease = fixture.lease("vault/database/creds/app");
    fixture.change(Change::Intent(lease.clone())).await.expect("intent");
    let intents = within(fixture.ledger.intents(fixture.now(), 10)).await.expect("intents");
    assert_eq!(
        intents.iter().map(|intent| (intent.id, intent.dynamic)).collect::<Vec<_>>(),
        [(lease.id, true)]
    );

    let activation = Change::Activate {
        id: lease.id,
        handle: StoreHandle::new("database/creds/app/h1".to_owned()),
        version: Some(Version::number(7)),
        expires_at: fixture.after(60),
        max_expires_at: Some(fixture.after(600)),
        renewable: false,
        ttl_bound: TtlBound::Backend,
        sealed: None,
        at: fixture.now(),
    };
    fixture.change(activation).await.expect("activation");
    let active = fixture.get(lease.id).await;
    assert_eq!(active.state, LeaseState::Active);
    assert_eq!((active.expires_at, active.max_expires_at), (fixture.after(60), Some(fixture.after(600))));
    assert_eq!((active.renewable, active.ttl_bound), (false, TtlBound::Backend));
    assert_eq!(active.reference.version, Some(Version::number(7)));
    assert!(within(fixture.ledger.intents(fixture.now(), 10)).await.expect("intents").is_empty());
}

#[tokio::test]
async fn a_handle_is_kept_until_the_credential_is_gone() {
    let fixture = Fixture::new();
    let id = fixture.issue(fixture.lease("vault/database/creds/app"), "h1").await;
    let handle = || StoreHandle::new("h1".to_owned());
    let vault = || BackendName::parse("vault").expect("name");
    let holder = || within(fixture.ledger.lease_of_handle(vault(), handle()));
    assert_eq!(within(fixture.ledger.handle(id)).await.expect("answer"), Some(handle()));
    assert_eq!(holder().await.expect("answer"), Some(id));

    fixture.apply(id, LeaseEvent::Revoke).await.expect("revocation");
    assert_eq!(holder().await.expect("answer"), Some(id));
    fixture
        .changes(vec![fixture.event(id, LeaseEvent::Attempt), fixture.event(id, LeaseEvent::Removed)])
        .await
        .expect("removal");
    assert_eq!(within(fixture.ledger.handle(id)).await.expect("answer"), None);
    assert_eq!(holder().await.expect("answer"), None);
    assert_eq!(fixture.state(id).await, LeaseState::Gone);
}

#[tokio::test]
async fn two_dynamic_leases_of_one_secret_stay_two() {
    let fixture = Fixture::new();
    let first = fixture.issue(fixture.lease("vault/database/creds/app"), "h1").await;
    let second = fixture.issue(fixture.lease("vault/database/creds/app"), "h2").await;
    assert_ne!(first, second);
    assert_eq!(
        (fixture.state(first).await, fixture.state(second).await),
        (LeaseState::Active, LeaseState::Active)
    );
}

#[tokio::test]
async fn a_revoked_intent_is_not_activated() {
    let fixture = Fixture::new();
    let lease = fixture.lease("vault/database/creds/app");
    let id = lease.id;
    fixture.change(Change::Intent(lease)).await.expect("intent");
    fixture.apply(id, LeaseEvent::Revoke).await.expect("revocation");
    let refused = fixture.change(fixture.activation(id, "h1", fixture.after(60))).await;
    assert!(
        matches!(refused, Err(LedgerError::IllegalTransition { state: LeaseState::Revoked, .. })),
        "{refused:?}"
    );
    let waiting = fixture.to_revoke().await;
    assert_eq!(
        waiting.iter().map(|item| (item.lease.id, item.handle.clone())).collect::<Vec<_>>(),
        [(id, None)]
    );
}

#[tokio::test]
async fn a_renewal_moves_the_end_and_only_of_what_is_active() {
    let fixture = Fixture::new();
    let id = fixture.grant(fixture.lease("vault/shop/db")).await;
    let renew = |id| Change::Renew {
        id,
        expires_at: fixture.after(10_000),
        ttl_bound: TtlBound::Credential,
        at: fixture.now(),
    };
    fixture.change(renew(id)).await.expect("renewal");
    let lease = fixture.get(id).await;
    assert_eq!((lease.expires_at, lease.ttl_bound), (fixture.after(10_000), TtlBound::Credential));

    fixture.apply(id, LeaseEvent::Revoke).await.expect("revocation");
    let refused = fixture.change(renew(id)).await;
    assert!(matches!(refused, Err(LedgerError::NotActive { state: LeaseState::Gone, .. })), "{refused:?}");
    let missing = fixture.change(renew(new_id(fixture.now()))).await;
    assert!(matches!(missing, Err(LedgerError::LeaseMissing { .. })), "{missing:?}");
}

#[tokio::test]
async fn an_event_that_cannot_happen_is_refused_by_name() {
    let fixture = Fixture::new();
    let id = fixture.grant(fixture.lease("vault/shop/db")).await;
    for event in [LeaseEvent::Issued, LeaseEvent::Attempt, LeaseEvent::GaveUp] {
        let refused = fixture.apply(id, event).await;
        let named = matches!(
            refused,
            Err(LedgerError::IllegalTransition { id: found, state: LeaseState::Active, event: met })
                if found == id && met == event
        );
        assert!(named, "{event:?}: {refused:?}");
    }
}

#[tokio::test]
async fn an_intent_is_issued_by_activation_alone() {
    let fixture = Fixture::new();
    let lease = fixture.lease("vault/database/creds/app");
    let id = lease.id;
    fixture.change(Change::Intent(lease)).await.expect("intent");
    let refused = fixture.apply(id, LeaseEvent::Issued).await;
    assert!(matches!(refused, Err(LedgerError::IllegalTransition { .. })), "{refused:?}");
}

#[tokio::test]
async fn what_was_extended_since_it_was_due_does_not_expire() {
    let fixture = Fixture::new();
    let lease = Lease { expires_at: fixture.after(10), ..fixture.lease("vault/shop/db") };
    let id = fixture.grant(lease).await;
    fixture.clock.advance(std::time::Duration::from_secs(11));
    assert_eq!(due(&fixture, 10).await, [id]);
    fixture.grant(fixture.lease("vault/shop/db")).await;
    let refused = fixture.apply(id, LeaseEvent::Expire).await;
    assert!(matches!(refused, Err(LedgerError::IllegalTransition { .. })), "{refused:?}");
    assert_eq!(fixture.state(id).await, LeaseState::Active);
}

#[tokio::test]
async fn a_static_lease_that_ends_is_gone_and_a_dynamic_one_waits() {
    let fixture = Fixture::new();
    let held = fixture.grant(fixture.lease("vault/shop/db")).await;
    let issued = fixture.issue(fixture.lease("vault/database/creds/app"), "h1").await;
    fixture.clock.advance(std::time::Duration::from_secs(3600));
    let due = due(&fixture, 10).await;
    assert_eq!(due.len(), 2);
    for id in due {
        fixture.apply(id, LeaseEvent::Expire).await.expect("expiry");
    }
    assert_eq!(fixture.state(held).await, LeaseState::Gone);
    assert_eq!(fixture.state(issued).await, LeaseState::Expired);
    assert_eq!(waiting(&fixture).await, [issued]);
}

#[tokio::test]
async fn only_what_has_ended_is_due_the_earliest_minute_first() {
    let fixture = Fixture::new();
    let mut ids = Vec::new();
    for (path, seconds) in [("vault/a", 600), ("vault/b", 1200), ("vault/c", 30), ("vault/d", 599)] {
        let lease = Lease { expires_at: fixture.after(seconds), ..fixture.lease(path) };
        ids.push(fixture.grant(lease).await);
    }
    fixture.clock.advance(std::time::Duration::from_secs(600));
    let ended = due(&fixture, 10).await;
    assert_eq!(ended.first(), Some(&ids[2]));
    assert_eq!(ended.len(), 3, "the one that ends later is not due");
    assert_eq!(due(&fixture, 1).await, [ids[2]]);
}

#[tokio::test]
async fn attempts_are_counted_and_the_next_one_waits_for_its_time() {
    let fixture = Fixture::new();
    let id = fixture.issue(fixture.lease("vault/database/creds/app"), "h1").await;
    fixture.apply(id, LeaseEvent::Revoke).await.expect("revocation");
    let failed = |event| Change::Apply {
        id,
        event,
        at: fixture.now(),
        error: Some(ErrorKind::Timeout.as_str().to_owned()),
        next_attempt_at: Some(fixture.after(30)),
    };
    fixture.change(failed(LeaseEvent::Attempt)).await.expect("attempt");
    fixture.change(failed(LeaseEvent::Attempt)).await.expect("attempt");
    let lease = fixture.get(id).await;
    assert_eq!((lease.state, lease.attempts), (LeaseState::Revoking, 2));
    assert_eq!(lease.last_error.as_deref(), Some("timeout"));
    assert!(waiting(&fixture).await.is_empty());

    fixture.change(failed(LeaseEvent::GaveUp)).await.expect("giving up");
    assert_eq!(fixture.state(id).await, LeaseState::Stuck);
    fixture.clock.advance(std::time::Duration::from_secs(30));
    assert_eq!(waiting(&fixture).await, [id]);
}

#[tokio::test]
async fn stuck_leases_of_one_backend_are_hastened_and_no_others() {
    let fixture = Fixture::new();
    let mut stuck = Vec::new();
    for (path, handle) in [("vault/creds/a", "h1"), ("vault/creds/b", "h2"), ("other/creds/a", "h3")] {
        let id = fixture.issue(fixture.lease(path), handle).await;
        fixture.apply(id, LeaseEvent::Revoke).await.expect("revocation");
        fixture.apply(id, LeaseEvent::Attempt).await.expect("attempt");
        let give_up = Change::Apply {
            id,
            event: LeaseEvent::GaveUp,
            at: fixture.now(),
            error: Some("denied".to_owned()),
            next_attempt_at: Some(fixture.after(600)),
        };
        fixture.change(give_up).await.expect("giving up");
        stuck.push(id);
    }
    assert!(fixture.to_revoke().await.is_empty());
    let hasten = |limit| Change::Hasten {
        backend: BackendName::parse("vault").expect("name"),
        at: fixture.now(),
        limit,
    };
    assert!(matches!(fixture.change(hasten(1)).await, Ok(Outcome::Many { count: 1 })));
    assert!(matches!(fixture.change(hasten(5)).await, Ok(Outcome::Many { count: 1 })));
    let mut waiting = waiting(&fixture).await;
    waiting.sort();
    stuck.truncate(2);
    stuck.sort();
    assert_eq!(waiting, stuck);
}

#[tokio::test]
async fn a_lease_is_given_up_from_any_state_and_keeps_its_last_error() {
    let fixture = Fixture::new();
    let id = fixture.issue(fixture.lease("vault/creds/a"), "h1").await;
    fixture.apply(id, LeaseEvent::Revoke).await.expect("revocation");
    let give_up = Change::Apply {
        id,
        event: LeaseEvent::Abandoned,
        at: fixture.now(),
        error: Some("denied".to_owned()),
        next_attempt_at: None,
    };
    fixture.change(give_up).await.expect("giving up");
    let lease = fixture.get(id).await;
    assert_eq!((lease.state, lease.last_error.as_deref()), (LeaseState::Gone, Some("denied")));
    assert!(waiting(&fixture).await.is_empty());
    assert!(within(fixture.ledger.waiting_backends()).await.expect("names").is_empty());
}

#[tokio::test]
async fn what_went_long_ago_is_forgotten_and_its_records_stay() {
    let fixture = Fixture::new();
    let old = fixture.grant(fixture.lease("vault/a")).await;
    fixture.records(vec![fixture.record(bursar_core::audit::Action::Read, Some(old))]).await;
    fixture.apply(old, LeaseEvent::Revoke).await.expect("revocation");
    fixture.clock.advance(std::time::Duration::from_secs(60));
    let recent = fixture.grant(fixture.lease("vault/b")).await;
    fixture.apply(recent, LeaseEvent::Revoke).await.expect("revocation");
    let active = fixture.grant(fixture.lease("vault/c")).await;
    let before = fixture.now().checked_sub(std::time::Duration::from_secs(30)).expect("time");
    let forgotten = fixture.change(Change::Forget { before, limit: 10 }).await;
    assert!(matches!(forgotten, Ok(Outcome::Many { count: 1 })), "{forgotten:?}");
    assert_eq!(within(fixture.ledger.lease(old)).await.expect("answer"), None);
    assert_eq!(
        (fixture.state(recent).await, fixture.state(active).await),
        (LeaseState::Gone, LeaseState::Active)
    );
    let counts = within(fixture.ledger.lease_counts()).await.expect("counts");
    assert!(counts.contains(&(LeaseState::Gone, 1)), "{counts:?}");
    let query = super::super::AuditQuery { lease_id: Some(old), ..Default::default() };
    let records = within(fixture.ledger.audit(query, super::first(5))).await.expect("records");
    assert_eq!(records.items.len(), 1);
}

#[tokio::test]
async fn leases_that_end_soon_are_counted() {
    let fixture = Fixture::new();
    for (path, seconds) in [("vault/a", 30), ("vault/b", 59), ("vault/c", 500), ("vault/d", 7200)] {
        fixture.grant(Lease { expires_at: fixture.after(seconds), ..fixture.lease(path) }).await;
    }
    let times = vec![fixture.after(60), fixture.after(600), fixture.after(3600)];
    assert_eq!(within(fixture.ledger.ending(times)).await.expect("counts"), [2, 3, 3]);
}

#[tokio::test]
async fn backends_that_leases_wait_at_are_named_once_each() {
    let fixture = Fixture::new();
    for (path, handle) in [("b/x", "h1"), ("b/y", "h2"), ("a/x", "h3")] {
        let id = fixture.issue(fixture.lease(path), handle).await;
        fixture.apply(id, LeaseEvent::Revoke).await.expect("revocation");
    }
    fixture.issue(fixture.lease("c/x"), "h4").await;
    let names = within(fixture.ledger.waiting_backends()).await.expect("names");
    assert_eq!(names.iter().map(BackendName::as_str).collect::<Vec<_>>(), ["a", "b"]);
}

#[tokio::test]
async fn a_lease_is_written_once() {
    let fixture = Fixture::new();
    let lease = fixture.lease("vault/shop/db");
    let other = Lease { instance: "pod-2".to_owned(), ..lease.clone() };
    fixture.grant(lease.clone()).await;
    let refused = fixture.change(Change::Grant(other)).await;
    assert!(matches!(refused, Err(LedgerError::LeaseExists { id }) if id == lease.id), "{refused:?}");
}

#[tokio::test]
async fn an_entry_that_is_refused_midway_leaves_nothing() {
    let fixture = Fixture::new();
    let lease = fixture.lease("vault/shop/db");
    let id = lease.id;
    let missing = fixture.event(new_id(fixture.now()), LeaseEvent::Revoke);
    let refused = fixture.changes(vec![Change::Grant(lease), missing]).await;
    assert!(matches!(refused, Err(LedgerError::LeaseMissing { .. })), "{refused:?}");
    assert_eq!(within(fixture.ledger.lease(id)).await.expect("answer"), None);
    let counts = within(fixture.ledger.lease_counts()).await.expect("counts");
    assert!(counts.iter().all(|(_, count)| *count == 0), "{counts:?}");
}

async fn due(fixture: &Fixture, limit: usize) -> Vec<LeaseId> {
    let due = within(fixture.ledger.due(fixture.now(), limit)).await.expect("due");
    due.into_iter().map(|lease| lease.id).collect()
}

async fn waiting(fixture: &Fixture) -> Vec<LeaseId> {
    let waiting = fixture.to_revoke().await;
    waiting.into_iter().map(|item| item.lease.id).collect()
}

#[tokio::test]
async fn a_credential_is_kept_for_as_long_as_its_lease_is_active() {
    let fixture = Fixture::new();
    for ending in [LeaseEvent::Revoke, LeaseEvent::Abandoned] {
        let lease = fixture.lease("vault/database/creds/app");
        keep(&fixture, &lease, b"sealed").await;
        let kept = kept(&fixture, &lease).await.expect("one is kept");
        assert_eq!((kept.lease.id, kept.sealed.as_slice()), (lease.id, b"sealed".as_slice()));
        fixture.change(Change::Repeat { id: lease.id }).await.expect("it is active");
        fixture.apply(lease.id, ending).await.expect("ended");
        assert_eq!(self::kept(&fixture, &lease).await, None);
        let refused = fixture.change(Change::Repeat { id: lease.id }).await;
        assert!(matches!(refused, Err(LedgerError::NotActive { .. })), "{refused:?}");
    }
    let lease = fixture.lease("vault/database/creds/app");
    keep(&fixture, &lease, b"sealed").await;
    assert_eq!(fixture.revoke(RevokeSelector::Principal(lease.principal.clone())).await, 1);
    assert_eq!(kept(&fixture, &lease).await, None, "a bulk revocation left it");
}

#[tokio::test]
async fn the_newest_credential_of_a_slot_takes_the_place_of_the_older() {
    let fixture = Fixture::new();
    let lease = || fixture.lease("vault/database/creds/app");
    let (older, newer) = (lease(), lease());
    let elsewhere = [
        Lease { instance: "pod-2".to_owned(), ..lease() },
        Lease { node: None, ..lease() },
        Lease { environment: None, ..lease() },
        fixture.lease("vault/database/creds/other"),
    ];
    keep(&fixture, &older, b"older").await;
    for other in &elsewhere {
        assert_eq!(kept(&fixture, other).await, None, "{other:?}");
    }
    keep(&fixture, &newer, b"newer").await;
    assert_eq!(kept(&fixture, &older).await.map(|kept| kept.lease.id), Some(newer.id));
    fixture.apply(older.id, LeaseEvent::Revoke).await.expect("ended");
    assert_eq!(kept(&fixture, &older).await.map(|kept| kept.sealed), Some(b"newer".to_vec()));
    let fixture = fixture.reopen().await;
    assert!(kept(&fixture, &newer).await.is_some(), "a restart lost it");
}

async fn keep(fixture: &Fixture, lease: &Lease, sealed: &[u8]) {
    fixture.change(Change::Intent(lease.clone())).await.expect("intent");
    let activation = Change::Activate {
        id: lease.id,
        handle: StoreHandle::new(lease.id.to_string()),
        version: None,
        expires_at: lease.expires_at,
        max_expires_at: None,
        renewable: true,
        ttl_bound: TtlBound::Backend,
        sealed: Some(sealed.to_vec()),
        at: fixture.now(),
    };
    fixture.change(activation).await.expect("activation");
}

async fn kept(fixture: &Fixture, lease: &Lease) -> Option<Kept> {
    let (node, environment) = (lease.node.as_ref(), lease.environment.as_deref());
    let slot = CredentialSlot::new(&lease.principal, node, &lease.instance, environment, &lease.reference);
    within(fixture.ledger.kept(&slot)).await.expect("answer")
}
