//! Group `count`: the instructions that the broker executes for one read.
//!
//! Valgrind counts them, so the figure is the same whatever else the machine does, and a change of a few percent is seen
//! that no clock would show. What the kernel does is not in it. The reads are repeated ones: each lease is live already.
//!
//! The figure that the repository records is a limit: a change may exceed it by a twentieth, which is more than two runs
//! differ, and no more. It is that of the build that `cargo xtask bench` makes for it; another compiler or processor has another.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use tokio::runtime::Runtime;

use crate::bursar::{Bursar, PATH, Programs, Reader};
use crate::load::Caller;
use crate::report::Figure;

#[expect(clippy::print_stderr, reason = "whoever waits is told what for")]
pub(crate) fn measure(runtime: &Runtime, programs: &Programs) -> Result<Vec<Figure>> {
    eprintln!("bench: {GROUP}");
    let counts = tempfile::Builder::new().prefix("count-").tempdir()?;
    let out = counts.path().join(OUT);
    let out_file = format!("--callgrind-out-file={}", out.display());
    let bursar = Bursar::start_under(&["valgrind", "--tool=callgrind", &out_file], programs)?;
    let reads = async |number: u64| {
        let client = bursar.connect().await?;
        let mut reader = Reader::new(&client, 0, SECRETS);
        for _ in 0..number {
            reader.call().await?;
        }
        anyhow::Ok(())
    };
    runtime.block_on(async {
        bursar.fill(SECRETS).await?;
        reads(WARM_UP).await
    })?;
    control("--zero", bursar.pid())?;
    runtime.block_on(reads(READS))?;
    control("--dump", bursar.pid())?;
    let instructions = counted(&out.with_extension("out.1"))? / READS;
    let recorded: u64 = RECORDED.trim().parse().with_context(|| format!("`{RECORD}` has no number"))?;
    ensure!(
        instructions <= recorded + recorded / 20,
        "a read takes {instructions} instructions, more than a twentieth above the {recorded} that `{RECORD}` records; \
         find what they are spent on, or write the new number there and say why in the commit"
    );
    Ok(vec![Figure::new(GROUP, format!("{GROUP}.read_instructions"), "instr", instructions as f64)])
}

/// Tells valgrind in process `pid` to do something, and waits until it is done.
fn control(what: &str, pid: u32) -> Result<()> {
    let mut control = Command::new("callgrind_control");
    // Both sides meet in the directory for temporary files, and the broker was started without a word where that is.
    control.env_clear().env("PATH", PATH);
    let done =
        control.arg(what).arg(pid.to_string()).output().context("`callgrind_control` cannot be run")?;
    ensure!(
        done.status.success(),
        "callgrind_control {what}: {}",
        String::from_utf8_lossy(&done.stderr).trim()
    );
    Ok(())
}

/// The sum in a profile.
fn counted(profile: &Path) -> Result<u64> {
    let text =
        fs::read_to_string(profile).with_context(|| format!("`{}` cannot be read", profile.display()))?;
    let sum = text.lines().find_map(|line| line.strip_prefix("summary: ").or(line.strip_prefix("totals: ")));
    let sum = sum.with_context(|| format!("`{}` has no sum", profile.display()))?;
    sum.trim().parse().with_context(|| format!("`{sum}` is no number of instructions"))
}

pub(crate) const GROUP: &str = "count";
const OUT: &str = "callgrind.out";
const SECRETS: usize = 20;
/// Each secret once, and again.
const WARM_UP: u64 = 40;
const READS: u64 = 1000;
const RECORD: &str = "tests/bench/read_instructions.txt";
const RECORDED: &str = include_str!("../read_instructions.txt");
