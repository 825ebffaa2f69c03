//! Group `ledger`: what leases cost once there are many of them: renewed, revoked together, and held while the broker
//! restarts, is asked for lists, and should not grow.
//!
//! OpenBao's leases are those of tokens. Its leases of credentials that a store makes cost a call to that store each, so
//! these are the leases that it handles fastest. Where it holds or revokes fewer than the broker does, a note says how
//! many, and there is no ratio.

use anyhow::Result;
use bursar_sdk::Client;
use tokio::runtime::Runtime;

use crate::bursar::{Bursar, Programs};
use crate::load::Plan;
use crate::openbao::{Setting, Tokens};
use crate::report::Figure;

mod hold;
mod renew;
mod revoke;

#[expect(clippy::print_stderr, reason = "whoever waits is told what for")]
pub(crate) fn measure(runtime: &Runtime, programs: &Programs, plan: &Plan) -> Result<Vec<Figure>> {
    eprintln!("bench: {GROUP}: OpenBao, {}", Setting::LargerHeap.name());
    let tuned = Tokens::start(Setting::LargerHeap)?;
    let tuned = runtime.block_on(renew::of_openbao(&tuned, plan))?;
    eprintln!("bench: {GROUP}: OpenBao, {}", Setting::AsItComes.name());
    let mut tokens = Tokens::start(Setting::AsItComes)?;
    let peer_memory = tokens.memory()?;
    let peer_revoked = revoke::of_openbao(runtime, &tokens, plan)?;
    let plain = runtime.block_on(renew::of_openbao(&tokens, plan))?;
    let peer_held = hold::of_openbao(runtime, &mut tokens, plan)?;
    drop(tokens);

    eprintln!("bench: {GROUP}: Bursar, renewals and revocations");
    let bursar = Bursar::start(programs)?;
    runtime.block_on(bursar.fill(SECRETS))?;
    let renewed = runtime.block_on(renew::of_bursar(&bursar, plan))?;
    let revoked = runtime.block_on(revoke::of_bursar(&bursar, plan))?;
    drop(bursar);
    eprintln!("bench: {GROUP}: Bursar, {} leases", plan.held);
    let held = hold::of_bursar(runtime, programs, plan)?;

    let mut figures = renew::figures(&renewed, &plain, &tuned);
    figures.extend(revoke::figures(&revoked, &peer_revoked));
    figures.extend(hold::figures(&held, &peer_held, peer_memory));
    Ok(figures)
}

/// Connections of the administrator.
async fn connect(bursar: &Bursar) -> Result<Vec<Client>> {
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        clients.push(bursar.connect().await?);
    }
    Ok(clients)
}

/// A figure of this group.
fn figure(name: &str, unit: &'static str, value: f64) -> Figure {
    Figure::new(GROUP, name.to_owned(), unit, value)
}

pub(crate) const GROUP: &str = "ledger";
const SECRETS: usize = crate::bursar::Grants::SECRETS;
const CONNECTIONS: usize = 8;
const STREAMS: usize = 32;
