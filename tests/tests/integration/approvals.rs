//! Four eyes: what policy allows only once somebody else has approved it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bursar_proto::{Reason, v1};
use bursar_tests::{Broker, Cli, ClientAuthority, text, wait_for};
use prost::Message;
use serde_json::Value;
use tonic::Code;

use crate::raw::{Caller, Ended};

#[test]
fn what_needs_a_second_person_is_denied_until_one_has_approved_and_after_that_is_withdrawn() -> Result<()> {
    let site = Site::start()?;
    let (ada, bob) = (site.cli(ADA)?, site.cli(BOB)?);
    ada.run(&["get", DB])?.refused(77, &["policy does not allow this"])?;
    let why = site.admin.run(&["policy", "check", "--principal", ADA, "--action", "read", DB])?;
    let why = String::from_utf8(why.stdout)?;
    ensure!(why.contains("`four-eyes` looks at approvals, and nobody has approved this"), "{why}");

    let approval = bob.json(&["policy", "approve", ADA, "read", DB, "--reason", "ticket 7"])?;
    let id = text(&approval, "/id");
    ensure!(text(&approval, "/approved_by") == BOB && text(&approval, "/resource") == DB, "{approval}");
    site.admin.done(&["policy", "check", "--principal", ADA, "--action", "read", DB])?;
    ensure!(ada.done(&["get", DB])? == "value", "the value");
    ada.run(&["get", "local/prod/other"])?.refused(77, &["policy does not allow this"])?;
    site.cli(EVE)?.run(&["get", DB])?.refused(77, &["policy does not allow this"])?;

    let given = site.record("approve")?;
    ensure!(text(&given, "/resource").starts_with(&format!("{DB}: read by {ADA}, until ")), "{given}");
    ensure!(text(&given, "/reason") == "ticket 7" && text(&given, "/approvals/0") == id, "{given}");
    let read = site.record("read")?;
    ensure!(text(&read, "/outcome") == "denied" && read.get("approvals").is_none(), "eve has none: {read}");
    let reads = site.admin.audit(&["--action", "read", "--outcome", "ok"])?;
    let read = reads.first().context("the read left no record")?;
    ensure!(text(read, "/approvals/0") == id, "what let it through is not named: {read}");

    // Whoever gave it takes it back; nobody else does without the right to.
    ada.run(&["policy", "withdraw", &id])?.refused(77, &["policy does not allow this"])?;
    bob.done(&["policy", "withdraw", &id, "--reason", "done"])?;
    ada.run(&["get", DB])?.refused(77, &["policy does not allow this"])?;
    let taken = site.record("withdraw-approval")?;
    ensure!(text(&taken, "/approvals/0") == id && text(&taken, "/reason") == "done", "{taken}");
    // Who may know hears that it is gone, and who may not hears what he heard before.
    site.admin
        .run(&["policy", "withdraw", &id])?
        .refused(1, &["there is no approval", "policy approvals"])?;
    bob.run(&["policy", "withdraw", &id])?.refused(77, &["policy does not allow this"])
}

#[test]
fn an_approval_ends_by_itself() -> Result<()> {
    let site = Site::start()?;
    let (ada, bob) = (site.cli(ADA)?, site.cli(BOB)?);
    bob.done(&["policy", "approve", ADA, "read", "local/prod/", "--ttl", "2s", "--reason", "ticket 7"])?;
    wait_for(SOON, "the approval to end", || {
        let read = ada.run(&["get", DB])?;
        Ok(read.refused(77, &["policy does not allow this"]).is_ok().then_some(()))
    })?;
    ensure!(site.admin.json(&["policy", "approvals"])? == Value::Array(Vec::new()), "it is listed still");
    Ok(())
}

#[test]
fn nobody_approves_for_himself_whatever_policy_says() -> Result<()> {
    let site = Site::start()?;
    let admin = "spiffe://example.org/user/admin";
    let own = ["policy", "approve", admin, "read", DB, "--reason", "me"];
    site.admin.run(&own)?.refused(77, &["nobody approves for himself"])?;
    let record = site.record("approve")?;
    ensure!(text(&record, "/error_kind") == "own_approval", "{record}");
    ensure!(text(&record, "/outcome") == "denied" && text(&record, "/decision") == "deny", "{record}");
    let check = ["policy", "check", "--principal", ADA, "--action", "read", DB, "--approved-by"];
    site.admin.done(&[check.as_slice(), &[BOB]].concat())?;
    let own = site.admin.run(&[check.as_slice(), &[BOB, "--approved-by", ADA]].concat())?;
    ensure!(own.stderr.contains("nobody approves for himself"), "{}", own.stderr);
    Ok(())
}

