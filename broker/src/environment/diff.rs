//! How two environments differ: names only, never a value; a literal is a value too.

use std::collections::BTreeMap;

use super::definition::{Contract, Entry, File, Source};
use super::flat::{Flat, Inherited};
use super::name::EntryName;

/// Compares what two environments define, inherited entries included; where an entry comes from does not count, nor
/// do changes of the variables that it is composed of. The environment as a whole first, then variables, then files, in
/// order of their names; what is the same is left out.
pub fn diff(left: &Flat, right: &Flat) -> Vec<Difference> {
    let mut differences = Vec::new();
    if left.offline() != right.offline() {
        differences.push(Difference { entry: None, change: Change::Changed(vec![Key::Offline]) });
    }
    differences.extend(compare(left.vars(), right.vars(), EntryName::Variable, entry_keys));
    differences.extend(compare(left.files(), right.files(), EntryName::File, file_keys));
    differences
}

/// One thing that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Nothing for the environment as a whole.
    pub entry: Option<EntryName>,
    pub change: Change,
}

/// How it differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Only on the right.
    Added,
    /// Only on the left.
    Removed,
    /// On both sides, with these keys of its definition not the same.
    Changed(Vec<Key>),
}

/// A key of a definition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    Literal,
    From,
    Compose,
    Mode,
    OnChange,
    MaxStale,
    /// Of the environment as a whole.
    Offline,
}

impl Key {
    /// The name in answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Literal => "literal",
            Self::From => "from",
            Self::Compose => "compose",
            Self::Mode => "mode",
            Self::OnChange => "on_change",
            Self::MaxStale => "max_stale",
            Self::Offline => "offline",
        }
    }
}

fn compare<K: Ord + Clone, T>(
    left: &BTreeMap<K, Inherited<T>>,
    right: &BTreeMap<K, Inherited<T>>,
    named: impl Fn(K) -> EntryName,
    keys: impl Fn(&T, &T) -> Vec<Key>,
) -> Vec<Difference> {
    let mut changes = BTreeMap::new();
    for (name, old) in left {
        let change = match right.get(name).map(|new| keys(&old.definition, &new.definition)) {
            None => Change::Removed,
            Some(keys) if keys.is_empty() => continue,
            Some(keys) => Change::Changed(keys),
        };
        changes.insert(name, change);
    }
    changes.extend(right.keys().filter(|name| !left.contains_key(name)).map(|name| (name, Change::Added)));
    let differences = changes.into_iter();
    differences.map(|(name, change)| Difference { entry: Some(named(name.clone())), change }).collect()
}

fn entry_keys(left: &Entry, right: &Entry) -> Vec<Key> {
    let mut keys = Vec::new();
    if left.source != right.source {
        let (old, new) = (source_key(&left.source), source_key(&right.source));
        keys.push(old);
        keys.extend((new != old).then_some(new));
    }
    keys.extend(contract_keys(left.contract, right.contract));
    keys
}

fn file_keys(left: &File, right: &File) -> Vec<Key> {
    let mut keys = entry_keys(&left.entry, &right.entry);
    keys.extend((left.mode != right.mode).then_some(Key::Mode));
    keys
}

fn contract_keys(left: Contract, right: Contract) -> impl Iterator<Item = Key> {
    let on_change = (left.on_change != right.on_change).then_some(Key::OnChange);
    let max_stale = (left.max_stale != right.max_stale).then_some(Key::MaxStale);
    on_change.into_iter().chain(max_stale)
}

fn source_key(source: &Source) -> Key {
    match source {
        Source::Literal(_) => Key::Literal,
        Source::From(_) => Key::From,
        Source::Compose(_) => Key::Compose,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::environment::{document, flatten};

    fn flat(entries: &str) -> Flat {
        let text = format!("[environment.e]\n{entries}");
        let definition = Arc::new(document::parse(&text).expect("document").remove(0));
        flatten("e", |_| Some(Arc::clone(&definition))).expect("flat")
    }

    fn shown(left: &str, right: &str) -> Vec<String> {
        let show = |Difference { entry, change }: &Difference| {
            let entry = entry.as_ref().map_or("environment".to_owned(), ToString::to_string);
            match change {
                Change::Added => format!("{entry} added"),
                Change::Removed => format!("{entry} removed"),
                Change::Changed(keys) => {
                    let keys: Vec<_> = keys.iter().map(|key| key.as_str()).collect();
                    format!("{entry}: {}", keys.join(", "))
                }
            }
        };
        diff(&flat(left), &flat(right)).iter().map(show).collect()
    }

    #[test]
    fn what_was_added_and_removed_is_named() {
        let expected = ["variable `A` removed", "variable `C` added", "file `f` added"];
        let right = "vars.B = 'b'\nvars.C = 'c'\nfiles.f = { content = '' }\n";
        assert_eq!(shown("vars.A = 'a'\nvars.B = 'b'\n", right), expected);
    }

    #[test]
    fn what_changed_says_which_keys() {
        let left = "vars.A = 'a'\nvars.B = { from = 'v/b' }\nvars.C = { from = 'v/c', max_stale = '1m' }\n";
        let right =
            "vars.A = 'x'\nvars.B = { compose = '${v/b}' }\nvars.C = { from = 'v/d', on_change = 'none' }\n";
        let expected = [
            "variable `A`: literal",
            "variable `B`: from, compose",
            "variable `C`: from, on_change, max_stale",
        ];
        assert_eq!(shown(left, right), expected);
    }

    #[test]
    fn a_file_may_differ_in_its_mode_alone() {
        let left = "files.f = { from = 'v/f' }\n";
        assert_eq!(shown(left, "files.f = { from = 'v/f', mode = '0440' }\n"), ["file `f`: mode"]);
    }

    #[test]
    fn whether_a_copy_may_be_kept_and_how_long_differs_for_the_whole() {
        assert_eq!(shown("vars.A = 'a'\n", "offline = '8h'\nvars.A = 'a'\n"), ["environment: offline"]);
        assert_eq!(shown("offline = '8h'\n", "offline = '480m'\n"), Vec::<String>::new());
    }

    #[test]
    fn the_same_differs_in_nothing() {
        let same = "vars.A = { compose = '${v/b}' }\nfiles.f = { content = 'x', mode = '400' }\n";
        assert_eq!(shown(same, same), Vec::<String>::new());
    }
}
