//! The revisions of named bytes: whoever writes says which one he saw.

use crate::ledger::entry::ObjectKind;
use crate::ledger::error::LedgerError;

/// Of one object: 0 where there is none.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Revisions {
    pub(super) current: u64,
    /// The last one in its history.
    pub(super) last: u64,
}

impl Revisions {
    /// The revision that a write makes: numbers go on where an object was removed.
    pub(super) fn next(self, expected: Option<u64>) -> Result<u64, LedgerError> {
        self.check(expected)?;
        Ok(if self.current > 0 { self.current } else { self.last } + 1)
    }

    /// Whether it may be removed.
    pub(super) fn remove(
        self,
        kind: ObjectKind,
        name: &str,
        expected: Option<u64>,
    ) -> Result<(), LedgerError> {
        match self.current {
            0 => Err(LedgerError::ObjectMissing { kind, name: name.to_owned() }),
            _ => self.check(expected),
        }
    }

    fn check(self, expected: Option<u64>) -> Result<(), LedgerError> {
        match expected {
            Some(expected) if expected != self.current => {
                Err(LedgerError::RevisionConflict { expected, found: self.current })
            }
            _ => Ok(()),
        }
    }
}
