//! Requests that cannot be done: each is told by name with a hint, kept in the ledger where the caller is known, and
//! leaves nothing half done.

use anyhow::{Context, Result, ensure};
use bursar_proto::{Reason, limits, v1};
use bursar_tests::{Broker, Canary, Cli, ClientAuthority, OpenBao, Said};
use prost::Message;
use serde_json::{Value, json};
use tonic::Code;

use crate::raw::{Caller, Ended};

#[test]
fn what_cannot_be_read_is_told_by_name_and_kept() -> Result<()> {
    let site = Site::start()?;
    let cases: &[(&[&str], i32, &[&str], &str)] = &[
        (
            &["get", "nowhere/a"],
            1,
            &["no backend is called `nowhere`", "bursar backend list"],
            "backend_unknown",
        ),
        (&["get", "local/absent"], 1, &["`local/absent` is not there", "check the path"], "not_found"),
        (
            &["get", "local/db#absent"],
            1,
            &["`local/db`", "`absent`", "leave `#FIELD` out"],
            "field_not_found",
        ),
        (&["get", "local/plain#field"], 1, &["`local/plain`", "leave `#FIELD` out"], "field_not_found"),
        (&["get", "local/db#password@9"], 1, &["local/db@9", "leave `@VERSION` out"], "not_found"),
        (&["get", "local/db@zero"], 1, &["local/db@zero", "hint: "], "not_found"),
    ];
    for (arguments, code, parts, kind) in cases {
        let said = site.reader.run(arguments)?;
        said.refused(*code, parts).with_context(|| arguments.join(" "))?;
        site.is_kept(&said, "failed", "read", kind).with_context(|| arguments.join(" "))?;
    }
    site.nothing_is_leased()
}

#[test]
fn a_malformed_reference_is_refused_before_it_is_sent_and_when_it_is() -> Result<()> {
    let site = Site::start()?;
    let caller = site.caller()?;
    for reference in
        ["local", "local/", "/a", "local/a#b#c", "local/a@", "LOCAL/a", "local/../a", "local/a b\n"]
    {
        site.reader.run(&["get", reference])?.refused(2, &["BACKEND/PATH"]).context(reference)?;
        let reference = reference.to_owned();
        let ended = caller.call(READ, v1::SecretsReadRequest { reference, ..read() }.encode_to_vec())?;
        ensure!(ended.reason == Some(Reason::ReferenceMalformed), "{ended:?}");
        site.is_kept_of(&ended, "failed", "read", "reference_malformed")?;
    }
    site.nothing_is_leased()
}

#[test]
fn a_denied_read_is_the_same_whether_the_secret_is_there_or_not() -> Result<()> {
    let site = Site::start()?;
    let denied = |reference: &str| -> Result<(String, Value)> {
        let said = site.stranger.run(&["get", reference])?;
        said.refused(77, &["policy does not allow this"])?;
        let record = site.record(said.request_id().context("no request id")?)?;
        ensure!(record.pointer("/resource").and_then(Value::as_str) == Some(reference));
        Ok((said.stderr.replace(said.request_id().unwrap_or_default(), "ID"), record))
    };
    let (there, record) = denied("local/db#password")?;
    ensure!(record.pointer("/outcome") == Some(&json!("denied")), "{record}");
    for reference in ["local/absent", "local/db#absent", "local/db@9", "nowhere/a"] {
        let (absent, record) = denied(reference)?;
        ensure!(absent == there, "`{absent}` tells `{reference}` from `{there}`");
        ensure!(record.pointer("/error_kind") == Some(&json!("denied")), "{record}");
    }
    // An environment and a lease tell no more.
    let environments =
        ["shop", "absent"].map(|name| site.stranger.run(&["run", "--env", name, "--", "true"]));
    for said in environments {
        said?.refused(77, &["policy does not allow this"])?;
    }
    site.nothing_is_leased()
}

#[test]
fn a_circle_of_environments_is_shown_and_not_applied() -> Result<()> {
    let site = Site::start()?;
    let circle = "[environment.\"a\"]\nextends = [\"b\"]\n[environment.\"b\"]\nextends = [\"c\"]\n\
                  [environment.\"c\"]\nextends = [\"a\"]\n";
    site.admin.write("circle.toml", circle)?;
    let said = site.admin.run(&["env", "apply", "circle.toml"])?;
    said.refused(1, &["in a circle: a -> b -> c -> a", "hint: take one link out of the circle"])?;
    site.is_kept(&said, "failed", "apply-environment", "environment_invalid")?;
    site.admin.write("self.toml", "[environment.\"shop\"]\nextends = [\"shop\"]\n")?;
    site.admin.run(&["env", "apply", "self.toml"])?.refused(1, &["in a circle: shop -> shop", "hint: "])?;
    site.admin.write("orphan.toml", "[environment.\"x\"]\nextends = [\"absent\"]\n")?;
    site.admin.run(&["env", "apply", "orphan.toml"])?.refused(1, &["`absent`", "hint: "])?;
    // Half of a document is not applied, and what was there stayed.
    let kept = site.admin.json(&["env", "list"])?;
    let names: Vec<_> = kept.as_array().into_iter().flatten().filter_map(|kept| kept.get("name")).collect();
    ensure!(names == [&json!("broken"), &json!("shop")], "{names:?}");
    Ok(())
}

