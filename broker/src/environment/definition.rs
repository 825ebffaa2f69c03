//! One environment as it is defined, by itself: what it extends is a name, not yet resolved.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use bursar_core::Reference;
use jiff::fmt::friendly::SpanPrinter;
use toml::Value;

use super::composition::{Composition, Part};
use super::fault::is_bare;
use super::name::{EnvironmentName, FilePath, VariableName};

/// A checked definition of one environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definition {
    pub name: EnvironmentName,
    /// Each at most once; later ones win over earlier ones, and the environment itself over all.
    pub extends: Vec<EnvironmentName>,
    /// How long a copy of it may be kept on its user's machine; absent: none may. Not inherited.
    pub offline: Option<Duration>,
    pub vars: BTreeMap<VariableName, Entry>,
    pub files: BTreeMap<FilePath, File>,
}

impl Definition {
    /// The definition as a TOML document of its own, which [`super::document::parse`] reads back as the same
    /// definition: what a ledger keeps. To tell whether something changed, compare definitions; another release may
    /// quote the same text another way.
    pub fn to_toml(&self) -> String {
        let name = key(self.name.as_str());
        let mut text = format!("[environment.{name}]\n");
        if !self.extends.is_empty() {
            let parents: Vec<_> = self.extends.iter().map(|parent| quoted(parent.as_str())).collect();
            text.push_str(&format!("extends = [{}]\n", parents.join(", ")));
        }
        if let Some(longest) = &self.offline {
            text.push_str(&format!("offline = {}\n", duration(longest)));
        }
        if !self.vars.is_empty() {
            text.push_str(&format!("\n[environment.{name}.vars]\n"));
        }
        for (variable, entry) in &self.vars {
            let value = match &entry.source {
                Source::Literal(literal) => quoted(literal),
                _ => inline_table(entry, None),
            };
            text.push_str(&format!("{} = {value}\n", key(variable.as_str())));
        }
        if !self.files.is_empty() {
            text.push_str(&format!("\n[environment.{name}.files]\n"));
        }
        for (path, file) in &self.files {
            let value = inline_table(&file.entry, Some(file.mode));
            text.push_str(&format!("{} = {value}\n", key(path.as_str())));
        }
        text
    }
}

/// What a variable or a file holds, and what is promised about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub source: Source,
    pub contract: Contract,
}

/// A file of an environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    pub entry: Entry,
    pub mode: Mode,
}

/// Where a value comes from.
#[derive(Clone, PartialEq, Eq)]
pub enum Source {
    /// Text that the definition holds itself.
    Literal(Arc<str>),
    /// The value that a reference means, as it is.
    From(Reference),
    /// Text with values put into it.
    Compose(Composition),
}

impl Source {
    /// The references named in it, in order.
    pub fn references(&self) -> impl Iterator<Item = &Reference> {
        let (whole, parts) = match self {
            Self::Literal(_) => (None, Default::default()),
            Self::From(reference) => (Some(reference), Default::default()),
            Self::Compose(composition) => (None, composition.parts()),
        };
        whole.into_iter().chain(parts.iter().filter_map(|part| match part {
            Part::Reference(reference) => Some(reference),
            Part::Text(_) | Part::Variable(_) => None,
        }))
    }

    /// The other variables named in it, in order.
    pub fn variables(&self) -> impl Iterator<Item = &VariableName> {
        let parts = match self {
            Self::Literal(_) | Self::From(_) => Default::default(),
            Self::Compose(composition) => composition.parts(),
        };
        parts.iter().filter_map(|part| match part {
            Part::Variable(name) => Some(name),
            Part::Text(_) | Part::Reference(_) => None,
        })
    }
}

/// What a workload may expect of a value while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Contract {
    /// What to do when the value changes; absent: as the delivery is configured.
    pub on_change: Option<OnChange>,
    /// How old the value may become before it must not be used; absent: without a limit of this entry.
    pub max_stale: Option<Duration>,
}

/// What to do when a value changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnChange {
    /// Nothing.
    None,
    /// End the workload and start it with the new values.
    Restart,
    /// Send it a signal.
    Signal,
    /// Run a command.
    Hook,
}

impl OnChange {
    /// The name in a document.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Restart => "restart",
            Self::Signal => "signal",
            Self::Hook => "hook",
        }
    }
}

impl FromStr for OnChange {
    type Err = UnknownOnChange;
    fn from_str(name: &str) -> Result<Self, Self::Err> {
        [Self::None, Self::Restart, Self::Signal, Self::Hook]
            .into_iter()
            .find(|on_change| on_change.as_str() == name)
            .ok_or(UnknownOnChange)
    }
}

/// Text that is none of the things to do on a change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be one of `restart`, `signal`, `hook` and `none`")]
pub struct UnknownOnChange;

/// Permission bits of a file, 0 to 0o777.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Mode(u32);

impl Mode {
    /// The bits.
    pub fn bits(self) -> u32 {
        self.0
    }
}

/// Readable by its owner and nobody else.
impl Default for Mode {
    fn default() -> Self {
        Self(0o400)
    }
}

impl FromStr for Mode {
    type Err = MalformedMode;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // `from_str_radix` alone would take a sign.
        let digits = matches!(text.len(), 3 | 4) && text.bytes().all(|byte| byte.is_ascii_digit());
        let bits = u32::from_str_radix(text, 8).ok().filter(|bits| digits && *bits <= 0o777);
        bits.map(Self).ok_or(MalformedMode)
    }
}

/// Text that is no mode.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be permission bits in octal, from \"0000\" to \"0777\"")]
pub struct MalformedMode;

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

impl fmt::Debug for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A literal is not shown: it may be a credential that somebody put into a definition by mistake.
impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Literal(_) => f.write_str("Literal(..)"),
            Self::From(reference) => write!(f, "From(`{reference}`)"),
            Self::Compose(composition) => write!(f, "Compose({composition:?})"),
        }
    }
}

fn inline_table(entry: &Entry, mode: Option<Mode>) -> String {
    let (source, text) = match &entry.source {
        Source::Literal(literal) => ("content", quoted(literal)),
        Source::From(reference) => ("from", quoted(&reference.to_string())),
        Source::Compose(composition) => ("compose", quoted(composition.as_str())),
    };
    let mut pairs = vec![format!("{source} = {text}")];
    pairs.extend(mode.map(|mode| format!("mode = \"{mode}\"")));
    pairs.extend(entry.contract.on_change.map(|what| format!("on_change = \"{}\"", what.as_str())));
    pairs.extend(entry.contract.max_stale.map(|most| format!("max_stale = {}", duration(&most))));
    format!("{{ {} }}", pairs.join(", "))
}

fn duration(duration: &Duration) -> String {
    format!("\"{}\"", SpanPrinter::new().unsigned_duration_to_string(duration))
}

fn key(key: &str) -> String {
    if is_bare(key) { key.to_owned() } else { quoted(key) }
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_is_three_or_four_octal_digits() {
        for (text, bits) in [("0400", 0o400), ("640", 0o640), ("0000", 0), ("0777", 0o777)] {
            assert_eq!(text.parse::<Mode>().map(Mode::bits), Ok(bits));
        }
        for text in ["", "4", "0800", "1777", "4755", "00400", "+400", "0o400", "rw-------"] {
            assert_eq!(text.parse::<Mode>(), Err(MalformedMode), "`{text}` must be refused");
        }
    }

    #[test]
    fn a_literal_is_not_shown_by_debug() {
        let source = Source::Literal(Arc::from("canary"));
        assert!(!format!("{source:?}").contains("canary"));
    }
}
