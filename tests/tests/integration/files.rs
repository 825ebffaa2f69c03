//! The agent delivers sets of files: made of a real broker's environments, read by whoever they are for and nobody else,
//! following what happens to the secrets.

mod hooks;
mod site;

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bursar_tests::{Canary, SmallDisk, wait_until};
use serde_json::Value;

use crate::policies;
use site::{LIMIT, READER, Site};

#[test]
fn a_set_is_delivered_whole_to_its_owner_and_nobody_else_and_the_ledger_says_who_it_was() -> Result<()> {
    let (site, password) = (Site::start()?, Canary::random("password"));
    site.put("local/shop/db", "password", &password)?;
    let agent = site.agent(&format!("owner = '{READER}'\ngroup = '{READER}'\n{OUTPUTS}"))?;
    site.until("app.json", |text| text.contains("PASSWORD"))?;
    for (name, mode) in [("app.env", 0o400), ("app.json", 0o440), ("app.yaml", 0o400), ("nginx.conf", 0o400)]
    {
        let found = fs::metadata(site.path(name)).with_context(|| format!("`{name}` is not there"))?;
        ensure!((found.uid(), found.gid()) == (READER, READER), "`{name}` belongs to {}", found.uid());
        ensure!(found.mode() & 0o7777 == mode, "`{name}` has the mode {:o}", found.mode());
    }
    // What real readers make of it.
    ensure!(site.shell(READER, "cat app.env")?.is_some(), "its owner cannot read it");
    ensure!(site.shell(READER + 1, "cat app.env")?.is_none(), "somebody else can read it");
    let read = |script: &str| site.python(script);
    let (value, said) = (password.value(), "another value was read from");
    ensure!(
        read("import json; print(json.load(open('app.json'))['PASSWORD'], end='')")? == value,
        "{said} JSON"
    );
    ensure!(
        read("import yaml; print(yaml.safe_load(open('app.yaml'))['PASSWORD'], end='')")? == value,
        "{said} YAML"
    );
    let sourced = site.shell(READER, ". ./app.env; printf %s \"$PASSWORD\"")?;
    ensure!(sourced.as_deref() == Some(value), "{said} the environment file");
    let quoted = serde_json::to_string(value)?;
    ensure!(site.read("nginx.conf")? == format!("level info;\npassword {quoted};\n"), "{said} the template");
    ensure!(site.read("tls/key.pem")? == value, "{said} the environment's own file");

    // It was the set that asked, and it is registered as somebody.
    let records = site.administrator.audit(&["--action", "resolve", "--outcome", "ok"])?;
    let record = records.first().context("no record")?;
    let text = |pointer: &str| record.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    ensure!(text("/actor/principal") == "spiffe://example.org/workload/web", "{record}");
    ensure!(text("/actor/selectors/0") == "files:set:web", "{record}");
    wait_until(LIMIT, "the agent to be ready", || {
        agent.http("/readyz").is_ok_and(|ready| ready.body == b"ready\n")
    })
}

#[test]
fn a_change_replaces_all_files_at_once_and_an_end_of_the_lease_takes_them_away() -> Result<()> {
    let site = Site::start()?;
    let values: Vec<_> = (0..5).map(|_| Canary::alphanumeric("password")).collect();
    site.put("local/shop/db", "password", &values[0])?;
    let _agent = site.agent(OUTPUTS)?;
    site.until("app.env", |text| text.contains(values[0].value()))?;

    // Somebody reads two files, again and again, as programs do that need them to agree.
    let reader = site.pairs()?;
    for value in &values[1..] {
        site.put("local/shop/db", "password", value)?;
        wait_until(SOON, "the change", || {
            site.read("app.env").is_ok_and(|text| text.contains(value.value()))
        })?;
    }
    let (pairs, torn) = reader.stop()?;
    ensure!(pairs > 20 && torn == 0, "{torn} of {pairs} pairs did not agree");

    // Policy takes the right away, and somebody the lease.
    site.administrator.apply_policies(policies::ADMINISTRATION, site::REGISTRATION)?;
    let lease = site.lease()?;
    site.administrator.done(&["lease", "revoke", &lease, "--reason", "test"])?;
    // Out of reach at once, and then gone with all that led to them.
    wait_until(SOON, "the files to be gone", || {
        fs::read_dir(site.path("")).is_ok_and(|mut left| left.next().is_none())
    })?;
    site.administrator.apply_policies(&policies::for_workloads(), site::REGISTRATION)?;
    site.until("app.env", |text| text.contains(values[4].value()))
}

#[test]
fn what_somebody_did_to_the_files_is_undone() -> Result<()> {
    let (site, password) = (Site::start()?, Canary::alphanumeric("password"));
    site.put("local/shop/db", "password", &password)?;
    let agent = site.agent(OUTPUTS)?;
    site.until("app.env", |text| text.contains(password.value()))?;
    fs::remove_file(site.path("..data/app.env"))?;
    fs::write(site.path("..data/app.env"), "PASSWORD=other\n")?;
    site.until("app.env", |text| text.contains(password.value()))?;
    let repaired = agent.counted("bursar_agent_files_total{outcome=\"repaired\"}");
    ensure!(repaired == 1, "it was counted {repaired} times");
    Ok(())
}

