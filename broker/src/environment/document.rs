//! Reading a document: TOML in, checked definitions out, every fault at once with its key and place.
//!
//! Unknown keys are faults: a misspelt `on_change` that is ignored is a workload that is not restarted. Values are
//! texts only; a number or a truth value has several spellings in TOML and one in the environment of a process, so its
//! author says which, by quoting it. A bare literal with `${` in it is refused too: its author took it for a
//! composition, and the workload would get the placeholder.
//!
//! `serde` was the alternative: it stops at the first fault and knows no place for it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bursar_core::Reference;
use bursar_core::settings::parse_duration;
use toml::de::{DeTable, DeValue};

use self::table::{Node, Table, each, items};
use super::composition::Composition;
use super::definition::{Contract, Definition, Entry, File, Mode, OnChange, Source};
use super::fault::{Fault, Faults};
use super::name::{EnvironmentName, FilePath, VariableName};

mod table;

/// Reads the environments of a document, in its order. A document takes at most 1 MiB and 256 environments; one
/// environment extends at most 16 others and has at most 1,000 variables and 256 files of its own.
///
/// # Errors
/// What keeps it from being TOML, or every fault of its content in the order of their places, cut at a hundred with a
/// last one that counts the rest.
pub fn parse(text: &str) -> Result<Vec<Definition>, Vec<Fault>> {
    if text.len() > MAX_DOCUMENT {
        let message = format!("the document has {} bytes; at most {MAX_DOCUMENT} are allowed", text.len());
        return Err(vec![Fault::whole(message)]);
    }
    let root = DeTable::parse(text).map_err(|error| vec![Fault::syntax(text, &error)])?;
    let mut faults = Faults::default();
    let mut root = Table::root(root.get_ref());
    let environments = root.take("environment");
    root.finish(&mut faults);
    let mut definitions = Vec::new();
    if let Some(environments) = environments {
        each(&environments, MAX_ENVIRONMENTS, &mut faults, |node, faults| {
            definitions.extend(definition(node, faults).map(|definition| (node.place.at, definition)));
        });
    }
    if !faults.is_empty() {
        return Err(faults.into_list(text));
    }
    if definitions.is_empty() {
        return Err(vec![Fault::whole(NO_ENVIRONMENT.to_owned())]);
    }
    definitions.sort_by_key(|(at, _)| *at);
    Ok(definitions.into_iter().map(|(_, definition)| definition).collect())
}

fn definition(node: &Node<'_>, faults: &mut Faults) -> Option<Definition> {
    let name = faults.check(&node.place, EnvironmentName::parse(node.key));
    let mut table = Table::of(node, "a table", faults)?;
    let extends = table.take("extends").map(|node| parents(&node, faults)).unwrap_or_default();
    let offline = match table.take("offline") {
        Some(node) => offline(&node, faults).map(Some),
        None => Some(None),
    };
    let mut vars = BTreeMap::new();
    if let Some(node) = table.take("vars") {
        each(&node, MAX_VARIABLES, faults, |node, faults| {
            let name = faults.check(&node.place, VariableName::parse(node.key));
            let entry = variable(node, name.as_ref(), faults);
            vars.extend(name.zip(entry));
        });
    }
    let mut files = BTreeMap::new();
    if let Some(node) = table.take("files") {
        each(&node, MAX_FILES, faults, |node, faults| {
            let path = faults.check(&node.place, FilePath::parse(node.key));
            let file = file(node, faults);
            files.extend(path.zip(file));
        });
    }
    table.finish(faults);
    let definition = Definition { name: name?, extends, offline: offline?, vars, files };
    // The written form is what will be kept and read again, and it may be longer than what came.
    match definition.to_toml().len() {
        bytes if bytes > MAX_DOCUMENT => {
            faults.refuse(&node.place, format!("takes {bytes} bytes; at most {MAX_DOCUMENT} are allowed"))
        }
        _ => Some(definition),
    }
}

fn parents(node: &Node<'_>, faults: &mut Faults) -> Vec<EnvironmentName> {
    let mut parents = Vec::new();
    items(node, MAX_PARENTS, faults, |node, faults| {
        let Some(text) = text(node, faults) else { return };
        match EnvironmentName::parse(text) {
            Ok(name) if parents.contains(&name) => faults.add(&node.place, "is named twice"),
            name => parents.extend(faults.check(&node.place, name)),
        }
    });
    parents
}

fn variable(node: &Node<'_>, name: Option<&VariableName>, faults: &mut Faults) -> Option<Entry> {
    if let DeValue::String(literal) = node.value {
        if literal.contains("${") {
            return faults.refuse(&node.place, LOOKS_COMPOSED);
        }
        let named = name.map_or(0, |name| name.as_str().len());
        if named + literal.len() > MAX_VARIABLE {
            return faults.refuse(
                &node.place,
                "is longer than the 131,070 bytes that a variable can carry, name included",
            );
        }
        let source = Source::Literal(without_nul(node, literal, faults)?);
        return Some(Entry { source, contract: Contract::default() });
    }
    let mut table = Table::of(node, VARIABLE_FORM, faults)?;
    let from = table.take("from");
    let compose = table.take("compose");
    let contract = contract(&mut table, faults);
    table.finish(faults);
    let source = match (from, compose) {
        (Some(from), None) => reference(&from, faults),
        (None, Some(compose)) => composition(&compose, faults),
        _ => faults.refuse(&node.place, "needs exactly one of `from` and `compose`"),
    };
    if name.is_some_and(VariableName::is_literal_only) {
        return faults.refuse(&node.place, LITERAL_ONLY);
    }
    Some(Entry { source: source?, contract: contract? })
}

