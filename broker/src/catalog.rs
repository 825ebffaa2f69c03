//! The environments that the ledger keeps, and what becomes of them: flattened, compared, checked, changed.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bursar_core::SpiffeId;
use jiff::Timestamp;
use quick_cache::sync::Cache;

use crate::call::Draft;
use crate::environment::{Definition, EnvironmentName, Flat, document, flatten};
use crate::failure::Failure;
use crate::ledger::{
    Change, Entry, Ledger, LedgerError, Object, ObjectKind, Page, Paged, RevocationId, RevokeSelector,
};

/// Keeps definitions in the ledger and the flattened form of those in use in memory.
#[derive(Debug)]
pub struct Catalog {
    ledger: Ledger,
    /// Flattened environments by name; emptied by every change, since a change of one shows in all that extend it.
    flat: Cache<Arc<str>, (u64, Arc<Flat>)>,
}

/// A definition as it is kept.
#[derive(Debug, Clone)]
pub struct Kept {
    pub definition: Arc<Definition>,
    pub revision: u64,
    pub updated_at: Timestamp,
    pub updated_by: SpiffeId,
}

/// What a change of one environment was.
#[derive(Debug, Clone)]
pub struct Changed {
    pub name: String,
    pub kind: ChangeKind,
    pub revision: u64,
}

/// How an environment changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    Added,
    Changed,
    Unchanged,
}

impl Catalog {
    /// The environments in `ledger`.
    pub fn new(ledger: Ledger) -> Self {
        Self { ledger, flat: Cache::new(FLAT_CACHE) }
    }

    /// An environment with all that it inherits.
    ///
    /// # Errors
    /// [`Failure::EnvironmentNotFound`], or [`Failure::Flatten`] when it or what it extends does not hold together.
    pub async fn flat(&self, name: &str) -> Result<(u64, Arc<Flat>), Failure> {
        if let Some(cached) = self.flat.get(name) {
            return Ok(cached);
        }
        let kept = self.kept(name, None).await?;
        let flat =
            Arc::new(self.flatten_over(name, HashMap::from([(name.to_owned(), kept.definition)])).await?);
        self.flat.insert(Arc::from(name), (kept.revision, Arc::clone(&flat)));
        Ok((kept.revision, flat))
    }

    /// The flattened form as it would be if `over` were kept: for documents that are not, and older revisions.
    ///
    /// # Errors
    /// As [`Catalog::flat`].
    pub async fn flatten_over(
        &self,
        name: &str,
        over: HashMap<String, Arc<Definition>>,
    ) -> Result<Flat, Failure> {
        let mut known = over;
        let mut missing: VecDeque<String> =
            known.values().flat_map(|definition| parents(definition)).collect();
        if !known.contains_key(name) {
            missing.push_back(name.to_owned());
        }
        while let Some(parent) = missing.pop_front() {
            if known.contains_key(&parent) || known.len() >= MAX_LINEAGE {
                continue;
            }
            match self.kept(&parent, None).await {
                Ok(kept) => {
                    missing.extend(parents(&kept.definition));
                    known.insert(parent, kept.definition);
                }
                // Flattening names who extends what is not there.
                Err(Failure::EnvironmentNotFound(_)) => {}
                Err(other) => return Err(other),
            }
        }
        Ok(flatten(name, |name| known.get(name).map(Arc::clone))?)
    }

    /// One definition; the newest without a revision.
    ///
    /// # Errors
    /// [`Failure::EnvironmentNotFound`].
    pub async fn kept(&self, name: &str, revision: Option<u64>) -> Result<Kept, Failure> {
        let not_found = || Failure::EnvironmentNotFound(shown(name));
        EnvironmentName::parse(name).map_err(|_| not_found())?;
        let newest = self.ledger.object(ObjectKind::Environment, name).await?;
        let is_wanted = |object: &Object| revision.is_none_or(|revision| object.revision == revision);
        if let Some(object) = newest.filter(is_wanted) {
            return kept(&object);
        }
        let mut token = None;
        while revision.is_some() {
            let page = Page { size: HISTORY_PAGE, token };
            let older = self.ledger.object_history(ObjectKind::Environment, name, page).await?;
            if let Some(object) = older.items.iter().find(|object| is_wanted(object)) {
                return kept(object);
            }
            token = Some(older.next.ok_or_else(not_found)?);
        }
        Err(not_found())
    }

    /// Definitions by name.
    ///
    /// # Errors
    /// That of the ledger.
    pub async fn list(&self, page: Page) -> Result<Paged<Kept>, Failure> {
        let objects = self.ledger.objects(ObjectKind::Environment, page).await?;
        let items = objects.items.iter().map(kept).collect::<Result<_, _>>()?;
        Ok(Paged { items, next: objects.next })
    }

