//! A program that dies between asking for its secrets and having them: nothing of them is left, it holds one lease however
//! often that happens, and whoever comes next is served.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bursar_tests::{Agent, Broker, Canary, Cli, Process, Signal, scan, wait_stopped, wait_until};

#[test]
fn a_program_that_dies_while_its_secrets_are_on_their_way_leaves_one_lease_and_no_secret() -> Result<()> {
    let mut broker = Broker::start("[backends.local]\nkind = 'local'\n")?;
    let admin = Cli::administering(&broker)?;
    let uid = rustix::process::geteuid().as_raw().to_string();
    admin.apply_policies(POLICIES, &REGISTRATION.replace("UID", &uid))?;
    let password = Canary::random("password");
    admin.done_with(&["secret", "put", "local/shop/db", "--field", "p"], password.value().as_bytes())?;
    admin.write("shop.toml", "[environment.shop]\nvars.PASSWORD = { from = 'local/shop/db#p' }\n")?;
    admin.done(&["env", "apply", "shop.toml"])?;
    let token = admin.done(&["node", "token", "web-1"])?;
    // What is in the agent's memory is never new enough, so that the broker is asked each time.
    let agent = Agent::start_with(&broker, "web-1", token.trim(), "[cache]\nfresh_for = '0s'\n")?;
    let shop = Cli::through(&agent.socket())?;
    let memory = shop.path("memory");
    fs::create_dir(&memory)?;

    for round in 1..=ROUNDS {
        // The broker is there, and does not get to answer before the program has died.
        broker.process().signal(Signal::STOP)?;
        wait_stopped(broker.process().pid())?;
        let mut command = shop.command()?;
        command.args(["run", "--env", "shop", "--as", "files", "--on-disk", "--dir"]).arg(&memory);
        command.args(["--", "sh", "-c", "echo started >> log"]);
        let mut dying = Process::start("dying", command, &shop.path(""))?;
        wait_until(LIMIT, "the program to ask", || asked(&agent) >= round)?;
        dying.kill()?;
        broker.process().signal(Signal::CONT)?;
        broker.wait_ready()?;
        wait_until(LIMIT, "the ledger to have it", || {
            recorded(&admin).is_ok_and(|records| records >= usize::try_from(round).unwrap_or(usize::MAX))
        })?;
    }
    ensure!(!shop.path("log").exists(), "it was started");
    let left: Vec<_> = fs::read_dir(&memory)?.collect::<std::io::Result<_>>()?;
    ensure!(left.is_empty(), "{left:?} is left of it");

    // Whoever comes next is the same workload, and has what it left.
    let read = ["run", "--env", "shop", "--", "sh", "-c", "printf %s \"$PASSWORD\""];
    ensure!(shop.done(&read)? == password.value(), "the next one got something else");
    let leases = admin.json(&["lease", "list", "--principal", SHOP])?;
    let leases = leases.as_array().context("no list")?;
    ensure!(leases.len() == 1, "{} leases for {ROUNDS} that died", leases.len());
    let mut found = scan(agent.directory(), &[&password])?;
    found.extend(scan(&shop.path(""), &[&password])?);
    ensure!(found.is_empty(), "secrets leaked: {found:?}");
    Ok(())
}

/// How often an environment was asked for at the agent.
fn asked(agent: &Agent) -> u64 {
    let metrics = agent.http("/metrics").map(|answer| answer.body).unwrap_or_default();
    let metrics = String::from_utf8_lossy(&metrics).into_owned();
    let of = |line: &&str| line.starts_with("bursar_agent_calls_total{") && line.contains("/Resolve\"");
    metrics.lines().filter(of).filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

/// How many disclosures the ledger has, whether anybody was there to have them or not.
fn recorded(admin: &Cli) -> Result<usize> {
    Ok(admin.audit(&["--principal", SHOP, "--action", "resolve", "--outcome", "ok"])?.len())
}

const ROUNDS: u64 = 4;
const LIMIT: Duration = Duration::from_secs(60);
const SHOP: &str = "spiffe://example.org/workload/shop";

const REGISTRATION: &str = r#"
[[registration]]
principal = "spiffe://example.org/workload/shop"
node = "web-1"
selectors = ["unix:uid:UID"]
"#;

const POLICIES: &str = r#"
@id("administration")
permit (principal == Bursar::Principal::"spiffe://example.org/user/admin", action, resource);
@id("watch")
permit (principal, action == Bursar::Action::"watch", resource);
@id("shop")
permit (principal == Bursar::Principal::"spiffe://example.org/workload/shop",
        action in Bursar::Action::"use", resource);
"#;
