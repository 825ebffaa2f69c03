use std::path::PathBuf;

use jiff::Timestamp;
use serde::Serialize;

use crate::offline::Head;
use crate::output::Row;
use crate::table::{Cell, Column, cut, whole};
use crate::text;

/// A copy of an environment, as it says of itself.
#[derive(Debug, Serialize)]
pub(crate) struct CopyView {
    #[serde(flatten)]
    head: Head,
    /// By this machine's clock.
    usable: bool,
    file: PathBuf,
}

impl CopyView {
    pub(crate) fn new(head: Head, usable: bool, file: PathBuf) -> Self {
        Self { head, usable, file }
    }
}

impl Row for CopyView {
    const COLUMNS: &'static [Column] = &[
        cut("ENVIRONMENT"),
        whole("REVISION"),
        whole("KEPT"),
        whole("USABLE UNTIL"),
        cut("BROKER"),
        cut("GIVEN TO"),
    ];

    fn cells(&self, now: Timestamp) -> Vec<Cell> {
        let until = text::relative(self.head.usable_until, now);
        vec![
            Cell::new(&self.head.environment),
            Cell::new(self.head.revision.to_string()),
            Cell::new(text::relative(self.head.given_at, now)),
            if self.usable { Cell::good(until) } else { Cell::bad("not by this clock") },
            Cell::new(&self.head.broker),
            Cell::new(&self.head.principal),
        ]
    }
}