#[test]
fn an_environment_that_does_not_resolve_names_every_reference_and_starts_nothing() -> Result<()> {
    let site = Site::start()?;
    let said = site.reader.run(&["run", "--env", "broken", "--", "/bin/echo", "started"])?;
    said.refused(78, &["`broken`", "`/bin/echo` was not started", "local/absent", "nowhere/x", "hint: "])?;
    let id = said.request_id().context("no request id")?;
    let records = site.admin.audit(&["--request", id])?;
    let kinds: Vec<_> = records.iter().filter_map(|record| record.get("error_kind")?.as_str()).collect();
    for kind in ["not_found", "backend_unknown", "environment_unresolved"] {
        ensure!(kinds.contains(&kind), "no record says `{kind}`: {kinds:?}");
    }
    ensure!(!records.iter().any(|record| record.get("lease_id").is_some()), "a lease is in the records");
    site.nothing_is_leased()
}

#[test]
fn a_request_that_is_too_large_says_the_limit() -> Result<()> {
    let site = Site::start()?;
    let (caller, admin) = (site.caller()?, Caller::administrator(&site.broker)?);

    // One message.
    let huge = v1::SecretsReadRequest { reason: "x".repeat(limits::MESSAGE + 1), ..read() };
    let ended = caller.call(READ, huge.encode_to_vec())?;
    ensure!(ended.reason == Some(Reason::RequestTooLarge), "{ended:?}");
    ensure!(ended.message.contains(&limits::MESSAGE.to_string()), "{}", ended.message);
    site.is_kept_of(&ended, "failed", "read", "request_too_large")?;

    // What is in it.
    let reads = vec![read(); limits::BATCH + 1];
    let long = |length: usize| "x".repeat(length);
    let too_large: &[(&str, Vec<u8>, &str, &str)] = &[
        (READ, v1::SecretsReadRequest { reason: long(1025), ..read() }.encode_to_vec(), "read", "1024"),
        (READ, v1::SecretsReadRequest { instance: long(257), ..read() }.encode_to_vec(), "read", "256"),
        (
            READ,
            v1::SecretsReadRequest { reference: format!("local/{}", long(4096)), ..read() }.encode_to_vec(),
            "read",
            "4096",
        ),
        (
            "/bursar.v1.Secrets/BatchRead",
            v1::SecretsBatchReadRequest { requests: reads }.encode_to_vec(),
            "read",
            "256",
        ),
    ];
    for (path, message, action, limit) in too_large {
        let ended = caller.call(path, message.clone())?;
        ensure!(ended.code == Code::InvalidArgument, "{ended:?}");
        ensure!(ended.message.contains(limit), "no limit in `{}`", ended.message);
        site.is_kept_of(&ended, "failed", action, "")?;
    }

    // A secret.
    let file = site.admin.path("large");
    std::fs::write(&file, vec![b'x'; limits::VALUE + 1])?;
    let said = site.admin.run(&["secret", "put", "local/large", "--from-file", "large"])?;
    said.refused(1, &["`large`", &limits::VALUE.to_string()])?;
    let data = Some(v1::local_store_put_request::Data::Value(vec![b'x'; limits::VALUE + 1]));
    let put = v1::LocalStorePutRequest {
        reference: "local/large".to_owned(),
        data,
        expected_version: None,
        expires_at: None,
    };
    let ended = admin.call("/bursar.v1.LocalStore/Put", put.encode_to_vec())?;
    ensure!(ended.code == Code::InvalidArgument, "{ended:?}");
    site.admin.run(&["secret", "history", "local/large"])?.refused(1, &["`local/large` is not there"])?;
    site.nothing_is_leased()
}

