//! `cargo xtask lint`: what a machine can say about the source. Cheapest first.

use std::process::Command;

use anyhow::{Context, Result};

use crate::command;
use crate::venv::Venv;
use crate::workspace::Workspace;

pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    for component in ["fmt", "clippy"] {
        command::output(workspace.cargo().args([component, "--version"])).with_context(|| {
            format!("cargo has no `{component}`: run `rustup component add clippy rustfmt`, then this command again")
        })?;
    }
    let buf = Venv::prepare(workspace)?.program("buf")?;
    command::run(workspace.cargo().args(["fmt", "--all", "--check"]))?;
    command::run(Command::new(buf).arg("lint").current_dir(&workspace.root))?;
    command::run(workspace.cargo().args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))
}
