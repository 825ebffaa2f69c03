use bursar_proto::convert::WireError;
use bursar_proto::v1;
use jiff::Timestamp;
use serde::Serialize;

use super::{filled, time};
use crate::output::Row;
use crate::table::{Cell, Column, cut, whole};
use crate::text;

/// What is known of a node.
#[derive(Debug, Serialize)]
pub(crate) struct NodeView {
    name: String,
    spiffe_id: String,
    joined_at: Option<Timestamp>,
    last_seen_at: Option<Timestamp>,
    address: Option<String>,
    certificate_not_after: Option<Timestamp>,
    evicted_at: Option<Timestamp>,
    evict_reason: Option<String>,
    let_in_by: Option<String>,
}

impl TryFrom<v1::Node> for NodeView {
    type Error = WireError;

    fn try_from(node: v1::Node) -> Result<Self, WireError> {
        Ok(Self {
            name: node.name,
            spiffe_id: node.spiffe_id,
            joined_at: time("joined_at", node.joined_at)?,
            last_seen_at: time("last_seen_at", node.last_seen_at)?,
            address: filled(node.address),
            certificate_not_after: time("certificate_not_after", node.certificate_not_after)?,
            evicted_at: time("evicted_at", node.evicted_at)?,
            evict_reason: filled(node.evict_reason),
            let_in_by: filled(node.let_in_by),
        })
    }
}

impl Row for NodeView {
    const COLUMNS: &'static [Column] = &[
        cut("NODE"),
        whole("STATE"),
        whole("JOINED"),
        cut("BY"),
        whole("SEEN"),
        whole("CERTIFICATE ENDS"),
        cut("ADDRESS"),
        cut("REASON"),
    ];

    fn cells(&self, now: Timestamp) -> Vec<Cell> {
        let relative = |at: Option<Timestamp>| Cell::maybe(at.map(|at| text::relative(at, now)));
        let state = match (self.evicted_at, self.certificate_not_after) {
            (Some(_), _) => Cell::bad("evicted"),
            (None, Some(end)) if end < now => Cell::doubtful("expired"),
            (None, _) => Cell::good("joined"),
        };
        vec![
            Cell::new(&self.name),
            state,
            relative(self.joined_at),
            Cell::maybe(self.let_in_by.as_deref()),
            relative(self.last_seen_at),
            relative(self.certificate_not_after),
            Cell::maybe(self.address.as_deref()),
            Cell::maybe(self.evict_reason.as_deref()),
        ]
    }
}