#[test]
fn names_of_any_length_do_not_grow_the_ledger() -> Result<()> {
    let site = Site::start()?;
    let (stranger, long) = (Caller::presenting(&site.broker, &site.eve)?, "x".repeat(1024 * 1024));
    let path = format!("local/{long}");
    let messages = [
        (
            "Environments/Get",
            v1::EnvironmentsGetRequest { name: long.clone(), revision: None }.encode_to_vec(),
        ),
        (
            "Environments/Resolve",
            v1::EnvironmentsResolveRequest { name: long.clone(), ..Default::default() }.encode_to_vec(),
        ),
        (
            "Environments/Delete",
            v1::EnvironmentsDeleteRequest { name: long.clone(), ..Default::default() }.encode_to_vec(),
        ),
        (
            "Environments/Check",
            v1::EnvironmentsCheckRequest {
                target: Some(v1::environments_check_request::Target::Name(long.clone())),
                ..Default::default()
            }
            .encode_to_vec(),
        ),
        (
            "Environments/Diff",
            v1::EnvironmentsDiffRequest {
                left: Some(v1::EnvironmentRevision { name: long.clone(), revision: None }),
                right: Some(v1::EnvironmentRevision { name: long.clone(), revision: None }),
            }
            .encode_to_vec(),
        ),
        (
            "Nodes/CreateJoinToken",
            v1::NodesCreateJoinTokenRequest { node: long.clone(), ..Default::default() }.encode_to_vec(),
        ),
        ("Nodes/Evict", v1::NodesEvictRequest { node: long.clone(), reason: String::new() }.encode_to_vec()),
        (
            "LocalStore/Put",
            v1::LocalStorePutRequest { reference: path.clone(), ..Default::default() }.encode_to_vec(),
        ),
        (
            "LocalStore/GetMetadata",
            v1::LocalStoreGetMetadataRequest { reference: path.clone() }.encode_to_vec(),
        ),
        (
            "LocalStore/List",
            v1::LocalStoreListRequest { folder: path.clone(), ..Default::default() }.encode_to_vec(),
        ),
        (
            "LocalStore/Delete",
            v1::LocalStoreDeleteRequest { reference: path.clone(), ..Default::default() }.encode_to_vec(),
        ),
        (
            "LocalStore/Undelete",
            v1::LocalStoreUndeleteRequest { reference: path.clone(), ..Default::default() }.encode_to_vec(),
        ),
        (
            "LocalStore/Destroy",
            v1::LocalStoreDestroyRequest { reference: path.clone(), all: true, ..Default::default() }
                .encode_to_vec(),
        ),
        (
            "LocalStore/Label",
            v1::LocalStoreLabelRequest {
                reference: "local/a".to_owned(),
                set: [("owner".to_owned(), long.clone())].into(),
                ..Default::default()
            }
            .encode_to_vec(),
        ),
        (
            "LocalStore/History",
            v1::LocalStoreHistoryRequest { reference: path.clone(), ..Default::default() }.encode_to_vec(),
        ),
        (
            "Leases/RevokeMany",
            v1::LeasesRevokeManyRequest {
                selector: Some(v1::leases_revoke_many_request::Selector::Environment(long)),
                ..Default::default()
            }
            .encode_to_vec(),
        ),
    ];
    let before = ledger_bytes(&site)?;
    for (method, message) in &messages {
        let ended = stranger.call(&format!("/bursar.v1.{method}"), message.clone())?;
        ensure!(ended.code != Code::Ok, "{method} took a name of a mebibyte");
        let records = site.admin.audit(&["--request", &ended.request_id])?;
        let longest = records.iter().map(|record| record.to_string().len()).max().unwrap_or_default();
        ensure!(longest > 0, "{method} left no record");
        ensure!(longest < 64 * 1024, "{method} left a record of {longest} bytes");
    }
    let grown = ledger_bytes(&site)?.saturating_sub(before);
    ensure!(grown < 1024 * 1024, "the ledger grew by {grown} bytes");
    Ok(())
}

