//! The leases that a transaction touches, in memory until its end: as they were read, and as they become.

use std::collections::HashMap;

use bursar_core::LeaseId;
use tokio_postgres::Row;

use super::super::live::Live;
use super::failure::Fault;
use super::rows::{self, LeaseRow};

#[derive(Default)]
pub(super) struct Leases {
    /// Rows that nobody has changed, by id.
    rows: HashMap<LeaseId, Row>,
    /// Those that somebody looked at whole, or changed.
    whole: HashMap<LeaseId, Stored>,
    slots: HashMap<Vec<u8>, LeaseId>,
    /// How to go back, in order.
    undo: Vec<Before>,
}

/// A lease, and what has to be written of it.
#[derive(Clone)]
pub(super) struct Stored {
    pub(super) row: LeaseRow,
    pub(super) fate: Fate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Unchanged,
    New,
    Changed,
    Forgotten,
}

enum Before {
    Lease(LeaseId, Option<Box<Stored>>),
    Slot(Vec<u8>, Option<LeaseId>),
}

impl Leases {
    pub(super) fn keep(&mut self, id: LeaseId, row: Row) {
        self.rows.insert(id, row);
    }

    pub(super) fn occupy(&mut self, slot: Vec<u8>, id: LeaseId) {
        self.slots.insert(slot, id);
    }

    /// What a repeated read needs to know of the lease in a slot.
    pub(super) fn live(&self, slot: &[u8]) -> Result<Option<Live>, Fault> {
        let Some(id) = self.slots.get(slot) else { return Ok(None) };
        if let Some(stored) = self.whole.get(id) {
            return Ok(Some(stored.row.live()));
        }
        self.rows.get(id).map(rows::live).transpose()
    }

    /// A lease as it is by now.
    pub(super) fn find(&mut self, id: LeaseId) -> Result<Option<&LeaseRow>, Fault> {
        if !self.whole.contains_key(&id) {
            let Some(row) = self.rows.get(&id) else { return Ok(None) };
            self.whole.insert(id, Stored { row: LeaseRow::of(row)?, fate: Fate::Unchanged });
        }
        let stored = self.whole.get(&id).filter(|stored| stored.fate != Fate::Forgotten);
        Ok(stored.map(|stored| &stored.row))
    }

    /// Changes a lease that was found.
    pub(super) fn change(&mut self, id: LeaseId, change: impl FnOnce(&mut LeaseRow)) {
        let Some(stored) = self.whole.get_mut(&id) else { return };
        self.undo.push(Before::Lease(id, Some(Box::new(stored.clone()))));
        let slot = stored.row.slot.clone();
        change(&mut stored.row);
        if stored.fate == Fate::Unchanged {
            stored.fate = Fate::Changed;
        }
        if let Some(slot) = slot.filter(|_| stored.row.slot.is_none()) {
            let before = self.slots.remove(&slot);
            self.undo.push(Before::Slot(slot, before));
        }
    }

    /// Adds a new lease; not where there is one of its id.
    pub(super) fn add(&mut self, row: LeaseRow) -> bool {
        let id = row.lease.id;
        if self.whole.contains_key(&id) || self.rows.contains_key(&id) {
            return false;
        }
        self.undo.push(Before::Lease(id, None));
        if let Some(slot) = row.slot.clone() {
            let before = self.slots.insert(slot.clone(), id);
            self.undo.push(Before::Slot(slot, before));
        }
        self.whole.insert(id, Stored { row, fate: Fate::New });
        true
    }

    /// Forgets a lease that was found.
    pub(super) fn forget(&mut self, id: LeaseId) {
        if let Some(stored) = self.whole.get_mut(&id) {
            self.undo.push(Before::Lease(id, Some(Box::new(stored.clone()))));
            stored.fate = Fate::Forgotten;
        }
    }

    pub(super) fn newest(&self) -> Option<LeaseId> {
        self.whole.keys().chain(self.rows.keys()).max().copied()
    }

    pub(super) fn with_fate(&self, fate: Fate) -> Vec<&LeaseRow> {
        let mut found: Vec<_> =
            self.whole.values().filter(|stored| stored.fate == fate).map(|stored| &stored.row).collect();
        // Two brokers that change the same rows meet at the first of them.
        found.sort_unstable_by_key(|row| row.lease.id);
        found
    }

    /// The point to which [`Leases::undo`] returns.
    pub(super) fn mark(&self) -> usize {
        self.undo.len()
    }

    pub(super) fn undo(&mut self, mark: usize) {
        while self.undo.len() > mark {
            match self.undo.pop() {
                Some(Before::Lease(id, Some(stored))) => drop(self.whole.insert(id, *stored)),
                Some(Before::Lease(id, None)) => drop(self.whole.remove(&id)),
                Some(Before::Slot(slot, Some(id))) => drop(self.slots.insert(slot, id)),
                Some(Before::Slot(slot, None)) => drop(self.slots.remove(&slot)),
                None => return,
            }
        }
    }
}
