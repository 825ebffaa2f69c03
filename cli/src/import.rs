//! Files of several secrets, as people have them before they have a broker: `.env`, JSON and YAML.
//!
//! A value is what stands in the file and nothing else: no variable is put in for `$NAME`, and a number keeps the digits
//! that were written. What could be read in two ways is refused with its line.

use std::path::Path;

use bursar_core::Secret;
use bursar_core::secret::json::{self, Members};
use serde_json::value::RawValue;

mod dotenv;
mod yaml;

/// What a file can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// `NAME=VALUE`, one a line
    Env,
    /// One object
    Json,
    /// One mapping
    Yaml,
}

/// One thing of a file, under its name.
pub(crate) type Named<T> = (String, T);

/// What stands under a name.
pub(crate) enum Entry {
    Value(Secret),
    Fields(Vec<Named<Secret>>),
}

/// A file that cannot be read. It names lines and names, and no values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    #[error("line {line}: {what}")]
    Line { line: usize, what: &'static str },
    #[error("`{name}` is there twice")]
    Twice { name: String },
    #[error("it is not one JSON object, or one whose names are there twice")]
    NoObject,
    #[error("it holds nothing")]
    Empty,
}

impl Format {
    /// What the name of a file says.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?;
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("json") => Some(Self::Json),
            Some("yaml" | "yml") => Some(Self::Yaml),
            Some("env") => Some(Self::Env),
            _ if name == ".env" || name.starts_with(".env.") => Some(Self::Env),
            _ => None,
        }
    }

    /// The entries of a file, in its order.
    ///
    /// # Errors
    /// [`Fault`].
    pub(crate) fn read(self, text: &str) -> Result<Vec<Named<Entry>>, Fault> {
        let entries = match self {
            Self::Env => dotenv::read(text)?,
            Self::Json => object(text)?,
            Self::Yaml => yaml::read(text)?,
        };
        if entries.is_empty() {
            return Err(Fault::Empty);
        }
        unique(&entries)?;
        Ok(entries)
    }
}

/// A member that is an object has fields; any other is a value: a text its content, all else its JSON text.
fn object(text: &str) -> Result<Vec<Named<Entry>>, Fault> {
    let members: Members<'_> = serde_json::from_str(text).map_err(|_| Fault::NoObject)?;
    let entry = |(name, value): (String, &RawValue)| {
        let fields: Option<Members<'_>> = serde_json::from_str(value.get()).ok();
        let entry = match fields {
            Some(fields) => Entry::Fields(fields.into_iter().map(named).collect::<Result<_, _>>()?),
            None => Entry::Value(json::secret(value).ok_or(Fault::NoObject)?),
        };
        Ok((name, entry))
    };
    members.into_iter().map(entry).collect()
}

fn named((name, value): (String, &RawValue)) -> Result<Named<Secret>, Fault> {
    Ok((name, json::secret(value).ok_or(Fault::NoObject)?))
}

fn unique<T>(entries: &[Named<T>]) -> Result<(), Fault> {
    let mut seen = std::collections::BTreeSet::new();
    match entries.iter().find(|(name, _)| !seen.insert(name)) {
        Some((name, _)) => Err(Fault::Twice { name: name.clone() }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
