//! Where the workspace is, and the `cargo` that built this program.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::command;

/// The workspace that the current directory belongs to.
pub(crate) struct Workspace {
    /// The directory of the top `Cargo.toml`.
    pub(crate) root: PathBuf,
    /// The target directory, wherever configuration or environment put it.
    pub(crate) target: PathBuf,
}

impl Workspace {
    pub(crate) fn locate() -> Result<Self> {
        let described =
            command::output(Command::new(CARGO).args(["metadata", "--no-deps", "--format-version=1"]))?;
        let described: Value = serde_json::from_str(&described).context("`cargo metadata` wrote no JSON")?;
        let directory = |key: &str| {
            let path = described.get(key).and_then(Value::as_str).map(PathBuf::from);
            path.with_context(|| format!("`cargo metadata` names no `{key}`"))
        };
        Ok(Self { root: directory("workspace_root")?, target: directory("target_directory")? })
    }

    /// A `cargo` command at the root of the workspace.
    pub(crate) fn cargo(&self) -> Command {
        let mut cargo = Command::new(CARGO);
        cargo.current_dir(&self.root);
        // `cargo run` describes this program to it by variables. Build scripts watch some of them (ring's does), and
        // would be run again, and all that stands on them compiled again, each time xtask and a shell take turns.
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("CARGO_PKG_")
                || text.starts_with("CARGO_MANIFEST_")
                || text == "CARGO_BIN_NAME"
            {
                cargo.env_remove(name);
            }
        }
        cargo
    }
}

/// The same toolchain that built this program, whatever `PATH` says.
const CARGO: &str = env!("CARGO");
