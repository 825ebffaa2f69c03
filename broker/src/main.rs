//! Arguments, configuration, run, exit code.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use bursar_broker::backup::{self, Manifest};
use bursar_broker::config::Config;
use bursar_broker::ledger::Inspection;
use bursar_broker::sealing::Sealing;
use bursar_broker::verify::Trusted;
use bursar_broker::{backends, break_glass, hardening, init, sealing, start, telemetry, verify};
use bursar_core::tasks::{Stop, Tasks};
use bursar_core::{Clock, SystemClock};
use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

/// Leases secrets, decides by policy, keeps the ledger.
#[derive(Debug, Parser)]
#[command(name = "bursar-broker", version)]
struct Arguments {
    /// The configuration file.
    #[arg(long, env = "BURSAR_BROKER_CONFIG", default_value = "/etc/bursar/broker.toml", global = true)]
    config: PathBuf,
    /// End at the passing of a kill point: NAME or NAME:N.
    #[cfg(feature = "killpoints")]
    #[arg(long, env = "BURSAR_KILL_POINT", global = true)]
    kill_point: Option<bursar_broker::kill::Trigger>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve until told to stop (the default).
    Serve,
    /// Make what a new data directory needs: keys, ledger, first policies, the administrator's certificate.
    Init,
    /// Write the certificate of the authority that vouches for the broker, which agents and clients need, to standard output.
    Ca,
    /// Make the seal key, where it is a file that is not there; the broker may go on serving.
    SealKey,
    /// Check the configuration and say every fault in it.
    CheckConfig,
    /// Read the whole ledger and say whether it is as it was written; the broker may go on serving.
    Verify {
        /// A file with the key of the log, kept where the broker's operators cannot write; without it, the key in the
        /// ledger is used.
        #[arg(long, value_name = "FILE")]
        key_file: Option<PathBuf>,
    },
    /// Copy the data directory into a new directory; the broker may go on serving.
    Backup {
        /// The directory to make.
        #[arg(long, value_name = "DIR")]
        to: PathBuf,
    },
    /// Make the data directory out of a backup, after checking all of it.
    Restore {
        /// The backup.
        #[arg(long, value_name = "DIR")]
        from: PathBuf,
        /// Restore into this directory instead of the configured `data_dir`.
        #[arg(long, value_name = "DIR")]
        to: Option<PathBuf>,
    },
    /// Make a certificate that administers past every policy for a short time, where the configuration allows it.
    BreakGlass {
        /// Why; it is in the certificate, and with its first use in the audit log.
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// The folder to write certificate and key to; made if it is not there. One in memory, as below /run, is best.
        #[arg(long, value_name = "DIR")]
        to: PathBuf,
    },
    /// List the names of the kill points.
    #[cfg(feature = "killpoints")]
    KillPoints,
}

/// Nearly all that a request allocates on one thread is freed on the ledger's. The system's allocator takes a lock for
/// each of those.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    #[cfg(feature = "killpoints")]
    {
        if let Some(Command::KillPoints) = arguments.command {
            let names: Vec<_> = bursar_broker::kill::Point::ALL.iter().map(|point| point.as_str()).collect();
            return say(&names.join("\n"));
        }
        arguments.kill_point.into_iter().for_each(bursar_broker::kill::arm);
    }
    let config = match Config::load(&arguments.config) {
        Ok(config) => config,
        Err(error) => return fail(EX_CONFIG, &error.into()),
    };
    if let Some(Command::CheckConfig) = arguments.command {
        return say(&format!("{}: no faults", arguments.config.display()));
    }
    if let Some(Command::Ca) = arguments.command {
        return match init::authority(&config) {
            Ok(certificate) => say(certificate.trim_end()),
            Err(error) => fail(EX_FAILED, &error.into()),
        };
    }
    match run(arguments.command, config) {
        Ok(code) => code,
        Err(error) => fail(EX_FAILED, &error),
    }
}

