//! Group `cluster`: secrets read through a broker whose ledger is in a PostgreSQL, beside the same broker with its ledger
//! in files.
//!
//! The server of the database runs on the same processors as broker and client, and its time is not in `cpu_us`.

use anyhow::Result;
use bursar_tests::Postgres;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::bursar::{Bursar, Programs};
use crate::load::{Figures, Plan};
use crate::read::Each;
use crate::report::Figure;

#[expect(clippy::print_stderr, reason = "whoever waits is told what for")]
pub(crate) fn measure(runtime: &Runtime, programs: &Programs, plan: &Plan) -> Result<Vec<Figure>> {
    eprintln!("bench: {GROUP}: Bursar, its ledger in files");
    let files = runtime.block_on(Each::of_bursar(&Bursar::start(programs)?, plan))?;
    eprintln!("bench: {GROUP}: Bursar, its ledger in a PostgreSQL");
    let server = Postgres::start_with(&["fsync=on", "full_page_writes=on"])?;
    let url = TempDir::new()?;
    let ledger = server.ledger(Postgres::DATABASE, url.path())?;
    let bursar = Bursar::start_with(programs, &ledger)?;
    let postgres = runtime.block_on(Each::of_bursar(&bursar, plan))?;

    let figures = |name: &str, of: fn(&Each) -> &Figures| {
        let (files, postgres) = (of(&files), of(&postgres));
        let figure = |part: &str, unit, value: fn(&Figures) -> f64| {
            let figure = Figure::new(GROUP, format!("pg.read.{name}.{part}"), unit, value(postgres));
            figure.against_bare(value(files))
        };
        [
            figure("rps", "req/s", |figures| figures.rps),
            figure("cpu_us", "us", |figures| figures.cpu_us),
            figure("p50_ms", "ms", |figures| figures.p50_ms),
            figure("p99_ms", "ms", |figures| figures.p99_ms),
        ]
    };
    Ok([figures("8x32", |each| &each.many), figures("8x1", |each| &each.few)].concat())
}

pub(crate) const GROUP: &str = "cluster";
