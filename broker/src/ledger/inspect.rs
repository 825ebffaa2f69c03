//! Reading all of a ledger against itself: records, tree, head and checkpoint, and the leases that they speak of.
//!
//! Opening a ledger checks its end; this checks every byte of the log, and changes nothing. What is found is collected,
//! so that one look shows all of it.

mod leases;

use bursar_core::audit::{Action, AuditRecord};
use bursar_core::tlog::{Checkpoint, Frontier, Hash, Node, Signer, TreeHead, Verifier, leaf_hash};

use super::engine::{Snapshot, TILE, Vouched};
use super::error::LedgerError;
use leases::Known;

/// What a look at the whole ledger found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspection {
    /// How many records the log has, pruned ones included.
    pub size: u64,
    /// The oldest that is kept.
    pub first: u64,
    /// The root over all of them, as they are.
    pub root: Hash,
    /// How many of them are below the stored checkpoint.
    pub signed: u64,
    /// How many leases there are, in any state.
    pub leases: u64,
    /// What is not as it was written; empty when all is well. At most [`MOST`].
    pub findings: Vec<String>,
}

/// The key of the log that is looked at.
#[derive(Debug, Clone, Copy)]
pub enum LogKey<'key> {
    /// What everybody may have. Of records newer than the stored checkpoint it tells only that they agree with each other.
    Public(&'key Verifier),
    /// The broker's own, which sealed them.
    Own(&'key Signer),
}

impl LogKey<'_> {
    fn verifier(&self) -> &Verifier {
        match self {
            Self::Public(verifier) => verifier,
            Self::Own(signer) => signer.verifier(),
        }
    }
}

/// Looks at everything.
pub(super) fn inspect(snapshot: &dyn Snapshot, key: LogKey<'_>) -> Result<Inspection, LedgerError> {
    let mut look = Look { snapshot, findings: Vec::new(), known: Known::default() };
    for finding in snapshot.damage()? {
        look.find(format!("the database is damaged: {finding}"));
    }
    let first = snapshot.first_kept()?;
    let head = snapshot.head()?;
    let signed = look.checkpoint(head.as_ref(), key.verifier());
    let size = signed.map_or(0, |signed| signed.size);
    let mut log = Log { frontier: Frontier::default(), pruned: None, size, root: None };
    look.pruned_tiles(first, &mut log)?;
    look.records(first, &mut log)?;
    look.tiles(log.frontier.size())?;
    look.pruning(first, log.pruned);
    look.head(head, &log, signed, key);
    let leases = look.leases(first)?;
    look.credentials()?;
    look.sums()?;
    let (size, root) = (log.frontier.size(), log.frontier.root());
    Ok(Inspection { size, first, root, signed: log.size, leases, findings: look.findings })
}

struct Look<'s> {
    snapshot: &'s dyn Snapshot,
    findings: Vec<String>,
    known: Known,
}

/// The log as its records make it.
struct Log {
    frontier: Frontier,
    /// The record before which the newest `prune` record says that all are gone.
    pruned: Option<u64>,
    /// The size that the checkpoint is over.
    size: u64,
    /// The root at that size.
    root: Option<Hash>,
}

