use bursar_proto::convert::{WireError, timestamp_from_wire};
use bursar_proto::v1;
use jiff::Timestamp;
use serde::Serialize;

use crate::error::counted;
use crate::output::{Details, Row};
use crate::table::{Cell, Column, cut, whole};
use crate::text;

/// A bulk revocation, and how far it got.
#[derive(Debug, Serialize)]
pub(crate) struct RevocationView {
    pub(crate) id: u64,
    state: &'static str,
    leases: String,
    ordered_by: String,
    ordered_at: Timestamp,
    reason: Option<String>,
    /// Revoked so far.
    pub(crate) marked: u64,
    marked_at: Option<Timestamp>,
    /// Of these, made by stores.
    pub(crate) dynamic: u64,
    /// Of these, still at their stores.
    pub(crate) waiting: u64,
    /// Of these, stuck there.
    pub(crate) stuck: u64,
}

impl RevocationView {
    /// Whether nothing more happens by itself soon: every lease is marked, and those that wait are stuck.
    pub(crate) fn is_settled(&self) -> bool {
        self.marked_at.is_some() && self.waiting <= self.stuck
    }

    /// How far it is, in a line.
    pub(crate) fn progress(&self) -> String {
        let marked = counted(self.marked, "lease");
        let more = if self.marked_at.is_none() { ", more to come" } else { "" };
        let removed = self.dynamic.saturating_sub(self.waiting);
        let at_stores = match self.dynamic {
            0 => String::new(),
            dynamic => format!("; {removed} of {dynamic} removed at their stores"),
        };
        let stuck = if self.stuck > 0 { format!(", {} stuck", self.stuck) } else { String::new() };
        format!("{marked} revoked{more}{at_stores}{stuck}")
    }
}

impl TryFrom<v1::Revocation> for RevocationView {
    type Error = WireError;

    fn try_from(revocation: v1::Revocation) -> Result<Self, WireError> {
        let state = match &revocation {
            v1::Revocation { marked_at: None, .. } => MARKING,
            v1::Revocation { waiting: 0, .. } => DONE,
            v1::Revocation { waiting, stuck, .. } if waiting <= stuck => STUCK,
            _ => REMOVING,
        };
        Ok(Self {
            id: revocation.id,
            state,
            leases: revocation.leases,
            ordered_by: revocation.ordered_by,
            ordered_at: timestamp_from_wire("ordered_at", revocation.ordered_at)?,
            reason: super::filled(revocation.reason),
            marked: revocation.marked,
            marked_at: super::time("marked_at", revocation.marked_at)?,
            dynamic: revocation.dynamic,
            waiting: revocation.waiting,
            stuck: revocation.stuck,
        })
    }
}

impl Row for RevocationView {
    const COLUMNS: &'static [Column] = &[
        whole("ID"),
        whole("STATE"),
        cut("LEASES"),
        whole("REVOKED"),
        whole("WAITING"),
        whole("STUCK"),
        whole("ORDERED"),
    ];

    fn cells(&self, now: Timestamp) -> Vec<Cell> {
        vec![
            Cell::new(self.id.to_string()),
            state_cell(self.state),
            Cell::new(&self.leases),
            Cell::new(self.marked.to_string()),
            Cell::new(self.waiting.to_string()),
            if self.stuck > 0 { Cell::bad(self.stuck.to_string()) } else { Cell::new("0") },
            Cell::new(text::relative(self.ordered_at, now)),
        ]
    }
}

impl Details for RevocationView {
    fn details(&self, now: Timestamp) -> Vec<(&'static str, Cell)> {
        let at = |time: Timestamp| Cell::new(format!("{} ({})", text::time(time), text::relative(time, now)));
        vec![
            ("revocation", Cell::new(self.id.to_string())),
            ("state", state_cell(self.state)),
            ("takes", Cell::new(&self.leases)),
            ("ordered by", Cell::new(&self.ordered_by)),
            ("ordered", at(self.ordered_at)),
            ("reason", Cell::maybe(self.reason.as_deref())),
            ("progress", Cell::new(self.progress())),
            ("all revoked", self.marked_at.map_or_else(|| Cell::new("-"), at)),
        ]
    }
}

fn state_cell(state: &'static str) -> Cell {
    match state {
        DONE => Cell::good(state),
        STUCK => Cell::bad(state),
        _ => Cell::doubtful(state),
    }
}

/// Leases are being revoked.
const MARKING: &str = "marking";
/// All are; stores are being asked to remove their credentials.
const REMOVING: &str = "removing";
/// What is left keeps failing.
const STUCK: &str = "stuck";
const DONE: &str = "done";

#[cfg(test)]
mod tests {
    use super::*;

    fn view(marked: u64, done: bool, dynamic: u64, waiting: u64, stuck: u64) -> RevocationView {
        let time = prost_types::Timestamp { seconds: 1_767_225_600, nanos: 0 };
        let revocation = v1::Revocation {
            id: 7,
            ordered_at: Some(time),
            marked_at: done.then_some(time),
            marked,
            dynamic,
            waiting,
            stuck,
            ..v1::Revocation::default()
        };
        RevocationView::try_from(revocation).expect("a revocation")
    }

    #[test]
    fn it_is_settled_when_nothing_but_stuck_leases_is_left() {
        assert!(!view(500, false, 0, 0, 0).is_settled());
        assert!(!view(500, true, 10, 3, 2).is_settled());
        assert!(view(500, true, 10, 2, 2).is_settled());
        assert!(view(0, true, 0, 0, 0).is_settled());
    }

    #[test]
    fn progress_is_told_in_a_line() {
        assert_eq!(view(500, false, 0, 0, 0).progress(), "500 leases revoked, more to come");
        assert_eq!(
            view(12, true, 10, 3, 2).progress(),
            "12 leases revoked; 7 of 10 removed at their stores, 2 stuck"
        );
        let states =
            [view(1, false, 0, 0, 0), view(1, true, 1, 1, 0), view(1, true, 1, 1, 1), view(1, true, 1, 0, 0)];
        assert_eq!(states.map(|view| view.state), [MARKING, REMOVING, STUCK, DONE]);
    }
}
