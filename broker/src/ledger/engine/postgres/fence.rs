//! Who may write the log of a broker: one process at a time.
//!
//! The log's row names the process that has it by a number, `epoch`. Whoever takes the log over counts it up, and every
//! transaction locks the row and compares the number before anything else: a process that was taken over from writes
//! nothing more, whatever it believes, and however long it slept. No clock is needed for that.
//!
//! Clocks only keep a second broker of the same name from taking over while the first is well. Each transaction, and so
//! each round of the health check, prolongs the hold on the log by the database's own time. A process that starts waits
//! for the end of a hold that is not prolonged any more, and gives up on one that is. It waits for nothing where the hold
//! is that of a process before it with the same data directory, which a lock there says is dead.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};

use super::connection::{Call, Connection};
use super::failure::Fault;
use super::flush::Own;
use super::rows::get;
use crate::ledger::error::OpenError;

/// What tells this broker's data directory from every other, locked for as long as the ledger is open.
#[derive(Debug)]
pub(super) struct Home {
    id: Vec<u8>,
    _lock: File,
}

impl Home {
    /// Takes the lock in `folder`, and makes the id where there is none.
    pub(super) fn take(folder: &Path, place: &str) -> Result<Self, OpenError> {
        let path = folder.join("ledger.home");
        let failed = |source| OpenError::File { path: path.clone(), source };
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
        let mut lock = file.map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(OpenError::InUse { place: place.to_owned() }),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        let mut id = Vec::new();
        (&lock).take(HOME).read_to_end(&mut id).map_err(failed)?;
        if id.len() as u64 != HOME {
            id = vec![0; HOME as usize];
            let random = SystemRandom::new().fill(&mut id);
            random.map_err(|_| failed(io::Error::other("the operating system gives no randomness")))?;
            lock.set_len(0)
                .and_then(|()| lock.write_all(&id))
                .and_then(|()| lock.sync_all())
                .map_err(failed)?;
        }
        Ok(Self { id, _lock: lock })
    }
}

/// The row of the log, as it is found.
struct Held {
    log: i64,
    epoch: i64,
    batch: i64,
    home: Vec<u8>,
    /// Until the hold ends, in milliseconds; negative when it has.
    left: i64,
}

/// Takes the log `origin` over, or begins it.
pub(super) fn claim(
    connection: &mut Connection,
    origin: &str,
    home: &Home,
    place: &str,
) -> Result<Own, OpenError> {
    let mut waited = false;
    loop {
        match attempt(connection, origin, home).map_err(|fault| fault.on_open(place))? {
            Claim::Taken(own) => return Ok(own),
            Claim::Held(_) if waited => {
                return Err(OpenError::Held { place: place.to_owned(), origin: origin.to_owned() });
            }
            Claim::Held(left) => {
                tracing::info!(origin, ?left, "waiting for the end of another process's hold on the log");
                connection.pause(left.min(LONGEST) + SLACK);
                waited = true;
            }
        }
    }
}

enum Claim {
    Taken(Own),
    Held(Duration),
}

fn attempt(connection: &mut Connection, origin: &str, home: &Home) -> Result<Claim, Fault> {
    connection.connect()?;
    let rows = connection.all(Some("BEGIN"), vec![Call::rows(FIND, [&origin as _])], None)?;
    let rows: Vec<_> = rows.into_iter().flat_map(super::connection::Answer::rows).collect();
    let Some(row) = rows.first() else {
        let log = connection.one(Call::rows(BEGIN, [&origin as _, &home.id as _]))?;
        let log = get(log.first().ok_or(Fault::Conflict)?, 0)?;
        connection.script("COMMIT")?;
        return Ok(Claim::Taken(Own { log, epoch: 1, batch: 0 }));
    };
    let held = Held {
        log: get(row, 0)?,
        epoch: get(row, 1)?,
        batch: get(row, 2)?,
        home: get(row, 3)?,
        left: get(row, 4)?,
    };
    if held.left > 0 && held.home != home.id {
        connection.script("ROLLBACK")?;
        return Ok(Claim::Held(Duration::from_millis(held.left.unsigned_abs())));
    }
    let epoch = held.epoch + 1;
    connection.one(Call::count(TAKE, [&held.log as _, &epoch as _, &home.id as _]))?;
    connection.script("COMMIT")?;
    Ok(Claim::Taken(Own { log: held.log, epoch, batch: held.batch }))
}

/// Lets go of a log, so that whoever comes next need not wait.
pub(super) fn release(connection: &mut Connection, own: Own) -> Result<(), Fault> {
    connection.connect()?;
    connection.one(Call::count(RELEASE, [&own.log as _, &own.epoch as _])).map(drop)
}

/// Prolongs the hold, in a transaction that has locked the row.
pub(super) fn prolong(connection: &mut Connection, log: i64) -> Result<(), Fault> {
    connection.one(Call::count(PROLONG, [&log as _])).map(drop)
}

/// The number of a log that is only read.
pub(super) fn find(connection: &mut Connection, origin: &str) -> Result<Option<i64>, Fault> {
    let rows = connection.one(Call::rows("SELECT id FROM bursar.logs WHERE origin = $1", [&origin as _]))?;
    rows.first().map(|row| get(row, 0)).transpose()
}

const FIND: &str = "SELECT id, epoch, batch, home, \
     (extract(epoch from held_until - clock_timestamp()) * 1000)::bigint FROM bursar.logs WHERE origin = $1 FOR UPDATE";
/// Two that begin a log at the same time meet each other's number or name, and one of them fails.
const BEGIN: &str = "INSERT INTO bursar.logs (id, origin, epoch, home, held_until, batch) \
     SELECT coalesce(max(id), 0) + 1, $1, 1, $2, now() + interval '15 seconds', 0 FROM bursar.logs RETURNING id";
const TAKE: &str =
    "UPDATE bursar.logs SET epoch = $2, home = $3, held_until = now() + interval '15 seconds' WHERE id = $1";
const PROLONG: &str = "UPDATE bursar.logs SET held_until = now() + interval '15 seconds' WHERE id = $1";
const RELEASE: &str = "UPDATE bursar.logs SET held_until = now() WHERE id = $1 AND epoch = $2";

/// Bytes of an id.
const HOME: u64 = 16;
/// A hold that is not prolonged lasts no longer.
const LONGEST: Duration = Duration::from_secs(15);
/// Between the end of a hold and the next look.
const SLACK: Duration = Duration::from_millis(200);
