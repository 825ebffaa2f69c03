//! From an environment to the contents of files, in memory.
//!
//! All files of a set are made here, or none and one error, before any is written. Values come as [`Secret`] and leave as
//! [`Secret`]; what lies between is wiped too. An error names the file, the variable or the place in a template, and
//! nothing that a value said.

mod contract;
mod formats;
mod pem;
mod quote;
mod template;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bursar_core::Secret;
use bursar_core::secret::Gathered;
use bursar_proto::v1::{EnvironmentsResolveResponse, ResolvedFile, ResolvedVariable};

pub(super) use contract::Contract;

use crate::config::{Content, Output};

/// Files by their paths.
pub(crate) type Rendered = BTreeMap<String, File>;

/// A file that is about to be written.
pub(crate) struct File {
    pub(crate) mode: u32,
    pub(crate) contents: Secret,
}

/// A variable of the environment.
pub(crate) struct Variable {
    /// Whether a secret is in it; otherwise it is a literal.
    is_secret: bool,
    value: Arc<Secret>,
}

impl Variable {
    pub(crate) fn new(is_secret: bool, value: Secret) -> Self {
        Self { is_secret, value: Arc::new(value) }
    }
}

/// Variables by their names.
pub(crate) type Variables = BTreeMap<String, Variable>;

/// Makes the files of `environment`, and `outputs` of its variables. Blocks: templates are read from their files, each time
/// anew.
///
/// # Errors
/// [`RenderError`], for the first that cannot be made.
pub(crate) fn render(
    outputs: &[Output],
    environment: EnvironmentsResolveResponse,
) -> Result<Rendered, RenderError> {
    let (variables, own) = contents(environment);
    compose(outputs, variables, own)
}

/// What there is in an environment.
pub(crate) fn contents(environment: EnvironmentsResolveResponse) -> (Variables, Rendered) {
    let variable = |mut variable: ResolvedVariable| {
        let value = variable.take_value();
        (std::mem::take(&mut variable.name), Variable::new(variable.secret, value))
    };
    let own = environment.files.into_iter().map(|mut file: ResolvedFile| {
        let contents = file.take_contents();
        (std::mem::take(&mut file.path), File { mode: file.mode & 0o777, contents })
    });
    (environment.variables.into_iter().map(variable).collect(), own.collect())
}

/// The files of a volume in a pod, where who owns them is not who reads them: those of the environment have `mode`, and not
/// their own, which is for an owner. Without any output, each variable is a file of its name.
///
/// # Errors
/// [`RenderError`], for the first that cannot be made.
pub(crate) fn render_in_pod(
    outputs: &[Output],
    (variables, mut files): (Variables, Rendered),
    mode: u32,
) -> Result<Rendered, RenderError> {
    files.values_mut().for_each(|file| file.mode = mode);
    if !outputs.is_empty() {
        return compose(outputs, variables, files);
    }
    for (name, variable) in variables {
        let Some(contents) = Arc::into_inner(variable.value) else { continue };
        if files.insert(name.clone(), File { mode, contents }).is_some() {
            return Err(RenderError::Twice { path: name });
        }
    }
    check_paths(&files)?;
    Ok(files)
}

fn compose(
    outputs: &[Output],
    variables: Variables,
    mut rendered: Rendered,
) -> Result<Rendered, RenderError> {
    let variables = Arc::new(variables);
    for output in outputs {
        let contents = make(output, &variables)?;
        let file = File { mode: output.mode, contents };
        if rendered.insert(output.path.clone(), file).is_some() {
            return Err(RenderError::Twice { path: output.path.clone() });
        }
    }
    check_paths(&rendered)?;
    Ok(rendered)
}

fn make(output: &Output, variables: &Arc<Variables>) -> Result<Secret, RenderError> {
    match &output.content {
        Content::Template(path) => template::render(path, &template::read(path)?, variables),
        Content::Inline(text) => template::render(Path::new(&output.path), text, variables),
        Content::Listing { format, variables: named } => {
            let chosen = match named {
                Some(named) => {
                    named.iter().map(|name| pick(output, variables, name)).collect::<Result<_, _>>()?
                }
                None => variables.iter().map(|(name, variable)| (name.as_str(), variable)).collect(),
            };
            formats::write(*format, output, chosen)
        }
        Content::Pem { variables: named } => {
            let chosen: Result<Vec<_>, _> = named.iter().map(|name| pick(output, variables, name)).collect();
            pem::write(output, chosen?)
        }
    }
}

fn pick<'a>(
    output: &Output,
    variables: &'a Variables,
    name: &'a str,
) -> Result<(&'a str, &'a Variable), RenderError> {
    let missing = || RenderError::NoVariable { path: output.path.clone(), variable: name.to_owned() };
    variables.get(name).map(|variable| (name, variable)).ok_or_else(missing)
}

/// What an environment names is checked again where it becomes a path on this machine.
pub(crate) fn check_paths(files: &Rendered) -> Result<(), RenderError> {
    for path in files.keys() {
        let good = |part: &str| !part.is_empty() && part != "." && !part.starts_with("..");
        if !path.split('/').all(good) || path.contains('\0') {
            return Err(RenderError::Path { path: path.clone() });
        }
        let below = format!("{path}/");
        if files.keys().any(|other| other.starts_with(&below)) {
            return Err(RenderError::Twice { path: path.clone() });
        }
    }
    Ok(())
}

/// The contents of a file while they are written; wiped, and so is what they outgrew.
struct Buffer(Gathered);

impl Buffer {
    fn new() -> Self {
        Self(Gathered::up_to(MAX_FILE))
    }

    fn finish(self) -> Secret {
        Secret::from(self.0.into_bytes())
    }
}

impl io::Write for Buffer {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        if self.0.push(piece) { Ok(piece.len()) } else { Err(io::ErrorKind::FileTooLarge.into()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Why a set cannot be made. Says nothing of any value.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RenderError {
    #[error("the template `{}` cannot be read", path.display())]
    Unreadable {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the template `{}` is not UTF-8, or longer than 1 MiB", path.display())]
    NoTemplate { path: PathBuf },
    #[error("the template `{}`, line {line}, column {column}: {what}", path.display())]
    Template { path: PathBuf, line: usize, column: usize, what: String },
    #[error("`{path}` would be longer than 16 MiB")]
    TooLong { path: String },
    #[error("`{path}` names the variable `{variable}`, which the environment does not have")]
    NoVariable { path: String, variable: String },
    #[error(
        "the variable `{variable}` is not UTF-8 and cannot be part of `{path}`; deliver it as a file of the environment"
    )]
    NotText { path: String, variable: String },
    #[error("the variable `{variable}`, which goes into `{path}`, holds no PEM blocks")]
    NotPem { path: String, variable: String },
    #[error("two files are called `{path}`, or one is where another has a folder")]
    Twice { path: String },
    #[error("the environment calls a file `{path}`, which cannot be one here")]
    Path { path: String },
}

const MAX_FILE: usize = 16 * 1024 * 1024;
