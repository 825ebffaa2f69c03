//! On whose behalf a node asks.
//!
//! A node's agent says what it saw of a local process; the registrations in force say which principal that is, and only
//! for nodes that the pattern names. Without a context a node asks as itself, which gets it nothing that policy does
//! not give nodes.

use bursar_core::spiffe::PrincipalKind;
use bursar_proto::v1::WorkloadContext;

use super::{Caller, Method};
use crate::failure::Failure;
use crate::policy::{Facts, PrincipalFacts, Registrations, Selector};

/// The workload that `node` speaks for.
///
/// # Errors
/// [`Failure::Denied`] for a caller that is no node, [`Failure::Unregistered`] when no registration fits.
pub fn on_behalf(
    node: &Caller,
    context: WorkloadContext,
    registrations: &Registrations,
) -> Result<Caller, Failure> {
    if !matches!(node.id().kind(), PrincipalKind::Node { .. }) {
        return Err(Failure::Denied);
    }
    let selector = |text: &String| {
        Selector::parse(text)
            .map_err(|error| Failure::Invalid { field: "selectors", message: error.to_string() })
    };
    let selectors = context.selectors.iter().map(selector).collect::<Result<Vec<_>, _>>()?;
    let registration = registrations.find(node.id(), &selectors)?;
    let facts = PrincipalFacts::new(Facts {
        id: registration.principal.clone(),
        method: Method::Node.as_str().to_owned(),
        node: Some(node.id().clone()),
        selectors,
        groups: registration.groups.clone(),
    });
    Ok(Caller {
        facts,
        instance: (!context.instance.is_empty()).then_some(context.instance),
        ttl: registration.ttl,
        ..node.clone()
    })
}