fn file(node: &Node<'_>, faults: &mut Faults) -> Option<File> {
    let mut table = Table::of(node, FILE_FORM, faults)?;
    let from = table.take("from");
    let compose = table.take("compose");
    let content = table.take("content");
    let mode = table.take("mode");
    let contract = contract(&mut table, faults);
    table.finish(faults);
    let mode = mode.map_or(Some(Mode::default()), |node| parsed(&node, faults, str::parse));
    let source = match (from, compose, content) {
        (Some(from), None, None) => reference(&from, faults),
        (None, Some(compose), None) => composition(&compose, faults),
        (None, None, Some(_)) if contract.is_some_and(|contract| contract.max_stale.is_some()) => {
            faults.refuse(&node.place, "has a `max_stale`, but `content` does not age")
        }
        (None, None, Some(content)) => {
            let literal = text(&content, faults).and_then(|text| without_nul(&content, text, faults));
            literal.map(Source::Literal)
        }
        _ => faults.refuse(&node.place, "needs exactly one of `from`, `compose` and `content`"),
    };
    Some(File { entry: Entry { source: source?, contract: contract? }, mode: mode? })
}

fn contract(table: &mut Table<'_>, faults: &mut Faults) -> Option<Contract> {
    let on_change = match table.take("on_change") {
        Some(node) => parsed(&node, faults, str::parse::<OnChange>).map(Some),
        None => Some(None),
    };
    let max_stale = match table.take("max_stale") {
        Some(node) => max_stale(&node, faults).map(Some),
        None => Some(None),
    };
    Some(Contract { on_change: on_change?, max_stale: max_stale? })
}

fn max_stale(node: &Node<'_>, faults: &mut Faults) -> Option<Duration> {
    let most = parsed(node, faults, parse_duration)?;
    if (MIN_STALE..=MAX_STALE).contains(&most) {
        return Some(most);
    }
    faults.refuse(&node.place, "must be from `1s` to `8760h`, a year")
}

fn offline(node: &Node<'_>, faults: &mut Faults) -> Option<Duration> {
    let longest = parsed(node, faults, parse_duration)?;
    if (MIN_OFFLINE..=MAX_OFFLINE).contains(&longest) {
        return Some(longest);
    }
    faults.refuse(&node.place, "must be from `1s` to `168h`, a week")
}

fn reference(node: &Node<'_>, faults: &mut Faults) -> Option<Source> {
    parsed(node, faults, Reference::parse).map(Source::From)
}

fn composition(node: &Node<'_>, faults: &mut Faults) -> Option<Source> {
    let text = text(node, faults)?;
    without_nul(node, text, faults)?;
    match Composition::parse(text) {
        Ok(composition) => Some(Source::Compose(composition)),
        Err(errors) => {
            errors.iter().for_each(|error| faults.add(&node.place, error));
            None
        }
    }
}

/// Neither a variable nor a file of text can carry a NUL byte.
fn without_nul(node: &Node<'_>, text: &str, faults: &mut Faults) -> Option<Arc<str>> {
    if text.contains('\0') {
        return faults.refuse(&node.place, "has a NUL character");
    }
    Some(Arc::from(text))
}

fn parsed<T, E: fmt::Display>(
    node: &Node<'_>,
    faults: &mut Faults,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> Option<T> {
    let text = text(node, faults)?;
    faults.check(&node.place, parse(text))
}

fn text<'a>(node: &Node<'a>, faults: &mut Faults) -> Option<&'a str> {
    let DeValue::String(text) = node.value else {
        node.wrong("a text", faults);
        return None;
    };
    Some(text)
}

const VARIABLE_FORM: &str =
    "a text in quotes, { from = \"BACKEND/PATH#FIELD\" } or { compose = \"…${NAME}…\" }";
const FILE_FORM: &str =
    "{ from = \"BACKEND/PATH#FIELD\" }, { compose = \"…${NAME}…\" } or { content = \"…\" }";
const LOOKS_COMPOSED: &str =
    "has `${` in a literal; write { compose = \"…\" }, with `$${` for the text `${` itself";
const LITERAL_ONLY: &str =
    "says which code runs, so it takes a literal only, not what a store or a composition gives";
const NO_ENVIRONMENT: &str = "the document has no environment; begin one with [environment.\"NAME\"]";

const MAX_DOCUMENT: usize = 1 << 20;
const MAX_ENVIRONMENTS: usize = 256;
const MAX_PARENTS: usize = 16;
const MAX_VARIABLES: usize = 1_000;
const MAX_FILES: usize = 256;
/// Name and value of a variable. Linux takes 32 pages of 4 KiB for `NAME=VALUE` and its NUL (`MAX_ARG_STRLEN`,
/// execve(2)).
pub(super) const MAX_VARIABLE: usize = 32 * 4096 - 2;
const MIN_STALE: Duration = Duration::from_secs(1);
const MAX_STALE: Duration = Duration::from_secs(8_760 * 60 * 60);
const MIN_OFFLINE: Duration = Duration::from_secs(1);
/// What is taken away meanwhile does not reach a copy, so none is kept for long.
const MAX_OFFLINE: Duration = Duration::from_secs(168 * 60 * 60);

#[cfg(test)]
mod tests;
