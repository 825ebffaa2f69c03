//! Inheritance: which definitions an environment is laid over, and in which order.
//!
//! Each environment counts once, however many ways lead to it. It comes after all that it extends, and what it extends
//! comes in the order it says; the last one wins. This is C3, the order in which Python looks up methods, turned round.
//! Laying whole parents over each other was refused: with `extends = ["payments", "region"]`, both over `company`, the
//! second copy of `company` would undo what `payments` says otherwise.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::definition::Definition;
use super::flat::FlattenError;
use super::name::EnvironmentName;

/// The definitions that make up an environment, lowest first, its own last.
pub(super) fn lineage(
    name: &str,
    lookup: impl Fn(&str) -> Option<Arc<Definition>>,
) -> Result<Vec<Arc<Definition>>, FlattenError> {
    let own = lookup(name).ok_or_else(|| FlattenError::unknown(name))?;
    let mut walk = Walk { lookup, chain: Vec::new(), lines: BTreeMap::new() };
    walk.visit(&own)?;
    let order = walk.lines.get(&own.name).map(|line| line.order.clone()).unwrap_or_default();
    Ok(order.into_iter().filter_map(|name| walk.lines.remove(&name)).map(|line| line.definition).collect())
}

struct Walk<Lookup> {
    lookup: Lookup,
    /// From the environment asked for to the one being visited.
    chain: Vec<EnvironmentName>,
    lines: BTreeMap<EnvironmentName, Line>,
}

/// An environment whose own lineage is known.
struct Line {
    definition: Arc<Definition>,
    /// Lowest first, itself last.
    order: Vec<EnvironmentName>,
    /// The longest chain of `extends` below it.
    depth: usize,
}

impl<Lookup: Fn(&str) -> Option<Arc<Definition>>> Walk<Lookup> {
    fn visit(&mut self, definition: &Arc<Definition>) -> Result<(), FlattenError> {
        let name = &definition.name;
        self.chain.push(name.clone());
        for parent in &definition.extends {
            if self.lines.contains_key(parent) {
                continue;
            }
            if self.chain.contains(parent) {
                let circle = self.chain.iter().skip_while(|name| *name != parent).chain([parent]);
                return Err(FlattenError::Cycle { chain: circle.cloned().collect() });
            }
            if let Some(top) = self.chain.first().filter(|_| self.chain.len() > MAX_DEPTH) {
                return Err(FlattenError::TooDeep { name: top.clone() });
            }
            let found = (self.lookup)(parent.as_str()).ok_or_else(|| FlattenError::MissingParent {
                name: parent.clone(),
                extended_by: name.clone(),
            })?;
            self.visit(&found)?;
        }
        self.chain.pop();
        let line = self.line(definition)?;
        if self.lines.len() >= MAX_LINEAGE {
            return Err(FlattenError::TooManyParents { name: name.clone() });
        }
        self.lines.insert(name.clone(), line);
        Ok(())
    }

    /// Merges the lines of the parents, all known by now.
    fn line(&self, definition: &Arc<Definition>) -> Result<Line, FlattenError> {
        let name = &definition.name;
        let parents = definition.extends.iter().filter_map(|parent| self.lines.get(parent));
        let depth = parents.clone().map(|line| line.depth + 1).max().unwrap_or_default();
        if depth > MAX_DEPTH {
            return Err(FlattenError::TooDeep { name: name.clone() });
        }
        let mut lists = vec![definition.extends.clone()];
        lists.extend(parents.map(|line| line.order.clone()));
        let mut order = merge(lists).map_err(|(first, second)| FlattenError::Disorder {
            name: name.clone(),
            first,
            second,
        })?;
        order.push(name.clone());
        Ok(Line { definition: Arc::clone(definition), order, depth })
    }
}

/// One list that keeps the order of each of `lists`. Taken from the end: the last name of the last list that no other
/// list puts below something else.
///
/// # Errors
/// Two names of which each has to come before the other.
fn merge(
    mut lists: Vec<Vec<EnvironmentName>>,
) -> Result<Vec<EnvironmentName>, (EnvironmentName, EnvironmentName)> {
    let mut merged = Vec::new();
    loop {
        lists.retain(|list| !list.is_empty());
        let mut ends = lists.iter().rev().filter_map(|list| list.last());
        let Some(top) = ends.clone().next() else { break };
        let Some(next) = ends.find(|name| above(name, &lists).is_none()).cloned() else {
            return Err(contradiction(top, &lists));
        };
        for list in &mut lists {
            list.pop_if(|name| *name == next);
        }
        merged.push(next);
    }
    merged.reverse();
    Ok(merged)
}

/// The end of a list in which `name` stands further down.
fn above<'a>(name: &EnvironmentName, lists: &'a [Vec<EnvironmentName>]) -> Option<&'a EnvironmentName> {
    lists.iter().filter(|list| list.contains(name)).filter_map(|list| list.last()).find(|end| *end != name)
}

/// Every end is below another end, so going up comes round: the first name met again, and what it is below of.
fn contradiction(
    top: &EnvironmentName,
    lists: &[Vec<EnvironmentName>],
) -> (EnvironmentName, EnvironmentName) {
    let mut met = vec![top];
    loop {
        let last = met.last().copied().unwrap_or(top);
        let next = above(last, lists).unwrap_or(last);
        if met.contains(&next) {
            return (last.clone(), next.clone());
        }
        met.push(next);
    }
}

const MAX_DEPTH: usize = 16;
const MAX_LINEAGE: usize = 64;
