//! What the agent holds in memory: after one read, and with very many secrets.

use anyhow::Result;
use tokio::runtime::Runtime;

use super::{GROUP, figure};
use crate::bursar::{Bursar, Programs, Reader};
use crate::load::{Caller, Plan, complete};
use crate::memory::resident;
use crate::node::Node;
use crate::openbao::{Kept, Proxy};
use crate::report::Figure;

#[expect(clippy::print_stderr, reason = "whoever waits is told what for")]
pub(super) fn measure(runtime: &Runtime, programs: &Programs, plan: &Plan) -> Result<Vec<Figure>> {
    eprintln!("bench: {GROUP}: memory with {} secrets", plan.cached);
    let proxy = Proxy::start()?;
    let peer = runtime.block_on(async {
        for mut reader in proxy.readers(1, Kept::Yes).await? {
            reader.call().await?;
        }
        resident(proxy.pid())
    })?;
    drop(proxy);

    let bursar = Bursar::start(programs)?;
    runtime.block_on(bursar.fill(plan.cached))?;
    let node = Node::start(runtime, &bursar, programs, &[], "")?;
    let (idle, filled) = runtime.block_on(async {
        let client = node.connect().await?;
        Reader::sharing(&client, 0, plan.cached).call().await?;
        let idle = resident(node.pid())?;
        complete(vec![Reader::sharing(&client, 0, plan.cached)], plan.cached).await?;
        anyhow::Ok((idle, resident(node.pid())?))
    })?;
    Ok(vec![
        figure("rss_idle.mib", "MiB", idle).beside_openbao(peer).noted("after one read, both"),
        figure("rss_10k.mib", "MiB", filled).noted(&format!("{} secrets in its memory", plan.cached)),
    ])
}
