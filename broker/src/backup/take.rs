//! Taking a backup.

use std::fs;
use std::path::Path;
use std::time::Duration;

use bursar_core::Clock;
use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags, OptionalExtension, Transaction, TransactionBehavior};

use super::manifest::{Copied, FORM, LEDGER, Manifest, new_file};
use super::{BackupError, Staging};
use crate::config::{BackendKind, Config};
use crate::start::origin;

/// Copies the data directory of `config` into the new directory `to`, whether or not a broker has it open.
///
/// # Errors
/// [`BackupError`]; nothing is left of what was begun.
pub fn take(config: &Config, clock: &dyn Clock, to: &Path) -> Result<Manifest, BackupError> {
    if !config.ledger.is_a_file() {
        return Err(BackupError::Elsewhere);
    }
    if !config.ledger_path().is_file() {
        return Err(BackupError::NoLedger { path: config.data_dir.clone() });
    }
    let staging = Staging::new(to)?;
    let local = config.backends.iter().filter(|backend| matches!(backend.kind, BackendKind::Local { .. }));
    let names = local.map(|backend| format!("{}.store.db", backend.name));
    // A store that nothing was ever written to has no file yet.
    let stores = names.filter(|name| config.data_dir.join(name).is_file());
    let names: Vec<String> = stores.chain([LEDGER.to_owned()]).collect();

    // Held still one after the other, the ledger last; copied after that, which takes as long as it takes.
    let open = |name: &String| Source::open(&config.data_dir, name);
    let sources = names.iter().map(open).collect::<Result<Vec<_>, _>>()?;
    let held = sources.iter().map(Source::hold).collect::<Result<Vec<_>, _>>()?;
    let mut files = Vec::with_capacity(names.len());
    for held in &held {
        files.push(held.copy(&staging.partial)?);
    }
    let head = held.iter().find(|held| held.source.name == LEDGER).map(Held::head).transpose()?;
    let (log_size, checkpoint) = head.unwrap_or_default();
    let made_at = clock.now();
    let manifest = Manifest { form: FORM, made_at, origin: origin(config), log_size, checkpoint, files };
    manifest.write(&staging.partial)?;
    staging.finish()?;
    Ok(manifest)
}

struct Source {
    connection: Connection,
    path: std::path::PathBuf,
    name: String,
}

/// A database whose state does not move any more for this connection, whatever others write.
struct Held<'source> {
    snapshot: Transaction<'source>,
    source: &'source Source,
}

impl Source {
    fn open(folder: &Path, name: &str) -> Result<Self, BackupError> {
        let path = folder.join(name);
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let open = || {
            let connection = Connection::open_with_flags(&path, flags)?;
            connection.busy_timeout(BUSY)?;
            Ok(connection)
        };
        match open() {
            Ok(connection) => Ok(Self { connection, path, name: name.to_owned() }),
            Err(source) => Err(BackupError::Database { path, source }),
        }
    }

    fn hold(&self) -> Result<Held<'_>, BackupError> {
        let hold = || {
            let snapshot = Transaction::new_unchecked(&self.connection, TransactionBehavior::Deferred)?;
            // The first read is what fixes the state.
            snapshot.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0))?;
            Ok(snapshot)
        };
        match hold() {
            Ok(snapshot) => Ok(Held { snapshot, source: self }),
            Err(source) => Err(self.fault(source)),
        }
    }

    fn fault(&self, source: rusqlite::Error) -> BackupError {
        BackupError::Database { path: self.path.clone(), source }
    }
}

impl Held<'_> {
    /// Copies page by page. In a log that is being written to meanwhile, the state that is held stays where it is.
    fn copy(&self, to: &Path) -> Result<Copied, BackupError> {
        let path = to.join(&self.source.name);
        let fault = |source| BackupError::File { path: path.clone(), source };
        let file = new_file(&path).map_err(fault)?;
        let copy = || {
            let mut target = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
            // The file is synced once, when it is whole.
            target.pragma_update(None, "synchronous", "off")?;
            let backup = Backup::new(&self.snapshot, &mut target)?;
            while backup.step(PAGES)? != StepResult::Done {}
            drop(backup);
            target.close().map_err(|(_, error)| error)
        };
        copy().map_err(|source| self.source.fault(source))?;
        file.sync_all().map_err(fault)?;
        for side in ["-wal", "-shm", "-journal"] {
            drop(fs::remove_file(to.join(format!("{}{side}", self.source.name))));
        }
        Copied::of(to, &self.source.name).map_err(fault)
    }

    /// Where the log ends.
    fn head(&self) -> Result<(u64, Option<String>), BackupError> {
        let head = || {
            let size: i64 =
                self.snapshot
                    .query_row("SELECT coalesce(max(seq) + 1, 0) FROM audit", [], |row| row.get(0))?;
            let note = self.snapshot.query_row("SELECT note FROM head", [], |row| row.get(0)).optional()?;
            Ok((u64::try_from(size).unwrap_or_default(), note))
        };
        head().map_err(|source| self.source.fault(source))
    }
}

/// Only a database that is being opened or recovered makes a reader wait.
const BUSY: Duration = Duration::from_secs(10);
/// 64 MiB at a time.
const PAGES: i32 = 16 * 1024;
