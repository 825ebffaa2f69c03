//! A ledger whose disk is full: nothing is disclosed, health says why, and when there is room it goes on by itself.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bursar_proto::{Reason, v1};
use bursar_tests::{Broker, Canary, Cli, SmallDisk, http, wait_for};
use prost::Message;
use serde_json::Value;
use tonic::Code;

use crate::raw::{Caller, Ended};

#[test]
fn a_full_disk_refuses_says_so_and_recovers_by_itself_with_nothing_lost() -> Result<()> {
    let disk = SmallDisk::mount(24 * 1024 * 1024)?;
    let data = disk.path().join("data");
    let mut broker =
        Broker::start_on(&data, "[backends.local]\nkind = 'local'\n[disk]\nwarn = '0 B'\nrefuse = '0 B'\n")?;
    let admin = Cli::administering(&broker)?;
    admin.apply_policies(POLICIES, "")?;
    let value = Canary::random("value");
    admin.done_with(&["secret", "put", "local/a"], value.value().as_bytes())?;
    let caller = Caller::administrator(&broker)?;
    let read = || caller.call("/bursar.v1.Secrets/Read", message());
    let before = lease(&read()?)?;

    disk.fill()?;
    // SQLite has a few pages of its log left to overwrite: the reads that still fit are recorded, and so are theirs.
    let mut granted = vec![before.clone()];
    let refused = wait_for(LIMIT, "a read to be refused", || {
        let ended = read()?;
        match ended.code {
            Code::Ok => {
                granted.push(lease(&ended)?);
                disk.fill()?;
                Ok(None)
            }
            _ => Ok(Some(ended)),
        }
    })?;
    ensure!(refused.reason == Some(Reason::LedgerFull), "{refused:?}");
    let said = admin.run(&["get", "local/a"])?;
    said.refused(
        69,
        &["the ledger's disk is full, so nothing is disclosed", "hint: make room", "request id: "],
    )?;
    // Nothing that has to be recorded is done either; what changes nothing and was not recorded tells nothing.
    for arguments in [
        ["lease", "revoke", &before, "--reason", "x"].as_slice(),
        &["lease", "renew", &before],
        &["lease", "list"],
        &["audit", "query"],
        &["get", "nowhere/a"],
    ] {
        admin.run(arguments)?.refused(69, &["disk is full"]).with_context(|| arguments.join(" "))?;
    }

    admin.run_with(&["secret", "put", "local/b"], b"x")?.refused(69, &["disk is full"])?;

    let ready = broker.http("/readyz")?;
    ensure!(
        ready.status == 503 && text(&ready).contains("disk is full"),
        "{}: {}",
        ready.status,
        text(&ready)
    );
    ensure!(broker.http("/livez")?.status == 200, "a full disk is no reason to restart");
    let nobody = Caller::connect(&broker, None)?;
    let health = || Ok::<_, anyhow::Error>(nobody.call("/grpc.health.v1.Health/Check", Vec::new())?.answer);
    wait_for(LIMIT, "gRPC health to say so", || Ok((health()? == NOT_SERVING).then_some(())))?;
    let metrics = text(&broker.http("/metrics")?);
    ensure!(metrics.contains("bursar_"), "no metrics while the disk is full");

    disk.free()?;
    broker.wait_ready()?;
    wait_for(LIMIT, "gRPC health to recover", || Ok((health()? == SERVING).then_some(())))?;
    granted.push(lease(&read()?)?);

    // Every disclosure has its record and its lease, the log holds, and the refused ones left neither.
    admin.done(&["audit", "verify"])?;
    let records = admin.audit(&["--action", "read", "--outcome", "ok"])?;
    for id in &granted {
        let its = |record: &&Value| record.get("lease_id").and_then(Value::as_str) == Some(id.as_str());
        ensure!(records.iter().any(|record| its(&record)), "lease {id} has no record");
        admin.done(&["lease", "show", id])?;
    }
    ensure!(records.len() == granted.len(), "{} records of {} reads", records.len(), granted.len());
    ensure!(admin.audit(&["--request", &refused.request_id])?.is_empty(), "a refused read has a record");
    admin.run(&["secret", "history", "local/b"])?.refused(1, &["`local/b` is not there"])?;
    admin.done(&["lease", "revoke", &before, "--reason", "room again"])?;

    // Nor does a restart lose anything.
    broker.process().kill()?;
    broker.start_again()?;
    admin.done(&["audit", "verify"]).map(drop)
}

fn message() -> Vec<u8> {
    v1::SecretsReadRequest { reference: "local/a".to_owned(), ..Default::default() }.encode_to_vec()
}

fn lease(ended: &Ended) -> Result<String> {
    ensure!(ended.code == Code::Ok, "{ended:?}");
    let mut read = v1::SecretsReadResponse::decode(ended.answer.as_slice())?;
    Ok(read.lease.take().context("no lease")?.id)
}

fn text(reply: &http::Reply) -> String {
    String::from_utf8_lossy(&reply.body).into_owned()
}

/// `HealthCheckResponse` of `grpc.health.v1`, encoded.
const SERVING: &[u8] = &[8, 1];
const NOT_SERVING: &[u8] = &[8, 2];

const LIMIT: Duration = Duration::from_secs(40);

const POLICIES: &str = r#"
@id("everything")
permit (principal == Bursar::Principal::"spiffe://example.org/user/admin", action, resource);
"#;
