use bursar_core::audit::Action;
use jiff::Timestamp;

use super::*;

fn full() -> AuditRecord {
    AuditRecord {
        seq: u64::MAX,
        time: Timestamp::constant(1_767_225_600, 7),
        request_id: "r-1".to_owned(),
        trace_id: Some("4bf92f3577b34da6a3ce929d0e0e4736".to_owned()),
        actor: Actor {
            principal: "spiffe://example.org/ns/shop/sa/web".to_owned(),
            method: "node".to_owned(),
            credential: Some("ab".repeat(32)),
            node: Some("spiffe://example.org/node/n1".to_owned()),
            selectors: vec!["k8s:ns:shop".to_owned()],
            peer: Some("192.0.2.7:4431".to_owned()),
        },
        action: Action::RenewCertificate,
        resource: "vault/payments/db#password".to_owned(),
        environment: Some("payments/prod".to_owned()),
        version: Some("3".to_owned()),
        lease_id: Some("01ARZ3NDEKTSV4RRFFQ69G5FAV".to_owned()),
        decision: Decision::Allow,
        policies: vec!["payments-read".to_owned()],
        approvals: vec!["01ARZ3NDEKTSV4RRFFQ69G5FAW".to_owned()],
        kept_until: Some(Timestamp::constant(1_767_254_400, 0)),
        reason: Some("deploy 17".to_owned()),
        outcome: Outcome::Failed,
        error_kind: Some("unavailable".to_owned()),
        latency_us: 1_234_567,
    }
}

fn sparse() -> AuditRecord {
    AuditRecord {
        trace_id: None,
        actor: Actor { credential: None, node: None, selectors: Vec::new(), peer: None, ..full().actor },
        environment: None,
        version: None,
        lease_id: None,
        decision: Decision::Deny,
        policies: Vec::new(),
        approvals: Vec::new(),
        kept_until: None,
        reason: None,
        outcome: Outcome::Denied,
        error_kind: None,
        latency_us: 0,
        ..full()
    }
}

fn refused(change: impl FnOnce(&mut v1::AuditRecord)) -> Option<WireError> {
    let mut wire = v1::AuditRecord::from(full());
    change(&mut wire);
    AuditRecord::try_from(wire).err()
}

#[test]
fn a_record_reads_back() {
    for record in [full(), sparse()] {
        assert_eq!(AuditRecord::try_from(v1::AuditRecord::from(record.clone())), Ok(record));
    }
}

#[test]
fn a_record_reads_back_to_the_same_stored_line() {
    let read = AuditRecord::try_from(v1::AuditRecord::from(full())).expect("record");
    assert_eq!(read.to_line(), full().to_line());
}

#[test]
fn every_action_decision_and_outcome_reads_back() {
    for action in Action::ALL {
        let record = AuditRecord { action, ..full() };
        assert_eq!(
            AuditRecord::try_from(v1::AuditRecord::from(record)).map(|record| record.action),
            Ok(action)
        );
    }
    for decision in [Decision::Allow, Decision::Deny] {
        assert_eq!(decision_from_wire("decision", v1::Decision::from(decision).into()), Ok(decision));
    }
    for outcome in [Outcome::Ok, Outcome::Denied, Outcome::Failed, Outcome::Asked] {
        assert_eq!(outcome_from_wire("outcome", v1::Outcome::from(outcome).into()), Ok(outcome));
    }
}

#[test]
fn what_is_wrong_is_named() {
    let missing = |field| Some(WireError::Missing { field });
    assert_eq!(refused(|record| record.time = None), missing("time"));
    assert_eq!(refused(|record| record.actor = None), missing("actor"));
    assert_eq!(refused(|record| record.latency = None), missing("latency"));
    let unknown = |field, value| Some(WireError::UnknownValue { field, value });
    assert_eq!(refused(|record| record.decision = 0), unknown("decision", 0));
    assert_eq!(refused(|record| record.outcome = 9), unknown("outcome", 9));
    let bad_action = refused(|record| record.action = "fly".to_owned());
    assert!(matches!(bad_action, Some(WireError::Action { field: "action", .. })));
}
