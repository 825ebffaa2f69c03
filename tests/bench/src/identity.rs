//! Group `identity`: what it costs to know who asks, and to decide what he may do.
//!
//! Decisions and attestations are measured in this process, by one thread: a few microseconds are lost in what a request
//! costs besides. First calls and refusals are those of a broker under load.

use anyhow::{Result, anyhow, ensure};
use bursar_agent::attest::{Attestor, Peer};
use bursar_broker::policy::{Context, Facts, Policies, PolicyFile, PrincipalFacts, Request, Resource};
use bursar_core::audit::{Action, Decision};
use bursar_core::spiffe::TrustDomain;
use bursar_core::{Reference, SpiffeId};
use jiff::Timestamp;
use tokio::runtime::Runtime;
use tokio::time::Instant;

use crate::bursar::Programs;
use crate::load::{Plan, median};
use crate::report::Figure;

mod pods;
mod strangers;

#[expect(clippy::print_stderr, reason = "whoever waits is told what for")]
pub(crate) fn measure(runtime: &Runtime, programs: &Programs, plan: &Plan) -> Result<Vec<Figure>> {
    eprintln!("bench: {GROUP}: decisions over {POLICIES} policies");
    let (known, new) = decisions(plan)?;
    eprintln!("bench: {GROUP}: processes attested");
    let attested = attestations(plan)?;
    eprintln!("bench: {GROUP}: {} pods that ask for the first time", plan.agents);
    let pods = runtime.block_on(pods::first_calls(programs, plan))?;
    eprintln!("bench: {GROUP}: {} strangers", plan.strangers);
    let strangers = runtime.block_on(strangers::storm(programs, plan))?;
    let rate = |name: &str, rate: f64, note: &str| {
        Figure::new(GROUP, format!("{GROUP}.{name}"), "req/s", rate).noted(note)
    };
    let figure = |name: &str, micros: f64, note: &str| {
        Figure::new(GROUP, format!("{GROUP}.{name}"), "us", micros).noted(note)
    };
    let refused = format!(
        "{} tokens that nobody made, each refused, without limits of rate; {} rounds for keys",
        plan.strangers, strangers.rounds
    );
    let first = format!("{CALLERS} callers, each for the first time, over {POLICIES} policies");
    Ok(vec![
        figure("decide_cached.us", known, &format!("{CALLERS} decisions that were made before, in turn")),
        figure("decide_1000.us", new, &first),
        figure("attest.us", attested, "a process whose program was hashed before"),
        rate("first_calls.rps", pods.connected, "a token for each, verified, and a secret read by it"),
        rate("first_calls.connecting.rps", pods.connecting, "the same, each over a connection of its own")
            .beside_bare(pods.bare_connecting),
        rate("strangers.rps", strangers.rate, &refused),
        Figure::new(GROUP, format!("{GROUP}.strangers.growth_mib"), "MiB", strangers.growth)
            .noted("what the broker holds more after nine tenths of them"),
    ])
}

/// What a decision takes that was made before, and one that was not.
fn decisions(plan: &Plan) -> Result<(f64, f64)> {
    let callers = (0..CALLERS).map(caller).collect::<Result<Vec<_>>>()?;
    let (mut known, mut new) = (Vec::new(), Vec::new());
    for _ in 0..plan.repeats {
        // Nothing is decided yet.
        let policies = policies()?;
        let decide = |(principal, reference): &(PrincipalFacts, Reference)| {
            let context = Context { time: Timestamp::UNIX_EPOCH, reason: "", approved_by: &[] };
            let resource = Resource::secret(reference);
            let verdict = policies.decide(&Request { principal, action: Action::Read, resource, context });
            ensure!(verdict.decision == Decision::Allow, "`{}` was denied", principal.id);
            Ok(())
        };
        new.push(micros(CALLERS, || callers.iter().try_for_each(decide))?);
        let again = || callers.iter().cycle().take(plan.fetches).try_for_each(decide);
        known.push(micros(plan.fetches, again)?);
    }
    Ok((median(known), median(new)))
}

fn attestations(plan: &Plan) -> Result<f64> {
    let attestor = Attestor::new()?;
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let peer = Peer { pid: std::process::id(), uid, gid };
    let attest = || {
        let workload = attestor.attest(peer)?;
        ensure!(workload.is_alive(), "a process that runs is not alive");
        anyhow::Ok(())
    };
    attest()?;
    let mut rounds = Vec::new();
    for _ in 0..plan.repeats {
        rounds.push(micros(ATTESTED, || (0..ATTESTED).try_for_each(|_| attest()))?);
    }
    Ok(median(rounds))
}

/// A set in which each team may use what is below a folder of its own.
fn policies() -> Result<Policies> {
    let policy = |team: usize| {
        format!(
            "permit (principal in Bursar::Group::\"spiffe://{DOMAIN}/ns/team-{team}\", \
             action in Bursar::Action::\"use\", resource in Bursar::Folder::\"vault/team-{team}\");\n"
        )
    };
    let files = [PolicyFile { name: "teams.cedar".to_owned(), text: (0..POLICIES).map(policy).collect() }];
    let administrator = SpiffeId::parse(&format!("spiffe://{DOMAIN}/user/admin"))?;
    let compiled = Policies::compile(&files, &TrustDomain::parse(DOMAIN)?, &administrator);
    compiled.map_err(|faults| anyhow!("{faults:?}"))
}

/// Somebody of one of the teams, and what he may read.
fn caller(number: usize) -> Result<(PrincipalFacts, Reference)> {
    let team = number % POLICIES;
    let id = SpiffeId::parse(&format!("spiffe://{DOMAIN}/ns/team-{team}/sa/web-{number}"))?;
    let (method, selectors, groups) = ("mtls".to_owned(), Vec::new(), Vec::new());
    let facts = PrincipalFacts::new(Facts { id, method, node: None, selectors, groups });
    Ok((facts, Reference::parse(&format!("vault/team-{team}/db"))?))
}

/// How long one of `times` took that `work` does, on average.
fn micros(times: usize, work: impl FnOnce() -> Result<()>) -> Result<f64> {
    let begun = Instant::now();
    work()?;
    Ok(begun.elapsed().as_secs_f64() * 1e6 / times as f64)
}

pub(crate) const GROUP: &str = "identity";
const DOMAIN: &str = "bench.test";
const POLICIES: usize = 1000;
const CALLERS: usize = 5000;
const ATTESTED: usize = 500;
