//! Progress of long work, on standard error, on terminals only.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// A line that counts, and goes away when it is dropped.
#[derive(Debug)]
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// Counts `what` without knowing how many there are.
    pub(crate) fn counting(what: &'static str) -> Self {
        let bar =
            ProgressBar::no_length().with_message(what).with_style(style("{spinner} {human_pos} {msg}"));
        bar.enable_steady_tick(TICK);
        Self(bar)
    }

    /// Shows that `what` is under way.
    pub(crate) fn waiting(what: String) -> Self {
        let bar =
            ProgressBar::no_length().with_message(what).with_style(style("{spinner} {msg} ({elapsed})"));
        bar.enable_steady_tick(TICK);
        Self(bar)
    }

    /// Shows something else instead.
    pub(crate) fn show(&self, what: String) {
        self.0.set_message(what);
    }

    pub(crate) fn advance(&self, by: u64) {
        self.0.inc(by);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}

const TICK: Duration = Duration::from_millis(100);
