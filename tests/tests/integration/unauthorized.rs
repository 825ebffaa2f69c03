//! Every RPC of the interface, by name: what it answers to nobody, to somebody without rights, and to a node that speaks
//! for nobody; and what it leaves in the ledger when it is done with rights.
//!
//! An RPC that is not in the [`table`] fails the tests, so a new one cannot be forgotten.

mod site;
mod table;

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bursar_proto::{Reason, v1};
use bursar_tests::{TokenIssuer, text, wait_for};
use prost::Message;
use prost_types::FileDescriptorSet;
use serde_json::json;
use tonic::Code;

use crate::raw::{Caller, Ended};
use site::Site;
use table::{EVE, Row, Stranger, Things, read, rows};

#[test]
fn the_table_has_every_rpc_and_no_other() -> Result<()> {
    let named = |rows: &[Row]| rows.iter().map(|row| row.rpc.to_owned()).collect::<BTreeSet<_>>();
    let rows = rows(&Things::default());
    ensure!(named(&rows).len() == rows.len(), "an RPC is in the table twice");
    let described = described()?;
    let missing: Vec<_> = described.difference(&named(&rows)).cloned().collect();
    ensure!(missing.is_empty(), "put these into the table of this file: {missing:?}");
    let gone: Vec<_> = named(&rows).difference(&described).cloned().collect();
    ensure!(gone.is_empty(), "these are no RPCs any more: {gone:?}");
    Ok(())
}

#[test]
fn nobody_gets_anything() -> Result<()> {
    let site = Site::start()?;
    let nobody = Caller::connect(&site.broker, None)?;
    let before = site.records()?;
    for row in rows(&site.things) {
        let ended = nobody.call(&row.path(), row.message.clone())?;
        match row.stranger {
            Stranger::Open(reason) => ensure!(ended.reason == Some(reason), "{}: {ended:?}", row.rpc),
            _ => ensure!(
                (ended.code, ended.reason) == (Code::Unauthenticated, Some(Reason::Unauthenticated)),
                "{}: {ended:?}",
                row.rpc
            ),
        }
        ensure!(ended.answer.is_empty(), "{} answered nobody", row.rpc);
    }
    // Strangers must not fill the ledger: what was added is one query's own record.
    ensure!(site.records()? == before + 1, "nobody has records");
    site.unchanged()
}

#[test]
fn a_token_that_does_not_count_spoils_the_best_certificate() -> Result<()> {
    let site = Site::start()?;
    let issuer = TokenIssuer::new()?;
    let claims = json!({ "iss": "https://elsewhere.example.org", "sub": "x", "aud": "bursar" });
    for (token, reason) in
        [(issuer.token(&claims)?, Reason::IssuerUnknown), ("x".to_owned(), Reason::TokenInvalid)]
    {
        let admin = Caller::administrator(&site.broker)?.bearing(&token);
        let before = site.records()?;
        for row in rows(&site.things) {
            let ended = admin.call(&row.path(), row.message.clone())?;
            match row.stranger {
                Stranger::Open(reason) => ensure!(ended.reason == Some(reason), "{}: {ended:?}", row.rpc),
                _ => ensure!(
                    (ended.code, ended.reason) == (Code::Unauthenticated, Some(reason)),
                    "{}: {ended:?}",
                    row.rpc
                ),
            }
            ensure!(ended.answer.is_empty(), "{} answered", row.rpc);
        }
        ensure!(site.records()? == before + 1, "tokens that name nobody have records");
    }
    site.unchanged()
}

#[test]
fn the_open_services_answer_nobody_and_tell_no_secret() -> Result<()> {
    let site = Site::start()?;
    let nobody = Caller::connect(&site.broker, None)?;
    let health = nobody.call("/grpc.health.v1.Health/Check", Vec::new())?;
    ensure!(health.code == Code::Ok && !health.answer.is_empty(), "{health:?}");
    for path in [
        "/bursar.v1.Secrets/Reed",
        "/bursar.v1.Nothing/Read",
        "/",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    ] {
        ensure!(nobody.call(path, Vec::new())?.code == Code::Unimplemented, "`{path}` is something");
    }
    Ok(())
}

