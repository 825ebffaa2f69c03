//! Retention: old records that every sink has are taken out of the ledger, their hashes are not.
//!
//! The log says so itself: before records go, a record of the action `prune` that names them is durable. A ledger that
//! lacks old records without such a record was not pruned but cut (`bursar-broker verify`).

use std::time::Duration;

use bursar_core::Explained;
use bursar_core::audit::Action;
use tokio::time::MissedTickBehavior;

use super::Ground;
use crate::call::{own_actor, own_record};
use crate::ledger::{Change, Entry, LedgerError};

/// Prunes from time to time, until the broker stops.
pub(super) async fn run(ground: Ground, sinks: Vec<String>, age: Duration) {
    let mut rounds = ground.tasks.ticks(ROUND);
    while rounds.next().await {
        match ground.tasks.until_stopping(prune(&ground, &sinks, age)).await {
            None | Some(Ok(0) | Err(LedgerError::Closed)) => {}
            Some(Ok(records)) => tracing::info!(records, "audit records were pruned"),
            Some(Err(error @ LedgerError::Corrupt { .. })) => {
                // It will be no better in a minute, and each attempt leaves a record.
                tracing::error!(error = %Explained(&error), "nothing is pruned any more; look with `bursar-broker verify`");
                ground.tasks.stopping().await;
                return;
            }
            Some(Err(error)) => {
                tracing::warn!(error = %Explained(&error), "audit records could not be pruned; it is tried again");
            }
        }
    }
}

/// Prunes what is older than `age` and at every sink; answers how many records went.
pub(super) async fn prune(ground: &Ground, sinks: &[String], age: Duration) -> Result<u64, LedgerError> {
    let now = ground.clock.now();
    let Ok(before) = now.checked_sub(age) else { return Ok(0) };
    let prunable = ground.ledger.prunable(before).await?;
    let mut below = prunable.below;
    for sink in sinks {
        below = below.min(ground.ledger.shipped(sink).await?);
    }
    // Pruned is in whole tiles: what is left of one is for another time.
    if below < prunable.first + TILE {
        return Ok(0);
    }
    let below = below / TILE * TILE;
    let shown = format!("records {} to {}", prunable.first, below - 1);
    let actor = own_actor(&ground.broker);
    let record = own_record(actor, now, "retention".to_owned(), Action::Prune, shown);
    ground.ledger.commit(Entry { changes: Vec::new(), records: vec![record] }).await?;
    let mut pace = tokio::time::interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut first = prunable.first;
    while first < below {
        pace.tick().await;
        let change = Change::Prune { below };
        ground.ledger.commit(Entry { changes: vec![change], records: Vec::new() }).await?;
        let now = ground.ledger.first_kept().await?;
        if now == first {
            break;
        }
        first = now;
    }
    Ok(first - prunable.first)
}

const TILE: u64 = 1 << bursar_core::tlog::TILE_HEIGHT;

const ROUND: Duration = Duration::from_secs(60);

/// About 50,000 records a second at most, in the gaps between other work.
const PACE: Duration = Duration::from_millis(20);