impl Look<'_> {
    fn find(&mut self, finding: String) {
        match self.findings.len() {
            0..MOST => self.findings.push(finding),
            MOST => self.findings.push("and more".to_owned()),
            _ => {}
        }
    }

    /// The leaf hashes of pruned records: every place up to the oldest record, and no other.
    fn pruned_tiles(&mut self, first: u64, log: &mut Log) -> Result<(), LedgerError> {
        if self.snapshot.pruned_beyond(first / TILE)? > 0 || !first.is_multiple_of(TILE) {
            self.find(format!(
                "the oldest record is {first}, and the hashes of pruned records do not end there"
            ));
        }
        for place in 0..first / TILE {
            let hashes = self.snapshot.pruned_hashes(place)?.unwrap_or_default();
            if u64::try_from(hashes.len()) != Ok(TILE) {
                let (from, to) = (place * TILE, (place + 1) * TILE - 1);
                self.find(format!("the records {from} to {to} are gone, and so are their hashes"));
            }
            for hash in hashes {
                self.append(hash, log)?;
            }
        }
        Ok(())
    }

    fn records(&mut self, first: u64, log: &mut Log) -> Result<(), LedgerError> {
        let snapshot = self.snapshot;
        let (mut wanted, mut latest) = (first, i64::MIN);
        snapshot.each_record(&mut |seq, at, line| {
            if seq != wanted {
                self.find(format!("the records {wanted} to {} are missing", seq.saturating_sub(1)));
            }
            match AuditRecord::from_line(line) {
                Ok(record) => {
                    latest = latest.max(record.time.as_microsecond());
                    if record.seq != seq {
                        self.find(format!("record {} stands in the place of record {seq}", record.seq));
                    }
                    if at != latest && seq == first {
                        // The clock may have run ahead of it before the oldest record that is kept.
                        latest = latest.max(at);
                    } else if at != latest {
                        self.find(format!("record {seq} is filed under another time than its own"));
                    }
                    if record.action == Action::Prune {
                        log.pruned = pruned_before(&record.resource).or(log.pruned);
                    }
                    self.known.take(seq, &record);
                }
                Err(_) => self.find(format!("record {seq} cannot be read")),
            }
            self.append(leaf_hash(line), log)?;
            wanted = seq + 1;
            Ok(())
        })
    }

    /// Adds a leaf, and compares each tile that it completes with the stored one.
    fn append(&mut self, leaf: Hash, log: &mut Log) -> Result<(), LedgerError> {
        let mut completed: Vec<Node> = Vec::new();
        log.frontier.append(leaf, |node| completed.extend(node.is_tile_root().then_some(node)));
        if log.frontier.size() == log.size {
            log.root = Some(log.frontier.root());
        }
        for node in completed {
            if self.snapshot.tile_root(node.level, node.index)? != Some(node.hash) {
                let (from, to) = (node.index << node.level, ((node.index + 1) << node.level) - 1);
                self.find(format!(
                    "the tree's node over the records {from} to {to} is not the one that these records make"
                ));
            }
        }
        Ok(())
    }

    /// No nodes but those of the tree.
    fn tiles(&mut self, size: u64) -> Result<(), LedgerError> {
        let mut wanted = 0;
        let mut level = size >> 8;
        while level > 0 {
            wanted += level;
            level >>= 8;
        }
        let found = self.snapshot.tiles()?;
        if found != wanted {
            self.find(format!("the tree of {size} records has {wanted} stored nodes, and {found} are there"));
        }
        Ok(())
    }

    /// Old records are gone because the log says so, or because somebody took them.
    fn pruning(&mut self, first: u64, pruned: Option<u64>) {
        if first > pruned.unwrap_or_default() {
            self.find(format!(
                "the records before {first} are gone, and no record says that they were pruned"
            ));
        }
    }

    /// What was signed, where it was this log that signed it.
    fn checkpoint(&mut self, head: Option<&(Vec<u8>, Vouched)>, verifier: &Verifier) -> Option<TreeHead> {
        let (_, vouched) = head?;
        match Checkpoint::open(&vouched.note, verifier) {
            Ok(signed) => Some(signed.head()),
            Err(error) => {
                self.find(format!("the checkpoint is not one that this log signed: {error}"));
                None
            }
        }
    }

    fn head(
        &mut self,
        head: Option<(Vec<u8>, Vouched)>,
        log: &Log,
        signed: Option<TreeHead>,
        key: LogKey<'_>,
    ) {
        let size = log.frontier.size();
        let Some((edge, vouched)) = head else {
            if size > 0 {
                self.find(format!("there are {size} records and no head"));
            }
            return;
        };
        if edge != log.frontier.to_bytes() {
            self.find("the stored edge of the tree is not the one that the records make".to_owned());
        }
        let Some(signed) = signed else { return };
        if signed.size > 0 && log.root != Some(signed.root) {
            self.find(format!(
                "the checkpoint was signed over {} records with another root than the {size} that are there",
                signed.size
            ));
        }
        // A log that an older broker wrote has no seal, and is signed to its end.
        let sealed = match key {
            _ if signed.size == size => true,
            LogKey::Public(_) => true,
            LogKey::Own(signer) => signer.has_sealed(&log.frontier, &vouched.seal),
        };
        if !sealed {
            self.find(format!("the records from {} on are not those that the broker sealed", signed.size));
        }
    }
}

/// `records FIRST to LAST`: the record after those that were pruned.
fn pruned_before(resource: &str) -> Option<u64> {
    let (_, last) = resource.strip_prefix("records ")?.split_once(" to ")?;
    last.parse::<u64>().ok()?.checked_add(1)
}

/// Findings that are listed.
const MOST: usize = 100;
