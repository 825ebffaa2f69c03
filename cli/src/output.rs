//! Results, on standard output: tables for people, JSON for programs. The words around them go to standard error.
//!
//! JSON field names are an interface: they are added to, and never renamed. A list is one array, one thing one object,
//! and a stream one object a line.

use std::io::{self, Write};

use bursar_core::{Clock, SystemClock};
use jiff::Timestamp;
use serde::Serialize;

use crate::error::Error;
use crate::table::{Cell, Column, Table};
use crate::terminal;
use crate::text::printable;

/// How results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people
    #[default]
    Table,
    /// For programs
    Json,
}

/// One thing of a list.
pub(crate) trait Row: Serialize {
    const COLUMNS: &'static [Column];

    /// One cell for each column; times are told from `now`.
    fn cells(&self, now: Timestamp) -> Vec<Cell>;
}

/// One thing by itself, as names and values under each other.
pub(crate) trait Details: Serialize {
    /// Names and values; times are told from `now`.
    fn details(&self, now: Timestamp) -> Vec<(&'static str, Cell)>;
}

/// Where results go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    format: Format,
}

impl Output {
    pub(crate) fn new(format: Format) -> Self {
        Self { format }
    }

    /// Whether a program reads the results.
    pub(crate) fn is_json(self) -> bool {
        self.format == Format::Json
    }

    /// Writes a list; `nothing` says in words that it is empty.
    ///
    /// # Errors
    /// [`Error::Output`].
    pub(crate) fn list<R: Row>(self, rows: &[R], nothing: &str) -> Result<(), Error> {
        if self.is_json() {
            return json(&rows);
        }
        if rows.is_empty() {
            self.say(nothing);
            return Ok(());
        }
        let now = SystemClock.now();
        let table = Table::new(R::COLUMNS, rows.iter().map(|row| row.cells(now)).collect());
        write(&table.render(terminal::width()))
    }

    /// Writes one thing.
    ///
    /// # Errors
    /// [`Error::Output`].
    pub(crate) fn one<D: Details>(self, thing: &D) -> Result<(), Error> {
        if self.is_json() {
            return json(thing);
        }
        write(&Table::details(&thing.details(SystemClock.now())))
    }

    /// Writes one thing as JSON, whoever reads it.
    ///
    /// # Errors
    /// [`Error::Output`].
    pub(crate) fn object(self, thing: &impl Serialize) -> Result<(), Error> {
        json(thing)
    }

    /// Writes what was done: for a program `result`, for people `words`, which are no result.
    ///
    /// # Errors
    /// [`Error::Output`].
    pub(crate) fn done(self, result: &impl Serialize, words: &str) -> Result<(), Error> {
        if self.is_json() {
            return json(result);
        }
        self.say(words);
        Ok(())
    }

    /// Writes one thing of a stream: a row without headings, or an object on a line.
    ///
    /// # Errors
    /// [`Error::Output`].
    pub(crate) fn streamed<R: Row>(self, row: &R) -> Result<(), Error> {
        if self.is_json() {
            return json_line(row);
        }
        let table = Table::new(R::COLUMNS, vec![row.cells(SystemClock.now())]);
        write(&table.render_row())
    }

    /// Writes a document as it is.
    ///
    /// # Errors
    /// [`Error::Output`].
    pub(crate) fn document(self, text: &str) -> Result<(), Error> {
        let shown = if terminal::is_stdout() { printable(text) } else { text.to_owned() };
        write(&shown)
    }

    /// Says that a list goes on, where it does.
    pub(crate) fn say_more(self, more: bool) {
        if more {
            self.say("there are more; --limit shows them");
        }
    }

    /// Writes words to standard error. That nobody may read them is no failure.
    pub(crate) fn say(self, words: &str) {
        drop(writeln!(anstream::stderr(), "{}", printable(words)));
    }
}

fn json(value: &impl Serialize) -> Result<(), Error> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Error::Output(error.into()))?;
    write(&format!("{text}\n"))
}

fn json_line(value: &impl Serialize) -> Result<(), Error> {
    let text = serde_json::to_string(value).map_err(|error| Error::Output(error.into()))?;
    write(&format!("{text}\n"))
}

/// Styles are left out where standard output is no terminal.
fn write(text: &str) -> Result<(), Error> {
    let mut stdout = anstream::AutoStream::auto(io::stdout().lock());
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(Error::Output)
}
