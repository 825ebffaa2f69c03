//! Listing a folder.
//!
//! Paths are in one index in order of their bytes. From a cursor, one seek finds the next path, which gives the next
//! entry, which gives the next cursor: past that path, or past everything in that folder. So a page costs as many
//! seeks as it has entries, however much is inside the folders, and nothing needs the escaping that `LIKE` would.

use bursar_core::SecretPath;
use rusqlite::{Connection, OptionalExtension};

use crate::error::Fault;

/// At most `limit` entries right below `folder`, or at the top, whose names come after `after`. A secret is listed
/// while there is a version of it, a deleted one too, since that can be undeleted, but not a destroyed one. An unknown folder is empty.
pub(crate) fn entries(
    connection: &mut Connection,
    folder: Option<&SecretPath>,
    after: Option<&str>,
    limit: usize,
) -> Result<Vec<String>, Fault> {
    let prefix = folder.map(|folder| format!("{}/", folder.as_str())).unwrap_or_default();
    // One transaction, so that a page shows one moment.
    let snapshot = connection.transaction()?;
    let mut seek = snapshot.prepare_cached(SEEK)?;
    let mut entries = Vec::new();
    let mut cursor = after.map_or_else(|| prefix.clone(), |after| past(&prefix, after));
    while entries.len() < limit {
        let path: Option<String> = seek.query_row([&cursor], |row| row.get(0)).optional()?;
        let Some(name) = path.as_deref().and_then(|path| path.strip_prefix(&prefix)) else {
            break;
        };
        let entry = name.split_inclusive('/').next().unwrap_or(name).to_owned();
        cursor = past(&prefix, &entry);
        entries.push(entry);
    }
    Ok(entries)
}

/// The least text that comes after the entry `name` and after all that is inside it.
fn past(prefix: &str, name: &str) -> String {
    match name.split_once('/') {
        Some((folder, _)) => format!("{prefix}{folder}{AFTER_SLASH}"),
        None => format!("{prefix}{name}{LEAST}"),
    }
}

const SEEK: &str = "SELECT path FROM version WHERE path >= ?1 AND state < 2 ORDER BY path LIMIT 1";
/// The character after `/`.
const AFTER_SLASH: char = '0';
const LEAST: char = '\0';
