//! The ledger's tables, read by SQL that its engines share while nobody writes in them, or while the broker does.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bursar_tests::Postgres;
use clap::ValueEnum;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};
use tempfile::TempDir;

/// Which engine keeps the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Engine {
    Sqlite,
    Postgres,
}

/// Where the ledger of the broker that is killed is.
#[derive(Debug)]
pub(crate) enum Ledger {
    /// In this file, once the broker has made it.
    File(PathBuf),
    /// In the one database of a server for that alone, whose URL is in a file in the folder.
    Server { postgres: Box<Postgres>, folder: TempDir },
}

impl Ledger {
    /// Starts what it takes, for a broker with its data in `data`.
    ///
    /// # Errors
    /// The server does not come up.
    pub(crate) fn start(engine: Engine, data: &Path) -> Result<Self> {
        Ok(match engine {
            Engine::Sqlite => Self::File(data.join("ledger.db")),
            Engine::Postgres => {
                // A broker refuses a server whose commits are not durable.
                let postgres = Box::new(Postgres::start_with(&["fsync=on"])?);
                Self::Server { postgres, folder: TempDir::new()? }
            }
        })
    }

    /// What the broker's configuration says of it.
    ///
    /// # Errors
    /// The URL cannot be written.
    pub(crate) fn section(&self) -> Result<String> {
        match self {
            Self::File(_) => Ok(String::new()),
            Self::Server { postgres, folder } => postgres.ledger(Postgres::DATABASE, folder.path()),
        }
    }

    /// The rows of a query over the ledger's tables, by column: numbers in decimal, bytes in hexadecimal, nothing as an
    /// empty text.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub(crate) fn rows(&self, select: &str) -> Result<Vec<Vec<String>>> {
        match self {
            Self::File(path) => of_file(path, select),
            Self::Server { postgres, .. } => {
                let rows = postgres.psql(&format!("SET search_path = bursar; {select}"))?;
                Ok(rows.lines().map(|row| row.split('|').map(column).collect()).collect())
            }
        }
    }

    /// The one number that a query answers.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub(crate) fn number(&self, select: &str) -> Result<i64> {
        let rows = self.rows(select)?;
        let number = rows.first().and_then(|row| row.first()).context("no row")?;
        number.parse().context("no number")
    }

    /// Whether the engine says that its own files are whole.
    ///
    /// # Errors
    /// They are not.
    pub(crate) fn whole(&self) -> Result<()> {
        let Self::File(_) = self else { return Ok(()) };
        let verdict = self.rows("PRAGMA integrity_check")?.concat();
        ensure!(verdict == ["ok"], "the ledger's database is damaged: {verdict:?}");
        Ok(())
    }
}

fn of_file(path: &Path, select: &str) -> Result<Vec<Vec<String>>> {
    let ledger = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    ledger.busy_timeout(BUSY)?;
    let mut select = ledger.prepare(select)?;
    let columns = select.column_count();
    let rows = select.query_map([], |row| {
        (0..columns)
            .map(|column| {
                Ok(match row.get_ref(column)? {
                    ValueRef::Null => String::new(),
                    ValueRef::Integer(number) => number.to_string(),
                    ValueRef::Real(number) => number.to_string(),
                    ValueRef::Text(text) => String::from_utf8_lossy(text).into_owned(),
                    ValueRef::Blob(bytes) => data_encoding::HEXLOWER.encode(bytes),
                })
            })
            .collect()
    });
    Ok(rows?.collect::<Result<_, _>>()?)
}

/// A column as `psql` prints it.
fn column(text: &str) -> String {
    text.strip_prefix("\\x").unwrap_or(text).to_owned()
}

/// For the locks of a broker that is at work.
const BUSY: Duration = Duration::from_secs(30);