    /// Keeps every definition of a document, or none. One that did not change stays at its revision.
    ///
    /// # Errors
    /// [`Failure::Flatten`] when an environment would not hold together, [`LedgerError::RevisionConflict`] when one is
    /// not at the revision `expected`.
    pub async fn apply(
        &self,
        definitions: Vec<Definition>,
        expected: Option<u64>,
        dry_run: bool,
        by: &SpiffeId,
        at: Timestamp,
        draft: Draft,
    ) -> Result<Vec<Changed>, Failure> {
        let definitions: Vec<Arc<Definition>> = definitions.into_iter().map(Arc::new).collect();
        let named = |definition: &Arc<Definition>| (definition.name.to_string(), Arc::clone(definition));
        let over: HashMap<String, Arc<Definition>> = definitions.iter().map(named).collect();
        let (mut changed, mut changes) = (Vec::new(), Vec::new());
        for definition in &definitions {
            let name = definition.name.as_str();
            self.flatten_over(name, over.clone()).await?;
            let old = self.ledger.object(ObjectKind::Environment, name).await?;
            let body = definition.to_toml().into_bytes();
            let (found, same) = old.map_or((0, false), |old| (old.revision, old.body == body));
            if let Some(expected) = expected.filter(|expected| *expected != found) {
                return Err(LedgerError::RevisionConflict { expected, found }.into());
            }
            let kind = match (found, same) {
                (0, _) => ChangeKind::Added,
                (_, true) => ChangeKind::Unchanged,
                (_, false) => ChangeKind::Changed,
            };
            if kind != ChangeKind::Unchanged {
                changes.push(Change::PutObject {
                    kind: ObjectKind::Environment,
                    name: name.to_owned(),
                    body,
                    // Whatever was compared above is what is replaced.
                    expected: Some(found),
                    by: by.clone(),
                    at,
                });
            }
            changed.push(Changed { name: name.to_owned(), kind, revision: found });
        }
        if dry_run {
            changes.clear();
        }
        let committed = self.ledger.commit(Entry { changes, records: vec![draft.ok()] }).await?;
        self.flat.clear();
        let mut revisions = committed.revisions();
        for changed in changed.iter_mut().filter(|changed| changed.kind != ChangeKind::Unchanged) {
            changed.revision = revisions.next().unwrap_or(changed.revision);
        }
        Ok(changed)
    }

    /// Removes a definition and has every lease under it taken back. Answers the bulk revocation that does that.
    ///
    /// # Errors
    /// [`Failure::EnvironmentNotFound`], or a revision other than `expected`.
    pub async fn delete(
        &self,
        name: &str,
        expected: Option<u64>,
        at: Timestamp,
        draft: Draft,
    ) -> Result<Option<RevocationId>, Failure> {
        self.kept(name, None).await?;
        if let Some(child) = self.child_of(name).await? {
            let message = format!("is extended by `{child}`; change that first");
            return Err(Failure::Invalid { field: "name", message });
        }
        let remove = Change::RemoveObject { kind: ObjectKind::Environment, name: name.to_owned(), expected };
        let record = Box::new(draft.clone().as_revocation(&format!("leases of environment {name}")));
        let selector = RevokeSelector::Environment(name.to_owned());
        let revoke = Change::OrderRevocation { selector, record, at };
        let entry = Entry { changes: vec![remove, revoke], records: vec![draft.ok()] };
        let committed = self.ledger.commit(entry).await?;
        self.flat.clear();
        Ok(committed.revocation())
    }

    /// An environment that extends `name`, if there is one.
    async fn child_of(&self, name: &str) -> Result<Option<EnvironmentName>, Failure> {
        let mut token = None;
        loop {
            let page = self.list(Page { size: LIST_PAGE, token }).await?;
            let mut kept = page.items.into_iter().map(|kept| kept.definition);
            let child =
                kept.find(|definition| definition.extends.iter().any(|parent| parent.as_str() == name));
            match (child, page.next) {
                (Some(child), _) => return Ok(Some(child.name.clone())),
                (None, None) => return Ok(None),
                (None, next) => token = next,
            }
        }
    }
}

fn parents(definition: &Definition) -> Vec<String> {
    definition.extends.iter().map(ToString::to_string).collect()
}

fn kept(object: &Object) -> Result<Kept, Failure> {
    let unreadable = || Failure::Kept("an environment");
    let text = std::str::from_utf8(&object.body).map_err(|_| unreadable())?;
    let definition = document::parse(text).map_err(|_| unreadable())?.pop().ok_or_else(unreadable)?;
    Ok(Kept {
        definition: Arc::new(definition),
        revision: object.revision,
        updated_at: object.updated_at,
        updated_by: object.updated_by.clone(),
    })
}

fn shown(name: &str) -> String {
    name.chars().take(SHOWN).flat_map(char::escape_default).collect()
}

const FLAT_CACHE: usize = 1024;
const LIST_PAGE: usize = 500;
const HISTORY_PAGE: usize = 50;
/// Definitions that one flattening reads at most; the environment module limits depth, this limits breadth.
const MAX_LINEAGE: usize = 512;
const SHOWN: usize = 64;