#[test]
fn somebody_without_rights_is_refused_and_kept() -> Result<()> {
    let site = Site::start()?;
    let eve = Caller::presenting(&site.broker, &site.authority.issue(EVE)?)?;
    for row in rows(&site.things) {
        let ended = eve.call(&row.path(), row.message.clone())?;
        let record = || site.record(&ended).with_context(|| row.rpc.to_owned());
        match row.stranger {
            Stranger::Denied => {
                let refused = (Code::PermissionDenied, Some(Reason::AccessDenied));
                ensure!((ended.code, ended.reason) == refused, "{}: {ended:?}", row.rpc);
                let record = record()?;
                ensure!(text(&record, "/outcome") == "denied", "{}: {record}", row.rpc);
                ensure!(text(&record, "/decision") == "deny", "{}: {record}", row.rpc);
                ensure!(text(&record, "/action") == row.action, "{}: {record}", row.rpc);
                ensure!(text(&record, "/actor/principal") == EVE, "{}: {record}", row.rpc);
            }
            // A lease of somebody else looks like one that is not there.
            Stranger::Hidden => {
                let refused = (Code::NotFound, Some(Reason::LeaseNotFound));
                ensure!((ended.code, ended.reason) == refused, "{}: {ended:?}", row.rpc);
                let record = record()?;
                ensure!(text(&record, "/outcome") == "denied", "{}: {record}", row.rpc);
                ensure!(text(&record, "/action") == row.action, "{}: {record}", row.rpc);
            }
            Stranger::Open(reason) => ensure!(ended.reason == Some(reason), "{}: {ended:?}", row.rpc),
            Stranger::Answered => ensure!(ended.code == Code::Ok, "{}: {ended:?}", row.rpc),
        }
    }
    site.unchanged()
}

#[test]
fn a_node_that_speaks_for_nobody_is_refused_and_kept() -> Result<()> {
    let site = Site::start()?;
    let node = Caller::presenting(&site.broker, &site.authority.issue("spiffe://example.org/node/odd")?)?;
    for row in rows(&site.things) {
        let ended = node.call_for(&row.path(), row.message.clone(), Some(&site.workload))?;
        if let Stranger::Open(reason) = row.stranger {
            ensure!(ended.reason == Some(reason), "{}: {ended:?}", row.rpc);
            continue;
        }
        let refused = (Code::PermissionDenied, Some(Reason::RegistrationMissing));
        ensure!((ended.code, ended.reason) == refused, "{}: {ended:?}", row.rpc);
        let record = site.record(&ended).with_context(|| row.rpc.to_owned())?;
        ensure!(text(&record, "/outcome") == "denied", "{}: {record}", row.rpc);
        ensure!(text(&record, "/error_kind") == "registration_missing", "{}: {record}", row.rpc);
        ensure!(text(&record, "/resource") == row.path(), "{}: {record}", row.rpc);
    }
    // Nor does anybody but a node speak for others.
    let eve = Caller::presenting(&site.broker, &site.authority.issue(EVE)?)?;
    let read = rows(&site.things).into_iter().find(|row| row.rpc == "Secrets/Read").context("no read")?;
    let ended = eve.call_for(&read.path(), read.message, Some(&site.workload))?;
    ensure!(ended.reason == Some(Reason::AccessDenied), "{ended:?}");
    ensure!(text(&site.record(&ended)?, "/action") == "authenticate");
    site.unchanged()
}