#[test]
fn a_place_that_is_not_safe_gets_no_file_and_is_named_in_the_log() -> Result<()> {
    let (site, password) = (Site::start()?, Canary::alphanumeric("password"));
    site.put("local/shop/db", "password", &password)?;
    let elsewhere = tempfile::tempdir()?;
    symlink(elsewhere.path(), site.path(""))?;
    let agent = site.agent(OUTPUTS)?;
    site.log(&agent, "is a symbolic link")?;
    ensure!(fs::read_dir(elsewhere.path())?.next().is_none(), "something was written behind the link");
    fs::remove_file(site.path(""))?;
    fs::create_dir(site.path(""))?;
    std::os::unix::fs::chown(site.path(""), Some(READER), None)?;
    site.log(&agent, "belongs to user 61002")?;
    ensure!(fs::read_dir(site.path(""))?.next().is_none(), "something was written into a foreign directory");
    wait_until(LIMIT, "the agent to show it", || {
        let ready = agent.http("/readyz").map(|ready| ready.body).unwrap_or_default();
        ready.starts_with(b"ready, but degraded: 1 of 1 sets of files")
    })?;
    std::os::unix::fs::chown(site.path(""), Some(0), None)?;
    site.until("app.env", |text| text.contains(password.value()))
}

#[test]
fn a_disk_is_refused_and_a_full_memory_keeps_what_was_there() -> Result<()> {
    let (site, password) = (Site::start()?, Canary::alphanumeric("password"));
    site.put("local/shop/db", "password", &password)?;
    let on_disk = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let agent = site.agent_at(&on_disk.path().join("web"), OUTPUTS)?;
    site.log(&agent, "is on a disk")?;
    drop(agent);

    let disk = SmallDisk::mount(64 * 1024)?;
    let agent = site.agent_at(&disk.path().join("web"), OUTPUTS)?;
    let file = disk.path().join("web/app.env");
    let reads = |value: &Canary| fs::read_to_string(&file).is_ok_and(|text| text.contains(value.value()));
    wait_until(LIMIT, "the first delivery", || reads(&password))?;
    disk.fill()?;
    let second = Canary::alphanumeric("second password");
    site.put("local/shop/db", "password", &second)?;
    site.log(&agent, "there is no room for the files")?;
    ensure!(reads(&password), "the files from before did not stay");
    disk.free()?;
    wait_until(LIMIT, "the second delivery", || reads(&second))
}

#[test]
fn an_evicted_node_is_left_without_files_and_a_new_agent_takes_up_what_the_last_one_left() -> Result<()> {
    let (site, password) = (Site::start()?, Canary::alphanumeric("password"));
    site.put("local/shop/db", "password", &password)?;
    let mut agent = site.agent(&format!("{OUTPUTS}[cache]\nfresh_for = '1s'\n"))?;
    site.until("app.env", |text| text.contains(password.value()))?;

    // Killed and started again, it finds the files as they have to be, and leaves them.
    let version = fs::read_link(site.path("..data"))?;
    let record = agent.directory().join("data/files/web");
    wait_until(LIMIT, "the record of the set", || record.exists())?;
    agent.kill_and_restart()?;
    wait_until(LIMIT, "the files to be looked at", || {
        agent.counted("bursar_agent_files_total{outcome=\"unchanged\"}") > 0
    })?;
    ensure!(fs::read_link(site.path("..data"))? == version, "they were written again");

    site.administrator.done(&["node", "evict", "web-1", "--reason", "test", "--yes"])?;
    wait_until(LIMIT, "the files to be gone", || fs::symlink_metadata(site.path("app.env")).is_err())
}

#[test]
fn a_template_with_a_fault_is_told_by_line_and_column_and_holds_up_no_other_set() -> Result<()> {
    let (site, password) = (Site::start()?, Canary::alphanumeric("canary"));
    site.put("local/shop/db", "password", &password)?;
    site.template("broken.j2", "level {{ LEVEL }}\npassword {{ PASSWORD | int }}\n")?;
    let broken = site.directory().join("broken");
    let agent = site.agent(&format!(
        "{OUTPUTS}[files.broken]\ndirectory = '{}'\nenvironment = 'shop'\n\
         [files.broken.output.'x']\ntemplate = '{}'\n",
        broken.display(),
        site.directory().join("broken.j2").display()
    ))?;
    site.until("app.env", |text| text.contains(password.value()))?;
    site.log(&agent, "line 2, column 24: invalid operation: `int`")?;
    ensure!(!broken.join("x").exists(), "half a file was written");
    let log = site.written(&agent)?;
    ensure!(!log.contains(password.value()), "the log has the value");
    Ok(())
}

/// Runs a program, and says what it wrote if it succeeded.
fn said(command: &mut Command) -> Result<Option<String>> {
    let output = command.output()?;
    Ok(output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned()))
}

/// A second is what is promised; the machine that tests may be busy.
const SOON: Duration = Duration::from_secs(3);

const OUTPUTS: &str = "
[files.web.output.'app.env']
format = 'env'
[files.web.output.'app.json']
format = 'json'
mode = '0440'
[files.web.output.'app.yaml']
format = 'yaml'
variables = ['PASSWORD']
[files.web.output.'nginx.conf']
template = 'TEMPLATE'
";
