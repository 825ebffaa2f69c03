//! Group `agent`: what a workload meets on its own machine.

use anyhow::Result;
use tokio::runtime::Runtime;

use crate::bursar::Programs;
use crate::load::Plan;
use crate::report::Figure;

mod memory;
mod propagate;
mod revoke;
mod run;
mod socket;

pub(crate) fn measure(runtime: &Runtime, programs: &Programs, plan: &Plan) -> Result<Vec<Figure>> {
    let mut figures = socket::measure(runtime, programs, plan)?;
    figures.extend(memory::measure(runtime, programs, plan)?);
    figures.extend(run::measure(runtime, programs, plan)?);
    figures.extend(propagate::measure(runtime, programs, plan)?);
    Ok(figures)
}

fn figure(name: &str, unit: &'static str, value: f64) -> Figure {
    Figure::new(GROUP, format!("{GROUP}.{name}"), unit, value)
}

pub(crate) const GROUP: &str = "agent";
