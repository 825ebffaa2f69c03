//! Sums over the leases, kept as they change: how many are in each state, and how many each backend and node holds.
//!
//! A batch collects moves and writes their sums once at its end, a few rows for all its entries. An entry that is refused
//! midway takes its moves back by [`Tally::undo`]. Principals have no sums: they are many, so each new lease would cost a
//! scattered row, and the order of slots counts them when somebody asks (`holders.rs`).

use std::collections::HashMap;

use bursar_core::LeaseState;
use bursar_core::lease::Lease;
use rusqlite::Connection;

use super::codes::{holder_code, state_code, stored};
use crate::ledger::query::HolderKind;

/// The moves of one batch.
#[derive(Debug, Default)]
pub(super) struct Tally {
    moves: Vec<Move>,
}

/// Some leases of one set of holders went from one state to another.
#[derive(Debug)]
pub(super) struct Move {
    /// Absent for leases that are new.
    pub(super) from: Option<LeaseState>,
    pub(super) to: LeaseState,
    pub(super) count: u64,
    pub(super) holders: Holders,
}

/// Whom a lease counts for.
#[derive(Debug)]
pub(super) struct Holders {
    pub(super) backend: String,
    pub(super) node: Option<String>,
}

impl Holders {
    pub(super) fn of(lease: &Lease) -> Self {
        Self {
            backend: lease.reference.backend.as_str().to_owned(),
            node: lease.node.as_ref().map(|node| node.as_str().to_owned()),
        }
    }
}

impl Tally {
    pub(super) fn add(&mut self, made: Move) {
        self.moves.push(made);
    }

    /// The point to which [`Tally::undo`] returns.
    pub(super) fn mark(&self) -> usize {
        self.moves.len()
    }

    pub(super) fn undo(&mut self, mark: usize) {
        self.moves.truncate(mark);
    }

    /// Writes the sums into the transaction.
    pub(super) fn write(&self, connection: &Connection) -> rusqlite::Result<()> {
        self.write_states(connection)?;
        self.write_holders(connection)
    }

    fn write_states(&self, connection: &Connection) -> rusqlite::Result<()> {
        let mut sums: HashMap<LeaseState, i64> = HashMap::new();
        for made in &self.moves {
            *sums.entry(made.to).or_default() += stored(made.count);
            if let Some(from) = made.from {
                *sums.entry(from).or_default() -= stored(made.count);
            }
        }
        let mut add = connection.prepare_cached(ADD_STATE)?;
        for (state, sum) in sums.into_iter().filter(|(_, sum)| *sum != 0) {
            add.execute((state_code(state), sum))?;
        }
        Ok(())
    }

    fn write_holders(&self, connection: &Connection) -> rusqlite::Result<()> {
        let mut sums: HashMap<(HolderKind, &str), i64> = HashMap::new();
        for made in &self.moves {
            let held = i64::from(is_held(made.to)) - i64::from(made.from.is_some_and(is_held));
            let names = [
                (HolderKind::Backend, Some(made.holders.backend.as_str())),
                (HolderKind::Node, made.holders.node.as_deref()),
            ];
            for (kind, name) in names {
                if let Some(name) = name {
                    *sums.entry((kind, name)).or_default() += held * stored(made.count);
                }
            }
        }
        let mut add = connection.prepare_cached(ADD_HOLDER)?;
        let mut begin = connection.prepare_cached(BEGIN_HOLDER)?;
        let mut forget = connection.prepare_cached(FORGET_HOLDER)?;
        for ((kind, name), sum) in sums.into_iter().filter(|(_, sum)| *sum != 0) {
            if add.execute((holder_code(kind), name, sum))? == 0 {
                begin.execute((holder_code(kind), name, sum))?;
            }
            if sum < 0 {
                forget.execute((holder_code(kind), name))?;
            }
        }
        Ok(())
    }
}

/// Whether there is still something to hold: a right, or a credential that is not taken back yet.
fn is_held(state: LeaseState) -> bool {
    state != LeaseState::Gone
}

const ADD_STATE: &str = "INSERT INTO lease_counts (state, leases) VALUES (?1, ?2) \
     ON CONFLICT (state) DO UPDATE SET leases = leases + excluded.leases";

const ADD_HOLDER: &str = "UPDATE holders SET leases = leases + ?3 WHERE kind = ?1 AND name = ?2";

const BEGIN_HOLDER: &str = "INSERT INTO holders (kind, name, leases) VALUES (?1, ?2, ?3)";

/// Who holds nothing takes no row: the table is as large as the set of those who hold something.
const FORGET_HOLDER: &str = "DELETE FROM holders WHERE kind = ?1 AND name = ?2 AND leases = 0";