fn run(command: Option<Command>, config: Config) -> anyhow::Result<ExitCode> {
    hardening::keep_out_of_dumps().context("core dumps cannot be switched off")?;
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_| anyhow::anyhow!("another TLS provider is installed already"))?;
    telemetry::start_logging(config.log.format, &config.log.filter, backends::silenced())
        .context("the configuration's `log.filter` is not in the form of RUST_LOG")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    match command {
        Some(Command::SealKey) => Ok(say(&match runtime.block_on(sealing::make(&config, &clock))? {
            Some(path) => format!("{}: a new seal key; keep a copy where backups are not", path.display()),
            None => "the seal key is no file, or is there already; nothing was made".to_owned(),
        })),
        Some(Command::Init) => {
            let made = runtime.block_on(init::init(&config, clock))?;
            Ok(say(&initialised(&config, &made)))
        }
        Some(Command::Verify { key_file }) => {
            let read = |path: PathBuf| {
                let text = std::fs::read_to_string(&path);
                text.with_context(|| format!("cannot read the key `{}`", path.display()))
            };
            let key = key_file.map(read).transpose()?;
            Ok(verified(&match key {
                Some(key) => verify::verify(&config, Trusted::Kept(&key))?,
                None => {
                    let Sealing { seal, .. } = runtime.block_on(sealing::open(&config, &clock))?;
                    verify::verify(&config, Trusted::Own(&seal))?
                }
            }))
        }
        Some(Command::Backup { to }) => {
            let made = backup::take(&config, &*clock, &to)?;
            let what = told(&made);
            Ok(say(&format!("{}: {what}; the seal key is not in it", to.display())))
        }
        Some(Command::Restore { from, to }) => {
            let data_dir = to.unwrap_or_else(|| config.data_dir.clone());
            let config = Config { data_dir, ..config };
            let Sealing { seal, .. } = runtime.block_on(sealing::open(&config, &clock))?;
            let _context = runtime.enter();
            let made = backup::restore(&config, &seal, &clock, &from)?;
            Ok(say(&format!(
                "{}: restored {}; what happened after {} is not in it, see docs/operations.md",
                config.data_dir.display(),
                told(&made),
                made.made_at
            )))
        }
        Some(Command::BreakGlass { reason, to }) => {
            let made = runtime.block_on(break_glass::issue(&config, clock, &reason, &to))?;
            Ok(say(&broken(&made)))
        }
        _ => {
            let config = with_files(config)?;
            let stop = runtime.block_on(async {
                let tasks = Tasks::new();
                stop_on_signal(&tasks)?;
                anyhow::Ok(start::serve(config, clock, tasks).await?)
            })?;
            Ok(match stop {
                Stop::TaskEnded { .. } => ExitCode::from(EX_FAILED),
                Stop::Asked | Stop::No => ExitCode::SUCCESS,
            })
        }
    }
}

/// With no more places for connections than files that may be open, which is said if it is less than was asked for.
fn with_files(config: Config) -> anyhow::Result<Config> {
    let files = hardening::raise_open_files().context("the limit on open files cannot be raised")?;
    let Some(files) = files else { return Ok(config) };
    let configured = config.limits.connections;
    let config = config.within(files);
    if config.limits.connections < configured {
        tracing::warn!(
            files,
            configured,
            places = config.limits.connections,
            "there are fewer places for connections than are configured; allow the broker more open files, by \
             LimitNOFILE= of its unit"
        );
    }
    Ok(config)
}

fn initialised(config: &Config, made: &init::Initialised) -> String {
    let state = if made.fresh { "initialised" } else { "was initialised before; nothing was replaced" };
    let mut text = format!("{}: {state}\n  authority: {}", config.data_dir.display(), made.ca.display());
    text.push_str(&format!("\n  audit log key: {}", made.verifier.display()));
    if let Some((certificate, key)) = &made.administrator {
        text.push_str(&format!("\n  administrator: {} and {}", certificate.display(), key.display()));
    }
    text
}

fn broken(made: &break_glass::Made) -> String {
    format!(
        "it counts until {}, and its first use is recorded\n  export BURSAR_CERT={} BURSAR_KEY={} BURSAR_CA={}",
        made.until,
        made.certificate.display(),
        made.key.display(),
        made.ca.display()
    )
}

fn told(made: &Manifest) -> String {
    let bytes: u64 = made.files.iter().map(|file| file.bytes).sum();
    format!("{} files of {bytes} bytes, the audit log at {} records", made.files.len(), made.log_size)
}

fn verified(found: &Inspection) -> ExitCode {
    if found.findings.is_empty() {
        return say(&format!(
            "the log holds: {} records from {} on, root {}, signed up to {}, {} leases",
            found.size - found.first,
            found.first,
            found.root,
            found.signed,
            found.leases
        ));
    }
    let findings: String = found.findings.iter().map(|finding| format!("\n  {finding}")).collect();
    fail(EX_FAILED, &anyhow::anyhow!("the ledger is not as it was written:{findings}"))
}

fn stop_on_signal(tasks: &Tasks) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (stop, stopping) = (tasks.clone(), tasks.clone());
    tasks.run("signals", async move {
        tokio::select! {
            _ = terminate.recv() => stop.stop(),
            _ = interrupt.recv() => stop.stop(),
            _ = stopping.stopping() => {}
        }
    });
    Ok(())
}

#[expect(clippy::print_stdout, reason = "what a command was asked for goes to standard output")]
fn say(text: &str) -> ExitCode {
    println!("{text}");
    ExitCode::SUCCESS
}

#[expect(clippy::print_stderr, reason = "logging may not have started when this is needed")]
fn fail(code: u8, error: &anyhow::Error) -> ExitCode {
    eprintln!("bursar-broker: {error:#}");
    ExitCode::from(code)
}

/// The command line or configuration is wrong: nothing was started.
const EX_CONFIG: u8 = 64;
const EX_FAILED: u8 = 1;
