//! The broker is away: killed, behind a network that swallows packets, or replaced by one that knows less. What the agent
//! has is served as long as its lease and its contract say, and not longer; and what was served is accounted for.

mod relay;
mod site;
mod swallowed;

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bursar_tests::{Cli, Signal, scan, wait_stopped, wait_until};
use tokio::time::Instant;

use site::{LIMIT, PATIENCE, Site, all_served, canary};

#[test]
fn a_killed_broker_is_stood_in_for_until_leases_and_contracts_end_and_hears_of_every_read() -> Result<()> {
    let mut site = Site::start("[cache]\nfresh_for = '1s'\n")?;
    for reference in ["local/long", "local/short", "local/strict"] {
        site.put(reference, &canary())?;
    }
    site.administrator.write("strict.toml", STRICT)?;
    site.administrator.done(&["env", "apply", "strict.toml"])?;
    let shell = Cli::through(&site.agent.socket())?;
    let resolve = ["run", "--env", "strict", "--", "true"];
    shell.done(&resolve)?;
    let reader = site.reader()?;
    let short = reader.value("local/short#p", SHORT)?;
    let loads: Vec<_> =
        (0..LOADS).map(|_| Ok(site.reader()?.keep_reading("local/long#p", LONG))).collect::<Result<_>>()?;
    wait_until(LIMIT, "some load", || loads.iter().all(|load| load.reads() > 20))?;

    let calls = |site: &Site| site.counted("bursar_agent_broker_calls_total{outcome=\"unreachable\"}");
    site.broker.process().kill()?;
    let (killed, before) = (Instant::now(), calls(&site));
    shell.done(&resolve).context("what is younger than its contract is not served")?;
    // Both end while the broker is away; whoever asks for what is over asks in vain.
    let mut in_vain = 0;
    wait_until(LIMIT, "the short lease to end", || {
        let over = reader.read("local/short#p", SHORT).is_err();
        in_vain += u64::from(over);
        over
    })?;
    // Renewed just before, at the latest; the rest is for a machine that is busy.
    ensure!(killed.elapsed() < SHORT + Duration::from_secs(10), "it was served for {:?}", killed.elapsed());
    wait_until(LIMIT, "the contract to end", || {
        let over = shell.run(&resolve).is_ok_and(|said| said.code != Some(0));
        in_vain += u64::from(over);
        over
    })?;
    let at: Vec<_> = loads.iter().map(site::Load::reads).collect();
    wait_until(LIMIT, "the load to go on", || {
        loads.iter().zip(&at).all(|(load, at)| load.reads() > at + 20)
    })?;
    let (away, unreachable) = (killed.elapsed(), calls(&site) - before);
    // Reads by the thousand; a trial each second, the events, the journal, renewals, and who asks in vain, three times.
    ensure!(
        unreachable <= 4 * (away.as_secs() + 5) + 3 * in_vain,
        "{unreachable} calls to a broker that was away for {away:?}, {in_vain} in vain"
    );

    site.broker.start_again()?;
    wait_until(LIMIT, "the short secret again", || reader.value("local/short#p", SHORT).is_ok())?;
    ensure!(reader.value("local/short#p", SHORT)?.1 != short.1, "a lease that was over is served");
    site.until_heard()?;
    all_served(loads)?;
    // A batch whose answer was lost is counted twice, and none once too few.
    wait_until(LIMIT, "the journal to be shipped", || {
        site.accounted().is_ok_and(|accounted| accounted >= site.answered_locally())
    })?;
    ensure!(site.counted("bursar_agent_journal_reads_total{outcome=\"refused\"}") == 0, "reads were refused");

    // And events arrive: this one is not waited for by anybody.
    let value = canary();
    site.put("local/long", &value)?;
    wait_until(LIMIT, "the new value", || {
        reader.value("local/long#p", LONG).is_ok_and(|(read, _)| read == value.value())
    })
}

