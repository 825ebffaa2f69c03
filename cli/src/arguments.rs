//! The command line as it is typed.

use clap::{Parser, Subcommand};

use crate::command;
use crate::output::Format;
use crate::settings::ConnectionArguments;

/// Lease secrets, see who holds them, and take them back.
#[derive(Debug, Parser)]
#[command(name = "bursar", version, max_term_width = 100, after_long_help = AFTER)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) connection: ConnectionArguments,
    /// How results are written: `table` for people, `json` for programs
    #[arg(
        long,
        short,
        global = true,
        value_enum,
        default_value_t,
        hide_possible_values = true,
        value_name = "FORMAT"
    )]
    pub(crate) output: Format,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Run(command::run::Arguments),
    Get(command::get::Arguments),
    #[command(subcommand)]
    Env(command::env::Command),
    #[command(subcommand)]
    Secret(command::secret::Command),
    #[command(subcommand)]
    Lease(command::lease::Command),
    #[command(subcommand)]
    Audit(command::audit::Command),
    #[command(subcommand)]
    Policy(command::policy::Command),
    #[command(subcommand)]
    Node(command::node::Command),
    #[command(subcommand)]
    Backend(command::backend::Command),
    #[command(subcommand)]
    Offline(command::offline::Command),
    Token(command::token::Arguments),
    /// Show whether the broker can authenticate, commit and issue now
    Status,
    /// Check, step by step, what a connection from this machine needs
    Doctor,
    Dev(command::dev::Arguments),
    Completions(command::completions::Arguments),
    /// Show the version of this program
    Version,
}

const AFTER: &str = "\
Where to connect is taken from the options, else from the environment (BURSAR_ADDRESS,
BURSAR_CA, BURSAR_CERT, BURSAR_KEY, BURSAR_TOKEN_FILE, BURSAR_TOKEN_COMMAND), else from
$XDG_CONFIG_HOME/bursar/config.toml with the keys `address`, `ca`, `cert`, `key`,
`token_file` and `token_command`, else it is the socket of this machine's agent.

Exit codes:
    0  done
    1  failed
    2  the command line is wrong
   69  broker or agent cannot be reached, or cannot answer now
   77  denied, or the caller is not known
   78  something that the command needs is wrong or unresolved
  126  `run`: the program cannot be executed
  127  `run`: there is no such program
Once `run` has started the program, the exit code is the program's own.";

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_has_no_contradictions() {
        Arguments::command().debug_assert();
    }

    /// Whatever is typed stays in the shell's history and shows in `ps`.
    #[test]
    fn no_option_takes_a_secret() {
        fn walk(command: &clap::Command, found: &mut Vec<String>) {
            for argument in command.get_arguments() {
                let id = argument.get_id().as_str();
                if ["value", "password", "token", "secret"].contains(&id) {
                    found.push(format!("{} {id}", command.get_name()));
                }
            }
            command.get_subcommands().for_each(|inner| walk(inner, found));
        }
        let mut found = Vec::new();
        walk(&Arguments::command(), &mut found);
        assert!(found.is_empty(), "{found:?}");
    }
}
