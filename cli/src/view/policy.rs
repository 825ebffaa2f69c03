use bursar_core::audit::Decision;
use bursar_proto::convert::{WireError, decision_from_wire, timestamp_from_wire};
use bursar_proto::v1;
use jiff::Timestamp;
use serde::Serialize;

use super::filled;
use crate::output::{Details, Row};
use crate::table::{Cell, Column, cut, whole};
use crate::text;

/// What policy would decide, and why.
#[derive(Debug, Serialize)]
pub(crate) struct DecisionView {
    decision: Decision,
    policies: Vec<String>,
    errors: Vec<String>,
    explanation: Option<String>,
    revision: u64,
}

impl DecisionView {
    pub(crate) fn is_allowed(&self) -> bool {
        self.decision == Decision::Allow
    }

    /// The decision in a word, with the policies that made it.
    pub(crate) fn shown(&self) -> String {
        let word = if self.is_allowed() { "allow" } else { "deny" };
        match filled(self.policies.join(", ")) {
            Some(policies) => format!("{word} by {policies}"),
            None => word.to_owned(),
        }
    }

    /// Why not, where it is denied.
    pub(crate) fn because(&self) -> Option<String> {
        self.explanation.clone().or_else(|| self.errors.first().cloned())
    }
}

impl TryFrom<v1::PoliciesCheckResponse> for DecisionView {
    type Error = WireError;

    fn try_from(response: v1::PoliciesCheckResponse) -> Result<Self, WireError> {
        Ok(Self {
            decision: decision_from_wire("decision", response.decision)?,
            policies: response.policies,
            errors: response.errors,
            explanation: filled(response.explanation),
            revision: response.revision,
        })
    }
}

impl Details for DecisionView {
    fn details(&self, _: Timestamp) -> Vec<(&'static str, Cell)> {
        let decision = if self.is_allowed() { Cell::good("allow") } else { Cell::bad("deny") };
        let mut details = vec![
            ("decision", decision),
            ("decided by", Cell::maybe(filled(self.policies.join(", ")))),
            ("revision", Cell::new(self.revision.to_string())),
        ];
        details.extend(self.explanation.iter().map(|why| ("because", Cell::new(why))));
        details.extend(self.errors.iter().map(|error| ("failed", Cell::bad(error))));
        details
    }
}

/// A fault of a policy file, or what looks like a mistake in it.
#[derive(Debug, Serialize)]
pub(crate) struct DiagnosticView {
    file: String,
    line: Option<u32>,
    column: Option<u32>,
    message: String,
}

impl From<v1::PolicyDiagnostic> for DiagnosticView {
    fn from(diagnostic: v1::PolicyDiagnostic) -> Self {
        let placed = |number: u32| Some(number).filter(|number| *number > 0);
        Self {
            file: diagnostic.file,
            line: placed(diagnostic.line),
            column: placed(diagnostic.column),
            message: diagnostic.message,
        }
    }
}

impl Row for DiagnosticView {
    const COLUMNS: &'static [Column] = &[whole("PLACE"), cut("FAULT")];

    fn cells(&self, _: Timestamp) -> Vec<Cell> {
        let place = match (self.line, self.column) {
            (Some(line), Some(column)) => format!("{}:{line}:{column}", self.file),
            (Some(line), None) => format!("{}:{line}", self.file),
            _ => self.file.clone(),
        };
        vec![Cell::new(place), Cell::new(&self.message)]
    }
}

/// A set of policies that is or was in force.
#[derive(Debug, Serialize)]
pub(crate) struct RevisionView {
    revision: u64,
    applied_at: Timestamp,
    applied_by: String,
    files: u32,
    changed: Vec<String>,
}

impl TryFrom<v1::PolicyRevision> for RevisionView {
    type Error = WireError;

    fn try_from(revision: v1::PolicyRevision) -> Result<Self, WireError> {
        Ok(Self {
            revision: revision.revision,
            applied_at: timestamp_from_wire("applied_at", revision.applied_at)?,
            applied_by: revision.applied_by,
            files: revision.files,
            changed: revision.changed,
        })
    }
}

impl Row for RevisionView {
    const COLUMNS: &'static [Column] =
        &[whole("REVISION"), whole("APPLIED"), cut("BY"), whole("FILES"), cut("CHANGED")];

    fn cells(&self, now: Timestamp) -> Vec<Cell> {
        vec![
            Cell::new(self.revision.to_string()),
            Cell::new(text::relative(self.applied_at, now)),
            Cell::new(&self.applied_by),
            Cell::new(self.files.to_string()),
            Cell::maybe(filled(self.changed.join(", "))),
        ]
    }
}
