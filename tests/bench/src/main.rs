//! Bursar's benchmark, run by `cargo xtask bench`, which builds what it measures and says where that is.
//!
//! Everything is a process of its own behind a real socket, and everything is measured by one client with one clock:
//! the broker; a bare echo on the same gRPC and TLS stack, which is the ceiling of what the broker could reach; and
//! OpenBao, which does the same work. Servers run one after the other, so that none takes time from another. Figures
//! from different machines or hours compare badly; ratios within one run compare well, so those are what is kept.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, Parser, ValueEnum};
use tokio::runtime::Runtime;

use crate::bursar::Programs;
use crate::load::Plan;

mod agent;
mod backends;
mod bursar;
mod cluster;
mod count;
mod cpu;
mod echo;
mod histogram;
mod identity;
mod ledger;
mod load;
mod memory;
mod node;
mod openbao;
mod read;
mod report;
mod run;
mod webhook;

#[expect(clippy::print_stderr, reason = "a failed measurement is told to whoever started it")]
fn main() -> ExitCode {
    match carry_out(Command::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn carry_out(command: Command) -> Result<()> {
    let provider = rustls::crypto::ring::default_provider().install_default();
    provider.map_err(|_| anyhow::anyhow!("another TLS provider is installed already"))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match command {
        Command::Measure(options) => measure(&runtime, &options),
        Command::Echo { authority } => runtime.block_on(echo::serve(&authority)),
        Command::LocalEcho { socket } => runtime.block_on(echo::serve_local(&socket)),
    }
}

fn measure(runtime: &Runtime, options: &Options) -> Result<()> {
    let plan = if options.smoke { Plan::SMOKE } else { Plan::FULL };
    let mut figures = Vec::new();
    for group in asked(&options.groups) {
        let measured = match group {
            Group::Agent => agent::measure(runtime, &options.programs, &plan),
            Group::Backends => backends::measure(runtime, &options.programs, &plan),
            Group::Cluster => cluster::measure(runtime, &options.programs, &plan),
            Group::Count => count::measure(runtime, &options.programs),
            Group::Identity => identity::measure(runtime, &options.programs, &plan),
            Group::Ledger => ledger::measure(runtime, &options.programs, &plan),
            Group::Read => read::measure(runtime, &options.programs, &plan),
            Group::Run => run::measure(runtime, &options.programs, &plan),
            Group::Webhook => webhook::measure(runtime, &options.programs, &plan),
        };
        figures.extend(measured.with_context(|| format!("group `{}` failed", group.name()))?);
    }
    report::write(&options.results, &figures)?;
    report::print(&figures);
    Ok(())
}

/// The figures of the ledger include the reads, which are measured once, however often they are asked for.
fn asked(groups: &[Group]) -> Vec<Group> {
    let mut all = Vec::new();
    for group in groups {
        let with = if *group == Group::Ledger { vec![Group::Read, Group::Ledger] } else { vec![*group] };
        for group in with {
            if !all.contains(&group) {
                all.push(group);
            }
        }
    }
    all
}

/// Measures Bursar beside its peers.
#[derive(Parser)]
#[command(name = "bursar-bench")]
enum Command {
    /// Measure groups and write the results
    Measure(Options),
    /// Serve `Secrets.Read` by a constant answer, until ended
    Echo {
        /// Where to write the certificate that clients are to trust, in PEM
        authority: PathBuf,
    },
    /// The same at a Unix socket
    LocalEcho {
        /// Where to listen
        socket: PathBuf,
    },
}

#[derive(Args)]
struct Options {
    /// What to measure
    #[arg(value_name = "GROUP", required = true)]
    groups: Vec<Group>,
    /// See that it runs: short rounds, whose figures mean little
    #[arg(long)]
    smoke: bool,
    #[command(flatten)]
    programs: Programs,
    /// The JSON file to write
    #[arg(long, env = "BURSAR_BENCH_RESULTS", value_name = "FILE")]
    results: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Group {
    Agent,
    Backends,
    Cluster,
    Count,
    Identity,
    Ledger,
    Read,
    Run,
    Webhook,
}

impl Group {
    fn name(self) -> &'static str {
        match self {
            Self::Agent => agent::GROUP,
            Self::Backends => backends::GROUP,
            Self::Cluster => cluster::GROUP,
            Self::Count => count::GROUP,
            Self::Identity => identity::GROUP,
            Self::Ledger => ledger::GROUP,
            Self::Read => read::GROUP,
            Self::Run => run::GROUP,
            Self::Webhook => webhook::GROUP,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ledger_comes_with_the_reads_and_nothing_is_measured_twice() {
        assert_eq!(asked(&[Group::Ledger]), [Group::Read, Group::Ledger]);
        assert_eq!(asked(&[Group::Ledger, Group::Read]), [Group::Read, Group::Ledger]);
        assert_eq!(
            asked(&[Group::Read, Group::Run, Group::Ledger]),
            [Group::Read, Group::Run, Group::Ledger]
        );
    }
}
