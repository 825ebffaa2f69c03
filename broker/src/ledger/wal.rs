//! Copying the write-ahead log into the database, beside the commits.
//!
//! A thread of its own copies whenever enough has gathered, while the writer goes on. But SQLite starts the log again
//! from the front only once all of it is copied and no reader needs it, and under steady load something new has always
//! been written while the rest was copied: the log would grow for ever. So once the log is long and only little is left,
//! the writer itself copies that little between two batches, and its next transaction starts the log anew. It pays a
//! few milliseconds where copying everything took 70. Where the thread cannot keep up at all, or a reader sits on an
//! old part of the log, the writer stops at a hard limit until the log is copied.

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};

use rusqlite::Connection;

use super::engine::sqlite::Files;

/// The writer's side.
#[derive(Debug)]
pub(super) struct Wal {
    wake: SyncSender<()>,
    turn: Arc<Mutex<()>>,
    /// The length of the log at which the writer next tries to finish the copy.
    next_try: i64,
    /// The rows that the connection had changed when the log was last looked at.
    looked_at: u64,
}

/// The thread's side.
#[derive(Debug)]
pub(super) struct Checkpointer {
    connection: Connection,
    files: Arc<Files>,
    woken: Receiver<()>,
    turn: Arc<Mutex<()>>,
}

/// Connects the two.
pub(super) fn pair(connection: Connection, files: Arc<Files>) -> (Wal, Checkpointer) {
    let (wake, woken) = sync_channel(1);
    let turn = Arc::new(Mutex::new(()));
    let wal = Wal { wake, turn: Arc::clone(&turn), next_try: RESTART_AT, looked_at: 0 };
    (wal, Checkpointer { connection, files, woken, turn })
}

impl Wal {
    /// To be called between two batches, by the connection that writes them.
    pub(super) fn after_batch(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        let changed = connection.total_changes();
        if changed - self.looked_at < LOOK_EVERY {
            return Ok(());
        }
        self.looked_at = changed;
        let extent = checkpoint(connection, "NOOP")?;
        let left = extent.frames - extent.copied;
        if left >= COPY_AT
            && let Err(TrySendError::Disconnected(())) = self.wake.try_send(())
        {
            tracing::error!("the thread that copies the write-ahead log has ended");
        }
        if extent.frames < RESTART_AT {
            self.next_try = RESTART_AT;
        } else if extent.frames >= STOP_AT {
            let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
            checkpoint(connection, "RESTART")?;
        } else if left <= LITTLE && extent.frames >= self.next_try {
            self.next_try = extent.frames + LITTLE;
            match self.turn.try_lock() {
                Ok(_) | Err(TryLockError::Poisoned(_)) => checkpoint(connection, "PASSIVE").map(drop)?,
                Err(TryLockError::WouldBlock) => {}
            }
        }
        Ok(())
    }

    /// Leaves an empty log behind, where no reader needs it.
    pub(super) fn finish(self, connection: &Connection) -> rusqlite::Result<()> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        checkpoint(connection, "TRUNCATE").map(drop)
    }
}

impl Checkpointer {
    /// Copies when woken, until the writer is gone.
    pub(super) fn run(self) {
        let mut failed = false;
        while self.woken.recv().is_ok() {
            match self.copy() {
                Ok(()) => failed = false,
                // Once, and not once a batch: what is not copied now is copied later, and until then the log grows,
                // which its metric shows.
                Err(error) if !failed => {
                    failed = true;
                    tracing::warn!(error = %error, "the write-ahead log could not be copied into the database");
                }
                Err(_) => {}
            }
        }
    }

    fn copy(&self) -> Result<(), CopyError> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        checkpoint(&self.connection, "PASSIVE")?;
        // SQLite syncs only a copy that is complete. Synced bit by bit, the last sync, which the writer pays, is short.
        self.files.database.sync_data()?;
        Ok(())
    }
}

#[derive(Debug, thiserror::Error)]
enum CopyError {
    #[error(transparent)]
    Engine(#[from] rusqlite::Error),
    #[error(transparent)]
    Sync(#[from] io::Error),
}

/// The log's length and how much of it is in the database, in pages.
#[derive(Debug)]
struct Extent {
    frames: i64,
    copied: i64,
}

fn checkpoint(connection: &Connection, mode: &str) -> rusqlite::Result<Extent> {
    let mut pragma = connection.prepare_cached(&format!("PRAGMA wal_checkpoint({mode})"))?;
    pragma.query_row([], |row| Ok(Extent { frames: row.get(1)?, copied: row.get(2)? }))
}

/// Rows changed between two looks at the log, which cost as much as a lease does.
const LOOK_EVERY: u64 = 512;
/// Pages of 4 KiB not yet copied at which the thread sets to work: 32 MiB. A page that was written often meanwhile is
/// copied once.
const COPY_AT: i64 = 8 * 1024;
/// Pages in the log at which it should start again from the front: 64 MiB.
const RESTART_AT: i64 = 16 * 1024;
/// Pages that the writer copies itself: 4 MiB.
const LITTLE: i64 = 1024;
/// Pages in the log that are too many: 512 MiB.
const STOP_AT: i64 = 128 * 1024;
