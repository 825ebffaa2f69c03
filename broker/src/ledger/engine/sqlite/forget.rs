//! Leases that are gone do not stay for ever; what happened to them is in the audit log.

use bursar_core::BackendName;
use jiff::Timestamp;

use super::super::codes::{at_most, micros};
use super::batch::{Batch, Fault};

impl Batch<'_> {
    pub(super) fn forget(&mut self, before: Timestamp, limit: usize) -> Result<u64, Fault> {
        let forgotten = self.connection.prepare_cached(FORGET)?.execute((micros(before), at_most(limit)))?;
        if forgotten > 0 {
            self.connection.prepare_cached(COUNT)?.execute([at_most(forgotten)])?;
        }
        self.connection.prepare_cached(FORGET_REVOCATIONS)?.execute([micros(before)])?;
        Ok(forgotten as u64)
    }

    pub(super) fn hasten(
        &mut self,
        backend: &BackendName,
        at: Timestamp,
        limit: usize,
    ) -> Result<u64, Fault> {
        let mut hasten = self.connection.prepare_cached(HASTEN)?;
        Ok(hasten.execute((micros(at), backend.as_str(), at_most(limit)))? as u64)
    }
}

const FORGET: &str = "DELETE FROM leases WHERE id IN ( \
     SELECT id FROM leases INDEXED BY lease_gone WHERE gone_at IS NOT NULL AND gone_at <= ?1 \
     ORDER BY gone_at LIMIT ?2)";

/// What went in the same batch is not in the sum yet: it goes below nothing for as long as the batch runs.
const COUNT: &str = "INSERT INTO lease_counts (state, leases) VALUES (6, -?1) \
     ON CONFLICT (state) DO UPDATE SET leases = leases + excluded.leases";

const FORGET_REVOCATIONS: &str = "DELETE FROM revocations WHERE marked_at <= ?1 AND NOT EXISTS ( \
     SELECT 1 FROM leases INDEXED BY lease_ordered \
     WHERE revocation = revocations.id AND revocation IS NOT NULL AND next_attempt_at IS NOT NULL)";

const HASTEN: &str = "UPDATE leases SET next_attempt_at = ?1 WHERE id IN ( \
     SELECT id FROM leases INDEXED BY lease_stuck WHERE state = 5 AND backend = ?2 AND next_attempt_at > ?1 LIMIT ?3)";
