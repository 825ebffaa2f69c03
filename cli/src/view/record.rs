use bursar_core::audit::{AuditRecord, Outcome};
use bursar_proto::convert::WireError;
use bursar_proto::v1;
use jiff::Timestamp;
use serde::Serialize;

use crate::output::Row;
use crate::table::{Cell, Column, cut, whole};
use crate::text;

/// A record of the audit log. Its JSON is that of an export, so that both are read alike.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub(crate) struct RecordView(AuditRecord);

impl TryFrom<v1::AuditRecord> for RecordView {
    type Error = WireError;

    fn try_from(record: v1::AuditRecord) -> Result<Self, WireError> {
        AuditRecord::try_from(record).map(Self)
    }
}

impl Row for RecordView {
    const COLUMNS: &'static [Column] = &[
        whole("RECORD"),
        whole("TIME"),
        whole("OUTCOME"),
        whole("ACTION"),
        cut("PRINCIPAL"),
        cut("RESOURCE"),
        cut("REASON"),
    ];

    fn cells(&self, _: Timestamp) -> Vec<Cell> {
        let record = &self.0;
        let outcome = record.outcome.as_str();
        let outcome = match record.outcome {
            Outcome::Ok => Cell::good(outcome),
            Outcome::Denied | Outcome::Failed => Cell::bad(outcome),
            Outcome::Asked => Cell::new(outcome),
        };
        vec![
            Cell::new(record.seq.to_string()),
            Cell::new(text::time(record.time)),
            outcome,
            Cell::new(record.action.as_str()),
            Cell::new(&record.actor.principal),
            Cell::new(&record.resource),
            Cell::maybe(record.reason.as_deref()),
        ]
    }
}
