//! Templates, by minijinja.
//!
//! A template sees variables by name and nothing else: no file, no network, no clock, no other template. What it names and
//! is not there is an error, and how long it may run is bounded.
//!
//! minijinja keeps texts in memory that nobody wipes. So a variable that holds a secret is given to it as an object that
//! writes itself straight into the file's buffer, and the filters that are made for secrets take such objects and give such
//! objects back. A template that makes texts of them all the same, by `~`, by `upper` or by capturing in `{% set %}`, gets
//! what it asks for, and leaves a copy behind for the allocator to overwrite. Literals are plain texts, which can be
//! compared.
//!
//! minijinja's own words may quote what it was working on, so an error shows what kind it is and the piece of the
//! template that it is about.

use std::error::Error as _;
use std::fmt;
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;

use bursar_core::Secret;
use data_encoding::BASE64;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Enumerator, Object, ObjectRepr};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior, Value};

use super::{Buffer, RenderError, Variables, quote};

/// Renders a template that is called `path`.
pub(super) fn render(path: &Path, source: &str, variables: &Arc<Variables>) -> Result<Secret, RenderError> {
    let place = |error: &Error| located(path, source, error);
    let environment = environment();
    let name = path.to_string_lossy();
    let template = environment.template_from_named_str(&name, source).map_err(|error| place(&error))?;
    let mut out = Buffer::new();
    let seen = Value::from_object(Seen(Arc::clone(variables)));
    match template.render_captured_to(seen, &mut out) {
        Ok(_) => Ok(out.finish()),
        // The buffer's own error is the cause of one; a value that does not let itself be written has none.
        Err(error) if error.kind() == ErrorKind::WriteFailure && error.source().is_some() => {
            Err(RenderError::TooLong { path: path.display().to_string() })
        }
        Err(error) => Err(place(&error)),
    }
}

/// The template at `path`.
pub(super) fn read(path: &Path) -> Result<String, RenderError> {
    let unreadable = |source| RenderError::Unreadable { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(MAX_TEMPLATE + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    let fits = u64::try_from(bytes.len()).is_ok_and(|length| length <= MAX_TEMPLATE);
    let text = String::from_utf8(bytes).ok().filter(|_| fits);
    text.ok_or_else(|| RenderError::NoTemplate { path: path.to_owned() })
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    // What it would show of a failure are the values at hand.
    environment.set_debug(false);
    environment.remove_global("debug");
    environment.remove_filter("pprint");
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(RECURSION);
    // A configuration file ends with the line end that its template has.
    if let Ok(syntax) = SyntaxConfig::builder().keep_trailing_newline(true).build() {
        environment.set_syntax(syntax);
    }
    environment.add_filter("tojson", |value: &Value| derived(value, quote::json));
    environment.add_filter("shell", |value: &Value| derived(value, quote::shell));
    environment.add_filter("properties", |value: &Value| derived(value, quote::properties));
    environment.add_filter("base64", base64);
    environment
}

/// What a template's error says: where it is, and the piece of the template that it is about.
fn located(path: &Path, source: &str, error: &Error) -> RenderError {
    let range = error.range().unwrap_or_default();
    let before = source.get(..range.start).unwrap_or_default();
    let column = before.chars().rev().take_while(|character| *character != '\n').count() + 1;
    let line = error.line().unwrap_or(1);
    let piece: String = source.get(range).unwrap_or_default().chars().take(MAX_PIECE).collect();
    // While it is read, there are no values yet that the words could quote.
    let what = match (error.kind(), error.detail()) {
        (kind @ ErrorKind::SyntaxError, Some(detail)) => format!("{kind}: {detail}"),
        (ErrorKind::WriteFailure, _) => {
            format!("`{}` is not UTF-8; use the filter `base64`", piece.escape_default())
        }
        (kind, _) => format!("{kind}: `{}`", piece.escape_default()),
    };
    RenderError::Template { path: path.to_owned(), line, column, what }
}

/// The variables, as a template sees them.
struct Seen(Arc<Variables>);

impl Object for Seen {
    fn get_value(self: &Arc<Self>, name: &Value) -> Option<Value> {
        let variable = self.0.get(name.as_str()?)?;
        match std::str::from_utf8(variable.value.expose()) {
            Ok(literal) if !variable.is_secret => Some(Value::from(literal)),
            _ => Some(Value::from_object(Opaque(Arc::clone(&variable.value)))),
        }
    }
}

impl fmt::Debug for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// A value that holds a secret. It can be written, put through filters and looked at for being empty.
struct Opaque(Arc<Secret>);

impl Object for Opaque {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::NonEnumerable
    }

    fn is_true(self: &Arc<Self>) -> bool {
        !self.0.is_empty()
    }

    /// A value that is not text fails here, where the template writes it.
    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(self.0.expose()).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Opaque {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a secret")
    }
}

/// `value` in another form, a secret where it was one.
fn derived(value: &Value, write: impl Fn(&mut Buffer, &str) -> std::io::Result<()>) -> Result<Value, Error> {
    let mut out = Buffer::new();
    let opaque = value.downcast_object_ref::<Opaque>();
    let text = match opaque {
        Some(secret) => std::str::from_utf8(secret.0.expose()).ok(),
        None => value.as_str(),
    };
    let text = text.ok_or_else(|| Error::from(ErrorKind::InvalidOperation))?;
    write(&mut out, text).map_err(|_| Error::from(ErrorKind::WriteFailure))?;
    finished(out)
}

/// Of any bytes.
fn base64(value: &Value) -> Result<Value, Error> {
    let bytes = match value.downcast_object_ref::<Opaque>() {
        Some(secret) => secret.0.expose(),
        None => value.as_bytes().ok_or_else(|| Error::from(ErrorKind::InvalidOperation))?,
    };
    let mut out = Buffer::new();
    // Three bytes are four characters, so pieces of threes join without padding between them.
    for piece in bytes.chunks(3) {
        let mut four = [0; 4];
        BASE64.encode_mut(piece, &mut four);
        out.write_all(&four).map_err(|_| Error::from(ErrorKind::WriteFailure))?;
    }
    finished(out)
}

fn finished(out: Buffer) -> Result<Value, Error> {
    Ok(Value::from_object(Opaque(Arc::new(out.finish()))))
}

const MAX_TEMPLATE: u64 = 1024 * 1024;
const MAX_PIECE: usize = 80;
/// Instructions, about; a second's worth at most.
const FUEL: u64 = 10_000_000;
const RECURSION: usize = 64;
