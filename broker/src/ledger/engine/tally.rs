//! Sums over the leases, kept as they change: how many are in each state, and how many each principal, backend and node
//! holds.
//!
//! A transaction collects moves and writes their sums once at its end, a few rows for all its entries. An entry that is
//! refused midway takes its moves back by [`Tally::undo`]. A principal's sum is a scattered row for each transaction in
//! which it is granted something or loses it: quotas go by it, and counting when a lease is asked for would cost more.

use std::collections::HashMap;

use bursar_core::LeaseState;
use bursar_core::lease::Lease;

use super::codes::stored;
use crate::ledger::query::HolderKind;

/// The moves of one batch.
#[derive(Debug, Default)]
pub(super) struct Tally {
    moves: Vec<Move>,
    /// The sums that were asked for, with the moves so far.
    held: HashMap<HolderKind, HashMap<String, i64>>,
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
    pub(super) principal: String,
    pub(super) backend: String,
    pub(super) node: Option<String>,
}

impl Holders {
    pub(super) fn of(lease: &Lease) -> Self {
        Self {
            principal: lease.principal.as_str().to_owned(),
            backend: lease.reference.backend.as_str().to_owned(),
            node: lease.node.as_ref().map(|node| node.as_str().to_owned()),
        }
    }

    fn names(&self) -> impl Iterator<Item = (HolderKind, &str)> {
        let names = [
            (HolderKind::Principal, Some(self.principal.as_str())),
            (HolderKind::Backend, Some(self.backend.as_str())),
            (HolderKind::Node, self.node.as_deref()),
        ];
        names.into_iter().filter_map(|(kind, name)| Some((kind, name?)))
    }
}

impl Move {
    /// By how much it changes what its holders hold.
    fn change(&self) -> i64 {
        let held = i64::from(is_held(self.to)) - i64::from(self.from.is_some_and(is_held));
        held * stored(self.count)
    }
}

impl Tally {
    pub(super) fn add(&mut self, made: Move) {
        self.shift(&made.holders, made.change());
        self.moves.push(made);
    }

    /// How many leases a holder has that are not gone, with the moves so far: `before` asks for the sum without them.
    pub(super) fn held<E>(
        &mut self,
        kind: HolderKind,
        name: &str,
        before: impl FnOnce() -> Result<i64, E>,
    ) -> Result<u64, E> {
        if let Some(held) = self.held.get(&kind).and_then(|names| names.get(name)) {
            return Ok(u64::try_from(*held).unwrap_or_default());
        }
        let his = |made: &&Move| made.holders.names().any(|holder| holder == (kind, name));
        let held = before()? + self.moves.iter().filter(his).map(Move::change).sum::<i64>();
        self.held.entry(kind).or_default().insert(name.to_owned(), held);
        Ok(u64::try_from(held).unwrap_or_default())
    }

    /// Whether nothing has moved.
    pub(super) fn is_empty(&self) -> bool {
        self.moves.is_empty()
    }

    /// The point to which [`Tally::undo`] returns.
    pub(super) fn mark(&self) -> usize {
        self.moves.len()
    }

    pub(super) fn undo(&mut self, mark: usize) {
        for made in self.moves.split_off(mark.min(self.moves.len())) {
            self.shift(&made.holders, -made.change());
        }
    }

    fn shift(&mut self, holders: &Holders, by: i64) {
        if self.held.is_empty() {
            return;
        }
        for (kind, name) in holders.names() {
            if let Some(held) = self.held.get_mut(&kind).and_then(|names| names.get_mut(name)) {
                *held += by;
            }
        }
    }

    /// By how much each state's sum changes.
    pub(super) fn states(&self) -> HashMap<LeaseState, i64> {
        let mut sums: HashMap<LeaseState, i64> = HashMap::new();
        for made in &self.moves {
            *sums.entry(made.to).or_default() += stored(made.count);
            if let Some(from) = made.from {
                *sums.entry(from).or_default() -= stored(made.count);
            }
        }
        sums.retain(|_, sum| *sum != 0);
        sums
    }

    /// By how much each holder's sum changes.
    pub(super) fn holders(&self) -> HashMap<(HolderKind, &str), i64> {
        let mut sums: HashMap<(HolderKind, &str), i64> = HashMap::new();
        for made in &self.moves {
            for holder in made.holders.names() {
                *sums.entry(holder).or_default() += made.change();
            }
        }
        sums.retain(|_, sum| *sum != 0);
        sums
    }
}

/// Whether there is still something to hold: a right, or a credential that is not taken back yet.
fn is_held(state: LeaseState) -> bool {
    state != LeaseState::Gone
}
