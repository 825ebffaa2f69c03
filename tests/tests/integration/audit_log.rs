//! The audit log as it leaves the broker: shipped to sinks, exported in parts, proved record by record.

use std::fs;
use std::net::UdpSocket;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bursar_tests::{Signal, SmallDisk, binary, free_port, scan, wait_for, wait_until};

use super::local_site::{LocalSite, said};

#[test]
fn every_sink_gets_every_record_and_none_gets_a_value() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.set_read_timeout(Some(LIMIT))?;
    let site = LocalSite::start(&format!(
        "[audit.sinks.archive]\nkind = 'file'\npath = '{}'\n[audit.sinks.console]\nkind = 'stdout'\n\
         [audit.sinks.siem]\nkind = 'syslog'\naddress = 'udp://{}'\n",
        folder.path().join("audit.jsonl").display(),
        socket.local_addr()?,
    ))?;
    for instance in 0..20 {
        site.read(instance)?;
    }
    let exported = site.done(&["audit", "export"])?;
    let records: Vec<&str> = exported.lines().filter(|line| line.starts_with("{\"seq\"")).collect();
    let shipped = || fs::read_to_string(folder.path().join("audit.jsonl")).unwrap_or_default();
    wait_until(LIMIT, "the file to have the records", || shipped().lines().count() >= records.len())?;
    ensure!(shipped().lines().zip(&records).all(|(shipped, exported)| shipped == *exported));
    let console = site.broker.directory().join("broker.stdout");
    let lines = || fs::read_to_string(&console).unwrap_or_default().lines().count();
    wait_until(LIMIT, "standard output to have the records", || lines() >= records.len())?;
    let mut buffer = [0; 65_536];
    let read = socket.recv(&mut buffer)?;
    ensure!(buffer.get(..read).is_some_and(|message| message.starts_with(b"<110>1 ")));

    for place in [folder.path(), site.broker.directory()] {
        let found = scan(place, &[&site.key])?;
        ensure!(found.is_empty(), "secrets leaked: {found:?}");
    }
    let metrics = site.http("/metrics")?;
    ensure!(metrics.contains("bursar_sink_records_total{sink=\"archive\"}"), "{metrics}");
    ensure!(metrics.contains("bursar_sink_lag_records{sink=\"siem\"}"), "{metrics}");
    Ok(())
}

#[test]
fn sinks_that_hang_or_are_full_delay_nothing_and_show_as_degraded() -> Result<()> {
    let small = SmallDisk::mount(256 * 1024)?;
    let silent = std::net::TcpListener::bind("127.0.0.1:0")?;
    let dead = free_port()?;
    let mut site = LocalSite::start(&format!(
        "[audit.sinks.full]\nkind = 'file'\npath = '{}'\n[audit.sinks.dead]\nkind = 'otlp'\nendpoint = 'http://{dead}'\n\
         [audit.sinks.silent]\nkind = 'syslog'\naddress = 'tcp://{}'\n[audit.sinks.pipe]\nkind = 'stdout'\n",
        small.path().join("audit.jsonl").display(),
        silent.local_addr()?,
    ))?;
    // Again, with a standard output that nobody reads.
    site.broker.process().stop()?;
    let mut command = Command::new(binary("bursar-broker")?);
    command.env_clear().arg("--config").arg(site.broker.directory().join("broker.toml")).arg("serve");
    let mut piped = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let ready = || site.broker.http("/readyz").is_ok_and(|answer| answer.status == 200);
    wait_until(LIMIT, "the broker to be ready", ready)?;
    site.connect()?;

    // More than the file system and the pipe take.
    for instance in 0..600 {
        site.read(instance)?;
    }
    for (sink, fault) in [("full", "full"), ("dead", "unreachable"), ("pipe", "timeout")] {
        let counted = format!("bursar_sink_failures_total{{sink=\"{sink}\",fault=\"{fault}\"}}");
        wait_for(LIMIT, &counted, || Ok(site.http("/metrics")?.contains(&counted).then_some(())))?;
    }
    let readyz = site.http("/readyz")?;
    ensure!(readyz.starts_with("ready\n"), "{readyz}");
    for sink in ["full", "dead", "pipe"] {
        ensure!(readyz.contains(&format!("degraded: sink {sink}: ")), "{readyz}");
    }
    let status = site.done(&["status"])?;
    ensure!(status.contains("yes, degraded") && status.contains("sink dead"), "{status}");
    site.read(1000)?;

    let pid = rustix::process::Pid::from_child(&piped);
    rustix::process::kill_process(pid, Signal::TERM)?;
    let ended = wait_for(LIMIT, "the broker to stop although a sink hangs", || Ok(piped.try_wait()?));
    if ended.is_err() {
        piped.kill()?;
    }
    ensure!(ended?.success());
    Ok(())
}

#[test]
fn a_part_of_the_log_and_a_single_record_are_proved_offline() -> Result<()> {
    let site = LocalSite::start("")?;
    for instance in 0..30 {
        site.read(instance)?;
    }
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let key = site.broker.bootstrap("audit.vkey").to_string_lossy().into_owned();
    site.done(&["audit", "export", "--from", "10", "--size", "25", "--out", &path("part.jsonl")])?;
    let verified = site.done(&["audit", "verify", &path("part.jsonl"), "--key-file", &key])?;
    ensure!(verified.contains("15 records") && verified.contains("from record"), "{verified}");

    site.done(&["audit", "proof", "12", "--out", &path("record.json")])?;
    let proved = site.done(&["audit", "verify", "--proof", &path("record.json"), "--key-file", &key])?;
    ensure!(proved.contains("record 12 of"), "{proved}");
    let forged = fs::read_to_string(path("record.json"))?.replacen("i2", "i3", 1).replacen("read", "list", 1);
    fs::write(path("forged.json"), forged)?;
    let refused = site.bursar(&["audit", "verify", "--proof", &path("forged.json"), "--key-file", &key])?;
    ensure!(refused.status.code() == Some(1), "a forged record was proven");

    let oldest = site.done(&["audit", "query", "--oldest-first", "--limit", "2", "--output", "json"])?;
    let first = oldest.find("\"seq\": 0").context("the first record is missing")?;
    ensure!(oldest.find("\"seq\": 1").is_some_and(|second| first < second), "{oldest}");
    let both = site.done(&["audit", "query", "--action", "apply-policy,write", "--output", "json"])?;
    ensure!(both.contains("apply-policy") && both.contains("\"write\""), "{both}");
    Ok(())
}

#[test]
fn the_broker_itself_finds_what_was_done_to_its_ledger() -> Result<()> {
    let mut site = LocalSite::start("")?;
    site.read(0)?;
    ensure!(said(&site.broker.command(&["verify"])?)?.contains("the log holds"));
    let key = site.broker.bootstrap("audit.vkey").to_string_lossy().into_owned();
    ensure!(said(&site.broker.command(&["verify", "--key-file", &key])?)?.contains("the log holds"));
    site.broker.process().stop()?;
    let mut ledger = fs::read(site.broker.ledger())?;
    let needle = b"local/app/key";
    let place = ledger.windows(needle.len()).position(|found| found == needle).context("no record")?;
    *ledger.get_mut(place).context("no byte")? ^= 1;
    fs::write(site.broker.ledger(), ledger)?;
    let verified = site.broker.command(&["verify"])?;
    let errors = String::from_utf8_lossy(&verified.stderr).into_owned();
    ensure!(verified.status.code() == Some(1) && errors.contains("not as it was written"), "{errors}");
    Ok(())
}

const LIMIT: Duration = Duration::from_secs(60);