#[test]
fn nodes_and_what_they_speak_for_never_approve() -> Result<()> {
    let site = Site::start()?;
    site.admin.apply_policies("permit (principal, action, resource);", REGISTRATIONS)?;
    let certificate = site.authority.issue("spiffe://example.org/node/web-1")?;
    let node = Caller::presenting(&site.broker, &certificate)?;
    let selectors = vec!["unix:uid:4711".to_owned()];
    let workload = v1::WorkloadContext { selectors, instance: "1:2@3".to_owned(), pid: 1 };
    for speaking_for in [None, Some(&workload)] {
        let message = approve(ADA, "read", DB).encode_to_vec();
        let ended = node.call_for(APPROVE, message, speaking_for)?;
        ensure!(ended.reason == Some(Reason::AccessDenied), "{speaking_for:?}: {ended:?}");
        let record = site.record("approve")?;
        ensure!(text(&record, "/policies/0") == "bursar.nodes-never-govern", "{record}");
    }
    ensure!(site.admin.json(&["policy", "approvals"])? == Value::Array(Vec::new()), "one was given");
    Ok(())
}

#[test]
fn two_people_are_two_and_a_restart_forgets_none() -> Result<()> {
    let mut site = Site::start()?;
    site.admin.apply_policies(&POLICIES.replace(">= 1", ">= 2"), "")?;
    let bob = site.cli(BOB)?;
    let approve = ["policy", "approve", ADA, "read", "local/prod/", "--reason", "ticket 7"];
    bob.done(&approve)?;
    bob.done(&approve)?;
    site.cli(ADA)?.run(&["get", DB])?.refused(77, &["policy does not allow this"])?;
    site.admin.done(&approve)?;
    ensure!(site.cli(ADA)?.done(&["get", DB])? == "value", "two have approved");
    let before = site.admin.json(&["policy", "approvals"])?;
    ensure!(before.as_array().map(Vec::len) == Some(3), "{before}");
    let metrics = String::from_utf8(site.broker.http("/metrics")?.body)?;
    ensure!(metrics.contains("bursar_approvals 3"), "{metrics}");

    site.broker.process().stop()?;
    site.broker.start_again()?;
    site.admin = Cli::administering(&site.broker)?;
    ensure!(site.admin.json(&["policy", "approvals"])? == before, "a restart changed them");
    ensure!(site.cli(ADA)?.done(&["get", DB])? == "value", "a restart took the right away");
    Ok(())
}

#[test]
fn a_table_may_say_who_approved() -> Result<()> {
    let site = Site::start()?;
    // What is approved in earnest does not change what a table says.
    site.cli(BOB)?.done(&["policy", "approve", ADA, "read", DB, "--reason", "ticket 7"])?;
    site.admin.write("expected.toml", EXPECTED)?;
    site.admin.done(&["policy", "test", "expected.toml"])?;
    Ok(())
}

#[test]
fn what_cannot_be_approved_is_told_and_kept() -> Result<()> {
    let site = Site::start()?;
    let bob = Caller::presenting(&site.broker, &site.authority.issue(BOB)?)?;
    let asked = |message: v1::PoliciesApproveRequest| bob.call(APPROVE, message.encode_to_vec());
    let ttl = |seconds, nanos| v1::PoliciesApproveRequest {
        ttl: Some(prost_types::Duration { seconds, nanos }),
        ..approve(ADA, "read", DB)
    };
    let because =
        |reason: &str| v1::PoliciesApproveRequest { reason: reason.to_owned(), ..approve(ADA, "read", DB) };
    let long = format!("local/{}", "x".repeat(5000));
    let cases = [
        (approve("ada", "read", DB), "principal"),
        (approve(ADA, "raed", DB), "`action` is no action"),
        (approve(ADA, "expire", DB), "`expire` is nothing that policies decide about"),
        (approve(ADA, "approve", DB), "`approve` is not approved itself"),
        (approve(ADA, "withdraw-approval", DB), "is not approved itself"),
        (approve(ADA, "read", "local/prod/db@3"), "without field and version"),
        (approve(ADA, "read", "local/prod/db#password"), "without field and version"),
        (approve(ADA, "apply-policy", "local/prod"), "is empty for an action on the broker itself"),
        (approve(ADA, "resolve", ""), "is a name"),
        (approve(ADA, "evict-node", &"x".repeat(300)), "longer than a name may be"),
        (approve(ADA, "read", &long), "is at most 4096 bytes long"),
        (ttl(24 * 3600 + 1, 0), "is 1 second to 24 hours"),
        (ttl(0, 1), "is 1 second to 24 hours"),
        (because(" "), "says why this is approved"),
        (because(&"x".repeat(1025)), "is at most 1024 bytes long"),
    ];
    for (message, why) in cases {
        let ended = asked(message.clone())?;
        ensure!(ended.reason == Some(Reason::RequestInvalid), "{message:?}: {ended:?}");
        ensure!(ended.message.contains(why), "{message:?}: {ended:?}");
        site.kept(&ended, "failed")?;
    }
    for resource in ["", "local", "local/", "Local/x", "local//", "local/../x"] {
        let ended = asked(approve(ADA, "read", resource))?;
        // A backend is a thing that can be approved, only not by him.
        let reason = if resource == "local/" { Reason::AccessDenied } else { Reason::ReferenceMalformed };
        ensure!(ended.reason == Some(reason), "`{resource}`: {ended:?}");
    }
    let nothing = v1::PoliciesWithdrawApprovalRequest { id: "../x".to_owned(), reason: String::new() };
    let ended = bob.call("/bursar.v1.Policies/WithdrawApproval", nothing.encode_to_vec())?;
    ensure!((ended.code, ended.reason) == (Code::InvalidArgument, Some(Reason::RequestInvalid)), "{ended:?}");
    ensure!(site.admin.json(&["policy", "approvals"])? == Value::Array(Vec::new()), "one was given");
    Ok(())
}

