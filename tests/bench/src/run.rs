//! Group `run`: what `bursar run` adds to the start of a program, its two secrets leased from the broker each time.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use tokio::runtime::Runtime;
use tokio::time::Instant;

use crate::bursar::{Bursar, ENVIRONMENT_NAME, PATH, Programs};
use crate::load::{Plan, median};
use crate::report::Figure;

#[expect(clippy::print_stderr, reason = "whoever waits is told what for")]
pub(crate) fn measure(runtime: &Runtime, programs: &Programs, plan: &Plan) -> Result<Vec<Figure>> {
    eprintln!("bench: {GROUP}");
    let bursar = Bursar::start(programs)?;
    runtime.block_on(bursar.fill(SECRETS))?;

    let mut plain = Command::new(PROGRAM);
    plain.env_clear().env("PATH", PATH);
    let mut run = Command::new(&programs.cli);
    let files = [("BURSAR_CA", "ca.pem"), ("BURSAR_CERT", "admin.crt"), ("BURSAR_KEY", "admin.key")];
    run.env_clear().env("PATH", PATH).env("BURSAR_ADDRESS", bursar.address());
    run.envs(files.map(|(name, file)| (name, bursar.bootstrap(file))));
    run.args(["run", "--env", ENVIRONMENT_NAME, "--", PROGRAM]);

    let (plain, run) = compared(&mut plain, &mut run, plan.starts)?;
    Ok(vec![
        Figure::new(GROUP, format!("{GROUP}.total_ms"), "ms", run).beside_bare(plain),
        Figure::new(GROUP, format!("{GROUP}.overhead_ms"), "ms", run - plain),
    ])
}

/// How many milliseconds two programs take, started in turn so that both meet the same machine: the medians.
///
/// # Errors
/// One fails; with what it said.
pub(crate) fn compared(plain: &mut Command, other: &mut Command, starts: usize) -> Result<(f64, f64)> {
    // The first start of each is the one that reads it from disk.
    for command in [&mut *plain, &mut *other] {
        milliseconds(command)?;
    }
    let (mut plains, mut others) = (Vec::new(), Vec::new());
    for _ in 0..starts {
        plains.push(milliseconds(plain)?);
        others.push(milliseconds(other)?);
    }
    Ok((median(plains), median(others)))
}

/// From the start of a program to its end.
fn milliseconds(command: &mut Command) -> Result<f64> {
    let start = Instant::now();
    let output = command.output().with_context(|| format!("{:?} cannot be run", command.get_program()))?;
    let taken = start.elapsed();
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{:?} failed ({}): {}",
        command.get_program(),
        output.status,
        said.trim()
    );
    Ok(taken.as_secs_f64() * 1e3)
}

pub(crate) const GROUP: &str = "run";
/// As many as the environment names.
const SECRETS: usize = 2;
/// Does nothing.
pub(crate) const PROGRAM: &str = "true";
