//! Group `backends`: what stores are made to do.

use anyhow::Result;
use tokio::runtime::Runtime;

use crate::bursar::Programs;
use crate::load::Plan;
use crate::report::Figure;

mod users;

pub(crate) fn measure(runtime: &Runtime, programs: &Programs, plan: &Plan) -> Result<Vec<Figure>> {
    users::measure(runtime, programs, plan)
}

/// A figure of this group.
fn figure(name: &str, unit: &'static str, value: f64) -> Figure {
    Figure::new(GROUP, name.to_owned(), unit, value)
}

pub(crate) const GROUP: &str = "backends";
