use bursar_core::{BackendName, Lease, LeaseState, SecretPath};

use super::super::{Change, HolderKind, Outcome, RevokeSelector};
use super::{Fixture, spiffe, within};

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
    let waiting = within(fixture.ledger.to_revoke(fixture.now(), 10)).await.expect("waiting");
    let mut ids: Vec<_> = waiting.iter().map(|item| (item.lease.id, item.handle.is_some())).collect();
    ids.sort();
    let mut expected = [(issued, true), (intended, false)];
    expected.sort();
    assert_eq!(ids, expected);
}

#[tokio::test]
async fn a_bulk_revocation_names_what_it_took_and_lowers_the_counts() {
    let fixture = Fixture::new();
    let first = fixture.grant(fixture.lease("vault/a")).await;
    let second = fixture.grant(fixture.lease("vault/b")).await;
    let revoked =
        fixture.change(Change::RevokeMany { selector: path("vault", None), at: fixture.now() }).await;
    let Ok(Outcome::Revoked { count: 2, mut ids }) = revoked else { panic!("{revoked:?}") };
    ids.sort();
    let mut expected = [first, second];
    expected.sort();
    assert_eq!(ids, expected);
    let counts = within(fixture.ledger.lease_counts()).await.expect("counts");
    assert!(
        counts.contains(&(LeaseState::Gone, 2)) && counts.contains(&(LeaseState::Active, 0)),
        "{counts:?}"
    );
    assert!(within(fixture.ledger.top_holders(HolderKind::Backend, 10)).await.expect("holders").is_empty());
}

fn path(backend: &str, path: Option<&str>) -> RevokeSelector {
    RevokeSelector::PathPrefix {
        backend: BackendName::parse(backend).expect("backend"),
        path: path.map(|path| SecretPath::from_store(path).expect("path")),
    }
}
