//! `cargo xtask bench`: builds what is measured, starts the measurement (`bursar-bench`), removes what it leaves.
//!
//! A release is built for figures. Instructions are counted of a broker whose own crates are optimised as in a release, and
//! whose dependencies are those of the tests: a whole release takes as long as all tests, and changes here do not show in
//! it sooner. With `--smoke` the other groups try the programs that the tests have.

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
    let counted = groups.contains(&COUNT).then(|| build_counted(workspace)).transpose()?;
    let programs = if options.smoke { build_tested(workspace)? } else { build_release(workspace)? };
    measure(workspace, &programs, counted.as_deref(), &groups, options.smoke)
}

/// Builds every program as a release. Answers where they are.
fn build_release(workspace: &Workspace) -> Result<PathBuf> {
    eprintln!("xtask: building what is measured");
    let packages = PROGRAMS.map(|name| format!("--package={name}"));
    command::run(workspace.cargo().args(["build", "--release", "--bins"]).args(packages))?;
    Ok(workspace.target.join("release"))
}

/// Builds the broker whose instructions are counted. Answers where it is: apart from the one of the tests.
fn build_counted(workspace: &Workspace) -> Result<PathBuf> {
    eprintln!("xtask: building what is counted");
    let mut build = workspace.cargo();
    // The example has cargo resolve features as the tests do, which so share every dependency.
    build.args(["build", "--workspace", "--bin=bursar-broker", "--example=hold"]);
    for name in OWN {
        for setting in ["opt-level=3", "debug-assertions=false", "overflow-checks=false"] {
            build.arg(format!("--config=profile.dev.package.{name}.{setting}"));
        }
    }
    command::run(&mut build)?;
    let directory = workspace.target.join("counted");
    fs::create_dir_all(&directory).with_context(|| format!("`{}` cannot be made", directory.display()))?;
    let broker = directory.join("bursar-broker");
    fs::copy(workspace.target.join("debug/bursar-broker"), &broker).context("the broker cannot be copied")?;
    Ok(broker)
}

/// Builds the programs as `cargo xtask test` does, so that every dependency is compiled already. Answers where they are.
fn build_tested(workspace: &Workspace) -> Result<PathBuf> {
    eprintln!("xtask: building what is tried");
    let programs = PROGRAMS.map(|name| format!("--bin={name}"));
    command::run(workspace.cargo().args(["build", "--workspace", "--test=integration"]).args(programs))?;
    Ok(workspace.target.join("debug"))
}

/// Measures `groups` of the programs in `programs`, and of the broker `counted`.
fn measure(
    workspace: &Workspace,
    programs: &Path,
    counted: Option<&Path>,
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
    bench.env("BURSAR_BENCH_BROKER", programs.join("bursar-broker"));
    bench.envs(counted.map(|counted| ("BURSAR_BENCH_COUNTED", counted)));
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
/// The crates that a read goes through.
const OWN: [&str; 4] = ["bursar-backend-local", "bursar-broker", "bursar-core", "bursar-proto"];
/// The groups that need a PostgreSQL.
const BACKENDS: &str = "backends";
const AGENT: &str = "agent";
const CLUSTER: &str = "cluster";
