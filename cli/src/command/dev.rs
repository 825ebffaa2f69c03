use clap::Args;

use crate::error::Error;
use crate::output::Output;

/// x
#[derive(Debug, Args)]
pub(crate) struct Arguments {}

impl Arguments {
    pub(super) async fn carry_out(self, _: Output) -> Result<(), Error> {
        Ok(())
    }
}
