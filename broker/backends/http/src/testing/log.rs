//! What was logged.

use std::io;
use std::sync::{Arc, Mutex};

use tracing::subscriber::{DefaultGuard, set_default};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;

/// Everything that was logged, by whichever crate.
#[derive(Debug, Clone, Default)]
pub struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Collects what this thread logs, the tasks of the HTTP client included, until the guard is dropped; but for the
    /// targets that begin with one of `silenced`.
    pub fn collect(&self, silenced: &[&str]) -> DefaultGuard {
        let off = silenced.iter().map(|target| (*target, LevelFilter::OFF));
        let targets = Targets::new().with_default(LevelFilter::TRACE).with_targets(off);
        let lines = tracing_subscriber::fmt::layer().with_writer(self.clone());
        set_default(tracing_subscriber::registry().with(targets).with(lines))
    }

    /// What was collected, of which there must be something: else nothing would be searched.
    pub fn text(&self) -> String {
        let text = String::from_utf8_lossy(&self.0.lock().expect("lock")).into_owned();
        assert!(!text.is_empty(), "nothing was logged, so nothing was searched");
        text
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("lock").extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;
    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}
