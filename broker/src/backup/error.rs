//! Why there is no backup, or none was restored.

use std::io;
use std::path::PathBuf;

use crate::keys::KeysError;
use crate::ledger::OpenError;
use crate::start::StartError;

/// Why there is no backup, or none was restored. Nothing is left behind.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error("`{}` is there already, and nothing is written over; name a directory that is not there, or remove it", path.display())]
    Exists { path: PathBuf },
    #[error("cannot read or write `{}`", path.display())]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("`{}` cannot be copied", path.display())]
    Database {
        path: PathBuf,
        #[source]
        source: rusqlite::Error,
    },
    #[error("there is no ledger in `{}`; check `data_dir`", path.display())]
    NoLedger { path: PathBuf },
    #[error(
        "the ledger is in a PostgreSQL, of which this makes no copies; take them with `pg_dump` or your server's own means, \
         and see docs/operations.md"
    )]
    Elsewhere,
    #[error("`{}` is no backup of a broker: {what}", path.display())]
    NotABackup { path: PathBuf, what: String },
    #[error(
        "the backup was made by a newer broker (form {found}, and this one knows {known}); restore it with that one"
    )]
    Newer { found: u32, known: u32 },
    #[error(
        "`{name}` in the backup is not as it was made ({what}); take another copy of the backup, or an older one"
    )]
    Changed { name: String, what: &'static str },
    #[error(
        "the backup is of `{found}`, and the configuration is of `{configured}`; check `trust_domain` and `name`, or the \
         backup"
    )]
    OtherBroker { found: String, configured: String },
    #[error("the log in the backup does not hold:{}", list(.0))]
    Unsound(Vec<String>),
    #[error("the backup has the store `{0}`, and the configuration has no such local backend; add it first")]
    UnknownStore(String),
    #[error(transparent)]
    Keys(#[from] KeysError),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Store(#[from] StartError),
}

fn list(findings: &[String]) -> String {
    findings.iter().map(|finding| format!("\n  {finding}")).collect()
}
