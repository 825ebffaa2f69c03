//! Rendering: the values that were read put into the environment. The one place of this module where secrets are.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;

use bursar_core::{Reference, Secret};

use super::composition::Part;
use super::definition::{Entry, Source};
use super::document::MAX_VARIABLE;
use super::flat::Flat;
use super::name::{EntryName, FilePath, VariableName};

impl Flat {
    /// Makes every value of the environment, or none. `values` answers what was read for each reference of
    /// [`Flat::references`]. Values are bytes; only a NUL in a variable is refused.
    ///
    /// # Errors
    /// [`RenderError`], which names entries and references and never a value.
    pub fn render(
        &self,
        values: impl Fn(&Reference) -> Option<Arc<Secret>>,
    ) -> Result<Rendered, RenderError> {
        let mut rendered = Rendered { vars: BTreeMap::new(), files: BTreeMap::new() };
        let mut room = MAX_TOTAL;
        for (name, entry) in self.vars_in_order() {
            let named = || EntryName::Variable(name.clone());
            let value = value(&entry.definition, named, &rendered.vars, &values, &mut room)?;
            if name.as_str().len() + value.len() > MAX_VARIABLE {
                return Err(RenderError::TooLong { name: name.clone(), bytes: value.len() });
            }
            if value.expose().contains(&0) {
                return Err(RenderError::Nul { name: name.clone() });
            }
            rendered.vars.insert(name.clone(), value);
        }
        for (path, file) in self.files() {
            let named = || EntryName::File(path.clone());
            let value = value(&file.definition.entry, named, &rendered.vars, &values, &mut room)?;
            rendered.files.insert(path.clone(), value);
        }
        Ok(rendered)
    }
}

/// Every value of an environment.
pub struct Rendered {
    pub vars: BTreeMap<VariableName, Arc<Secret>>,
    pub files: BTreeMap<FilePath, Arc<Secret>>,
}

impl fmt::Debug for Rendered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rendered")
            .field("vars", &self.vars.keys())
            .field("files", &self.files.keys())
            .finish_non_exhaustive()
    }
}

/// Why an environment was not rendered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    #[error("{entry} needs `{reference}`, which was not read")]
    Missing { entry: EntryName, reference: Reference },
    /// Flattening puts every variable after those it is composed of; a fault there must not drop a part of a value.
    #[error(
        "{entry} is composed of variable {name:?}, which is not rendered yet; this is a fault of the broker"
    )]
    Unordered { entry: EntryName, name: VariableName },
    #[error(
        "the value of variable {name:?} has a NUL byte, which no variable can carry; deliver it as a file"
    )]
    Nul { name: VariableName },
    #[error(
        "the value of variable {name:?} has {bytes} bytes; a variable carries 131,070, name included; deliver it as a \
         file"
    )]
    TooLong { name: VariableName, bytes: usize },
    #[error("{entry} makes the values of the environment take more than 4 MiB; split the environment")]
    TooLarge { entry: EntryName },
}

/// One value, charged against the `room` that is left for all before it is built.
fn value(
    entry: &Entry,
    named: impl Fn() -> EntryName,
    variables: &BTreeMap<VariableName, Arc<Secret>>,
    values: impl Fn(&Reference) -> Option<Arc<Secret>>,
    room: &mut usize,
) -> Result<Arc<Secret>, RenderError> {
    let read = |reference: &Reference| {
        values(reference).ok_or_else(|| RenderError::Missing { entry: named(), reference: reference.clone() })
    };
    let mut charge = |bytes: usize| {
        *room = room.checked_sub(bytes).ok_or_else(|| RenderError::TooLarge { entry: named() })?;
        Ok(())
    };
    match &entry.source {
        Source::Literal(literal) => {
            charge(literal.len())?;
            Ok(Arc::new(concatenate(&[Piece::Public(literal)])))
        }
        Source::From(reference) => {
            let secret = read(reference)?;
            charge(secret.len())?;
            Ok(secret)
        }
        Source::Compose(composition) => {
            let mut pieces = Vec::with_capacity(composition.parts().len());
            for part in composition.parts() {
                pieces.push(match part {
                    Part::Text(text) => Piece::Public(text),
                    Part::Reference(reference) => Piece::Secret(read(reference)?),
                    Part::Variable(name) => {
                        let missing = || RenderError::Unordered { entry: named(), name: name.clone() };
                        Piece::Secret(variables.get(name).map(Arc::clone).ok_or_else(missing)?)
                    }
                });
            }
            pieces.iter().try_for_each(|piece| charge(piece.bytes().len()))?;
            Ok(Arc::new(concatenate(&pieces)))
        }
    }
}

enum Piece<'a> {
    Public(&'a str),
    Secret(Arc<Secret>),
}

impl Piece<'_> {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Public(text) => text.as_bytes(),
            Self::Secret(secret) => secret.expose(),
        }
    }
}

/// The pieces one after the other, written where they stay: a buffer that grew would leave copies behind.
fn concatenate(pieces: &[Piece<'_>]) -> Secret {
    let len = pieces.iter().map(|piece| piece.bytes().len()).sum();
    let Ok(secret) = Secret::try_filled(len, |target| {
        let bytes = pieces.iter().flat_map(Piece::bytes);
        target.iter_mut().zip(bytes).for_each(|(target, byte)| *target = *byte);
        Ok::<_, Infallible>(())
    });
    secret
}

/// What one answer may carry.
const MAX_TOTAL: usize = 4 << 20;

#[cfg(test)]
mod tests;
