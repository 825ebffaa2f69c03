//! PostgreSQL, and what speaks its protocol: one session that writes, a few that read.
//!
//! Several brokers may keep their ledgers in one database. Leases, credentials and the brokers' objects are common to all;
//! each broker writes a log of its own, and one process at a time is that broker (`fence.rs`). Only what Aurora, AlloyDB,
//! YugabyteDB and CockroachDB have too is used: no advisory locks, no notifications, no sequences, nothing that follows
//! from the order in which transactions happen to commit.
//!
//! A transaction of many entries is three round trips: everything that they name is looked up (`needs.rs`), they are applied
//! in memory (`batch.rs`), what came of it is written by one statement for each table (`flush.rs`), and committed
//! (`transactions.rs`). Rows say how often they were changed, and whoever changes one says which of that he saw: no locks
//! on what is only read, and serializable or not, a transaction whose ground moved is done again.

mod access;
mod batch;
mod connection;
mod failure;
mod fence;
mod flush;
mod grants;
mod leases;
mod lists;
mod log;
mod many;
mod needs;
mod objects;
mod revocations;
mod rows;
mod schema;
mod snapshot;
mod transactions;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use super::{Engine, Opened, Sizes, Snapshots};
use crate::ledger::error::OpenError;
use crate::ledger::proofs;
use access::Access;
use connection::{Call, Connection};
use fence::Home;
use schema::Found;
use snapshot::Reader;
use transactions::Writer;

pub use access::{PostgresAccess, UrlFault};

/// A ledger in a PostgreSQL.
#[derive(Debug)]
pub(in crate::ledger) struct Postgres {
    access: Arc<Access>,
    /// The database, by name.
    place: String,
    /// The name of the log that this broker writes.
    origin: String,
    trust_domain: String,
    /// The broker's data directory.
    folder: PathBuf,
}

impl Postgres {
    pub(in crate::ledger) fn new(
        access: PostgresAccess,
        origin: String,
        trust_domain: String,
        folder: PathBuf,
    ) -> Result<Self, UrlFault> {
        let access = Access::new(access);
        let place = access.place()?;
        Ok(Self { access: Arc::new(access), place, origin, trust_domain, folder })
    }

    fn connection(&self) -> Result<Connection, OpenError> {
        Connection::new(Arc::clone(&self.access)).map_err(OpenError::Thread)
    }

    fn connected(&self) -> Result<Connection, OpenError> {
        let mut connection = self.connection()?;
        connection.connect().map_err(|fault| fault.on_open(&self.place))?;
        Ok(connection)
    }

    /// What is found, where it is a ledger of this trust domain and of this schema.
    fn check(&self, connection: &mut Connection) -> Result<bool, OpenError> {
        let place = || self.place.clone();
        let found = schema::look(connection).map_err(|fault| fault.on_open(&self.place))?;
        let Found::Version { version, trust_domain } = found else { return Ok(false) };
        if trust_domain != self.trust_domain {
            let configured = self.trust_domain.clone();
            return Err(OpenError::OtherDomain { place: place(), found: trust_domain, configured });
        }
        match version {
            found if found > schema::VERSION => {
                Err(OpenError::NewerSchema { place: place(), found, supported: schema::VERSION })
            }
            found if found < schema::VERSION => {
                Err(OpenError::OlderSchema { place: place(), found, wanted: schema::VERSION })
            }
            _ => schema::check(connection, &self.place).map(|()| true),
        }
    }

    fn visitor(&self) -> Result<Reader, OpenError> {
        let mut connection = self.connected()?;
        let not = || OpenError::NotALedger { place: self.place.clone() };
        if !self.check(&mut connection)? {
            return Err(not());
        }
        let log = fence::find(&mut connection, &self.origin).map_err(|fault| fault.on_open(&self.place))?;
        Ok(Reader { connection, log: log.ok_or_else(not)? })
    }
}

impl Engine for Postgres {
    fn open(&self) -> Result<Opened, OpenError> {
        let home = Home::take(&self.folder, &self.place)?;
        let mut connection = self.connected()?;
        if !self.check(&mut connection)? {
            let created = schema::create(&mut connection, &self.trust_domain);
            created.map_err(|fault| fault.on_open(&self.place))?;
            self.check(&mut connection)?;
        }
        let own = fence::claim(&mut connection, &self.origin, &home, &self.place)?;
        let reader = || Reader::new(&self.access, own.log).map_err(OpenError::Thread);
        let stored = <dyn Snapshots>::ask(&mut reader()?, proofs::head);
        let stored = stored.map_err(|error| OpenError::of_head(self, error))?;
        let tail = stored.tail.clone();
        let writer = Writer { connection, own, tail, doubt: None, _home: home };
        let readers = (0..READERS).map(|_| Ok(Box::new(reader()?) as _)).collect::<Result<_, OpenError>>()?;
        let finder = Box::new(reader()?);
        Ok(Opened { transactions: Box::new(writer), finder, readers, stored, helper: None })
    }

    fn visit(&self) -> Result<Box<dyn Snapshots>, OpenError> {
        Ok(Box::new(self.visitor()?))
    }

    /// A schema is brought up by whoever opens it to write.
    fn bring_up(&self) -> Result<(), OpenError> {
        self.check(&mut self.connected()?).map(drop)
    }

    fn drop_credentials(&self) -> Result<(), OpenError> {
        let dropped = self.connected()?.one(Call::count("DELETE FROM bursar.credentials", []));
        dropped.map(drop).map_err(|fault| fault.on_open(&self.place))
    }

    fn is_there(&self) -> Result<bool, OpenError> {
        self.check(&mut self.connected()?)
    }

    fn sizes(&self) -> Sizes {
        Sizes::default()
    }
}

impl fmt::Display for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.place)
    }
}

/// Sessions that answer questions.
const READERS: usize = 4;
