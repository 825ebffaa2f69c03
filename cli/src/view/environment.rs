use bursar_proto::convert::WireError;
use bursar_proto::v1::{self, EnvironmentChange, EnvironmentEntryKind, FindingKind};
use bursar_sdk::ResolvedEnvironment;
use jiff::Timestamp;
use serde::Serialize;

use super::{filled, time};
use crate::output::Row;
use crate::table::{Cell, Column, cut, whole};
use crate::text;

/// What is known of an environment besides its definition.
#[derive(Debug, Serialize)]
pub(crate) struct EnvironmentView {
    name: String,
    revision: u64,
    extends: Vec<String>,
    variables: u32,
    files: u32,
    updated_at: Option<Timestamp>,
    updated_by: Option<String>,
    expires_at: Option<Timestamp>,
}

impl TryFrom<v1::Environment> for EnvironmentView {
    type Error = WireError;

    fn try_from(environment: v1::Environment) -> Result<Self, WireError> {
        Ok(Self {
            name: environment.name,
            revision: environment.revision,
            extends: environment.extends,
            variables: environment.variables,
            files: environment.files,
            updated_at: time("updated_at", environment.updated_at)?,
            updated_by: filled(environment.updated_by),
            expires_at: time("expires_at", environment.expires_at)?,
        })
    }
}

impl Row for EnvironmentView {
    const COLUMNS: &'static [Column] = &[
        cut("ENVIRONMENT"),
        whole("REVISION"),
        whole("VARIABLES"),
        whole("FILES"),
        cut("EXTENDS"),
        whole("CHANGED"),
        cut("BY"),
    ];

    fn cells(&self, now: Timestamp) -> Vec<Cell> {
        vec![
            Cell::new(&self.name),
            Cell::new(self.revision.to_string()),
            Cell::new(self.variables.to_string()),
            Cell::new(self.files.to_string()),
            Cell::maybe(filled(self.extends.join(", "))),
            Cell::maybe(self.updated_at.map(|at| text::relative(at, now))),
            Cell::maybe(self.updated_by.as_deref()),
        ]
    }
}

/// What applying did to one environment.
#[derive(Debug, Serialize)]
pub(crate) struct ChangeView {
    environment: String,
    change: &'static str,
    /// 0 when it does not exist.
    revision: u64,
}

impl TryFrom<v1::AppliedEnvironment> for ChangeView {
    type Error = WireError;

    fn try_from(applied: v1::AppliedEnvironment) -> Result<Self, WireError> {
        Ok(Self {
            change: change("change", applied.change)?,
            revision: applied.revision,
            environment: applied.name,
        })
    }
}

impl Row for ChangeView {
    const COLUMNS: &'static [Column] = &[whole("CHANGE"), whole("REVISION"), cut("ENVIRONMENT")];

    fn cells(&self, _: Timestamp) -> Vec<Cell> {
        vec![change_cell(self.change), Cell::new(self.revision.to_string()), Cell::new(&self.environment)]
    }
}

/// How one entry differs between two sides.
#[derive(Debug, Serialize)]
pub(crate) struct DifferenceView {
    kind: &'static str,
    entry: String,
    change: &'static str,
    keys: Vec<String>,
}

impl TryFrom<v1::EnvironmentDifference> for DifferenceView {
    type Error = WireError;

    fn try_from(difference: v1::EnvironmentDifference) -> Result<Self, WireError> {
        Ok(Self {
            kind: kind("entry_kind", difference.entry_kind)?.unwrap_or("environment"),
            change: change("change", difference.change)?,
            entry: difference.entry,
            keys: difference.keys,
        })
    }
}

impl Row for DifferenceView {
    const COLUMNS: &'static [Column] = &[whole("CHANGE"), whole("KIND"), cut("NAME"), cut("WHAT DIFFERS")];

    fn cells(&self, _: Timestamp) -> Vec<Cell> {
        vec![
            change_cell(self.change),
            Cell::new(self.kind),
            Cell::new(&self.entry),
            Cell::maybe(filled(self.keys.join(", "))),
        ]
    }
}

/// What a check found of one reference, or of an entry or environment as a whole.
#[derive(Debug, Serialize)]
pub(crate) struct FindingView {
    environment: String,
    kind: Option<&'static str>,
    entry: Option<String>,
    reference: Option<String>,
    finding: &'static str,
    message: Option<String>,
}

impl FindingView {
    /// Whether there is nothing to do.
    pub(crate) fn is_ok(&self) -> bool {
        self.finding == OK
    }
}

impl TryFrom<v1::EnvironmentFinding> for FindingView {
    type Error = WireError;

