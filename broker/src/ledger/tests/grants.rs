use std::time::Duration;

use bursar_core::audit::Action;
use bursar_core::lease::{LeaseEvent, TtlBound};
use bursar_core::{Lease, LeaseState, Version};

use super::super::{Change, Entry, Outcome};
use super::{Fixture, spiffe, within};

#[tokio::test]
async fn a_repeated_read_gets_its_live_lease_back_extended() {
    let fixture = Fixture::new();
    let first = fixture.lease("vault/shop/db@3");
    let again = Lease { id: super::new_id(fixture.now()), expires_at: fixture.after(7200), ..first.clone() };
    let granted = fixture.grant(first.clone()).await;
    let outcome = fixture.change(Change::Grant(again.clone())).await.expect("grant");
    let expected = Outcome::Granted {
        id: granted,
        issued_at: first.issued_at,
        expires_at: again.expires_at,
        ttl_bound: again.ttl_bound,
        renewed: true,
    };
    assert_eq!(outcome, expected);
    assert_eq!(fixture.get(granted).await.expires_at, again.expires_at);
    assert_eq!(within(fixture.ledger.lease(again.id)).await.expect("answer"), None);
}

#[tokio::test]
async fn a_repeated_read_never_shortens() {
    let fixture = Fixture::new();
    let first = fixture.lease("vault/shop/db");
    let shorter =
        Lease { expires_at: fixture.after(60), ttl_bound: TtlBound::Asked, ..fixture.lease("vault/shop/db") };
    let id = fixture.grant(first.clone()).await;
    assert_eq!(fixture.grant(shorter).await, id);
    let lease = fixture.get(id).await;
    assert_eq!((lease.expires_at, lease.ttl_bound), (first.expires_at, TtlBound::Policy));
}

#[tokio::test]
async fn a_lease_is_extended_once_a_tenth_of_its_life_is_over() {
    let fixture = Fixture::new();
    let first = fixture.lease("vault/shop/db");
    let id = fixture.grant(first.clone()).await;
    fixture.clock.advance(Duration::from_secs(359));
    assert_eq!(fixture.grant(fixture.lease("vault/shop/db")).await, id);
    assert_eq!(fixture.get(id).await, first);

    fixture.clock.advance(Duration::from_secs(2));
    let late = fixture.lease("vault/shop/db");
    assert_eq!(fixture.grant(late.clone()).await, id);
    assert_eq!(fixture.get(id).await.expires_at, late.expires_at);
}

#[tokio::test]
async fn another_reason_is_kept_with_the_lease() {
    let fixture = Fixture::new();
    let id = fixture.grant(fixture.lease("vault/shop/db")).await;
    let reason = Some("ticket 4711".to_owned());
    fixture.grant(Lease { reason: reason.clone(), ..fixture.lease("vault/shop/db") }).await;
    fixture.grant(fixture.lease("vault/shop/db")).await;
    assert_eq!(fixture.get(id).await.reason, reason);
}

#[tokio::test]
async fn reads_that_differ_in_anything_have_leases_of_their_own() {
    let fixture = Fixture::new();
    let base = || fixture.lease("vault/shop/db");
    let mut other_version = base();
    other_version.reference.version = Some(Version::number(4));
    let leases = [
        base(),
        Lease { principal: spiffe("spiffe://example.org/ns/shop/sa/other"), ..base() },
        Lease { instance: "pod-2".to_owned(), ..base() },
        Lease { instance: String::new(), ..base() },
        Lease { node: Some(spiffe("spiffe://example.org/node/web-2")), ..base() },
        Lease { node: None, ..base() },
        Lease { environment: None, ..base() },
        Lease { environment: Some(String::new()), ..base() },
        fixture.lease("vault/shop/db2"),
        fixture.lease("local/shop/db"),
        other_version,
    ];
    for lease in leases {
        let proposed = lease.id;
        assert_eq!(fixture.grant(lease).await, proposed);
    }
}

#[tokio::test]
async fn a_lease_that_is_gone_is_not_brought_back() {
    let fixture = Fixture::new();
    let id = fixture.grant(fixture.lease("vault/shop/db")).await;
    fixture.apply(id, LeaseEvent::Revoke).await.expect("revocation");
    let next = fixture.grant(fixture.lease("vault/shop/db")).await;
    assert_ne!(next, id);
    assert_eq!(fixture.state(id).await, LeaseState::Gone);
}

#[tokio::test]
async fn the_record_of_a_repeated_read_names_the_lease_that_it_got() {
    let fixture = Fixture::new();
    let id = fixture.grant(fixture.lease("vault/shop/db")).await;
    let again = fixture.lease("vault/shop/db");
    let records = vec![fixture.record(Action::Read, Some(again.id)), fixture.record(Action::Resolve, None)];
    within(fixture.ledger.commit(Entry { changes: vec![Change::Grant(again)], records }))
        .await
        .expect("entry");
    let page = within(fixture.ledger.audit(Default::default(), super::first(10))).await.expect("records");
    let named: Vec<_> = page.items.into_iter().map(|record| record.lease_id).collect();
    assert_eq!(named, [None, Some(id.to_string())]);
}

#[tokio::test]
async fn all_leases_of_one_entry_are_granted_together() {
    let fixture = Fixture::new();
    let leases =
        [fixture.lease("vault/shop/a"), fixture.lease("vault/shop/b"), fixture.lease("vault/shop/a")];
    let ids: Vec<_> = leases.iter().map(|lease| lease.id).collect();
    let committed = fixture.changes(leases.into_iter().map(Change::Grant).collect()).await.expect("entry");
    let granted: Vec<_> = committed
        .outcomes
        .iter()
        .map(|outcome| match outcome {
            Outcome::Granted { id, renewed, .. } => (*id, *renewed),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(granted, [(ids[0], false), (ids[1], false), (ids[0], true)]);
}

#[tokio::test]
async fn what_is_written_reads_back_whole() {
    let fixture = Fixture::new();
    let mut lease = fixture.lease("vault/a b/ключ@v1.2");
    lease.reason = Some("ticket 4711".to_owned());
    lease.max_expires_at = Some(fixture.after(9000));
    lease.node = None;
    lease.ttl_bound = TtlBound::Credential;
    fixture.grant(lease.clone()).await;
    assert_eq!(fixture.get(lease.id).await, lease);
}
