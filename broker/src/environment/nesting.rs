//! Compositions of compositions: each variable after those it is composed of, and no circle.

use std::collections::BTreeMap;

use super::definition::{Entry, File};
use super::flat::{FlattenError, Inherited};
use super::name::{EntryName, FilePath, VariableName};

/// Puts each variable after those it is composed of, and checks that files name variables that are there.
pub(super) fn order(
    vars: &BTreeMap<VariableName, Inherited<Entry>>,
    files: &BTreeMap<FilePath, Inherited<File>>,
) -> Result<Vec<VariableName>, FlattenError> {
    let mut walk = Nesting { vars, chain: Vec::new(), depths: BTreeMap::new(), order: Vec::new() };
    for (name, entry) in vars {
        walk.visit(name, entry)?;
    }
    for (path, file) in files {
        if let Some(name) = file.definition.entry.source.variables().find(|name| !vars.contains_key(*name)) {
            let entry = EntryName::File(path.clone());
            return Err(FlattenError::UnknownVariable {
                entry,
                origin: file.origin.clone(),
                name: name.clone(),
            });
        }
    }
    Ok(walk.order)
}

struct Nesting<'a> {
    vars: &'a BTreeMap<VariableName, Inherited<Entry>>,
    /// From the variable where the walk began to the one being visited.
    chain: Vec<&'a VariableName>,
    /// How deep compositions nest below each variable visited.
    depths: BTreeMap<&'a VariableName, usize>,
    order: Vec<VariableName>,
}

impl<'a> Nesting<'a> {
    /// Answers how deep compositions nest below the variable. The chain bounds the recursion; the depths make the limit
    /// hold for compositions that the walk comes to from the middle.
    fn visit(&mut self, name: &'a VariableName, entry: &'a Inherited<Entry>) -> Result<usize, FlattenError> {
        if let Some(depth) = self.depths.get(name) {
            return Ok(*depth);
        }
        if self.chain.contains(&name) {
            let circle = self.chain.iter().copied().skip_while(|other| *other != name).chain([name]);
            return Err(FlattenError::VariableCycle { chain: circle.cloned().collect() });
        }
        if let Some(top) = self.chain.first().filter(|_| self.chain.len() > MAX_NESTING) {
            return Err(FlattenError::TooNested { name: VariableName::clone(top) });
        }
        self.chain.push(name);
        let mut depth = 0;
        for used in entry.definition.source.variables() {
            let Some(found) = self.vars.get(used) else {
                return Err(FlattenError::UnknownVariable {
                    entry: EntryName::Variable(name.clone()),
                    origin: entry.origin.clone(),
                    name: used.clone(),
                });
            };
            depth = depth.max(self.visit(used, found)? + 1);
        }
        self.chain.pop();
        if depth > MAX_NESTING {
            return Err(FlattenError::TooNested { name: name.clone() });
        }
        self.depths.insert(name, depth);
        self.order.push(name.clone());
        Ok(depth)
    }
}

/// Far beyond use, and well within a stack.
const MAX_NESTING: usize = 16;
