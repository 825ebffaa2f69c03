//! The key-value engines.
//! Endpoints: <https://openbao.org/api-docs/secret/kv/kv-v2/>, <https://openbao.org/api-docs/secret/kv/kv-v1/>.

use std::collections::BTreeMap;

use bursar_core::Version;
use bursar_core::backend::{BackendError, ErrorKind, Fetched, Labels, Operation, VersionInfo, VersionState};
use bursar_core::secret::json::{self, Members};
use jiff::Timestamp;
use serde::Deserialize;

use crate::answer::{Answer, Reply};
use crate::client::{Client, Request};
use crate::config::MountKind;
use crate::mounts::Place;

/// Reads an entry: `version`, or the newest. None where the engine can have no such version.
pub(crate) fn read_request(client: &Client, place: &Place<'_>, version: Option<&Version>) -> Option<Request> {
    let Place { mount, rest, .. } = place;
    match (place.kind, version) {
        (MountKind::KvV2, None) => Some(client.read(Operation::Read, &format!("{mount}/data/{rest}"))),
        (MountKind::KvV2, Some(version)) => {
            let number = number(version)?.to_string();
            let request = client.read(Operation::Read, &format!("{mount}/data/{rest}"));
            Some(request.with_query("version", &number))
        }
        (MountKind::KvV1, None) => Some(client.read(Operation::Read, &format!("{mount}/{rest}"))),
        (MountKind::KvV1 | MountKind::Leased | MountKind::Pki, _) => None,
    }
}

/// Reads the answer to [`read_request`].
pub(crate) fn fetched(kind: MountKind, answer: &Answer) -> Result<Fetched, BackendError> {
    let (members, version, expires_at) = match kind {
        MountKind::KvV2 => {
            let Entry { data, metadata } = answer.parse::<Reply<Entry<'_>>>()?.data;
            let members = data.ok_or_else(|| answer.error(ErrorKind::NotFound))?;
            (members, Some(Version::number(metadata.version)), end(&metadata.deletion_time))
        }
        MountKind::KvV1 | MountKind::Leased | MountKind::Pki => {
            (answer.parse::<Reply<Members<'_>>>()?.data, None, None)
        }
    };
    let data = json::fields(&members).ok_or_else(|| answer.error(ErrorKind::Malformed))?;
    Ok(Fetched { data, version, expires_at })
}

/// Asks what there is of an entry of KV version 2 besides its value.
pub(crate) fn metadata_request(client: &Client, operation: Operation, place: &Place<'_>) -> Request {
    client.read(operation, &format!("{}/metadata/{}", place.mount, place.rest))
}

/// Reads the versions out of the answer to [`metadata_request`], newest first.
pub(crate) fn versions(answer: &Answer, now: Timestamp) -> Result<Vec<VersionInfo>, BackendError> {
    #[derive(Deserialize)]
    struct Metadata {
        versions: BTreeMap<u64, Stamp>,
    }
    #[derive(Deserialize)]
    struct Stamp {
        created_time: String,
        deletion_time: String,
        destroyed: bool,
    }
    let Metadata { versions } = answer.parse::<Reply<Metadata>>()?.data;
    let info = |(number, stamp): (u64, Stamp)| {
        let end = end(&stamp.deletion_time);
        let state = match (stamp.destroyed, end) {
            (true, _) => VersionState::Destroyed,
            (false, Some(end)) if end <= now => VersionState::Deleted,
            (false, _) => VersionState::Kept,
        };
        let expires_at = end.filter(|end| *end > now);
        let version = Version::number(number);
        VersionInfo { version, created_at: stamp.created_time.parse().ok(), expires_at, state }
    };
    Ok(versions.into_iter().rev().map(info).collect())
}

/// Reads what people wrote out of the same.
pub(crate) fn labels(answer: &Answer) -> Result<Labels, BackendError> {
    #[derive(Deserialize)]
    struct Metadata {
        custom_metadata: Option<Labels>,
    }
    Ok(answer.parse::<Reply<Metadata>>()?.data.custom_metadata.unwrap_or_default())
}

/// When a version was deleted, or will be by `delete_version_after`: until then it can be read.
fn end(deletion_time: &str) -> Option<Timestamp> {
    deletion_time.parse().ok()
}

/// Lists the entries of a folder, which `place` is. OpenBao pages by `after` and `limit`; Vault answers everything.
pub(crate) fn list_request(client: &Client, place: &Place<'_>, after: Option<&str>, limit: usize) -> Request {
    let Place { mount, rest, .. } = place;
    let path = match (place.kind, *rest) {
        (MountKind::KvV2, "") => format!("{mount}/metadata"),
        (MountKind::KvV2, rest) => format!("{mount}/metadata/{rest}"),
        (MountKind::KvV1 | MountKind::Leased | MountKind::Pki, "") => (*mount).to_owned(),
        (MountKind::KvV1 | MountKind::Leased | MountKind::Pki, rest) => format!("{mount}/{rest}"),
    };
    let request = client.read(Operation::List, &path).with_query("list", "true");
    let request = request.with_query("limit", &limit.to_string());
    match after {
        Some(after) => request.with_query("after", after),
        None => request,
    }
}

/// Reads the answer to a listing.
pub(crate) fn keys(answer: &Answer) -> Result<Vec<String>, BackendError> {
    #[derive(Deserialize)]
    struct Keys {
        keys: Vec<String>,
    }
    Ok(answer.parse::<Reply<Keys>>()?.data.keys)
}

/// The number of a version; the engine counts from 1 and takes 0 for the newest.
fn number(version: &Version) -> Option<u64> {
    version.as_str().parse().ok().filter(|number| *number > 0)
}

#[derive(Deserialize)]
struct Entry<'body> {
    /// Null when the version is deleted.
    #[serde(borrow)]
    data: Option<Members<'body>>,
    metadata: EntryMetadata,
}

#[derive(Deserialize)]
struct EntryMetadata {
    version: u64,
    #[serde(default)]
    deletion_time: String,
}
