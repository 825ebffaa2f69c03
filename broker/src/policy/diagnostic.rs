//! Faults of a set of files, with their positions.

use std::fmt;

use cedar_policy::ffi::DetailedError;

/// One fault, or one thing that looks like a mistake, in a file of the set.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Diagnostic {
    pub file: String,
    /// From 1; 0 when it is about the file as a whole.
    pub line: u32,
    /// In characters, from 1; 0 when it is about the file as a whole.
    pub column: u32,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
}

impl Diagnostic {
    /// About a file as a whole.
    pub(super) fn whole(file: &str, message: impl Into<String>) -> Self {
        Self { file: file.to_owned(), line: 0, column: 0, message: message.into(), help: None }
    }

    /// With advice.
    pub(super) fn advise(self, help: &str) -> Self {
        Self { help: Some(help.to_owned()), ..self }
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.line, self.column) {
            (0, _) => write!(f, "{}: {}", self.file, self.message)?,
            (line, column) => write!(f, "{}:{line}:{column}: {}", self.file, self.message)?,
        }
        self.help.as_ref().map_or(Ok(()), |help| write!(f, "\n  help: {help}"))
    }
}

/// A file's text with the starts of its lines, for turning offsets into positions.
pub(super) struct Source<'a> {
    pub(super) name: &'a str,
    pub(super) text: &'a str,
    lines: Vec<usize>,
}

impl<'a> Source<'a> {
    pub(super) fn new(name: &'a str, text: &'a str) -> Self {
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { name, text, lines }
    }

    /// About the text at `offset`, in bytes.
    pub(super) fn at(&self, offset: usize, message: impl Into<String>) -> Diagnostic {
        let line = self.lines.partition_point(|start| *start <= offset);
        let start = self.lines.get(line.saturating_sub(1)).copied().unwrap_or_default();
        let before = self.text.get(start..offset).unwrap_or_default();
        Diagnostic {
            line: u32::try_from(line).unwrap_or(u32::MAX),
            column: u32::try_from(before.chars().count() + 1).unwrap_or(u32::MAX),
            ..Diagnostic::whole(self.name, message)
        }
    }

    /// What Cedar says about this text.
    pub(super) fn cedar(&self, error: DetailedError) -> Diagnostic {
        let first = error.source_locations.iter().min_by_key(|label| label.loc.start);
        let diagnostic = match first {
            Some(label) => self.at(label.loc.start, error.message),
            None => Diagnostic::whole(self.name, error.message),
        };
        let label = first.and_then(|label| label.label.clone());
        let help: Vec<String> = label.into_iter().chain(error.help).collect();
        Diagnostic { help: (!help.is_empty()).then(|| help.join("; ")), ..diagnostic }
    }
}

/// Sorts `diagnostics` by place and leaves out what goes beyond a readable number.
pub(super) fn in_order(mut diagnostics: Vec<Diagnostic>) -> Vec<Diagnostic> {
    diagnostics.sort_unstable();
    diagnostics.dedup();
    let left_out = diagnostics.len().saturating_sub(MOST);
    if left_out > 0 {
        diagnostics.truncate(MOST);
        diagnostics.push(Diagnostic::whole("", format!("and {left_out} more")));
    }
    diagnostics
}

/// A faulty set must not make an answer of any size.
const MOST: usize = 100;
