//! `cargo xtask fuzz`: libFuzzer over the targets of `tests/fuzz`, which looks for inputs that reach new code.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};
use clap::Args;

use crate::command;
use crate::workspace::Workspace;

#[derive(Args)]
pub(crate) struct Options {
    /// The targets; all of them when none is given
    #[arg(value_parser = TARGETS)]
    targets: Vec<String>,
    /// How long each is run, in seconds
    #[arg(long, default_value_t = 60)]
    seconds: u32,
}

pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    eprintln!("xtask: building the targets so that they say what they reach");
    let host = command::output(Command::new("rustc").args(["--print", "host-tuple"]))?;
    let directory = workspace.target.join("fuzz");
    let mut build = workspace.cargo();
    build.args(["build", "--release", "--manifest-path", MANIFEST, "--target", &host]);
    build.arg("--target-dir").arg(&directory);
    // Of the target alone and not of build scripts, which is why `--target` is given.
    build.env("RUSTFLAGS", COVERAGE.join(" "));
    command::run(&mut build)?;

    let program = directory.join(host).join("release").join(PROGRAM);
    let targets: Vec<&str> = match options.targets.as_slice() {
        [] => TARGETS.to_vec(),
        given => given.iter().map(String::as_str).collect(),
    };
    for target in targets {
        eprintln!("xtask: fuzzing `{target}` for {} s", options.seconds);
        let (corpus, found) = (directory.join("corpus").join(target), directory.join("found").join(target));
        for folder in [&corpus, &found] {
            fs::create_dir_all(folder).with_context(|| format!("`{}` cannot be made", folder.display()))?;
        }
        let mut fuzz = Command::new(&program);
        fuzz.env("BURSAR_FUZZ_TARGET", target).env("BURSAR_FUZZ_CORPUS", &corpus);
        fuzz.args([format!("-max_total_time={}", options.seconds), "-max_len=65536".to_owned()]);
        fuzz.args(["-timeout=10", "-rss_limit_mb=4096", "-print_final_stats=1"]);
        fuzz.arg(format!("-artifact_prefix={}/", found.display())).arg(corpus);
        command::run(&mut fuzz)?;
    }
    Ok(())
}

/// Those of `bursar_fuzz::TARGETS`.
const TARGETS: [&str; 14] = [
    "aws-requests",
    "certificates",
    "csi-lists",
    "csi-requests",
    "envoy-names",
    "https-requests",
    "policies",
    "processes",
    "references",
    "sockets",
    "spiffe-ids",
    "states",
    "systemd-names",
    "tokens",
];
const MANIFEST: &str = "tests/fuzz/guided/Cargo.toml";
const PROGRAM: &str = "bursar-fuzz-guided";
/// What LLVM calls SanitizerCoverage: a counter at each edge, and every comparison told to libFuzzer.
const COVERAGE: [&str; 6] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Ccodegen-units=1",
];
