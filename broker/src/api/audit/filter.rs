//! Which records a request selects.

use bursar_core::audit::Action;
use bursar_core::{LeaseId, SpiffeId};
use bursar_proto::convert::{WireError, decision_from_wire, outcome_from_wire, timestamp_from_wire};
use bursar_proto::v1::{AuditFilter, AuditOrder};

use crate::failure::Failure;
use crate::ledger::{AuditQuery, RecordOrder};

/// The records that match the filter, newest first.
pub(super) fn query(filter: Option<AuditFilter>) -> Result<AuditQuery, Failure> {
    let Some(filter) = filter else { return Ok(AuditQuery::default()) };
    let given = |text: String| (!text.is_empty()).then_some(text);
    let action = |name: &String| {
        name.parse::<Action>().map_err(|source| WireError::Action { field: "actions", source })
    };
    // Nothing is either, or any.
    let named = |value: i32| (value != 0).then_some(value);
    let decision = named(filter.decision).map(|value| decision_from_wire("decision", value));
    let outcome = named(filter.outcome).map(|value| outcome_from_wire("outcome", value));
    let principal = given(filter.principal).map(|text| SpiffeId::parse(&text));
    let principal =
        principal.transpose().map_err(|source| WireError::SpiffeId { field: "principal", source })?;
    let lease_id = given(filter.lease_id).map(|text| text.parse::<LeaseId>());
    let time = |field, time: Option<prost_types::Timestamp>| {
        time.map(|time| timestamp_from_wire(field, Some(time))).transpose()
    };
    Ok(AuditQuery {
        principal,
        node: None,
        actions: filter.actions.iter().map(action).collect::<Result<_, _>>()?,
        resource: given(filter.reference_prefix),
        environment: None,
        lease_id: lease_id.transpose().map_err(|source| WireError::LeaseId { field: "lease_id", source })?,
        request_id: given(filter.request_id),
        decision: decision.transpose()?,
        outcome: outcome.transpose()?,
        since: time("start_time", filter.start_time)?,
        until: time("end_time", filter.end_time)?,
        order: RecordOrder::NewestFirst,
    })
}

/// The order that a request asks for.
pub(super) fn order(order: AuditOrder) -> RecordOrder {
    match order {
        AuditOrder::Unspecified | AuditOrder::NewestFirst => RecordOrder::NewestFirst,
        AuditOrder::OldestFirst => RecordOrder::OldestFirst,
    }
}
