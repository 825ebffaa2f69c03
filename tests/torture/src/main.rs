//! Bursar's torture, run by `cargo xtask torture`, which builds what is killed and finds the servers.
//!
//! A real broker before a real OpenBao and a real PostgreSQL serves clients that read, renew and revoke without a pause.
//! It is killed over and over, at each named point of its own and at any moment from outside, and started again. Then
//! three books are compared: the credentials that work at PostgreSQL, the leases of the ledger, and what the clients say
//! that they got. One credential, one lease or one disclosure that only two of them know is a failure. So is a kill point
//! that nobody passes: it would prove nothing.
//!
//! `--seed` repeats the order of kills and calls. How they meet is up to the threads, so a failure may not.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use tokio::runtime::Runtime;

use crate::kills::{Kill, Schedule};
use crate::ledger::Engine;
use crate::load::Load;
use crate::site::{Export, Site};

mod books;
mod kills;
mod ledger;
mod load;
mod notes;
mod relay;
mod site;

#[expect(clippy::print_stderr, reason = "a failed torture is told to whoever started it")]
fn main() -> ExitCode {
    let options = Options::parse();
    let seed = options.seed.unwrap_or_else(|| fastrand::u64(..));
    match carry_out(&options, seed) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("torture: with seed {seed}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn carry_out(options: &Options, seed: u64) -> Result<()> {
    let provider = rustls::crypto::ring::default_provider().install_default();
    provider.map_err(|_| anyhow::anyhow!("another TLS provider is installed already"))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    say(&format!("seed {seed}; starting OpenBao, PostgreSQL and a broker"));
    let points = kills::points(&options.broker, options.ledger)?;
    let mut schedule = Schedule::new(points, seed);
    let mut site = Site::start(&options.broker, options.ledger, &runtime)?;
    let load = Load::new(&site, seed)?;
    let mut struck = BTreeMap::new();
    let mut done = 0;
    while done < options.kills {
        let until = options.kills.min(done + options.compare_every);
        let work = load.begin(&runtime);
        while done < until {
            let kill = schedule.next();
            strike(&mut site, &load, &kill).with_context(|| format!("after {done} kills"))?;
            *struck.entry(kill.name()).or_insert(0_u32) += 1;
            done += 1;
            if done.is_multiple_of(PROGRESS) {
                say(&format!("{done} kills; {}", load.notes().summary()));
            }
        }
        site.start_broker(None)?;
        load.end(&runtime, work)?;
        say(&format!("{done} kills; comparing the books"));
        let (agreed, _) =
            compare(&runtime, &mut site, &load).with_context(|| format!("after {done} kills"))?;
        say(&agreed);
    }
    end(&runtime, &mut site, &load)?;
    ensure!(
        options.kills < schedule.least() || schedule.missed().is_empty(),
        "these kill points were not reached: {:?}",
        schedule.missed()
    );
    say(&format!("the end; {done} kills, by place: {struck:?}"));
    Ok(())
}

/// Starts a broker that will die, or kills one that would not, and sees that it died by that.
fn strike(site: &mut Site, load: &Load, kill: &Kill) -> Result<()> {
    match kill {
        Kill::At(trigger) => {
            site.start_broker(Some(trigger))?;
            site.wait_for_death(trigger)
        }
        Kill::After { answers } => {
            site.start_broker(None)?;
            load.wait_for_answers(*answers)?;
            site.kill_broker()
        }
    }
}

fn compare(runtime: &Runtime, site: &mut Site, load: &Load) -> Result<(String, Export)> {
    site.wait_until_ready()?;
    site.wait_until_settled()?;
    let export = runtime.block_on(site.export())?;
    site.stop_broker()?;
    Ok((books::compare(site, load.notes(), &export)?, export))
}

/// Takes everything back: then nothing is left anywhere.
fn end(runtime: &Runtime, site: &mut Site, load: &Load) -> Result<()> {
    site.start_broker(None)?;
    site.wait_until_ready()?;
    load.notes().all_unwanted();
    runtime.block_on(site.revoke_everything())?;
    let (_, export) = compare(runtime, site, load)?;
    let left = books::left(site, &export)?;
    ensure!(left == (0, 0), "after everything was revoked, {} leases and {} roles are left", left.0, left.1);
    Ok(())
}

#[expect(clippy::print_stderr, reason = "progress is told to whoever started it")]
fn say(text: &str) {
    eprintln!("torture: {text}");
}

/// Kills brokers and compares the books.
#[derive(Parser)]
#[command(name = "bursar-torture")]
struct Options {
    /// How many times a broker is killed
    #[arg(long, default_value_t = 500)]
    kills: u32,
    /// Which engine keeps the ledger
    #[arg(long, value_enum, default_value_t = Engine::Sqlite)]
    ledger: Engine,
    /// After how many kills the books are compared, beside at the end
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    compare_every: u32,
    /// Repeats the order of kills and calls of an earlier run, which named it
    #[arg(long)]
    seed: Option<u64>,
    /// `bursar-broker`, built with the feature `killpoints`
    #[arg(long, env = "BURSAR_TORTURE_BROKER", value_name = "FILE")]
    broker: PathBuf,
}

const PROGRESS: u32 = 20;
