//! `bursar run --on-change`: a secret that changes at its store reaches a program that runs.

use std::collections::BTreeMap;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use bursar_proto::v1::local_store_put_request::Data;
use bursar_proto::v1::{LocalStorePutRequest, SecretFields};
use bursar_tests::{Agent, Broker, Canary, Cli, Process, Signal, scan_bytes, wait_until};
use prost::Message;
use tokio::time::Instant;
use tonic::Code;

use crate::masking::{LIMIT, Site};
use crate::raw::Caller;

#[test]
fn a_program_is_restarted_with_what_is_new_and_ends_when_it_is_told_to() -> Result<()> {
    let site = Site::start()?;
    let mut running = start(&site, &["--on-change", "restart"], &writes("printf '%s\\n' \"$KEY\""))?;
    log_has(&site, site.key.value())?;
    let second = Canary::random("second value");
    put(&site, second.value())?;
    log_has(&site, second.value())?;
    let said = running.stderr()?;
    ensure!(said.contains("KEY changed: restarting `sh`"), "{said}");
    let found = scan_bytes("standard error", said.as_bytes(), &[&site.key, &second])?;
    ensure!(found.is_empty(), "{found:?}");
    running.signal(Signal::TERM)?;
    ensure!(running.wait(LIMIT)?.code() == Some(9), "{}", running.report());
    Ok(())
}

#[test]
fn files_are_replaced_before_the_signal_and_what_is_new_is_masked() -> Result<()> {
    let site = Site::start()?;
    let script = "trap 'cat \"$KEY_FILE\" >> log; cat \"$KEY_FILE\"; echo' USR1; trap 'exit 9' TERM
        cat \"$KEY_FILE\" >> log; while :; do sleep 1 & wait; done";
    let options = ["--on-change", "signal", "--signal", "USR1", "--as", "files", "--mask"];
    let mut running = start(&site, &options, script)?;
    log_has(&site, site.key.value())?;
    let second = Canary::random("second value");
    put(&site, second.value())?;
    log_has(&site, second.value())?;
    running.wait_for_line(LIMIT, "[masked:KEY]")?;
    let found = scan_bytes("standard output", running.stdout()?.as_bytes(), &[&site.key, &second])?;
    ensure!(found.is_empty(), "{found:?}");
    Ok(())
}

#[test]
fn a_hook_is_run_beside_the_program_and_told_what_changed() -> Result<()> {
    let site = Site::start()?;
    site.cli.write("hook", "echo \"$1 $BURSAR_CHANGED $KEY\" >> log; exit 3\n")?;
    let options = ["--on-change", "hook", "--hook", "sh hook told"];
    let mut running = start(&site, &options, &writes("echo started"))?;
    log_has(&site, "started")?;
    put(&site, "another value")?;
    log_has(&site, "told KEY another value")?;
    running.wait_for_line(LIMIT, "the hook failed, with exit code 3")?;
    ensure!(log(&site)?.matches("started").count() == 1, "the program was restarted");
    Ok(())
}

#[test]
fn a_storm_of_changes_is_a_few_restarts_and_ends_with_the_last_value() -> Result<()> {
    let site = Site::start()?;
    let _running = start(&site, &["--on-change", "restart"], &writes("printf 'started %s\\n' \"$KEY\""))?;
    log_has(&site, "started")?;
    // One after the other without a pause, which is more than a hundred a second.
    let writer = Caller::administrator(&site.broker)?;
    let (begun, changes) = (Instant::now(), 400);
    for count in 1..=changes {
        let fields = BTreeMap::from([("key".to_owned(), format!("value {count}").into_bytes())]);
        let data = Some(Data::Fields(SecretFields { fields }));
        let reference = "local/app/key".to_owned();
        let message = LocalStorePutRequest { reference, data, expected_version: None, expires_at: None };
        let ended = writer.call("/bursar.v1.LocalStore/Put", message.encode_to_vec())?;
        ensure!(ended.code == Code::Ok, "{ended:?}");
    }
    let storm = begun.elapsed();
    log_has(&site, &format!("started value {changes}"))?;
    let starts = u64::try_from(log(&site)?.matches("started").count())?;
    // The first, and one for each set of changes, which takes seconds.
    ensure!(
        starts <= 5 + storm.as_secs() / 2,
        "it was started {starts} times for {changes} changes in {storm:?}"
    );
    Ok(())
}

#[test]
fn what_its_environment_says_of_a_change_goes_before_the_option() -> Result<()> {
    let site = Site::start()?;
    site.cli.write("quiet.toml", QUIET)?;
    site.cli.done(&["env", "apply", "quiet.toml"])?;
    let hookless = site.cli.run(&["run", "--env", "quiet", "--on-change", "restart", "--", "true"])?;
    ensure!(
        hookless.code == Some(2) && hookless.stderr.contains("name one by --hook"),
        "{}",
        hookless.stderr
    );
    let mut command = site.cli.command()?;
    command.args(["run", "--env", "quiet", "--on-change", "restart", "--hook", "sh hook", "--", "sh", "-c"]);
    command.arg(writes("echo started"));
    site.cli.write("hook", "echo \"hook $BURSAR_CHANGED\" >> log\n")?;
    let _running = Process::start("quiet", command, &site.cli.path(""))?;
    log_has(&site, "started")?;
    // Nothing is to be done about the first of the two, so that only the second shows.
    site.cli.done_with(&["secret", "put", "local/app/pin", "--field", "pin"], b"456789")?;
    put(&site, "another value")?;
    log_has(&site, "hook")?;
    ensure!(log(&site)?.matches("started").count() == 1, "the program was restarted");
    Ok(())
}

