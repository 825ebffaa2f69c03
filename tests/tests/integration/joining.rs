//! Join tokens: good once, in time, from their address. What else is tried is refused in the same words, kept in the
//! ledger where there was such a token, and spoils nothing for the node that joined.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bursar_proto::v1::nodes_join_request::Credential;
use bursar_proto::{Reason, v1};
use bursar_tests::{Agent, Broker, Cli, http, text, wait_until};
use prost::Message;
use serde_json::Value;
use tonic::Code;

use crate::raw::{Caller, Ended, join};

#[test]
fn what_an_agent_has_to_trust_is_written_to_standard_output() -> Result<()> {
    let broker = Broker::start("")?;
    let written = broker.command(&["ca"])?;
    let authority = fs::read(broker.bootstrap("ca.pem"))?;
    ensure!(written.status.success() && written.stdout.trim_ascii_end() == authority.trim_ascii_end());

    fs::remove_file(broker.bootstrap("ca.pem"))?;
    let refused = broker.command(&["ca"])?;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(refused.status.code() == Some(1) && refused.stdout.is_empty(), "{said}");
    ensure!(said.contains("run `bursar-broker init`"), "{said}");
    Ok(())
}

#[test]
fn a_token_is_good_once_and_its_second_use_is_seen() -> Result<()> {
    let site = Site::start()?;
    let token = site.token(&["web-1"])?;
    let joined = site.present(&token)?;
    ensure!(joined.code == Code::Ok, "{joined:?}");
    site.is_kept(&joined, "ok", "web-1", "")?;

    let second = site.present(&token)?;
    refused(&second)?;
    site.is_kept(&second, "denied", "web-1", "join_token_used")?;
    // Forgotten now: nobody fills the ledger by presenting it again and again.
    let third = site.present(&token)?;
    refused(&third)?;
    ensure!(site.records(&third)?.is_empty(), "a token that is forgotten left a record");
    ensure!(site.nodes()? == ["web-1"], "{:?}", site.nodes()?);
    Ok(())
}

#[test]
fn a_token_that_is_late_or_comes_from_elsewhere_is_seen_and_one_that_never_was_is_not() -> Result<()> {
    let site = Site::start()?;
    let late = site.token(&["late", "--ttl", "5s"])?;
    let elsewhere = site.token(&["elsewhere", "--from", "192.0.2.7"])?;
    let bound = site.token(&["here", "--from", "127.0.0.1"])?;
    ensure!(site.present(&bound)?.code == Code::Ok, "a token was refused from its own address");

    let ended = site.present(&elsewhere)?;
    refused(&ended)?;
    site.is_kept(&ended, "denied", "elsewhere", "join_token_address")?;
    for never in ["", "garbage", "bursar_join_AAAA", &"x".repeat(300)] {
        let ended = site.present(never)?;
        refused(&ended)?;
        ensure!(site.records(&ended)?.is_empty(), "a token that never was left a record");
    }
    ensure!(site.log_says("join_token_unknown")?, "the log does not tell of it");

    let made = site.newest("create-join-token", "late")?.context("no record of the token")?;
    let end = text(&made, "/time").parse::<jiff::Timestamp>()? + Duration::from_secs(6);
    wait_until(LIMIT, "the token's end", || bursar_core::Clock::now(&bursar_core::SystemClock) > end)?;
    let ended = site.present(&late)?;
    refused(&ended)?;
    site.is_kept(&ended, "denied", "late", "join_token_expired")?;
    ensure!(site.nodes()? == ["here"], "{:?}", site.nodes()?);
    Ok(())
}

#[test]
fn a_signing_request_that_is_none_costs_no_token() -> Result<()> {
    let site = Site::start()?;
    let token = site.token(&["web-1"])?;
    let credential = Some(Credential::Token(token.clone().into_bytes()));
    let request = v1::NodesJoinRequest { credential, csr: b"no request".to_vec() };
    let ended = site.nobody.call(JOIN, request.encode_to_vec())?;
    ensure!(ended.reason == Some(Reason::RequestInvalid), "{ended:?}");
    site.is_kept(&ended, "failed", "web-1", "certificate_request")?;
    ensure!(site.nodes()?.is_empty(), "a node was let in");
    ensure!(site.present(&token)?.code == Code::Ok, "the token was used up");
    Ok(())
}

#[test]
fn two_at_once_with_one_token_are_one_node() -> Result<()> {
    let site = Site::start()?;
    let token = site.token(&["web-1"])?;
    let present = || {
        let caller = Caller::connect(&site.broker, None)?;
        present(&caller, &token)
    };
    let ended = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(present)).collect();
        threads.into_iter().map(|thread| thread.join().expect("a thread")).collect::<Result<Vec<_>>>()
    })?;
    let joined = ended.iter().filter(|ended| ended.code == Code::Ok).count();
    ensure!(joined == 1, "{joined} joined with one token");
    for ended in ended.iter().filter(|ended| ended.code != Code::Ok) {
        refused(ended)?;
    }
    Ok(())
}

