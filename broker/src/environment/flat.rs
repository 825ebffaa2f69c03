//! An environment with everything that it inherits: complete, free of circles, ready to be read and rendered.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bursar_core::Reference;

use super::definition::{Definition, Entry, File, Source};
use super::lineage::lineage;
use super::name::{EXCERPT, EntryName, EnvironmentName, FilePath, VariableName, excerpt};
use super::nesting::order;

/// Lays the environment `name` over all that it extends. The entry of the last definition that has one wins whole:
/// source, contract and mode.
///
/// # Errors
/// [`FlattenError`], the first found.
pub fn flatten(name: &str, lookup: impl Fn(&str) -> Option<Arc<Definition>>) -> Result<Flat, FlattenError> {
    let definitions = lineage(name, lookup)?;
    let mut vars = BTreeMap::new();
    let mut files = BTreeMap::new();
    for definition in &definitions {
        let origin = &definition.name;
        vars.extend(
            definition.vars.iter().map(|(name, entry)| (name.clone(), Inherited::new(entry, origin))),
        );
        files
            .extend(definition.files.iter().map(|(path, file)| (path.clone(), Inherited::new(file, origin))));
    }
    refuse_excess("variables", vars.len(), MAX_VARIABLES)?;
    refuse_excess("files", files.len(), MAX_FILES)?;
    refuse_collisions(&files)?;
    let order = order(&vars, &files)?;
    let lineage = definitions.iter().map(|definition| definition.name.clone()).collect();
    let offline = definitions.last().and_then(|own| own.offline);
    let flat = Flat { lineage, offline, vars, files, order };
    refuse_excess("secrets", flat.references().len(), MAX_SECRETS)?;
    Ok(flat)
}

/// An environment as a whole. Holds no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flat {
    lineage: Vec<EnvironmentName>,
    offline: Option<Duration>,
    vars: BTreeMap<VariableName, Inherited<Entry>>,
    files: BTreeMap<FilePath, Inherited<File>>,
    /// The variables, each after those it is composed of.
    order: Vec<VariableName>,
}

impl Flat {
    /// The environments that it is made of, lowest first, itself last.
    pub fn lineage(&self) -> &[EnvironmentName] {
        &self.lineage
    }

    /// How long a copy may be kept on its user's machine. What the environment says itself: what it extends does not
    /// count, or what a base allows for development would be allowed for production by inheritance.
    pub fn offline(&self) -> Option<Duration> {
        self.offline
    }

    /// The variables, in order of their names.
    pub fn vars(&self) -> &BTreeMap<VariableName, Inherited<Entry>> {
        &self.vars
    }

    /// The files, in order of their paths.
    pub fn files(&self) -> &BTreeMap<FilePath, Inherited<File>> {
        &self.files
    }

    /// Variables and files, in order of kind and name.
    pub fn entries(&self) -> impl Iterator<Item = (EntryName, &Entry)> {
        let vars = self.vars.iter();
        let vars = vars.map(|(name, entry)| (EntryName::Variable(name.clone()), &entry.definition));
        let files = self.files.iter();
        vars.chain(files.map(|(path, file)| (EntryName::File(path.clone()), &file.definition.entry)))
    }

    /// The variables, each after those it is composed of.
    pub(super) fn vars_in_order(&self) -> impl Iterator<Item = (&VariableName, &Inherited<Entry>)> {
        self.order.iter().filter_map(|name| self.vars.get_key_value(name))
    }

    /// What has to be read, each reference once, under the secret that it belongs to: the same reference without its
    /// field. One lease for each secret covers all of its fields.
    pub fn references(&self) -> BTreeMap<Reference, BTreeSet<Reference>> {
        let files = self.files.values().map(|file| &file.definition.entry.source);
        let sources = self.vars.values().map(|entry| &entry.definition.source).chain(files);
        let mut secrets: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for reference in sources.flat_map(Source::references) {
            secrets.entry(reference.without_field()).or_default().insert(reference.clone());
        }
        secrets
    }

    /// How old what is read may be, of each secret that stands under an entry with a `max_stale`: the strictest of them.
    pub fn max_ages(&self) -> BTreeMap<Reference, Duration> {
        let files = self.files.values().map(|file| &file.definition.entry);
        let entries = self.vars.values().map(|entry| &entry.definition).chain(files);
        let mut ages: BTreeMap<Reference, Duration> = BTreeMap::new();
        for Basis { references, max_stale } in entries.map(|entry| self.basis(entry)) {
            let Some(limit) = max_stale else { continue };
            for reference in references {
                let age = ages.entry(reference.without_field()).or_insert(limit);
                *age = limit.min(*age);
            }
        }
        ages
    }

