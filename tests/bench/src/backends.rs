//! Group `backends`: what stores are made to do, and spared.

use anyhow::Result;
use tokio::runtime::Runtime;

use crate::bursar::Programs;
use crate::load::Plan;
use crate::report::Figure;

mod cached;
mod hung;
mod storm;
mod users;

pub(crate) fn measure(runtime: &Runtime, programs: &Programs, plan: &Plan) -> Result<Vec<Figure>> {
    let mut figures = storm::measure(runtime, programs, plan)?;
    figures.push(cached::measure(runtime, plan)?);
    figures.extend(hung::measure(runtime, programs, plan)?);
    figures.extend(users::measure(runtime, programs, plan)?);
    Ok(figures)
}

/// A figure of this group.
fn figure(name: &str, unit: &'static str, value: f64) -> Figure {
    Figure::new(GROUP, name.to_owned(), unit, value)
}

pub(crate) const GROUP: &str = "backends";
