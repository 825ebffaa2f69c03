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
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;

use super::Files;
use crate::kill::{self, Point};

/// The writer's side.
#[derive(Debug)]
pub(super) struct Wal {
    wake: SyncSender<()>,
    turn: Arc<Mutex<()>>,
    /// The length of the log at which the writer next tries to finish the copy.
    next_try: i64,
    /// Since the log was last looked at.
    batches: u32,
    /// That the connection had changed then.
    rows: u64,
    trouble: Trouble,
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
    let wal = Wal {
        wake,
        turn: Arc::clone(&turn),
        next_try: RESTART_AT,
        batches: 0,
        rows: 0,
        trouble: Trouble::default(),
    };
    (wal, Checkpointer { connection, files, woken, turn })
}

impl Wal {
    /// To be called between two batches, with the connection that writes them.
    pub(super) fn after_batch(&mut self, connection: &Connection) {
        self.batches += 1;
        let rows = connection.total_changes();
        if self.batches < BATCHES && rows - self.rows < ROWS {
            return;
        }
        (self.batches, self.rows) = (0, rows);
        let looked = self.look(connection);
        self.trouble.note(looked);
    }

    /// Leaves an empty log behind, where no reader needs it.
    pub(super) fn finish(self, connection: &Connection) -> rusqlite::Result<()> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        checkpoint(connection, "TRUNCATE").map(drop)
    }

    fn look(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        let extent = checkpoint(connection, "NOOP")?;
        let left = extent.frames - extent.copied;
        let long = extent.frames >= RESTART_AT;
        let enough = if long { LITTLE } else { COPY_AT };
        if left > enough
            && let Err(TrySendError::Disconnected(())) = self.wake.try_send(())
        {
            tracing::error!("the thread that copies the write-ahead log has ended");
        }
        if !long {
            self.next_try = RESTART_AT;
        } else if extent.frames >= STOP_AT {
            let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
            checkpoint(connection, "RESTART")?;
        } else if left <= LITTLE && extent.frames >= self.next_try {
            self.next_try = extent.frames + LITTLE;
            kill::at(Point::LogRestart);
            // Where the thread has the turn, or died with it, a later batch finds the log longer.
            if let Ok(_turn) = self.turn.try_lock() {
                checkpoint(connection, "PASSIVE")?;
            }
        }
        Ok(())
    }
}

impl Checkpointer {
    /// Copies when woken, until the writer is gone.
    pub(super) fn run(self) {
        let mut trouble = Trouble::default();
        while self.woken.recv().is_ok() {
            trouble.note(self.copy());
        }
    }

    fn copy(&self) -> Result<(), CopyError> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        kill::at(Point::CopyBegun);
        checkpoint(&self.connection, "PASSIVE")?;
        kill::at(Point::CopyWritten);
        // SQLite syncs only a copy that is complete. Synced bit by bit, the last sync, which the writer pays, is short.
        self.files.database.sync_data()?;
        kill::at(Point::CopySynced);
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

/// Tells of copies that fail once, and not once a batch: what is not copied now is copied later, and until then the log
/// grows, which its metric shows.
#[derive(Debug, Default)]
struct Trouble {
    told: bool,
}

impl Trouble {
    fn note<E: std::error::Error>(&mut self, copied: Result<(), E>) {
        match copied {
            Err(error) if !self.told => {
                tracing::warn!(%error, "the write-ahead log could not be copied into the database");
                self.told = true;
            }
            Err(_) => {}
            Ok(()) => self.told = false,
        }
    }
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

/// A look at the log costs as much as a lease does, so it is taken after so many rows, or batches: rows may be large.
const ROWS: u64 = 512;
const BATCHES: u32 = 8;
/// Pages of 4 KiB not yet copied at which the thread sets to work: 64 MiB. A page that was written often meanwhile is
/// copied once.
const COPY_AT: i64 = 16 * 1024 / SHORTER;
/// Pages in the log at which it should start again from the front: 128 MiB, which a start after a crash reads in a tenth
/// of a second.
const RESTART_AT: i64 = 32 * 1024 / SHORTER;
/// Pages that the writer copies itself: 8 MiB. More than is written between two looks, or the log would always be too far
/// ahead of the copy to start again.
const LITTLE: i64 = if cfg!(feature = "killpoints") { 256 } else { 2 * 1024 };
/// Pages in the log that are too many: 512 MiB.
const STOP_AT: i64 = 128 * 1024 / SHORTER;
/// A broker that is to die while it copies has a log that is long sooner.
const SHORTER: i64 = if cfg!(feature = "killpoints") { 64 } else { 1 };
