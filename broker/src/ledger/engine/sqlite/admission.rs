//! Whether one more lease may be granted.

use bursar_core::Lease;

use super::super::codes::micros;
use super::batch::{Batch, Fault};
use super::tally;
use crate::ledger::error::LedgerError;
use crate::ledger::quota::QuotaExceeded;

impl Batch<'_> {
    /// Refuses a new lease whose holders have as much as they may. To be called before it is written.
    pub(super) fn admit(&mut self, lease: &Lease) -> Result<(), Fault> {
        let refused = |exceeded| Fault::Refused(LedgerError::Quota(exceeded));
        let limits = self.meter.limits(lease);
        for (kind, name, quota) in limits {
            let Some(limit) = quota.live else { continue };
            let before = || tally::held(&self.connection, kind, name);
            if self.tally.held(kind, name, before)? >= limit.get() {
                return Err(refused(QuotaExceeded::live(kind, name, limit.get())));
            }
        }
        self.meter.note(limits, micros(lease.issued_at)).map_err(refused)
    }
}