/// The table of rate limits: whoever is known pays for every RPC by its principal, and whoever is not by its address.
#[test]
fn every_rpc_is_refused_to_whoever_asks_too_often_and_leaves_no_record() -> Result<()> {
    let site = Site::with("[limits.rate]\nper_address = 40\nper_principal = 8\n")?;
    let eve = Caller::presenting(&site.broker, &site.authority.issue(EVE)?)?;
    let nobody = Caller::connect(&site.broker, None)?;
    let mut refused = Vec::new();
    for row in rows(&site.things) {
        let (caller, of) = match row.stranger {
            Stranger::Open(_) => (&nobody, "address"),
            _ => (&eve, "principal"),
        };
        let ended = until_too_often(caller, &row).with_context(|| row.rpc.to_owned())?;
        ensure!(ended.message.contains(of) && ended.retry_after.is_some(), "{}: {ended:?}", row.rpc);
        refused.push(ended);
    }
    // A call of nobody to what needs somebody is paid by the address too.
    let read = rows(&site.things).into_iter().find(|row| row.rpc == "Secrets/Read").context("no read")?;
    refused.push(until_too_often(&nobody, &read)?);
    let metrics = String::from_utf8(site.broker.http("/metrics")?.body)?;
    for label in ["of=\"principal\",at=\"call\"", "of=\"address\",at=\"call\""] {
        ensure!(metrics.contains(&format!("bursar_rate_refusals_total{{{label}}}")), "{metrics}");
    }
    // The administrator has come from the same address, which has nothing left at first.
    let records = || Ok(site.admin.audit(&["--principal", EVE]).ok());
    let records = wait_for(SOON, "the administrator to be let in", records)?;
    let kept = |ended: &&Ended| records.iter().any(|record| text(record, "/request_id") == ended.request_id);
    ensure!(refused.iter().find(kept).is_none(), "a refusal left a record");
    Ok(())
}

/// Calls until that is too often, which takes no longer than a burst.
fn until_too_often(caller: &Caller, row: &Row) -> Result<Ended> {
    wait_for(SOON, "the rate to be used up", || {
        let ended = caller.call(&row.path(), row.message.clone())?;
        Ok((ended.reason == Some(Reason::RateLimited)).then_some(ended))
    })
}

#[test]
fn what_is_done_with_rights_is_in_the_ledger() -> Result<()> {
    let mut site = Site::start()?;
    let (admin, node) = (Caller::administrator(&site.broker)?, site.join("web-1")?);
    let read =
        node.call_for("/bursar.v1.Secrets/Read", read("local/plain").encode_to_vec(), Some(&site.workload))?;
    let mut read = v1::SecretsReadResponse::decode(read.answer.as_slice())?;
    site.things.served_lease = read.lease.take().context("no lease")?.id;
    for row in rows(&site.things) {
        let Some(message) = row.done.clone() else { continue };
        let caller = if row.by_node { &node } else { &admin };
        let ended = caller.call(&row.path(), message)?;
        ensure!(ended.code == Code::Ok, "{}: {ended:?}", row.rpc);
        let records = site.records_of(&ended)?;
        if row.action.is_empty() {
            ensure!(records.is_empty(), "{} left a record", row.rpc);
            continue;
        }
        // The newest is the last word. Where leases are taken back too, revocations have records of the same request.
        let record = records.iter().find(|record| text(record, "/action") == row.action);
        let record = record.with_context(|| format!("{} left no record of it: {records:?}", row.rpc))?;
        ensure!(text(record, "/outcome") == "ok", "{}: {record}", row.rpc);
        ensure!(text(record, "/decision") == "allow", "{}: {record}", row.rpc);
        ensure!(text(record, "/resource").contains(&row.resource), "{}: {record}", row.rpc);
        ensure!(
            text(record, "/actor/principal").starts_with("spiffe://example.org/"),
            "{}: {record}",
            row.rpc
        );
        ensure!(text(record, "/actor/credential").len() == 64, "{}: {record}", row.rpc);
        ensure!(text(record, "/actor/peer").starts_with("127.0.0.1:"), "{}: {record}", row.rpc);
    }
    Ok(())
}

/// Every RPC of ours that the compiled descriptors have, as `Service/Method`.
fn described() -> Result<BTreeSet<String>> {
    let set = FileDescriptorSet::decode(bursar_proto::FILE_DESCRIPTOR_SET)?;
    let ours = set.file.iter().filter(|file| file.package() == "bursar.v1");
    let services = ours.flat_map(|file| &file.service);
    let methods = services.flat_map(|service| {
        service.method.iter().map(|method| format!("{}/{}", service.name(), method.name()))
    });
    Ok(methods.collect())
}

const SOON: Duration = Duration::from_secs(30);
