//! Developer commands, run as `cargo xtask COMMAND`: one module each, nothing that `cargo` alone already does well.
#![expect(clippy::print_stderr, reason = "a developer command tells its user what it is doing")]

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

use crate::workspace::Workspace;

mod apt;
mod bench;
mod command;
mod container;
mod demo;
mod fuzz;
mod image;
mod lint;
mod musl;
mod postgres;
mod test;
mod torture;
mod venv;
mod workspace;

fn main() -> ExitCode {
    match run(&Task::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        // Not `main`'s own way of printing an error: with RUST_BACKTRACE set, that buries it under a backtrace.
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: &Task) -> Result<()> {
    let workspace = Workspace::locate()?;
    match task {
        Task::Bench(options) => bench::run(&workspace, options),
        Task::Demo => demo::run(&workspace),
        Task::Fuzz(options) => fuzz::run(&workspace, options),
        Task::Image(options) => image::run(&workspace, options),
        Task::Lint => lint::run(&workspace),
        Task::Test(options) => test::run(&workspace, options),
        Task::Torture(options) => torture::run(&workspace, options),
    }
}

/// Bursar's developer commands.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Task {
    /// Measure Bursar beside a bare echo and OpenBao; takes some minutes once built
    Bench(bench::Options),
    /// Show the main job on this machine, with nothing but what is built here; takes under a minute once built
    Demo,
    /// Let libFuzzer look for what breaks a parser, for a while; needs a C++ compiler
    Fuzz(fuzz::Options),
    /// Build static programs and the images that hold them, without any registry of images; minutes, as a release takes
    Image(image::Options),
    /// Check formatting, lints and the protobuf API
    Lint,
    /// Set up the servers that the tests need, build the programs, run the tests
    Test(test::Options),
    /// Kill brokers at every step, and compare what PostgreSQL, the ledger and the clients know
    Torture(torture::Options),
}