#[test]
fn a_broker_that_says_nothing_delays_nobody_past_his_patience_and_few_at_all() -> Result<()> {
    let mut site = Site::start("[cache]\nfresh_for = '1s'\n")?;
    site.put("local/long", &canary())?;
    let reader = site.reader()?;
    let (value, lease) = reader.value("local/long#p", LONG)?;
    let loads: Vec<_> =
        (0..LOADS).map(|_| Ok(site.reader()?.keep_reading("local/long#p", LONG))).collect::<Result<_>>()?;
    wait_until(LIMIT, "some load", || loads.iter().all(|load| load.reads() > 20))?;

    // It stops with all its connections open, which is what a network that swallows packets looks like.
    site.broker.process().signal(Signal::STOP)?;
    wait_stopped(site.broker.process().pid())?;
    let outage = "bursar_agent_reads_total{outcome=\"outage\"}";
    let begun = Instant::now();
    wait_until(LIMIT, "the agent to notice", || site.counted(outage) > 0)?;
    let noticed = begun.elapsed();
    // From here on nobody waits for it.
    let at = site.counted(outage);
    wait_until(LIMIT, "reads by the hundred", || site.counted(outage) > at + 400)?;
    ensure!(reader.value("local/long#p", LONG)? == (value, lease), "another value is served");

    site.broker.process().signal(Signal::CONT)?;
    site.broker.wait_ready()?;
    site.until_heard()?;
    let longest = all_served(loads)?;
    ensure!(longest < PATIENCE, "a read took {longest:?}, the outage was noticed after {noticed:?}");
    let value = canary();
    site.put("local/long", &value)?;
    wait_until(LIMIT, "the new value", || {
        reader.value("local/long#p", LONG).is_ok_and(|(read, _)| read == value.value())
    })?;
    wait_until(LIMIT, "the journal to be shipped", || {
        site.accounted().is_ok_and(|accounted| accounted >= site.answered_locally())
    })
}

#[test]
fn a_broker_with_older_data_is_found_out_and_what_it_does_not_know_is_let_go() -> Result<()> {
    let mut site = Site::start("")?;
    let (early, late) = (canary(), canary());
    site.put("local/early", &early)?;
    let reader = site.reader()?;
    let (_, known) = reader.value("local/early#p", LONG)?;
    let backup = site.broker.directory().join("backup");
    let to = backup.to_string_lossy().into_owned();
    let taken = site.broker.command(&["backup", "--to", &to])?;
    ensure!(taken.status.success(), "{}", String::from_utf8_lossy(&taken.stderr));

    // All this is lost.
    site.put("local/late", &late)?;
    let (_, unknown) = reader.value("local/late#p", LONG)?;
    reader.value("local/late#p", LONG)?;
    // An agent takes a look at the log when it starts, and remembers what it saw of it.
    site.agent.kill_and_restart()?;
    let again = site.reader()?;
    ensure!(
        again.value("local/late#p", LONG)?.1 == unknown,
        "the agent that started again got another lease"
    );
    let seen = "bursar_agent_checkpoints_total{outcome=\"consistent\"}";
    wait_until(LIMIT, "the agent to have seen the log", || site.counted(seen) > 0)?;

    site.broker.process().kill()?;
    let data = site.broker.ledger().parent().context("no data directory")?.to_owned();
    let bootstrap = site.broker.directory().join("bootstrap");
    fs::rename(data.join("bootstrap"), &bootstrap)?;
    fs::remove_dir_all(&data)?;
    let restored = site.broker.command(&["restore", "--from", &to])?;
    ensure!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));
    fs::rename(&bootstrap, data.join("bootstrap"))?;
    ensure!(again.value("local/late#p", LONG)?.1 == unknown, "the outage is not bridged");
    site.broker.start_again()?;

    // The lease that it does not know is given up, and so is the secret that it does not have.
    let ended = "bursar_agent_lease_renewals_total{outcome=\"ended\"}";
    wait_until(LIMIT, "the lease to be given up", || {
        site.counted(ended) > 0 || again.read("local/late#p", LONG).is_err()
    })?;
    site.until_heard()?;
    wait_until(LIMIT, "what is not there any more to be gone", || {
        again.read("local/late#p", LONG).is_err_and(|status| status.code() == tonic::Code::NotFound)
    })?;
    ensure!(again.value("local/early#p", LONG)?.1 == known, "a lease that it knows was given up");
    ensure!(!site.leases()?.contains(&unknown), "a lease came back");
    // Events of the new process are heard.
    let value = canary();
    site.put("local/early", &value)?;
    wait_until(LIMIT, "the new value", || {
        again.value("local/early#p", LONG).is_ok_and(|(read, _)| read == value.value())
    })?;
    // And that its log went back is told, within the minute that lies between two looks at it.
    wait_until(LIMIT, "the agent to report the log", || {
        let ready = site.agent.http("/readyz").map(|answer| answer.body).unwrap_or_default();
        String::from_utf8_lossy(&ready).contains("does not continue the one seen before")
    })
}

