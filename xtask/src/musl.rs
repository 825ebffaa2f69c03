//! Static programs: built against musl, for the kind of processor that this machine has, so that they run in a container
//! with nothing beside them.

use std::env::consts::ARCH;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::workspace::Workspace;
use crate::{apt, command};

/// Builds a release of the programs of `packages`; answers the directory that they are in.
///
/// # Errors
/// The compiler for musl or Rust's library for it cannot be had, or something does not build.
pub(crate) fn build(workspace: &Workspace, packages: &[&str]) -> Result<PathBuf> {
    let target = format!("{ARCH}-unknown-linux-musl");
    if Command::new(COMPILER).arg("--version").output().is_err() {
        apt::install("musl-tools", "a C compiler for musl")?;
    }
    add(&target)?;
    let mut build = workspace.cargo();
    build.args(["build", "--bins", "--release", "--target", &target]);
    build.args(packages.iter().map(|name| format!("--package={name}")));
    // SQLite, ring and mimalloc.
    build.env(format!("CC_{}", target.replace('-', "_")), COMPILER);
    command::run(&mut build)?;
    Ok(workspace.target.join(target).join("release"))
}

/// Adds Rust's library for `target` to the toolchain, where it is not there yet.
fn add(target: &str) -> Result<()> {
    let rustc = Path::new(env!("CARGO")).with_file_name("rustc");
    let library = command::output(Command::new(rustc).args(["--print=target-libdir", "--target", target]))?;
    if Path::new(&library).is_dir() {
        return Ok(());
    }
    command::run(Command::new("rustup").args(["target", "add", target])).with_context(|| {
        format!("this toolchain has no library for `{target}`: install it as the toolchain was, then run this command again")
    })
}

const COMPILER: &str = "musl-gcc";
