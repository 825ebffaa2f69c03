//! Which sets were in force, and what each changed.

use std::collections::BTreeMap;

use bursar_core::SpiffeId;
use jiff::Timestamp;

use super::{KeptRules, NAME, Rulebook, kept};
use crate::failure::Failure;
use crate::ledger::{ObjectKind, Page, Paged};
use crate::policy::PolicyFile;

/// One set of the history, without its texts.
#[derive(Debug, PartialEq, Eq)]
pub struct Revision {
    pub revision: u64,
    pub applied_at: Timestamp,
    pub applied_by: SpiffeId,
    /// How many files it has.
    pub files: usize,
    /// The files that it added, changed or left out, against the set before; in order of their names.
    pub changed: Vec<String>,
}

impl Rulebook {
    /// The sets that are or were in force, newest first. At most [`REVISIONS`] a page: each is read whole, to be compared
    /// with the one before.
    ///
    /// # Errors
    /// [`Failure::Ledger`], for a token of no page too.
    pub async fn history(&self, page: Page) -> Result<Paged<Revision>, Failure> {
        let limit = page.size.clamp(1, REVISIONS);
        let (mut token, mut newer) = (page.token, None);
        if token.is_none() {
            let Some(object) = self.ledger.object(ObjectKind::Policy, NAME).await? else {
                return Ok(Paged { items: Vec::new(), next: None });
            };
            token = Some(object.revision.to_string());
            newer = Some(kept(&object)?);
        }
        let mut items = Vec::new();
        while token.is_some() {
            let page = Page { size: SETS, token };
            let older = self.ledger.object_history(ObjectKind::Policy, NAME, page).await?;
            for object in &older.items {
                let set = kept(object)?;
                items.extend(newer.take().map(|newer| revision(newer, &set.files)));
                if items.len() == limit {
                    return Ok(Paged { next: items.last().map(|last| last.revision.to_string()), items });
                }
                newer = Some(set);
            }
            token = older.next;
        }
        items.extend(newer.map(|first| revision(first, &[])));
        Ok(Paged { items, next: None })
    }
}

fn revision(set: KeptRules, before: &[PolicyFile]) -> Revision {
    let (now, before) = (by_name(&set.files), by_name(before));
    let names = now.keys().chain(before.keys().filter(|name| !now.contains_key(*name)));
    let mut changed: Vec<_> = names.filter(|name| now.get(*name) != before.get(*name)).copied().collect();
    changed.sort_unstable();
    Revision {
        revision: set.revision,
        applied_at: set.applied_at,
        files: now.len(),
        changed: changed.into_iter().map(str::to_owned).collect(),
        applied_by: set.applied_by,
    }
}

fn by_name(files: &[PolicyFile]) -> BTreeMap<&str, &str> {
    files.iter().map(|file| (file.name.as_str(), file.text.as_str())).collect()
}

/// Of 2 MiB each at most.
const REVISIONS: usize = 100;
/// Held in memory at a time.
const SETS: usize = 4;
