//! `bursar-agent [--config PATH] [serve | check-config]`

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use bursar_agent::config::Config;
use bursar_agent::{agent, hardening, telemetry};
use bursar_core::SystemClock;
use bursar_core::tasks::{Stop, Tasks};
use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

/// Attests the processes of this machine and serves them their secrets.
#[derive(Debug, Parser)]
#[command(name = "bursar-agent", version)]
struct Arguments {
    /// The configuration file.
    #[arg(long, global = true, env = "BURSAR_AGENT_CONFIG", default_value = "/etc/bursar/agent.toml")]
    config: PathBuf,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Join the broker if needed, and serve until told to stop (the default).
    Serve,
    /// Check the configuration and say every fault in it.
    CheckConfig,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let config = match Config::load(&arguments.config) {
        Ok(config) => config,
        Err(error) => return fail(&error.into(), BAD_CONFIG),
    };
    if matches!(arguments.command, Some(Command::CheckConfig)) {
        return say(&format!("{}: no faults", arguments.config.display()));
    }
    if let Err(error) = telemetry::start_logging(config.log.format, &config.log.filter) {
        let path = arguments.config.display();
        let error =
            anyhow::Error::from(error).context(format!("the configuration `{path}` has a fault: log.filter"));
        return fail(&error, BAD_CONFIG);
    }
    match serve(config) {
        Ok(Stop::Asked | Stop::No) => ExitCode::SUCCESS,
        Ok(Stop::TaskEnded { task: _ }) => ExitCode::FAILURE,
        Err(error) => fail(&error, ExitCode::FAILURE),
    }
}

fn serve(config: Config) -> anyhow::Result<Stop> {
    let hardened = hardening::harden().context("the process cannot be hardened")?;
    let files = hardening::raise_open_files().context("the limit on open files cannot be raised")?;
    let configured = config.limits.connections;
    let config = match files {
        Some(files) => config.within(files),
        None => config,
    };
    if !hardened.locked {
        tracing::warn!(
            "memory may be swapped; allow the agent to lock it by LimitMEMLOCK=infinity or CAP_IPC_LOCK"
        );
    }
    if config.limits.connections < configured {
        tracing::warn!(
            files,
            configured,
            places = config.limits.connections,
            "there are fewer places for connections than are configured; allow the agent more open files, by \
             LimitNOFILE= of its unit"
        );
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("no runtime")?;
    runtime.block_on(async {
        let tasks = Tasks::new();
        let (mut terminate, mut interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let stop = tasks.clone();
        tasks.run("signals", async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                _ = stop.stopping() => {}
            }
            stop.stop();
        });
        Ok(agent::run(config, Arc::new(SystemClock), &tasks).await?)
    })
}

#[expect(clippy::print_stdout, reason = "what a command was asked for goes to standard output")]
fn say(text: &str) -> ExitCode {
    println!("{text}");
    ExitCode::SUCCESS
}

#[expect(clippy::print_stderr, reason = "logging may not have started when this is needed")]
fn fail(error: &anyhow::Error, code: impl Into<ExitCode>) -> ExitCode {
    eprintln!("bursar-agent: {error:#}");
    code.into()
}

/// `EX_USAGE` of sysexits.
const BAD_CONFIG: u8 = 64;
