//! What `bursar run` adds to the start of a program when the agent has its two secrets in memory, beside the same by
//! `bao agent`, which is started for each program.

use std::process::Command;

use anyhow::Result;
use tokio::runtime::Runtime;

use super::{GROUP, figure};
use crate::bursar::{Bursar, ENVIRONMENT_NAME, PATH, Programs};
use crate::load::Plan;
use crate::node::Node;
use crate::openbao::Supervisor;
use crate::report::{Figure, shown};
use crate::run::{PROGRAM, compared};

#[expect(clippy::print_stderr, reason = "whoever waits is told what for")]
pub(super) fn measure(runtime: &Runtime, programs: &Programs, plan: &Plan) -> Result<Vec<Figure>> {
    eprintln!("bench: {GROUP}: `bursar run`");
    let mut plain = Command::new(PROGRAM);
    plain.env_clear().env("PATH", PATH);
    let bursar = Bursar::start(programs)?;
    runtime.block_on(bursar.fill(SECRETS))?;
    let node = Node::start(runtime, &bursar, programs, &[], "")?;
    let mut run = Command::new(&programs.cli);
    run.env_clear().env("PATH", PATH).env("BURSAR_ADDRESS", node.address());
    run.args(["run", "--env", ENVIRONMENT_NAME, "--", PROGRAM]);
    let (alone, with) = compared(&mut plain, &mut run, plan.starts)?;
    drop((node, bursar));

    let supervisor = Supervisor::new(PROGRAM)?;
    let (peer_alone, peer) = compared(&mut plain, &mut supervisor.command()?, plan.starts.div_ceil(10))?;
    let peer = peer - peer_alone;
    Ok(vec![figure("run.overhead_ms", "ms", with - alone).beside_openbao(peer - FIXED_PAUSE).noted(&format!(
        "OpenBao: `bao agent` in exec mode, {} ms of which {FIXED_PAUSE} are a fixed pause that is left out here",
        shown(peer)
    ))])
}

/// As many as the environment names.
const SECRETS: usize = 2;
/// Milliseconds that `bao agent` waits between rendering and starting, by its own log.
const FIXED_PAUSE: f64 = 2000.0;
