use bursar_core::LeaseId;
use jiff::Timestamp;

use super::*;

fn full() -> Lease {
    let issued_at = Timestamp::constant(1_767_225_600, 5);
    Lease {
        id: LeaseId::new(issued_at, [7; 10]),
        reference: Reference::parse("vault/team a/db%23x@3").expect("reference"),
        principal: SpiffeId::parse("spiffe://example.org/ns/shop/sa/web").expect("id"),
        node: Some(SpiffeId::parse("spiffe://example.org/node/n1").expect("id")),
        instance: "web-0".to_owned(),
        environment: Some("shop/prod".to_owned()),
        state: LeaseState::Active,
        dynamic: true,
        issued_at,
        renewed_at: issued_at + Duration::from_secs(60),
        expires_at: issued_at + Duration::from_secs(360),
        max_expires_at: Some(issued_at + Duration::from_secs(3600)),
        renewable: true,
        ttl_bound: TtlBound::Backend,
        attempts: 2,
        last_error: Some("unavailable".to_owned()),
        reason: Some("nightly job".to_owned()),
    }
}

fn sparse() -> Lease {
    Lease {
        reference: Reference::parse("local/a").expect("reference"),
        node: None,
        instance: String::new(),
        environment: None,
        max_expires_at: None,
        last_error: None,
        reason: None,
        ..full()
    }
}

fn refused(change: impl FnOnce(&mut v1::Lease)) -> Option<WireError> {
    let mut wire = v1::Lease::from(full());
    change(&mut wire);
    Lease::try_from(wire).err()
}

#[test]
fn a_lease_reads_back() {
    for lease in [full(), sparse()] {
        assert_eq!(Lease::try_from(v1::Lease::from(lease.clone())), Ok(lease));
    }
}

#[test]
fn every_state_and_bound_reads_back() {
    for state in LeaseState::ALL {
        assert_eq!(lease_state_from_wire("state", v1::LeaseState::from(state).into()), Ok(state));
    }
    for bound in [TtlBound::Asked, TtlBound::Policy, TtlBound::Backend, TtlBound::Credential] {
        assert_eq!(ttl_bound_from_wire("ttl_bound", v1::TtlBound::from(bound).into()), Ok(bound));
    }
}

#[test]
fn states_have_the_same_names_on_the_wire() {
    for state in LeaseState::ALL {
        let name = v1::LeaseState::from(state).as_str_name();
        assert_eq!(name.strip_prefix("LEASE_STATE_").map(str::to_lowercase).as_deref(), Some(state.as_str()));
    }
}

#[test]
fn the_version_stands_beside_the_reference() {
    assert_eq!(v1::Lease::from(full()).version, "3");
    assert_eq!(v1::Lease::from(sparse()).version, "");
}

#[test]
fn the_ttl_counts_from_the_last_renewal() {
    assert_eq!(v1::Lease::from(full()).ttl, Some(duration_to_wire(Duration::from_secs(300))));
}

#[test]
fn a_lease_that_ends_before_its_renewal_has_no_time_left() {
    let broken = Lease { expires_at: Timestamp::UNIX_EPOCH, ..full() };
    assert_eq!(v1::Lease::from(broken).ttl, Some(duration_to_wire(Duration::ZERO)));
}

#[test]
fn an_empty_message_is_refused() {
    assert!(Lease::try_from(v1::Lease::default()).is_err());
}

#[test]
fn what_is_wrong_is_named() {
    let unknown = |field, value| Some(WireError::UnknownValue { field, value });
    assert_eq!(refused(|lease| lease.state = 0), unknown("state", 0));
    assert_eq!(refused(|lease| lease.state = 99), unknown("state", 99));
    assert_eq!(refused(|lease| lease.ttl_bound = -1), unknown("ttl_bound", -1));
    assert_eq!(refused(|lease| lease.issued_at = None), Some(WireError::Missing { field: "issued_at" }));
    assert!(matches!(refused(|lease| lease.id.clear()), Some(WireError::LeaseId { field: "id", .. })));
    let bad_reference = refused(|lease| lease.reference = "vault".to_owned());
    assert!(matches!(bad_reference, Some(WireError::Reference { field: "reference", .. })));
    let bad_node = refused(|lease| lease.node = "n1".to_owned());
    assert!(matches!(bad_node, Some(WireError::SpiffeId { field: "node", .. })));
}
