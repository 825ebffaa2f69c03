use bursar_core::audit::Action;
use bursar_proto::convert::{WireError, timestamp_from_wire};
use bursar_proto::v1;
use jiff::Timestamp;
use serde::Serialize;

use super::filled;
use crate::output::{Details, Row};
use crate::table::{Cell, Column, cut, whole};
use crate::text;

/// That somebody may do one thing for a while, said by somebody else.
#[derive(Debug, Serialize)]
pub(crate) struct ApprovalView {
    id: String,
    principal: String,
    action: Action,
    /// Absent for the broker itself.
    resource: Option<String>,
    approved_by: String,
    approved_at: Timestamp,
    expires_at: Timestamp,
    reason: String,
}

impl ApprovalView {
    /// What it is for, in a line.
    pub(crate) fn words(&self) -> String {
        let resource = self.resource.as_deref().unwrap_or(BROKER);
        format!("{} of `{resource}` by {}", self.action.as_str(), self.principal)
    }
}

impl TryFrom<v1::Approval> for ApprovalView {
    type Error = WireError;

    fn try_from(approval: v1::Approval) -> Result<Self, WireError> {
        let action = approval.action.parse();
        Ok(Self {
            id: approval.id,
            principal: approval.principal,
            action: action.map_err(|source| WireError::Action { field: "action", source })?,
            resource: filled(approval.resource),
            approved_by: approval.approved_by,
            approved_at: timestamp_from_wire("approved_at", approval.approved_at)?,
            expires_at: timestamp_from_wire("expires_at", approval.expires_at)?,
            reason: approval.reason,
        })
    }
}

impl Row for ApprovalView {
    const COLUMNS: &'static [Column] = &[
        whole("APPROVAL"),
        whole("ACTION"),
        cut("RESOURCE"),
        cut("PRINCIPAL"),
        cut("APPROVED BY"),
        whole("ENDS"),
        cut("REASON"),
    ];

    fn cells(&self, now: Timestamp) -> Vec<Cell> {
        vec![
            Cell::new(&self.id),
            Cell::new(self.action.as_str()),
            Cell::maybe(self.resource.as_deref()),
            Cell::new(&self.principal),
            Cell::new(&self.approved_by),
            Cell::new(text::relative(self.expires_at, now)),
            Cell::new(&self.reason),
        ]
    }
}

impl Details for ApprovalView {
    fn details(&self, now: Timestamp) -> Vec<(&'static str, Cell)> {
        vec![
            ("approval", Cell::new(&self.id)),
            ("action", Cell::new(self.action.as_str())),
            ("resource", Cell::maybe(self.resource.as_deref())),
            ("principal", Cell::new(&self.principal)),
            ("approved by", Cell::new(&self.approved_by)),
            ("ends", Cell::new(text::relative(self.expires_at, now))),
            ("reason", Cell::new(&self.reason)),
        ]
    }
}

const BROKER: &str = "broker";
