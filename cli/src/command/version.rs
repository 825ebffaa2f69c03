use std::process::ExitCode;

use jiff::Timestamp;
use serde::Serialize;

use crate::error::Error;
use crate::output::{Details, Output};
use crate::table::Cell;

#[derive(Serialize)]
struct Version {
    version: &'static str,
}

impl Details for Version {
    fn details(&self, _: Timestamp) -> Vec<(&'static str, Cell)> {
        vec![("bursar", Cell::new(self.version))]
    }
}

pub(super) fn carry_out(output: Output) -> Result<ExitCode, Error> {
    output.one(&Version { version: env!("CARGO_PKG_VERSION") })?;
    Ok(ExitCode::SUCCESS)
}