#[test]
fn an_agent_that_is_killed_in_an_outage_goes_on_with_what_it_had() -> Result<()> {
    let mut site = Site::start("[state]\n[cache]\nfresh_for = '1s'\n")?;
    let (value, late) = (canary(), canary());
    site.put("local/long", &value)?;
    site.put("local/late", &late)?;
    let reader = site.reader()?;
    let first = reader.value("local/long#p", LONG)?;
    let kept = |site: &Site, answers: u64| {
        wait_until(LIMIT, "the state to be written", || site.counted("bursar_agent_state_answers") == answers)
    };
    kept(&site, 1)?;
    // One that starts again beside a broker asks first, and finds what it has.
    site.agent.kill_and_restart()?;
    ensure!(site.reader()?.value("local/long#p", LONG)? == first, "another lease after a restart");
    site.until_heard()?;
    ensure!(
        site.counted("bursar_agent_state_resumed_total{outcome=\"resumed\"}") == 1,
        "nothing was resumed"
    );
    let (_, revoked) = site.reader()?.value("local/late#p", LONG)?;
    kept(&site, 2)?;
    site.administrator.done(&["lease", "revoke", &revoked, "--reason", "test"])?;
    kept(&site, 1)?;

    site.broker.process().kill()?;
    let reader = site.reader()?;
    let writes = "bursar_agent_state_writes_total{outcome=\"written\"}";
    // The journal is kept too, as it was a few seconds ago. The second time is after all of the first reads.
    for reads in [READS, 1] {
        for _ in 0..reads {
            ensure!(reader.value("local/long#p", LONG)? == first, "the outage is not bridged");
        }
        let before = site.counted(writes);
        wait_until(LIMIT, "the journal to be kept", || site.counted(writes) > before)?;
    }
    let answered_locally = site.answered_locally();
    site.agent.kill_and_restart()?;
    let reader = site.reader()?;
    for _ in 0..READS {
        ensure!(reader.value("local/long#p", LONG)? == first, "another answer after the restart");
    }
    let gone = reader.read("local/late#p", LONG);
    ensure!(gone.is_err(), "what was revoked came back");
    ensure!(answered_locally >= READS, "only {answered_locally} reads came from memory");

    // Killed in the middle of writing, on an older file, and once more in order.
    let file = site.agent.directory().join("data/state/state");
    let older = fs::read(&file)?;
    fs::write(site.agent.directory().join("data/state/state.new"), &older[..older.len() / 2])?;
    site.agent.process().stop()?;
    site.agent.kill_and_restart()?;
    ensure!(
        site.reader()?.value("local/long#p", LONG)? == first,
        "an agent that ended in order left nothing"
    );
    let found = scan(site.agent.directory(), &[&value, &late])?;
    ensure!(found.is_empty(), "secrets leaked: {found:?}");

    site.broker.start_again()?;
    site.until_heard()?;
    wait_until(LIMIT, "the journal to be shipped", || {
        site.accounted().is_ok_and(|accounted| accounted >= 2 * READS)
    })
}

const READS: u64 = 20;
const LOADS: usize = 4;
const LONG: Duration = Duration::from_secs(900);
const SHORT: Duration = Duration::from_secs(8);

/// Of an environment with a value that may not be old.
const STRICT: &str = "[environment.strict]\nvars.P = { from = 'local/strict#p', max_stale = '6s' }\n";
