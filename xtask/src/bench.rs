//! `cargo xtask bench`: builds what is measured, starts the measurement (`bursar-bench`), removes what it leaves.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use anyhow::{Context, Result};
use clap::Args;

use crate::venv::Venv;
use crate::workspace::Workspace;
use crate::{apt, command, postgres};

#[derive(Args)]
pub(crate) struct Options {
    /// What to measure; everything when not given
    #[arg(value_name = "GROUP", value_parser = GROUPS)]
    groups: Vec<String>,
    /// Only see that it runs: measured for a moment, so that no figure but the count of instructions means anything
    #[arg(long)]
    smoke: bool,
}

pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let bao = Venv::prepare(workspace)?.program("bao")?;
    eprintln!("xtask: building what is measured");
    let packages =
        ["bursar-broker", "bursar-agent", "bursar", "bursar-bench"].map(|name| format!("--package={name}"));
    command::run(workspace.cargo().args(["build", "--release", "--bins"]).args(packages))?;
    let programs = workspace.target.join("release");

    let results = workspace.target.join("bench");
    fs::create_dir_all(&results).with_context(|| format!("`{}` cannot be made", results.display()))?;
    // Data of every server lies here, so on the disk of the workspace whatever /tmp is: a ledger in memory would sync
    // for nothing. Removed when this function ends.
    let directory = tempfile::Builder::new().prefix("data-").tempdir_in(&results)?;
    // PostgreSQL does not run as root: where this does, another user has to get to its directory, which is its own.
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755))?;
    let results = results.join("results.json");

    let groups = match options.groups.as_slice() {
        [] => GROUPS.map(str::to_owned).to_vec(),
        groups => groups.to_vec(),
    };
    let counting = groups.iter().any(|group| group == COUNT);
    if counting && Command::new("valgrind").arg("--version").output().is_err() {
        apt::install("valgrind", "valgrind")?;
    }
    let postgres = match groups.iter().any(|group| [BACKENDS, AGENT].contains(&group.as_str())) {
        true => Some(postgres::binaries()?),
        false => None,
    };
    let mut bench = Command::new(programs.join("bursar-bench"));
    bench.envs(postgres.map(|postgres| ("BURSAR_TEST_PG_BIN", postgres)));
    bench.arg("measure").args(options.smoke.then_some("--smoke")).args(groups);
    bench.env("TMPDIR", directory.path()).env("BURSAR_TEST_BAO", bao).env("BURSAR_BENCH_RESULTS", &results);
    bench.env("BURSAR_BENCH_BROKER", programs.join("bursar-broker"));
    bench.env("BURSAR_BENCH_AGENT", programs.join("bursar-agent"));
    bench.env("BURSAR_BENCH_CLI", programs.join("bursar"));
    command::run(&mut bench)?;
    eprintln!("xtask: the figures are in `{}`", results.display());
    Ok(())
}

const GROUPS: [&str; 8] = [COUNT, "identity", "read", "ledger", BACKENDS, AGENT, "run", "webhook"];
/// The group that valgrind counts for.
const COUNT: &str = "count";
/// The groups that need a PostgreSQL.
const BACKENDS: &str = "backends";
const AGENT: &str = "agent";
