//! Faults of a document, and where they stand in it.

use std::fmt;

use super::name::excerpt;

/// One thing wrong with a document. Names keys, never the value found: it may be a secret in the wrong place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// `environment."payments/prod".vars.DATABASE_URL`; empty when it is about the document as a whole.
    pub key: String,
    /// Where the key stands; absent when it is about the document as a whole.
    pub position: Option<Position>,
    /// What is wrong and what is wanted.
    pub message: String,
}

impl Fault {
    /// A fault of the document as a whole.
    pub(super) fn whole(message: String) -> Self {
        Self { key: String::new(), position: None, message }
    }

    /// What keeps the text from being TOML.
    pub(super) fn syntax(text: &str, error: &toml::de::Error) -> Self {
        let position = error.span().map(|span| Position::of(text, span.start));
        // Its Display would quote the line.
        Self { key: String::new(), position, message: error.message().to_owned() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(Position { line, column }) = self.position {
            write!(f, "line {line}, column {column}: ")?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)
    }
}

/// A place in a document. Both count from 1; columns count characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    pub line: usize,
    pub column: usize,
}

impl Position {
    fn of(text: &str, at: usize) -> Self {
        let before = text.get(..at).unwrap_or(text);
        let line = before.rsplit_once('\n').map_or(before, |(_, line)| line);
        Self { line: before.matches('\n').count() + 1, column: line.chars().count() + 1 }
    }
}

/// The way from the root of a document to one key, spelt out only when something is wrong there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) parent: Option<&'a Place<'a>>,
    pub(super) step: Step<'a>,
    /// Byte offset of the key.
    pub(super) at: usize,
}

/// One step of that way.
#[derive(Debug, Clone, Copy)]
pub(super) enum Step<'a> {
    Key(&'a str),
    Item(usize),
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            write!(f, "{parent}")?;
        }
        match self.step {
            Step::Item(index) => write!(f, "[{index}]"),
            Step::Key(key) => {
                if self.parent.is_some() {
                    f.write_str(".")?;
                }
                let shown = excerpt(key, MAX_KEY);
                if is_bare(key) { f.write_str(&shown) } else { write!(f, "\"{shown}\"") }
            }
        }
    }
}

/// Whether TOML lets a key stand without quotes.
pub(super) fn is_bare(key: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    !key.is_empty() && key.bytes().all(allowed)
}

/// Faults found so far, the first hundred of them; a document of a mebibyte could have a quarter of a million.
#[derive(Debug, Default)]
pub(super) struct Faults {
    found: Vec<(usize, String, String)>,
    left_out: usize,
}

impl Faults {
    /// Records a fault.
    pub(super) fn add(&mut self, place: &Place<'_>, message: impl fmt::Display) {
        if self.found.len() < MAX_FAULTS {
            self.found.push((place.at, place.to_string(), message.to_string()));
        } else {
            self.left_out += 1;
        }
    }

    /// Records a fault and reads as nothing, so that it can stand at the end of a match.
    pub(super) fn refuse<T>(&mut self, place: &Place<'_>, message: impl fmt::Display) -> Option<T> {
        self.add(place, message);
        None
    }

    /// Records the error, if it is one.
    pub(super) fn check<T>(&mut self, place: &Place<'_>, read: Result<T, impl fmt::Display>) -> Option<T> {
        match read {
            Ok(read) => Some(read),
            Err(error) => self.refuse(place, error),
        }
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// The faults of `text` in the order of their places.
    pub(super) fn into_list(mut self, text: &str) -> Vec<Fault> {
        self.found.sort_by_key(|(at, ..)| *at);
        let place = |(at, key, message)| Fault { key, position: Some(Position::of(text, at)), message };
        let mut list: Vec<_> = self.found.into_iter().map(place).collect();
        if self.left_out > 0 {
            list.push(Fault::whole(format!("has {} faults more", self.left_out)));
        }
        list
    }
}

const MAX_FAULTS: usize = 100;
const MAX_KEY: usize = 255;
