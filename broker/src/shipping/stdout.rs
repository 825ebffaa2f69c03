//! Standard output, for whoever collects the output of containers. The broker's own log goes to standard error.

use std::io::{self, Write};

use super::threaded::Blocking;
use super::{Line, SinkError};

pub(super) struct Stdout;

impl Blocking for Stdout {
    fn deliver(&mut self, lines: &[Line]) -> Result<(), SinkError> {
        let mut out = io::stdout().lock();
        let mut write = || {
            for line in lines {
                out.write_all(&line.bytes)?;
                out.write_all(b"\n")?;
            }
            out.flush()
        };
        write().map_err(|error| SinkError::of_io("standard output", &error))
    }
}