struct Site {
    broker: Broker,
    authority: ClientAuthority,
    admin: Cli,
    _bundle: tempfile::NamedTempFile,
}

impl Site {
    fn start() -> Result<Self> {
        let authority = ClientAuthority::new()?;
        let bundle = tempfile::NamedTempFile::new()?;
        let trusted = authority.trusted(bundle.path())?;
        let broker = Broker::start(&format!("{trusted}[backends.local]\nkind = 'local'\n"))?;
        let admin = Cli::administering(&broker)?;
        admin.apply_policies(POLICIES, "")?;
        admin.done_with(&["secret", "put", DB], b"value")?;
        Ok(Self { broker, authority, admin, _bundle: bundle })
    }

    fn cli(&self, principal: &str) -> Result<Cli> {
        Cli::presenting(&self.authority.issue(principal)?, &self.broker)
    }

    /// The newest record of an action.
    fn record(&self, action: &str) -> Result<Value> {
        let records = self.admin.audit(&["--action", action])?;
        records.into_iter().next().with_context(|| format!("{action} left no record"))
    }

    /// That a request left a record with this outcome.
    fn kept(&self, ended: &Ended, outcome: &str) -> Result<()> {
        let records = self.admin.audit(&["--request", &ended.request_id])?;
        let record = records.first().with_context(|| format!("{ended:?} left no record"))?;
        ensure!(text(record, "/outcome") == outcome && text(record, "/action") == "approve", "{record}");
        Ok(())
    }
}

fn approve(principal: &str, action: &str, resource: &str) -> v1::PoliciesApproveRequest {
    v1::PoliciesApproveRequest {
        principal: principal.to_owned(),
        action: action.to_owned(),
        resource: resource.to_owned(),
        ttl: None,
        reason: "ticket 7".to_owned(),
    }
}

const SOON: Duration = Duration::from_secs(30);
const APPROVE: &str = "/bursar.v1.Policies/Approve";
const ADA: &str = "spiffe://example.org/user/ada";
const BOB: &str = "spiffe://example.org/user/bob";
const EVE: &str = "spiffe://example.org/user/eve";
const DB: &str = "local/prod/db";

const POLICIES: &str = r#"
@id("administrator")
permit (principal == Bursar::Principal::"spiffe://example.org/user/admin", action, resource);
@id("people-read")
permit (principal, action == Bursar::Action::"read", resource in Bursar::Folder::"local/prod")
when { principal.kind == "user" };
@id("four-eyes")
forbid (principal, action == Bursar::Action::"read", resource in Bursar::Folder::"local/prod")
unless { context.approvals >= 1 };
@id("bob-approves")
permit (principal == Bursar::Principal::"spiffe://example.org/user/bob", action == Bursar::Action::"approve",
        resource in Bursar::Folder::"local/prod");
"#;

const REGISTRATIONS: &str = r#"
[[registration]]
principal = "spiffe://example.org/workload/shop"
node = "web-1"
selectors = ["unix:uid:4711"]
"#;

const EXPECTED: &str = r#"
[[decision]]
principal = "spiffe://example.org/user/ada"
action = "read"
resource = "local/prod/db"
expect = "deny"
policies = ["four-eyes"]
[[decision]]
principal = "spiffe://example.org/user/ada"
action = "read"
resource = "local/prod/db"
approved_by = ["spiffe://example.org/user/bob"]
expect = "allow"
[[decision]]
principal = "spiffe://example.org/user/bob"
action = "approve"
resource = "local/prod/"
expect = "allow"
policies = ["bob-approves"]
[[decision]]
principal = "spiffe://example.org/user/bob"
action = "approve"
resource = "shop/prod"
context = { approves = "resolve" }
expect = "deny"
"#;
