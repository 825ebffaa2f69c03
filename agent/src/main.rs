//! `bursar-agent [--config PATH] [serve | check-config | webhook [--check] | sidecar … | install … | delivered …]`

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use bursar_agent::config::{Config, Log, WebhookConfig};
use bursar_agent::telemetry::LogFormat;
use bursar_agent::{agent, hardening, sidecar, telemetry, webhook};
use bursar_core::SystemClock;
use bursar_core::tasks::{Stop, Tasks};
use clap::{Parser, Subcommand};
use tokio::runtime;
use tokio::signal::unix::{SignalKind, signal};

/// Attests the processes of this machine and serves them their secrets.
#[derive(Debug, Parser)]
#[command(name = "bursar-agent", version)]
struct Arguments {
    /// The configuration file; /etc/bursar/agent.toml when not given, and /etc/bursar/webhook.toml for `webhook`.
    #[arg(long, global = true, env = "BURSAR_AGENT_CONFIG")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Join the broker if needed, and serve until told to stop (the default).
    Serve,
    /// Check the configuration and say every fault in it.
    CheckConfig,
    /// Answer the API server of a cluster, so that pods which opted in start with their secrets.
    Webhook {
        /// Only check the configuration and say every fault in it.
        #[arg(long)]
        check: bool,
    },
    Sidecar(Box<sidecar::Arguments>),
    Install(sidecar::Installation),
    /// Say whether the first set of files was delivered: the startup probe of the sidecar.
    Delivered {
        /// Where the files are.
        #[arg(long, value_name = "DIRECTORY")]
        directory: PathBuf,
    },
}

fn main() -> ExitCode {
    let Arguments { config, command } = Arguments::parse();
    match command {
        None | Some(Command::Serve) => agent(&config.unwrap_or_else(|| AGENT.into()), false),
        Some(Command::CheckConfig) => agent(&config.unwrap_or_else(|| AGENT.into()), true),
        Some(Command::Webhook { check }) => webhook(&config.unwrap_or_else(|| WEBHOOK.into()), check),
        Some(Command::Sidecar(arguments)) => deliver(*arguments),
        Some(Command::Install(installation)) => match installation.carry_out() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&error.into(), ExitCode::FAILURE),
        },
        Some(Command::Delivered { directory }) if sidecar::is_delivered(&directory) => ExitCode::SUCCESS,
        Some(Command::Delivered { .. }) => ExitCode::FAILURE,
    }
}

fn agent(path: &Path, check: bool) -> ExitCode {
    let config = match Config::load(path) {
        Ok(config) => config,
        Err(error) => return fail(&error.into(), BAD_CONFIG),
    };
    if check {
        return say(&format!("{}: no faults", path.display()));
    }
    if let Err(error) = start_logging(path, &config.log) {
        return fail(&error, BAD_CONFIG);
    }
    let runtime = runtime::Builder::new_multi_thread();
    ended(serve(runtime, async |tasks| Ok(agent::run(config, Arc::new(SystemClock), tasks).await?)))
}

fn webhook(path: &Path, check: bool) -> ExitCode {
    let config = match WebhookConfig::load(path) {
        Ok(config) => config,
        Err(error) => return fail(&error.into(), BAD_CONFIG),
    };
    if check {
        return say(&format!("{}: no faults", path.display()));
    }
    if let Err(error) = start_logging(path, &config.log) {
        return fail(&error, BAD_CONFIG);
    }
    let runtime = runtime::Builder::new_multi_thread();
    ended(serve(runtime, async |tasks| Ok(webhook::run(config, Arc::new(SystemClock), tasks).await?)))
}

/// Every pod pays for its sidecar: one thread, and those that write files for a moment.
fn deliver(arguments: sidecar::Arguments) -> ExitCode {
    if let Err(error) = telemetry::start_logging(LogFormat::Json, "info") {
        return fail(&error.into(), ExitCode::FAILURE);
    }
    let runtime = runtime::Builder::new_current_thread();
    ended(serve(runtime, async |tasks| {
        sidecar::run(arguments, Arc::new(SystemClock), tasks).await?;
        Ok(tasks.stopping().await)
    }))
}

fn start_logging(path: &Path, log: &Log) -> anyhow::Result<()> {
    let started = telemetry::start_logging(log.format, &log.filter);
    started.with_context(|| format!("the configuration `{}` has a fault: log.filter", path.display()))
}

fn ended(stop: anyhow::Result<Stop>) -> ExitCode {
    match stop {
        Ok(Stop::Asked | Stop::No) => ExitCode::SUCCESS,
        Ok(Stop::TaskEnded { task: _ }) => ExitCode::FAILURE,
        Err(error) => fail(&error, ExitCode::FAILURE),
    }
}

/// Runs `work` in a process that gave up what it need not have, until it ends or a signal says so.
fn serve(
    mut runtime: runtime::Builder,
    work: impl AsyncFnOnce(&Tasks) -> anyhow::Result<Stop>,
) -> anyhow::Result<Stop> {
    let hardened = hardening::harden().context("the process cannot be hardened")?;
    hardening::raise_open_files().context("the limit on open files cannot be raised")?;
    if !hardened.locked {
        tracing::warn!(
            "memory may be swapped; allow the agent to lock it by LimitMEMLOCK=infinity or CAP_IPC_LOCK"
        );
    }
    let runtime = runtime.enable_all().build().context("no runtime")?;
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
        work(&tasks).await
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

const AGENT: &str = "/etc/bursar/agent.toml";
const WEBHOOK: &str = "/etc/bursar/webhook.toml";
/// `EX_USAGE` of sysexits.
const BAD_CONFIG: u8 = 64;
