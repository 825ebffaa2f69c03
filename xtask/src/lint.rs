//! `cargo xtask lint`: what a machine can say about the source. Cheapest first.

use std::iter;
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
    command::run(workspace.cargo().args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))?;
    // The whole workspace has every backend in it, so that what only some builds lack is not seen there.
    for backend in iter::once("").chain(BACKENDS) {
        let alone = ["clippy", "--package", "bursar-broker", "--no-default-features", "--features", backend];
        command::run(workspace.cargo().args(alone).args(["--", "-D", "warnings"]))?;
    }
    Ok(())
}

/// The features of the broker, one a kind of store.
const BACKENDS: [&str; 5] = ["aws", "azure", "gcp", "postgres", "vault"];
