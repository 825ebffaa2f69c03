//! `cargo xtask torture`: builds a broker that can be killed at named points, and starts the torture (`bursar-torture`).

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};
use clap::Args;

use crate::venv::Venv;
use crate::workspace::Workspace;
use crate::{command, postgres};

#[derive(Args)]
pub(crate) struct Options {
    /// How many times a broker is killed
    #[arg(long, default_value_t = 500)]
    kills: u32,
    /// Repeat the order of kills and calls of an earlier run, which named it
    #[arg(long)]
    seed: Option<u64>,
    /// Which engine keeps the ledger: `sqlite` or `postgres`
    #[arg(long, default_value = "sqlite")]
    ledger: String,
}

pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let bao = Venv::prepare(workspace)?.program("bao")?;
    let postgres = postgres::binaries()?;
    eprintln!("xtask: building what is killed");
    // The packages and kinds of targets that `cargo xtask test` builds, so that every dependency is compiled already.
    let targets = ["--bin=bursar-broker", "--bin=bursar-torture", "--test=integration"];
    let mut build = workspace.cargo();
    build.args(["build", "--workspace"]).args(targets).args(["--features", "bursar-broker/killpoints"]);
    command::run(&mut build)?;

    // Apart from the programs that people and other tests start: those have no kill points.
    let directory = workspace.target.join("torture");
    fs::create_dir_all(&directory).with_context(|| format!("`{}` cannot be made", directory.display()))?;
    let built = workspace.target.join("debug");
    let broker = directory.join("bursar-broker");
    fs::copy(built.join("bursar-broker"), &broker).context("the broker cannot be copied")?;

    let mut torture = Command::new(built.join("bursar-torture"));
    torture.args(["--kills", &options.kills.to_string(), "--ledger", &options.ledger]);
    torture.args(options.seed.map(|seed| format!("--seed={seed}")));
    torture.env("BURSAR_TORTURE_BROKER", broker);
    torture.env("BURSAR_TEST_BAO", bao).env("BURSAR_TEST_PG_BIN", postgres);
    command::run(&mut torture)
}
