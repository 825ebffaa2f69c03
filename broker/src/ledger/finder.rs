//! Leases looked up by their ids: one thread answers together all who ask at the same time.
//!
//! Every renewal and every revocation of one lease begins with this question. By `readers.rs` each would be handed to a
//! thread of its own and have a transaction of its own, which costs several times what the lookup does. Like the
//! writer, this thread takes whatever gathered while it was at work, without a timer. All of it is asked of one state
//! of the ledger, which is begun after the last of the questions came: who was told of a commit, and then asks, sees it.

use bursar_core::{Lease, LeaseId};
use tokio::sync::{mpsc, oneshot};

use super::engine::Snapshots;
use super::error::LedgerError;

/// What the finder is told.
#[derive(Debug)]
pub(super) enum Question {
    Lease(LeaseId, Reply),
    /// Answer what is queued, and end.
    Stop,
}

/// Whom to tell what was found.
pub(super) type Reply = oneshot::Sender<Result<Option<Lease>, LedgerError>>;

/// The one that looks.
pub(super) struct Finder {
    pub(super) queue: mpsc::Receiver<Question>,
    pub(super) connection: Box<dyn Snapshots>,
}

impl Finder {
    /// Answers until it is stopped or nobody is left who could ask.
    pub(super) fn run(mut self) {
        let mut questions = Vec::with_capacity(BATCH);
        let (mut ids, mut replies) = (Vec::with_capacity(BATCH), Vec::with_capacity(BATCH));
        while self.queue.blocking_recv_many(&mut questions, BATCH) > 0 {
            for question in questions.drain(..) {
                match question {
                    Question::Lease(id, reply) => {
                        ids.push(id);
                        replies.push(reply);
                    }
                    Question::Stop => self.queue.close(),
                }
            }
            let mut waiting = replies.drain(..);
            self.connection.leases(&ids, &mut |found| {
                // Whoever asked may have stopped waiting.
                if let Some(reply) = waiting.next() {
                    let _gone = Reply::send(reply, found);
                }
            });
            drop(waiting);
            ids.clear();
        }
    }
}

/// Questions that may wait; whoever comes later waits for a place.
pub(super) const QUEUE: usize = 1024;
/// The most leases that are looked up in one transaction.
const BATCH: usize = 256;
