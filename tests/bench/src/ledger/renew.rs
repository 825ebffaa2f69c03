//! Leases renewed one by one, by many at once, each renewal to a later end.
//!
//! For the broker, each is: the caller's certificate, the lease looked up, its owner and policy, its row and its place in
//! the order of ends moved, and an audit record, all durable before the answer. OpenBao renews tokens, each by itself
//! (`auth/token/renew-self`).

use anyhow::Result;

use super::{CONNECTIONS, STREAMS, connect, figure};
use crate::bursar::{Bursar, Grants, Renewer};
use crate::load::{Figures, Plan, measure as load};
use crate::openbao::{Compared, Tokens};
use crate::report::Figure;

pub(super) async fn of_bursar(bursar: &Bursar, plan: &Plan) -> Result<Figures> {
    let clients = connect(bursar).await?;
    let grants = Grants { first: 0, instances: CONNECTIONS * STREAMS, secrets: plan.renewed };
    let leases = grants.make(&clients).await?;
    let renewers = clients.iter().cycle().zip(leases);
    load(renewers.map(|(client, leases)| Renewer::new(client, leases)).collect(), plan, bursar.pid()).await
}

pub(super) async fn of_openbao(tokens: &Tokens, plan: &Plan) -> Result<Figures> {
    let made = tokens.make(CONNECTIONS * STREAMS * plan.renewed, None).await?;
    load(tokens.renewers(&made).await?, plan, tokens.pid()).await
}

pub(super) fn figures(bursar: &Figures, plain: &Figures, tuned: &Figures) -> Vec<Figure> {
    let openbao = Compared { plain, tuned };
    vec![
        openbao.beside(figure("renew.rps", "req/s", bursar.rps), |figures| figures.rps),
        openbao.beside(figure("renew.cpu_us", "us", bursar.cpu_us), |figures| figures.cpu_us),
        openbao.beside(figure("renew.p99_ms", "ms", bursar.p99_ms), |figures| figures.p99_ms),
    ]
}
