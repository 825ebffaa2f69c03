use std::collections::BTreeMap;
use std::fmt;

use bursar_proto::convert::WireError;
use bursar_proto::v1;
use jiff::Timestamp;
use serde::Serialize;

use super::time;
use crate::output::{Details, Row};
use crate::table::{Cell, Column, cut, whole};
use crate::text;

/// A name in a folder of a local store.
#[derive(Debug, Serialize)]
pub(crate) struct NameView {
    name: String,
    folder: bool,
}

impl From<String> for NameView {
    fn from(name: String) -> Self {
        Self { folder: name.ends_with('/'), name }
    }
}

impl Row for NameView {
    const COLUMNS: &'static [Column] = &[cut("NAME")];

    fn cells(&self, _: Timestamp) -> Vec<Cell> {
        vec![Cell::new(&self.name)]
    }
}

/// One version of a secret, without its value.
#[derive(Debug, Serialize)]
pub(crate) struct VersionView {
    version: VersionName,
    created_at: Option<Timestamp>,
    deleted: bool,
    destroyed: bool,
    expires_at: Option<Timestamp>,
}

impl TryFrom<v1::SecretVersion> for VersionView {
    type Error = WireError;

    fn try_from(version: v1::SecretVersion) -> Result<Self, WireError> {
        Ok(Self {
            version: VersionName::of(version.version, version.name),
            created_at: time("created_at", version.created_at)?,
            deleted: version.deleted,
            destroyed: version.destroyed,
            expires_at: time("expires_at", version.expires_at)?,
        })
    }
}

/// A number at a store that counts its versions.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum VersionName {
    Number(u64),
    Other(String),
}

impl VersionName {
    fn of(number: u64, name: String) -> Self {
        if number == 0 { Self::Other(name) } else { Self::Number(number) }
    }
}

impl fmt::Display for VersionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Other(name) => name.fmt(f),
        }
    }
}

impl VersionView {
    fn state(&self, now: Timestamp) -> Cell {
        match self.expires_at {
            _ if self.destroyed => Cell::doubtful("destroyed"),
            _ if self.deleted => Cell::doubtful("deleted"),
            Some(end) if end <= now => Cell::doubtful("expired"),
            _ => Cell::good("readable"),
        }
    }
}

impl Row for VersionView {
    const COLUMNS: &'static [Column] =
        &[whole("VERSION"), whole("STATE"), whole("WRITTEN"), whole("EXPIRES")];

    fn cells(&self, now: Timestamp) -> Vec<Cell> {
        vec![
            Cell::new(self.version.to_string()),
            self.state(now),
            Cell::maybe(self.created_at.map(|at| text::relative(at, now))),
            Cell::maybe(self.expires_at.map(|at| text::relative(at, now))),
        ]
    }
}

/// What is known of a secret besides its value.
#[derive(Debug, Serialize)]
pub(crate) struct SecretView {
    reference: String,
    newest: VersionView,
    versions: u64,
    created_at: Option<Timestamp>,
    labels: BTreeMap<String, String>,
}

impl TryFrom<v1::LocalStoreGetMetadataResponse> for SecretView {
    type Error = WireError;

    fn try_from(response: v1::LocalStoreGetMetadataResponse) -> Result<Self, WireError> {
        let newest = response.newest.ok_or(WireError::Missing { field: "newest" })?;
        Ok(Self {
            reference: response.reference,
            newest: newest.try_into()?,
            versions: response.versions,
            created_at: time("created_at", response.created_at)?,
            labels: response.labels,
        })
    }
}

impl Details for SecretView {
    fn details(&self, now: Timestamp) -> Vec<(&'static str, Cell)> {
        let at = |time: Option<Timestamp>| {
            Cell::maybe(time.map(|time| format!("{} ({})", text::time(time), text::relative(time, now))))
        };
        let label = |(name, value): (&String, &String)| format!("{name}={value}");
        let labels: Vec<_> = self.labels.iter().map(label).collect();
        vec![
            ("secret", Cell::new(&self.reference)),
            ("newest version", Cell::new(self.newest.version.to_string())),
            ("state", self.newest.state(now)),
            ("written", at(self.newest.created_at)),
            ("expires", at(self.newest.expires_at)),
            ("versions kept", Cell::new(self.versions.to_string())),
            ("oldest written", at(self.created_at)),
            ("labels", Cell::maybe((!labels.is_empty()).then(|| labels.join(", ")))),
        ]
    }
}