    /// What the value of an entry of this environment stands on, through all the variables that it is composed of.
    pub fn basis<'a>(&'a self, entry: &'a Entry) -> Basis<'a> {
        let mut basis = Basis { references: BTreeSet::new(), max_stale: None };
        let mut seen = BTreeSet::new();
        let mut left = vec![entry];
        while let Some(entry) = left.pop() {
            basis.references.extend(entry.source.references());
            basis.max_stale = basis.max_stale.into_iter().chain(entry.contract.max_stale).min();
            let variables = entry.source.variables().filter(|name| seen.insert(*name));
            left.extend(variables.filter_map(|name| self.vars.get(name)).map(|entry| &entry.definition));
        }
        basis
    }
}

/// An entry and the environment whose definition it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inherited<T> {
    pub definition: T,
    pub origin: EnvironmentName,
}

impl<T: Clone> Inherited<T> {
    fn new(definition: &T, origin: &EnvironmentName) -> Self {
        Self { definition: definition.clone(), origin: origin.clone() }
    }
}

/// What a value stands on.
#[derive(Debug, PartialEq, Eq)]
pub struct Basis<'a> {
    /// None for a value that holds no secret.
    pub references: BTreeSet<&'a Reference>,
    /// The strictest limit on the age of the value: its own, or that of a variable in it.
    pub max_stale: Option<Duration>,
}

/// Why an environment cannot be laid out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FlattenError {
    #[error("there is no environment `{name}`; `bursar env list` shows those there are")]
    Unknown { name: String },
    #[error(
        "environment `{extended_by}` extends `{name}`, which does not exist; apply it first or mend the name"
    )]
    MissingParent { name: EnvironmentName, extended_by: EnvironmentName },
    #[error("environments extend each other in a circle: {}; take one of them out", Chain(.chain))]
    Cycle { chain: Vec<EnvironmentName> },
    #[error(
        "environment `{name}` cannot bring what it extends into one order: `{first}` has to come before `{second}` and \
         after it; list them the same way round everywhere"
    )]
    Disorder { name: EnvironmentName, first: EnvironmentName, second: EnvironmentName },
    #[error("environment `{name}` extends others more than 16 deep; flatten some of them")]
    TooDeep { name: EnvironmentName },
    #[error("environment `{name}` is made of more than 64 environments; merge some of them")]
    TooManyParents { name: EnvironmentName },
    #[error("the environment has {count} {what} with those it inherits; at most {limit} are allowed")]
    TooMany { what: &'static str, count: usize, limit: usize },
    #[error(
        "file {file:?} of environment `{origin}` needs a folder where environment `{other_origin}` has file {other:?}; \
         move one of them"
    )]
    Collision { file: FilePath, origin: EnvironmentName, other: FilePath, other_origin: EnvironmentName },
    #[error(
        "{entry} of environment `{origin}` is composed of variable {name:?}, which does not exist; define it"
    )]
    UnknownVariable { entry: EntryName, origin: EnvironmentName, name: VariableName },
    #[error("variables are composed of each other in a circle: {}; make one of them a value", Chain(.chain))]
    VariableCycle { chain: Vec<VariableName> },
    #[error("variable {name:?} is composed of compositions more than 16 deep; flatten some of them")]
    TooNested { name: VariableName },
}

impl FlattenError {
    pub(super) fn unknown(name: &str) -> Self {
        Self::Unknown { name: excerpt(name, EXCERPT) }
    }
}

fn refuse_excess(what: &'static str, count: usize, limit: usize) -> Result<(), FlattenError> {
    if count > limit { Err(FlattenError::TooMany { what, count, limit }) } else { Ok(()) }
}

/// A path cannot be a file and a folder.
fn refuse_collisions(files: &BTreeMap<FilePath, Inherited<File>>) -> Result<(), FlattenError> {
    for (path, file) in files {
        if let Some((other, above)) = path.folders().find_map(|folder| files.get_key_value(folder)) {
            return Err(FlattenError::Collision {
                file: path.clone(),
                origin: file.origin.clone(),
                other: other.clone(),
                other_origin: above.origin.clone(),
            });
        }
    }
    Ok(())
}

/// `a -> b -> a`
struct Chain<'a, T>(&'a [T]);

impl<T: fmt::Display> fmt::Display for Chain<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, name) in self.0.iter().enumerate() {
            let arrow = if index == 0 { "" } else { " -> " };
            write!(f, "{arrow}{name}")?;
        }
        Ok(())
    }
}

const MAX_VARIABLES: usize = 1_000;
const MAX_FILES: usize = 256;
const MAX_SECRETS: usize = 1_000;

#[cfg(test)]
mod tests;
