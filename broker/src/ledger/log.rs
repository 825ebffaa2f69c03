//! The log as others see it: its records, its signed heads, and proofs between them.

use bursar_core::audit::AuditRecord;
use bursar_core::tlog::{Frontier, Hash};
use jiff::Timestamp;

use super::engine::Work;
use super::{AuditQuery, Ledger, LedgerError, Page, Paged, Prunable, SignedHead, proofs, records};

impl Ledger {
    /// Audit records, a page at a time.
    ///
    /// # Errors
    /// [`LedgerError::PageToken`], or when the ledger cannot be read.
    pub async fn audit(&self, query: AuditQuery, page: Page) -> Result<Paged<AuditRecord>, LedgerError> {
        self.inner.readers.ask(move |snapshot| records::audit(snapshot, &query, &page)).await
    }

    /// The exact bytes of the records from `from` on, in order: the leaves of the log and the lines of an export. At
    /// most 10,000 at once.
    ///
    /// # Errors
    /// [`LedgerError::Pruned`] when the first of them are no longer there, or when the ledger cannot be read.
    pub async fn audit_lines(&self, from: u64, limit: usize) -> Result<Vec<Vec<u8>>, LedgerError> {
        self.inner.readers.ask(move |snapshot| records::lines(snapshot, from, limit)).await
    }

    /// The head of everything that is durable, signed when it is first asked for.
    ///
    /// # Errors
    /// [`LedgerError::NotSigning`] before [`Ledger::start_signing`].
    pub fn checkpoint(&self) -> Result<SignedHead, LedgerError> {
        let board = &self.inner.board;
        Ok(board.newest(board.signer.get().ok_or(LedgerError::NotSigning)?))
    }

    /// The log's name, which no other broker's has.
    ///
    /// # Errors
    /// [`LedgerError::NotSigning`] before [`Ledger::start_signing`].
    pub fn origin(&self) -> Result<&str, LedgerError> {
        let signer = self.inner.board.signer.get().ok_or(LedgerError::NotSigning)?;
        Ok(signer.verifier().name())
    }

    /// Stores a checkpoint over everything that is durable, unless the stored one is. To be called on a schedule: in
    /// between, and after a crash, the log's edge is sealed by the broker's key, which no other can check.
    ///
    /// # Errors
    /// [`LedgerError`], as a commit would meet it now.
    pub async fn sign(&self) -> Result<(), LedgerError> {
        self.ready()?;
        if self.inner.board.is_stored() {
            return Ok(());
        }
        self.order(Work::Sign).await
    }

    /// Proves that the log of `old` records is the beginning of that of `new`.
    ///
    /// # Errors
    /// [`LedgerError::ProofRange`] when `old` is larger than `new` or `new` than the log.
    pub async fn consistency_proof(&self, old: u64, new: u64) -> Result<Vec<Hash>, LedgerError> {
        self.inner.readers.ask(move |snapshot| proofs::consistency(snapshot, old, new)).await
    }

    /// The record of this number and the proof that it is among the first `size` of the log. A record that was pruned is
    /// proved all the same, and not there.
    ///
    /// # Errors
    /// [`LedgerError::ProofRange`] when the log of `size` records is not, or has no such record.
    pub async fn inclusion_proof(
        &self,
        seq: u64,
        size: u64,
    ) -> Result<(Option<Vec<u8>>, Vec<Hash>), LedgerError> {
        self.inner.readers.ask(move |snapshot| proofs::inclusion(snapshot, seq, size)).await
    }

    /// The log's right edge at an earlier size: where a replay of the records from there begins.
    ///
    /// # Errors
    /// [`LedgerError::ProofRange`] when the log is shorter.
    pub async fn edge_at(&self, size: u64) -> Result<Frontier, LedgerError> {
        self.inner.readers.ask(move |snapshot| proofs::edge(snapshot, size)).await
    }

    /// The head of the log as it was at `size` records, signed now where it is not the newest.
    ///
    /// # Errors
    /// As [`Ledger::edge_at`], and as [`Ledger::checkpoint`].
    pub async fn checkpoint_at(&self, size: u64) -> Result<SignedHead, LedgerError> {
        let newest = self.checkpoint()?;
        if newest.size == size {
            return Ok(newest);
        }
        let frontier = self.edge_at(size).await?;
        let signer = self.inner.board.signer.get().ok_or(LedgerError::NotSigning)?;
        Ok(SignedHead::sign(&frontier, signer))
    }

    /// The oldest record that was not pruned.
    ///
    /// # Errors
    /// [`LedgerError`] when the ledger cannot be read.
    pub async fn first_kept(&self) -> Result<u64, LedgerError> {
        self.inner.readers.ask(|snapshot| snapshot.first_kept()).await
    }

    /// Which records made before `time` may be pruned.
    ///
    /// # Errors
    /// [`LedgerError`] when the ledger cannot be read.
    pub async fn prunable(&self, time: Timestamp) -> Result<Prunable, LedgerError> {
        self.inner.readers.ask(move |snapshot| records::prunable(snapshot, time)).await
    }
}
