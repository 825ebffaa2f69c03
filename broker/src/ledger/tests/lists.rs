use std::time::Duration;

use bursar_core::lease::LeaseEvent;
use bursar_core::{BackendName, Lease, LeaseId, LeaseState, SecretPath};

use super::super::{HolderKind, LeaseFilter, LedgerError, Page};
use super::{Fixture, first, spiffe, within};

#[tokio::test]
async fn pages_lead_through_every_lease_newest_first() {
    let fixture = Fixture::new();
    let mut granted = Vec::new();
    for number in 0..25 {
        granted.push(fixture.grant(fixture.lease(&format!("vault/s{number}"))).await);
        fixture.clock.advance(Duration::from_millis(1));
    }
    granted.reverse();
    let mut listed = Vec::new();
    let mut page = first(10);
    loop {
        let found = within(fixture.ledger.leases(LeaseFilter::default(), page.clone())).await.expect("page");
        assert!(found.items.len() <= 10);
        listed.extend(found.items.iter().map(|lease| lease.id));
        let Some(token) = found.next else { break };
        page.token = Some(token);
    }
    assert_eq!(listed, granted);
}

#[tokio::test]
async fn a_full_last_page_has_no_next() {
    let fixture = Fixture::new();
    for path in ["vault/a", "vault/b"] {
        fixture.grant(fixture.lease(path)).await;
    }
    let page = within(fixture.ledger.leases(LeaseFilter::default(), first(2))).await.expect("page");
    assert_eq!((page.items.len(), page.next), (2, None));
}

#[tokio::test]
async fn every_condition_selects() {
    let fixture = Fixture::new();
    let ada = spiffe("spiffe://example.org/user/ada");
    let node = spiffe("spiffe://example.org/node/n2");
    let plain = fixture.grant(fixture.lease("vault/a/b")).await;
    let of_ada = fixture.grant(Lease { principal: ada.clone(), ..fixture.lease("vault/a/bc") }).await;
    let on_n2 = fixture.grant(Lease { node: Some(node.clone()), ..fixture.lease("vault/c") }).await;
    let ephemeral =
        fixture.grant(Lease { environment: Some("shop/pr-1".to_owned()), ..fixture.lease("local/a") }).await;
    let gone = fixture.grant(fixture.lease("vault/gone")).await;
    fixture.apply(gone, LeaseEvent::Revoke).await.expect("revocation");
    let issued = fixture.issue(fixture.lease("vault/creds/app"), "h1").await;
    fixture.apply(issued, LeaseEvent::Revoke).await.expect("revocation");

    let path = |text| Some(SecretPath::from_store(text).expect("path"));
    let vault = || Some(BackendName::parse("vault").expect("backend"));
    let all = LeaseFilter::default;
    let cases = [
        (all(), vec![plain, of_ada, on_n2, ephemeral, issued]),
        (LeaseFilter { principal: Some(ada.clone()), ..all() }, vec![of_ada]),
        (LeaseFilter { node: Some(node), ..all() }, vec![on_n2]),
        (LeaseFilter { environment: Some("shop/pr-1".to_owned()), ..all() }, vec![ephemeral]),
        (LeaseFilter { backend: vault(), ..all() }, vec![plain, of_ada, on_n2, issued]),
        (LeaseFilter { backend: vault(), path: path("a/b"), ..all() }, vec![plain]),
        (LeaseFilter { path: path("a"), ..all() }, vec![plain, of_ada, ephemeral]),
        (
            LeaseFilter { states: vec![LeaseState::Active], principal: Some(ada.clone()), ..all() },
            vec![of_ada],
        ),
        (LeaseFilter { states: vec![LeaseState::Revoked], principal: Some(ada), ..all() }, vec![]),
        (LeaseFilter { states: vec![LeaseState::Gone], ..all() }, vec![gone]),
        (LeaseFilter { states: vec![LeaseState::Revoked, LeaseState::Stuck], ..all() }, vec![issued]),
        (
            LeaseFilter { states: vec![LeaseState::Gone, LeaseState::Revoked], path: path("gone"), ..all() },
            vec![gone],
        ),
    ];
    for (filter, mut expected) in cases {
        expected.sort_by(|a, b| b.cmp(a));
        let page = within(fixture.ledger.leases(filter.clone(), first(50))).await.expect("page");
        let found: Vec<LeaseId> = page.items.iter().map(|lease| lease.id).collect();
        assert_eq!(found, expected, "{filter:?}");
    }
}

#[tokio::test]
async fn a_lease_without_node_and_environment_is_no_hindrance_to_a_list_by_them() {
    let fixture = Fixture::new();
    fixture.grant(Lease { node: None, environment: None, ..fixture.lease("vault/a") }).await;
    let listed = fixture.grant(fixture.lease("vault/b")).await;
    let node = Some(spiffe("spiffe://example.org/node/n1"));
    for filter in [
        LeaseFilter { node, ..LeaseFilter::default() },
        LeaseFilter { environment: Some("shop/prod".to_owned()), ..LeaseFilter::default() },
    ] {
        let page = within(fixture.ledger.leases(filter, first(5))).await.expect("page");
        assert_eq!(page.items.iter().map(|lease| lease.id).collect::<Vec<_>>(), [listed]);
    }
}

#[tokio::test]
async fn a_token_of_another_list_is_refused() {
    let fixture = Fixture::new();
    let page = Page { token: Some("nonsense".to_owned()), ..first(10) };
    let leases = within(fixture.ledger.leases(LeaseFilter::default(), page.clone())).await;
    assert!(matches!(leases, Err(LedgerError::PageToken)), "{leases:?}");
    let records = within(fixture.ledger.audit(Default::default(), page)).await;
    assert!(matches!(records, Err(LedgerError::PageToken)), "{records:?}");
}

#[tokio::test]
async fn the_top_holders_come_first() {
    let fixture = Fixture::new();
    let ada = spiffe("spiffe://example.org/user/ada");
    for path in ["vault/a", "vault/b", "local/c"] {
        fixture.grant(fixture.lease(path)).await;
    }
    fixture.grant(Lease { principal: ada, node: None, ..fixture.lease("vault/d") }).await;
    let top = |kind| within(fixture.ledger.top_holders(kind, 1));
    assert_eq!(
        top(HolderKind::Principal).await.expect("top"),
        [("spiffe://example.org/ns/shop/sa/web".to_owned(), 3)]
    );
    assert_eq!(top(HolderKind::Backend).await.expect("top"), [("vault".to_owned(), 3)]);
    assert_eq!(top(HolderKind::Node).await.expect("top"), [("spiffe://example.org/node/n1".to_owned(), 3)]);
}