    fn try_from(found: v1::EnvironmentFinding) -> Result<Self, WireError> {
        let unknown = WireError::UnknownValue { field: "kind", value: found.kind };
        let finding = match FindingKind::try_from(found.kind) {
            Ok(FindingKind::Ok) => OK,
            Ok(FindingKind::Malformed) => "malformed",
            Ok(FindingKind::Cycle) => "cycle",
            Ok(FindingKind::BackendUnknown) => "backend-unknown",
            Ok(FindingKind::NotFound) => "not-found",
            Ok(FindingKind::Denied) => "denied",
            Ok(FindingKind::BackendUnavailable) => "backend-unavailable",
            Ok(FindingKind::Unspecified) | Err(_) => return Err(unknown),
        };
        Ok(Self {
            kind: kind("entry_kind", found.entry_kind)?,
            environment: found.environment,
            entry: filled(found.entry),
            reference: filled(found.reference),
            finding,
            message: filled(found.message),
        })
    }
}

impl Row for FindingView {
    const COLUMNS: &'static [Column] =
        &[whole("FINDING"), whole("KIND"), cut("NAME"), cut("REFERENCE"), cut("WHAT TO DO")];

    fn cells(&self, _: Timestamp) -> Vec<Cell> {
        vec![
            if self.is_ok() { Cell::good(self.finding) } else { Cell::bad(self.finding) },
            Cell::maybe(self.kind),
            Cell::maybe(self.entry.as_deref()),
            Cell::maybe(self.reference.as_deref()),
            Cell::maybe(self.message.as_deref()),
        ]
    }
}

/// A variable or file that was resolved: its name and how fresh it is, never its value.
#[derive(Debug, Serialize)]
pub(crate) struct ResolvedView {
    kind: &'static str,
    name: String,
    secret: bool,
    bytes: usize,
    age_seconds: Option<u64>,
    lease_ids: Vec<String>,
}

impl ResolvedView {
    /// Every variable and file, variables first.
    pub(crate) fn all(environment: &ResolvedEnvironment) -> Vec<Self> {
        let ids = |contract: &bursar_sdk::Contract| contract.leases.iter().map(ToString::to_string).collect();
        let seconds = |contract: &bursar_sdk::Contract| contract.age.map(|age| age.as_secs());
        let variables = environment.variables.iter().map(|variable| Self {
            kind: VARIABLE,
            name: variable.name.clone(),
            secret: variable.secret,
            bytes: variable.value.len(),
            age_seconds: seconds(&variable.contract),
            lease_ids: ids(&variable.contract),
        });
        let files = environment.files.iter().map(|file| Self {
            kind: FILE,
            name: file.path.clone(),
            secret: file.secret,
            bytes: file.contents.len(),
            age_seconds: seconds(&file.contract),
            lease_ids: ids(&file.contract),
        });
        variables.chain(files).collect()
    }
}

impl Row for ResolvedView {
    const COLUMNS: &'static [Column] =
        &[whole("KIND"), cut("NAME"), whole("SECRET"), whole("BYTES"), whole("AGE"), whole("LEASES")];

    fn cells(&self, _: Timestamp) -> Vec<Cell> {
        let age = self.age_seconds.map(|age| text::duration(std::time::Duration::from_secs(age)));
        vec![
            Cell::new(self.kind),
            Cell::new(&self.name),
            Cell::new(if self.secret { "yes" } else { "no" }),
            Cell::new(self.bytes.to_string()),
            Cell::maybe(age),
            Cell::maybe(filled(self.lease_ids.join(", "))),
        ]
    }
}

/// Nothing when it is about the environment as a whole.
fn kind(field: &'static str, value: i32) -> Result<Option<&'static str>, WireError> {
    match EnvironmentEntryKind::try_from(value) {
        Ok(EnvironmentEntryKind::Variable) => Ok(Some(VARIABLE)),
        Ok(EnvironmentEntryKind::File) => Ok(Some(FILE)),
        Ok(EnvironmentEntryKind::Unspecified) => Ok(None),
        Err(_) => Err(WireError::UnknownValue { field, value }),
    }
}

fn change(field: &'static str, value: i32) -> Result<&'static str, WireError> {
    match EnvironmentChange::try_from(value) {
        Ok(EnvironmentChange::Added) => Ok("added"),
        Ok(EnvironmentChange::Removed) => Ok("removed"),
        Ok(EnvironmentChange::Changed) => Ok("changed"),
        Ok(EnvironmentChange::Unchanged) => Ok("unchanged"),
        Ok(EnvironmentChange::Unspecified) | Err(_) => Err(WireError::UnknownValue { field, value }),
    }
}

fn change_cell(change: &'static str) -> Cell {
    match change {
        "added" => Cell::good(change),
        "removed" => Cell::bad(change),
        "changed" => Cell::doubtful(change),
        _ => Cell::new(change),
    }
}

const OK: &str = "ok";
const VARIABLE: &str = "variable";
const FILE: &str = "file";
