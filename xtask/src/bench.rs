//! `cargo xtask bench`: builds what is measured, starts the measurement (`bursar-bench`), removes what it leaves.
//!
//! A release is built for figures. With `--smoke` there is one figure, the count of instructions, so the broker is built as
//! a release and nothing else is: the other groups try the programs that the tests have.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
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
    let groups = match options.groups.as_slice() {
        [] => GROUPS.to_vec(),
        groups => GROUPS.into_iter().filter(|group| groups.iter().any(|asked| asked == group)).collect(),
    };
    if !options.smoke {
        let programs = build_release(workspace, "--bins")?;
        return measure(workspace, &programs, &programs.join("bursar-broker"), &groups, false);
    }
    // What only has to run does that as the tests have built it; instructions are counted of a release in any case.
    let (counted, tried): (Vec<_>, Vec<_>) = groups.into_iter().partition(|group| *group == COUNT);
    let programs = build_tested(workspace)?;
    if !counted.is_empty() {
        let broker = build_release(workspace, "--bin=bursar-broker")?.join("bursar-broker");
        measure(workspace, &programs, &broker, &counted, true)?;
    }
    if !tried.is_empty() {
        measure(workspace, &programs, &programs.join("bursar-broker"), &tried, true)?;
    }
    Ok(())
}

/// Builds `targets` as a release, with the same features whichever they are. Answers where they are.
fn build_release(workspace: &Workspace, targets: &str) -> Result<PathBuf> {
    eprintln!("xtask: building what is measured");
    let packages = PROGRAMS.map(|name| format!("--package={name}"));
    command::run(workspace.cargo().args(["build", "--release", targets]).args(packages))?;
    Ok(workspace.target.join("release"))
}

/// Builds the programs as `cargo xtask test` does, so that every dependency is compiled already. Answers where they are.
fn build_tested(workspace: &Workspace) -> Result<PathBuf> {
    eprintln!("xtask: building what is tried");
    let programs = PROGRAMS.map(|name| format!("--bin={name}"));
    command::run(workspace.cargo().args(["build", "--workspace", "--test=integration"]).args(programs))?;
    Ok(workspace.target.join("debug"))
}

/// Measures `groups` of `broker`, and of the other programs in `programs`.
fn measure(
    workspace: &Workspace,
    programs: &Path,
    broker: &Path,
    groups: &[&str],
    smoke: bool,
) -> Result<()> {
    let bao = Venv::prepare(workspace)?.program("bao")?;
    let results = workspace.target.join("bench");
    fs::create_dir_all(&results).with_context(|| format!("`{}` cannot be made", results.display()))?;
    // Data of every server lies here, so on the disk of the workspace whatever /tmp is: a ledger in memory would sync
    // for nothing. Removed when this function ends.
    let directory = tempfile::Builder::new().prefix("data-").tempdir_in(&results)?;
    // PostgreSQL does not run as root: where this does, another user has to get to its directory, which is its own.
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755))?;
    let results = results.join(if smoke { "smoke.json" } else { "results.json" });

    if groups.contains(&COUNT) && Command::new("valgrind").arg("--version").output().is_err() {
        apt::install("valgrind", "valgrind")?;
    }
    let postgres = match groups.iter().any(|group| [BACKENDS, AGENT, CLUSTER].contains(group)) {
        true => Some(postgres::binaries()?),
        false => None,
    };
    let mut bench = Command::new(programs.join("bursar-bench"));
    bench.envs(postgres.map(|postgres| ("BURSAR_TEST_PG_BIN", postgres)));
    bench.arg("measure").args(smoke.then_some("--smoke")).args(groups);
    bench.env("TMPDIR", directory.path()).env("BURSAR_TEST_BAO", bao).env("BURSAR_BENCH_RESULTS", &results);
    bench.env("BURSAR_BENCH_BROKER", broker);
    bench.env("BURSAR_BENCH_AGENT", programs.join("bursar-agent"));
    bench.env("BURSAR_BENCH_CLI", programs.join("bursar"));
    command::run(&mut bench)?;
    eprintln!("xtask: the figures are in `{}`", results.display());
    Ok(())
}

const PROGRAMS: [&str; 4] = ["bursar-broker", "bursar-agent", "bursar", "bursar-bench"];
const GROUPS: [&str; 9] = [COUNT, "identity", "read", "ledger", CLUSTER, BACKENDS, AGENT, "run", "webhook"];
/// The group that valgrind counts for.
const COUNT: &str = "count";
/// The groups that need a PostgreSQL.
const BACKENDS: &str = "backends";
const AGENT: &str = "agent";
const CLUSTER: &str = "cluster";