#[test]
fn a_store_that_is_sealed_or_down_is_named_and_the_others_go_on() -> Result<()> {
    let mut bao = OpenBao::start()?;
    bao.enable_kv("secret")?;
    let value = Canary::random("value");
    bao.api("POST", "secret/data/a", &json!({ "data": { "p": value.value() } }))?;
    let site = Site::with(&format!(
        "{}max_stale = '0s'\n",
        bao.backend("vault", r#"path "secret/*" { capabilities = ["read"] }"#, "{ secret = 'kv-v2' }")?
    ))?;
    site.reader.done(&["get", "vault/secret/a#p"])?;

    let fails = |parts: &[&str], code: i32, kind: &str| -> Result<()> {
        let said = site.reader.run(&["get", "vault/secret/a#p"])?;
        said.refused(code, &[&["`vault`", "hint: "], parts].concat())?;
        site.is_kept(&said, "failed", "read", kind)?;
        site.reader.done(&["get", "local/plain"]).map(drop)
    };
    bao.seal()?;
    fails(&["sealed", "an operator has to unseal the store"], 1, "sealed")?;
    bao.unseal()?;
    site.reader.done(&["get", "vault/secret/a#p"])?;
    bao.stop()?;
    fails(&["bursar backend list"], 69, "unavailable")?;
    ensure!(site.broker.http("/readyz")?.status == 200, "one store that is down made the broker unready");
    bao.start_again()?;
    site.reader.done(&["get", "vault/secret/a#p"])?;
    Ok(())
}

/// A broker with a local store, an administrator, somebody who may read, and somebody who may nothing.
struct Site {
    broker: Broker,
    admin: Cli,
    reader: Cli,
    reads: bursar_tests::ClientCertificate,
    stranger: Cli,
    eve: bursar_tests::ClientCertificate,
    _bundle: tempfile::NamedTempFile,
}

impl Site {
    fn start() -> Result<Self> {
        Self::with("")
    }

    fn with(backends: &str) -> Result<Self> {
        let authority = ClientAuthority::new()?;
        let bundle = tempfile::NamedTempFile::new()?;
        let trusted = authority.trusted(bundle.path())?;
        let broker = Broker::start(&format!("{trusted}[backends.local]\nkind = 'local'\n{backends}"))?;
        let admin = Cli::administering(&broker)?;
        admin.apply_policies(POLICIES, "")?;
        admin.done_with(&["secret", "put", "local/db", "--field", "password"], b"value")?;
        admin.done_with(&["secret", "put", "local/plain"], b"value")?;
        admin.write("environments.toml", ENVIRONMENTS)?;
        admin.done(&["env", "apply", "environments.toml"])?;
        let (reads, eve) = (
            authority.issue("spiffe://example.org/user/reader")?,
            authority.issue("spiffe://example.org/user/eve")?,
        );
        let reader = Cli::presenting(&reads, &broker)?;
        let stranger = Cli::presenting(&eve, &broker)?;
        Ok(Self { broker, admin, reader, reads, stranger, eve, _bundle: bundle })
    }

    /// Whoever may read, without the command line's own checks.
    fn caller(&self) -> Result<Caller> {
        Caller::presenting(&self.broker, &self.reads)
    }

    /// The one record of a request.
    fn record(&self, request: &str) -> Result<Value> {
        let records = self.admin.audit(&["--request", request])?;
        let [record] = records.as_slice() else {
            anyhow::bail!("{} records of request `{request}`", records.len());
        };
        Ok(record.clone())
    }

    /// The refusal stands in the ledger.
    fn is_kept(&self, said: &Said, outcome: &str, action: &str, kind: &str) -> Result<()> {
        let id = said.request_id().context("no request id")?;
        self.is_in_the_ledger(id, outcome, action, kind)
    }

    /// As [`Site::is_kept`]; any kind of error where none is named.
    fn is_kept_of(&self, ended: &Ended, outcome: &str, action: &str, kind: &str) -> Result<()> {
        self.is_in_the_ledger(&ended.request_id, outcome, action, kind)
    }

    fn is_in_the_ledger(&self, request: &str, outcome: &str, action: &str, kind: &str) -> Result<()> {
        let record = self.record(request)?;
        let text = |name: &str| record.get(name).and_then(Value::as_str).unwrap_or_default();
        let found = (text("outcome"), text("action"));
        ensure!(found == (outcome, action), "the record says {found:?}: {record}");
        ensure!(kind.is_empty() || text("error_kind") == kind, "the record is of another kind: {record}");
        ensure!(record.get("lease_id").is_none(), "the record has a lease: {record}");
        Ok(())
    }

    fn nothing_is_leased(&self) -> Result<()> {
        let leases = self.admin.json(&["lease", "list", "--state", EVERY_STATE])?;
        ensure!(leases.as_array().is_some_and(Vec::is_empty), "there are leases: {leases}");
        Ok(())
    }
}

fn read() -> v1::SecretsReadRequest {
    v1::SecretsReadRequest { reference: "local/plain".to_owned(), ..Default::default() }
}

/// Of the log: every record that is there, as an export has it.
fn ledger_bytes(site: &Site) -> Result<usize> {
    Ok(site.admin.done(&["audit", "export"])?.len())
}

const EVERY_STATE: &str = "intent,active,expired,revoked,revoking,stuck,gone";

const READ: &str = "/bursar.v1.Secrets/Read";

const POLICIES: &str = r#"
@id("administration")
permit (principal == Bursar::Principal::"spiffe://example.org/user/admin",
        action in Bursar::Action::"administer", resource);
@id("reading")
permit (principal == Bursar::Principal::"spiffe://example.org/user/reader",
        action in Bursar::Action::"use", resource);
"#;

const ENVIRONMENTS: &str = r#"
[environment."shop".vars]
PASSWORD = { from = "local/db#password" }
[environment."broken".vars]
GOOD = { from = "local/db#password" }
GONE = { from = "local/absent#key" }
LOST = { from = "nowhere/x#key" }
"#;
