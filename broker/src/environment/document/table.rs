//! A cursor over parsed TOML that knows where it is and which keys were asked for.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::environment::fault::{Faults, Place, Step};

/// One value, with the key that leads to it.
#[derive(Debug)]
pub(super) struct Node<'a> {
    pub(super) place: Place<'a>,
    /// The last step of the place, empty for an item of a list.
    pub(super) key: &'a str,
    pub(super) value: &'a DeValue<'a>,
}

impl Node<'_> {
    /// Records that the value is not what was wanted. It is not shown: it may be a secret in the wrong place.
    pub(super) fn wrong(&self, wanted: &str, faults: &mut Faults) {
        let found = match self.value {
            DeValue::String(_) => "a text",
            DeValue::Integer(_) => "a whole number",
            DeValue::Float(_) => "a fraction",
            DeValue::Boolean(_) => "a truth value",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        faults.add(&self.place, format!("must be {wanted}, not {found}"));
    }
}

/// A table of the document. Keys that nobody asked for are faults once it is finished.
#[derive(Debug)]
pub(super) struct Table<'a> {
    place: Option<&'a Place<'a>>,
    entries: &'a DeTable<'a>,
    asked: Vec<&'static str>,
}

impl<'a> Table<'a> {
    /// The document itself.
    pub(super) fn root(entries: &'a DeTable<'a>) -> Self {
        Self { place: None, entries, asked: Vec::new() }
    }

    /// The table that a node is, or the fault that it is none but should be `wanted`.
    pub(super) fn of(node: &'a Node<'a>, wanted: &str, faults: &mut Faults) -> Option<Self> {
        match node.value {
            DeValue::Table(entries) => Some(Self { place: Some(&node.place), entries, asked: Vec::new() }),
            _ => {
                node.wrong(wanted, faults);
                None
            }
        }
    }

    /// The value under a key, if there is one.
    pub(super) fn take(&mut self, key: &'static str) -> Option<Node<'a>> {
        self.asked.push(key);
        let (key, value) = self.entries.get_key_value(key)?;
        Some(node(self.place, key, value))
    }

    /// Makes faults of the keys that nobody asked for.
    pub(super) fn finish(self, faults: &mut Faults) {
        for (key, value) in self.entries {
            if !self.asked.contains(&key.get_ref().as_ref()) {
                let known = self.asked.join("`, `");
                let unknown = node(self.place, key, value);
                faults.add(&unknown.place, format!("is not a key here; the keys are `{known}`"));
            }
        }
    }
}

/// Hands out every entry of a table whose keys are names that the author chose, `most` of them at most.
pub(super) fn each(
    table: &Node<'_>,
    most: usize,
    faults: &mut Faults,
    mut read: impl FnMut(&Node<'_>, &mut Faults),
) {
    let DeValue::Table(entries) = table.value else { return table.wrong("a table", faults) };
    if entries.len() > most {
        faults.add(&table.place, format!("has {} entries; at most {most} are allowed", entries.len()));
    }
    for (key, value) in entries {
        read(&node(Some(&table.place), key, value), faults);
    }
}

/// Hands out every item of a list, `most` of them at most.
pub(super) fn items(
    list: &Node<'_>,
    most: usize,
    faults: &mut Faults,
    mut read: impl FnMut(&Node<'_>, &mut Faults),
) {
    let DeValue::Array(found) = list.value else { return list.wrong("a list of texts", faults) };
    if found.len() > most {
        faults.add(&list.place, format!("has {} items; at most {most} are allowed", found.len()));
    }
    for (index, value) in found.iter().enumerate() {
        let place = Place { parent: Some(&list.place), step: Step::Item(index), at: value.span().start };
        read(&Node { place, key: "", value: value.get_ref() }, faults);
    }
}

fn node<'a>(
    parent: Option<&'a Place<'a>>,
    key: &'a Spanned<std::borrow::Cow<'a, str>>,
    value: &'a Spanned<DeValue<'a>>,
) -> Node<'a> {
    let place = Place { parent, step: Step::Key(key.get_ref()), at: key.span().start };
    Node { place, key: key.get_ref(), value: value.get_ref() }
}