#[test]
fn a_change_reaches_a_program_through_the_agent_of_its_node_and_a_revocation_is_told() -> Result<()> {
    let broker = Broker::start("[backends.local]\nkind = 'local'\nmax_stale = '1h'\npoll = '1h'\n")?;
    let admin = Cli::administering(&broker)?;
    let uid = rustix::process::geteuid().as_raw().to_string();
    admin.apply_policies(POLICIES, &REGISTRATION.replace("UID", &uid))?;
    let put = |value: &Canary| {
        let put = ["secret", "put", "local/shop/db", "--field", "password"];
        admin.done_with(&put, value.value().as_bytes())
    };
    let (first, second) = (Canary::random("first value"), Canary::random("second value"));
    put(&first)?;
    admin.write("shop.toml", SHOP)?;
    admin.done(&["env", "apply", "shop.toml"])?;
    let token = admin.done(&["node", "token", "web-1"])?;
    let agent = Agent::start(&broker, "web-1", token.trim())?;
    let shop = Cli::through(&agent.socket())?;
    let has = |text: &str| {
        wait_until(LIMIT, "the program's log to have it", || {
            std::fs::read_to_string(shop.path("log")).is_ok_and(|log| log.contains(text))
        })
    };
    // Two: the second is answered by the agent alone, which the broker does not hear of.
    let start = || {
        let mut command = shop.command()?;
        command.args(["run", "--env", "shop", "--on-change", "restart", "--", "sh", "-c"]);
        command.arg(writes("printf '%s\\n' \"$PASSWORD\""));
        Process::start("shop", command, &shop.path(""))
    };
    let (one, mut other) = (start()?, start()?);
    has(first.value())?;
    put(&second)?;
    has(second.value())?;
    wait_until(LIMIT, "both to be restarted", || {
        let log = std::fs::read_to_string(shop.path("log")).unwrap_or_default();
        log.matches(second.value()).count() == 2
    })?;

    // What may not be had any more is told, and the program goes on.
    drop(one);
    admin.apply_policies(NOTHING, &REGISTRATION.replace("UID", &uid))?;
    let revoke = ["lease", "revoke-many", "--path", "local/shop", "--reason", "leaked", "--yes"];
    admin.done(&revoke)?;
    other.wait_for_line(LIMIT, "environment `shop` cannot be resolved again, and `sh` goes on")?;
    Ok(())
}

/// A program that does this, and ends with 9 when it is asked to.
fn writes(what: &str) -> String {
    format!("trap 'exit 9' TERM; {what} >> log; while :; do sleep 1 & wait; done")
}

fn start(site: &Site, options: &[&str], script: &str) -> Result<Process> {
    let mut command: Command = site.cli.command()?;
    command.args(["run", "--env", "app"]).args(options).args(["--", "sh", "-c", script]);
    Process::start("run", command, &site.cli.path(""))
}

fn put(site: &Site, value: &str) -> Result<()> {
    let put = ["secret", "put", "local/app/key", "--field", "key"];
    site.cli.done_with(&put, value.as_bytes()).map(drop)
}

fn log(site: &Site) -> Result<String> {
    std::fs::read_to_string(site.cli.path("log")).context("the program wrote no log")
}

fn log_has(site: &Site, text: &str) -> Result<()> {
    wait_until(LIMIT, "the program's log to have it", || log(site).is_ok_and(|log| log.contains(text)))
}

const QUIET: &str = r#"
[environment."quiet".vars]
PIN = { from = "local/app/pin#pin", on_change = "none" }
KEY = { from = "local/app/key#key", on_change = "hook" }
"#;

const SHOP: &str = "[environment.shop]\nvars.PASSWORD = { from = 'local/shop/db#password' }\n";

const REGISTRATION: &str = r#"
[[registration]]
principal = "spiffe://example.org/workload/shop"
node = "web-1"
selectors = ["unix:uid:UID"]
"#;

const POLICIES: &str = r#"
@id("administration")
permit (principal == Bursar::Principal::"spiffe://example.org/user/admin", action, resource);
@id("node")
permit (principal == Bursar::Principal::"spiffe://example.org/node/web-1",
        action == Bursar::Action::"watch", resource == Bursar::System::"broker");
@id("shop")
permit (principal == Bursar::Principal::"spiffe://example.org/workload/shop",
        action in Bursar::Action::"use", resource in Bursar::Folder::"local/shop");
@id("shop-resolves")
permit (principal == Bursar::Principal::"spiffe://example.org/workload/shop",
        action == Bursar::Action::"resolve", resource == Bursar::Environment::"shop");
"#;

/// What is left when the workload may do nothing any more.
const NOTHING: &str = r#"
@id("administration")
permit (principal == Bursar::Principal::"spiffe://example.org/user/admin", action, resource);
@id("node")
permit (principal == Bursar::Principal::"spiffe://example.org/node/web-1",
        action == Bursar::Action::"watch", resource == Bursar::System::"broker");
"#;