#[test]
fn an_agent_with_a_used_token_says_so_asks_once_and_takes_the_next_one_without_a_restart() -> Result<()> {
    let site = Site::start()?;
    let token = site.token(&["web-1"])?;
    ensure!(site.present(&token)?.code == Code::Ok);

    let mut agent = Agent::launch(&site.broker, "web-1", &token, None)?;
    agent.process().wait_for_line(LIMIT, "the join token is not valid")?;
    // What follows is said without asking the broker again.
    agent.process().wait_for_line(LIMIT, "make a new one with `bursar node token`")?;
    let ready = agent.http("/readyz")?;
    ensure!(ready.status == 503, "ready without a certificate");
    ensure!(said(&ready).contains("the node has not joined yet"), "{}", said(&ready));
    let denied = site.admin.audit(&["--action", "join", "--outcome", "denied"])?;
    ensure!(denied.len() == 1, "the agent presented its token {} times", denied.len());
    let run = Cli::through(&agent.socket())?.run(&["get", "local/a"])?;
    ensure!(run.code == Some(69), "{:?}: {}", run.code, run.stderr);
    ensure!(run.stderr.contains("this node has not joined its broker yet"), "{}", run.stderr);

    fs::write(agent.directory().join("join-token"), site.token(&["web-1"])?)?;
    agent.wait_ready()?;
    Ok(())
}

#[test]
fn an_agent_with_a_token_for_another_name_does_not_become_that_node() -> Result<()> {
    let site = Site::start()?;
    let mut agent = Agent::launch(&site.broker, "web-1", &site.token(&["web-2"])?, None)?;
    agent.process().wait_for_line(LIMIT, "make a token for that name")?;
    ensure!(agent.http("/readyz")?.status == 503, "ready under another name");
    let kept = agent.directory().join("data");
    let names: Vec<_> = fs::read_dir(&kept)?.map(|entry| Ok(entry?.file_name())).collect::<Result<_>>()?;
    ensure!(!names.iter().any(|name| name.to_string_lossy().contains("node")), "it kept {names:?}");
    Ok(())
}

#[test]
fn an_evicted_node_is_refused_on_its_open_connection() -> Result<()> {
    let site = Site::start()?;
    let agent = Agent::start(&site.broker, "web-1", &site.token(&["web-1"])?)?;
    site.admin.done(&["node", "evict", "web-1", "--reason", "a test", "--yes"])?;
    let said = Cli::through(&agent.socket())?.run(&["get", "local/a"])?;
    said.refused(77, &["node `spiffe://example.org/node/web-1` was evicted", "new join token", "hint: "])?;
    wait_until(LIMIT, "the agent to say so", || {
        let ready = agent.http("/readyz");
        ready.is_ok_and(|ready| {
            ready.status == 503 && ready.body.starts_with(b"not ready: the broker refuses")
        })
    })
}

/// A broker, and somebody without a certificate.
struct Site {
    broker: Broker,
    admin: Cli,
    nobody: Caller,
}

impl Site {
    fn start() -> Result<Self> {
        let broker = Broker::start("[backends.local]\nkind = 'local'\n")?;
        let (admin, nobody) = (Cli::administering(&broker)?, Caller::connect(&broker, None)?);
        Ok(Self { broker, admin, nobody })
    }

    fn token(&self, arguments: &[&str]) -> Result<String> {
        Ok(self.admin.done(&[&["node", "token"], arguments].concat())?.trim().to_owned())
    }

    fn present(&self, token: &str) -> Result<Ended> {
        present(&self.nobody, token)
    }

    fn records(&self, ended: &Ended) -> Result<Vec<Value>> {
        self.admin.audit(&["--request", &ended.request_id])
    }

    /// The one record of the attempt.
    fn is_kept(&self, ended: &Ended, outcome: &str, node: &str, kind: &str) -> Result<()> {
        let records = self.records(ended)?;
        let [record] = records.as_slice() else { anyhow::bail!("{} records", records.len()) };
        let id = format!("spiffe://example.org/node/{node}");
        ensure!(text(record, "/action") == "join" && text(record, "/outcome") == outcome, "{record}");
        ensure!(text(record, "/resource") == id && text(record, "/actor/principal") == id, "{record}");
        ensure!(text(record, "/actor/method") == "join-token", "{record}");
        ensure!(text(record, "/actor/peer").starts_with("127.0.0.1:"), "{record}");
        ensure!(text(record, "/error_kind") == kind, "{record}");
        Ok(())
    }

    fn newest(&self, action: &str, node: &str) -> Result<Option<Value>> {
        let records = self.admin.audit(&["--action", action])?;
        Ok(records.into_iter().find(|record| text(record, "/resource").ends_with(node)))
    }

    fn nodes(&self) -> Result<Vec<String>> {
        let nodes = self.admin.json(&["node", "list"])?;
        Ok(nodes.as_array().into_iter().flatten().map(|node| text(node, "/name")).collect())
    }

    fn log_says(&self, part: &str) -> Result<bool> {
        Ok(fs::read_to_string(self.broker.directory().join("broker.stderr"))?.contains(part))
    }
}

fn present(caller: &Caller, token: &str) -> Result<Ended> {
    let key = rcgen::KeyPair::generate()?;
    join(caller, Credential::Token(token.as_bytes().to_vec()), &key)
}

/// In the same words, whatever is wrong with the token.
fn refused(ended: &Ended) -> Result<()> {
    let refused = (Code::Unauthenticated, Some(Reason::JoinTokenInvalid));
    ensure!((ended.code, ended.reason) == refused, "{ended:?}");
    ensure!(ended.message == "the join token is not valid: it was used, has expired, or never was");
    Ok(())
}

fn said(reply: &http::Reply) -> String {
    String::from_utf8_lossy(&reply.body).into_owned()
}

const JOIN: &str = "/bursar.v1.Nodes/Join";
const LIMIT: Duration = Duration::from_secs(30);
