//! Variables in the usual forms.

use std::io::{self, Write};

use bursar_core::Secret;

use super::{Buffer, RenderError, Variable, quote};
use crate::config::{Format, Output};

/// Writes `variables` in their order.
pub(super) fn write(
    format: Format,
    output: &Output,
    variables: Vec<(&str, &Variable)>,
) -> Result<Secret, RenderError> {
    let read = |(name, variable)| Ok((name, text(output, name, variable)?));
    let entries = variables.into_iter().map(read).collect::<Result<Vec<_>, _>>()?;
    let mut out = Buffer::new();
    let written = match format {
        Format::Env => lines(&mut out, &entries, quote::shell),
        Format::Properties => lines(&mut out, &entries, quote::properties),
        Format::Json => json(&mut out, &entries),
        // YAML takes an empty mapping in the form of JSON alone.
        Format::Yaml if entries.is_empty() => out.write_all(b"{}\n"),
        Format::Yaml => entries.iter().try_for_each(|(name, value)| {
            // `NO` and `ON` are no texts to every reader.
            write!(out, "\"{name}\": ")?;
            quote::json(&mut out, value)?;
            out.write_all(b"\n")
        }),
    };
    written.map_err(|_| RenderError::TooLong { path: output.path.clone() })?;
    Ok(out.finish())
}

/// The text of `variable`, which goes into `output`.
pub(super) fn text<'a>(output: &Output, name: &str, variable: &'a Variable) -> Result<&'a str, RenderError> {
    let binary = |_| RenderError::NotText { path: output.path.clone(), variable: name.to_owned() };
    std::str::from_utf8(variable.value.expose()).map_err(binary)
}

fn lines(
    out: &mut Buffer,
    entries: &[(&str, &str)],
    quote: impl Fn(&mut Buffer, &str) -> io::Result<()>,
) -> io::Result<()> {
    entries.iter().try_for_each(|(name, value)| {
        write!(out, "{name}=")?;
        quote(out, value)?;
        out.write_all(b"\n")
    })
}

fn json(out: &mut Buffer, entries: &[(&str, &str)]) -> io::Result<()> {
    out.write_all(b"{")?;
    for (place, (name, value)) in entries.iter().enumerate() {
        write!(out, "{}\n  \"{name}\": ", if place == 0 { "" } else { "," })?;
        quote::json(out, value)?;
    }
    out.write_all(if entries.is_empty() { b"}\n" } else { b"\n}\n" })
}
