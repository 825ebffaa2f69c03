use std::process::ExitCode;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::arguments;
use crate::error::Error;

/// Write a completion script for a shell
#[derive(Debug, Args)]
#[command(
    after_long_help = "Example:\n  bursar completions bash > ~/.local/share/bash-completion/completions/bursar"
)]
pub(crate) struct Arguments {
    /// The shell
    shell: Shell,
}

impl Arguments {
    pub(super) fn carry_out(self) -> Result<ExitCode, Error> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut arguments::Arguments::command(), "bursar", &mut script);
        std::io::Write::write_all(&mut std::io::stdout(), &script).map_err(Error::Output)?;
        Ok(ExitCode::SUCCESS)
    }
}
