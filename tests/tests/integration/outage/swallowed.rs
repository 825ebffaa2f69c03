//! The network between agent and broker swallows everything from one moment on, and nobody hangs up.

use anyhow::{Context, Result, ensure};
use bursar_tests::{Cli, wait_until};
use tokio::time::Instant;
use tonic::{Code, Status};

use super::relay::Network;
use super::site::{LIMIT, Load, PATIENCE, Site, all_served, canary};
use super::{LOADS, LONG, SHORT, STRICT};

#[test]
fn a_network_that_swallows_everything_is_bridged_noticed_tried_seldom_and_forgiven() -> Result<()> {
    bridged(Network::Swallows)
}

#[test]
fn a_network_that_lets_nobody_connect_is_bridged_noticed_and_forgiven() -> Result<()> {
    bridged(Network::Ignores)
}

/// Everything that there is to be bridged is, nothing else is waited for, and what happened behind the network's back is
/// heard of when it carries again.
fn bridged(network: Network) -> Result<()> {
    let (site, mut relay) = Site::apart(&format!("[cache]\nfresh_for = '1s'\n{DEADLINE}"))?;
    let (old, new, lost) = (canary(), canary(), canary());
    for (reference, value) in [("long", &old), ("short", &old), ("strict", &old), ("lost", &lost)] {
        site.put(&format!("local/{reference}"), value)?;
    }
    site.administrator.write("strict.toml", STRICT)?;
    site.administrator.done(&["env", "apply", "strict.toml"])?;
    let shell = Cli::through(&site.agent.socket())?;
    let resolve = ["run", "--env", "strict", "--", "true"];
    shell.done(&resolve)?;
    let reader = site.reader()?;
    reader.value("local/short#p", SHORT)?;
    let (_, revoked) = reader.value("local/lost#p", LONG)?;
    let mut events = reader.events()?;
    let loads: Vec<_> =
        (0..LOADS).map(|_| Ok(site.reader()?.keep_reading("local/long#p", LONG))).collect::<Result<_>>()?;
    wait_until(LIMIT, "some load", || loads.iter().all(|load| load.reads() > 20))?;

    let (connections, calls) = (relay.accepted(), site.counted(UNREACHABLE));
    relay.turn(network)?;
    let begun = Instant::now();
    // Of this nobody behind the network hears.
    site.administrator.done(&["lease", "revoke", &revoked, "--reason", "test"])?;
    site.put("local/long", &new)?;
    let mut in_vain = 1;
    away(&reader.read("local/never-read#p", LONG).err().context("something was made up")?)?;
    wait_until(LIMIT, "the short lease to end", || {
        let over = reader.read("local/short#p", SHORT);
        in_vain += u64::from(over.is_err());
        over.is_err()
    })?;
    away(&reader.read("local/short#p", SHORT).err().context("a lease that was over is served")?)?;
    wait_until(LIMIT, "the contract to end", || {
        let said = shell.run(&resolve);
        in_vain += 1;
        said.is_ok_and(|said| said.code != Some(0) && said.stderr.contains("broker"))
    })?;
    wait_until(LIMIT, "the silence to be noticed", || site.counted("bursar_agent_listening") == 0)?;
    let noticed = begun.elapsed();
    go_on(&loads)?;
    let (seconds, made) = (begun.elapsed().as_secs(), relay.accepted() - connections);
    let unreachable = site.counted(UNREACHABLE) - calls;
    // Reads by the thousand. A connection is tried for 5 s; a trial is made each second, and events, journal and renewals
    // come besides.
    ensure!(made <= seconds / 4 + 4, "{made} connections in {seconds} s");
    ensure!(unreachable <= 4 * (seconds + 5) + 3 * (in_vain + 1), "{unreachable} calls in {seconds} s");
    ensure!(site.counted("bursar_agent_broker_connections_given_up_total") > 0, "the silence was waited out");

    relay.turn(Network::Carries)?;
    let begun = Instant::now();
    site.until_heard()?;
    let heard = begun.elapsed();
    let context = || format!("noticed after {noticed:?}, heard again after {heard:?}");
    reader.until_told(&mut events, &revoked).with_context(context)?;
    wait_until(LIMIT, "what was revoked to be gone", || {
        reader.value("local/lost#p", LONG).is_ok_and(|(_, lease)| lease != revoked)
    })?;
    wait_until(LIMIT, "the new value", || {
        reader.value("local/long#p", LONG).is_ok_and(|(read, _)| read == new.value())
    })?;
    reader.value("local/short#p", SHORT)?;
    shell.done(&resolve)?;
    let longest = all_served(loads)?;
    ensure!(longest < PATIENCE, "a read took {longest:?}");
    // A batch whose answer was lost is counted twice, and none once too few.
    wait_until(LIMIT, "the journal to be shipped", || {
        site.accounted().is_ok_and(|accounted| accounted >= site.answered_locally())
    })?;
    Ok(())
}

#[test]
fn where_an_outage_may_not_be_bridged_a_swallowed_read_fails_in_time_and_says_why() -> Result<()> {
    let (site, mut relay) =
        Site::apart(&format!("[cache]\nfresh_for = '1s'\non_outage = 'fail'\n{DEADLINE}"))?;
    site.put("local/long", &canary())?;
    let reader = site.reader()?;
    let known = reader.value("local/long#p", LONG)?;
    relay.turn(Network::Swallows)?;
    wait_until(LIMIT, "the value to be too old", || reader.read("local/long#p", LONG).is_err())?;
    for _ in 0..3 {
        away(&reader.read("local/long#p", LONG).err().context("it is served although it may not be")?)?;
    }
    relay.turn(Network::Carries)?;
    wait_until(LIMIT, "the broker again", || {
        reader.value("local/long#p", LONG).is_ok_and(|read| read == known)
    })
}

/// What a caller is told whose read needs a broker that is away: by the agent, before the caller gives up.
fn away(status: &Status) -> Result<()> {
    let said = status.message();
    let why = ["the broker cannot be reached from this node", "the broker did not answer in time"];
    ensure!(status.code() == Code::Unavailable && why.iter().any(|why| said.starts_with(why)), "{status}");
    Ok(())
}

fn go_on(loads: &[Load]) -> Result<()> {
    let at: Vec<_> = loads.iter().map(Load::reads).collect();
    wait_until(LIMIT, "the load to go on", || loads.iter().zip(&at).all(|(load, at)| load.reads() > at + 20))
}

/// Half of what a program waits.
const DEADLINE: &str = "[limits]\ndeadline = '6s'\n";
const UNREACHABLE: &str = "bursar_agent_broker_calls_total{outcome=\"unreachable\"}";
