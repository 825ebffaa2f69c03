//! Environments: named, inheritable sets of variables and files.
//!
//! A [`document`] is TOML fit for a repository. Reading it gives [`Definition`]s, each of which is right in itself;
//! [`flatten`] lays an environment over those it extends and gives a [`Flat`], which is right as a whole: nothing
//! missing, nothing circular. [`Flat::references`] says what to read, [`Flat::render`] puts the values in, and only
//! there do secrets enter. So a definition, a flat environment and their errors may be logged and kept.
//!
//! Everything here is a pure function of its arguments: who may read what, and where definitions are kept, is the
//! caller's.
//!
//! # Who may choose what code runs
//! Definitions are written by an administrator and reviewed; the values of secrets are written by whoever the store
//! lets write. A variable that makes a loader or a shell run code must not turn a write to a store into code in a
//! workload. Three classes of names follow. `LD_PRELOAD` and its like are refused: they are no configuration of an
//! application. `PATH`, `PYTHONPATH`, `NODE_OPTIONS`, `ENV` and their like are ordinary configuration, so they may be
//! set, but only to a literal, which the reviewer of the definition saw. Every other name takes any source.

mod composition;
mod definition;
mod diff;
pub mod document;
mod fault;
mod flat;
mod lineage;
mod name;
mod nesting;
mod render;

pub use composition::{Composition, CompositionError, Part};
pub use definition::{Contract, Definition, Entry, File, Mode, OnChange, Source};
pub use diff::{Change, Difference, Key, diff};
pub use fault::{Fault, Position};
pub use flat::{Basis, Flat, FlattenError, Inherited, flatten};
pub use name::{EntryName, EnvironmentName, FilePath, NameError, VariableName};
pub use render::{RenderError, Rendered};
