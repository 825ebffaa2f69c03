//! A sink that blocks, on a thread of its own.
//!
//! Writing to a file or a pipe can block for as long as somebody else likes: the other end of the pipe, a file server.
//! On the runtime's blocking threads that would take one after another from those who need them, and keep the process
//! from ending. This thread belongs to one sink, does one batch at a time, and is not waited for when the broker stops.

use std::sync::Arc;
use std::thread;

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot};

use super::{Line, Sink, SinkError, SinkFault};

/// A sink whose calls may block.
pub(super) trait Blocking: Send + 'static {
    /// As [`Sink::deliver`].
    fn deliver(&mut self, lines: &[Line]) -> Result<(), SinkError>;
}

/// The async side of the thread.
pub(super) struct Threaded {
    jobs: Option<mpsc::Sender<Job>>,
    /// The batch that the thread still has, when somebody gave up waiting: the next attempt at it waits for this one.
    pending: Option<(u64, oneshot::Receiver<Result<(), SinkError>>)>,
}

struct Job {
    lines: Arc<[Line]>,
    reply: oneshot::Sender<Result<(), SinkError>>,
}

impl Threaded {
    /// Starts the thread.
    pub(super) fn new(mut sink: impl Blocking, name: &str) -> Self {
        let (jobs, mut waiting) = mpsc::channel::<Job>(1);
        let started = thread::Builder::new().name(format!("sink-{name}")).spawn(move || {
            while let Some(Job { lines, reply }) = waiting.blocking_recv() {
                // Whoever gave up waiting asks again.
                drop(reply.send(sink.deliver(&lines)));
            }
        });
        Self { jobs: started.is_ok().then_some(jobs), pending: None }
    }

    fn send(&self, lines: &Arc<[Line]>) -> Result<oneshot::Receiver<Result<(), SinkError>>, SinkError> {
        let gone = || SinkError::new(SinkFault::Io, "the sink's thread is not there; restart the broker");
        let (reply, answer) = oneshot::channel();
        let jobs = self.jobs.as_ref().ok_or_else(gone)?;
        jobs.try_send(Job { lines: Arc::clone(lines), reply }).map_err(|_| gone())?;
        Ok(answer)
    }
}

#[async_trait]
impl Sink for Threaded {
    async fn deliver(&mut self, lines: &Arc<[Line]>) -> Result<(), SinkError> {
        let first = lines.first().map_or(0, |line| line.seq);
        // The worker repeats a batch until it is delivered, so what is pending is this one.
        let (_, answer) = match &mut self.pending {
            Some(pending) => pending,
            None => {
                let answer = self.send(lines)?;
                self.pending.insert((first, answer))
            }
        };
        let delivered = answer.await;
        self.pending = None;
        delivered.unwrap_or_else(|_| Err(SinkError::new(SinkFault::Io, "the sink's thread has ended")))
    }
}
