//! Pods that present their own tokens over an agent's socket: each is whoever its token says, by way of its own node and of
//! no other, and what the agent's cache has for it is for nobody else.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bursar_core::Clock;
use bursar_core::clock::SystemClock;
use bursar_proto::v1::nodes_join_request::Credential;
use bursar_proto::{Reason, v1};
use bursar_tests::{
    Agent, Broker, Canary, Cli, ClientCertificate, IssuerDoor, TokenIssuer, scan, scan_bytes, text,
    wait_until,
};
use prost::Message;
use serde_json::{Value, json};

use crate::raw::{Caller, Ended, join};

#[test]
fn a_pod_is_who_its_token_says_from_the_cache_too_and_the_token_is_nowhere() -> Result<()> {
    let mut site = Site::start()?;
    let mut agent = site.agent("n1")?;
    let token = site.token("shop", "n1", 600)?;
    let pod = Cli::bearing_through(&token, &agent.socket())?;
    let read = pod.json(&["get", "local/db#password"])?;
    ensure!(text(&read, "/value") == "hunter2-of-shop", "the pod got something else");
    let lease = site.admin.json(&["lease", "show", &text(&read, "/lease_id")])?;
    ensure!(text(&lease, "/principal") == SHOP && text(&lease, "/node") == N1, "{lease}");
    ensure!(text(&lease, "/instance") == "pod-shop", "{lease}");
    let ends = text(&lease, "/expires_at").parse::<jiff::Timestamp>()?;
    ensure!(ends.as_second() <= now() + 600 + 60, "the lease outlives its token: {lease}");

    // Once the agent hears of changes, the next reads are its own to answer, and are accounted for under the same name.
    wait_until(LIMIT, "a read from the cache", || {
        pod.done(&["get", "local/db#password"]).is_ok() && agent.counted(READ_FROM_THE_CACHE) > 0
    })?;
    let mut said = agent.http("/metrics")?.body;
    agent.process().stop()?;
    let records = site.admin.audit(&["--principal", SHOP])?;
    let of = |action: &str| records.iter().find(|record| text(record, "/action") == action);
    let read = of("read").context("no record of the read")?;
    ensure!(text(read, "/actor/method") == "kubernetes" && text(read, "/actor/node") == N1, "{read}");
    ensure!(
        text(read, "/actor/selectors").is_empty() && read.to_string().contains("k8s:pod-uid:pod-shop"),
        "{read}"
    );
    let local = of("local-read").context("no record of what the cache answered")?;
    ensure!(text(local, "/actor/node") == N1 && local.to_string().contains("unix:uid:"), "{local}");

    let signature = token.rsplit('.').next().context("no signature")?;
    let canaries = [Canary::known("the token", &token)?, Canary::known("its signature", signature)?];
    let canaries: Vec<&Canary> = canaries.iter().collect();
    said.extend(site.broker.http("/metrics")?.body);
    said.extend(site.admin.run(&["audit", "export"])?.stdout);
    let mut found = scan(site.broker.directory(), &canaries)?;
    found.extend(scan(agent.directory(), &canaries)?);
    found.extend(scan_bytes("metrics and records", &said, &canaries)?);
    ensure!(found.is_empty(), "the token is in {} places", found.len());
    site.broker.process().stop()?;
    Ok(())
}

#[test]
fn what_the_cache_has_for_a_token_is_for_no_other_and_for_nobody_without_one() -> Result<()> {
    let site = Site::start()?;
    let agent = site.agent("n1")?;
    let get = |cli: Cli| cli.run(&["get", "local/db#password"]);
    let shop = site.token("shop", "n1", 600)?;
    Cli::bearing_through(&shop, &agent.socket())?.done(&["get", "local/db#password"])?;
    let other = site.token("other", "n1", 600)?;
    get(Cli::bearing_through(&other, &agent.socket())?)?.refused(77, &["policy does not allow this"])?;
    get(Cli::through(&agent.socket())?)?.refused(77, &["no registration lets"])?;
    // The same words with another signature, and a token that never was.
    let forged =
        TokenIssuer::new()?.token_by(&text(site.issuer.jwk(), "/kid"), &site.claims("shop", "n1", 600))?;
    get(Cli::bearing_through(&forged, &agent.socket())?)?
        .refused(77, &["the token's signature does not hold"])?;
    get(Cli::bearing_through("x", &agent.socket())?)?
        .refused(77, &["no signed JSON Web Token that is accepted here"])?;
    let ended = site.token("shop", "n1", -120)?;
    get(Cli::bearing_through(&ended, &agent.socket())?)?.refused(77, &["the token has expired"])
}

#[test]
fn a_token_of_a_pod_elsewhere_is_worth_nothing_by_way_of_this_node() -> Result<()> {
    let site = Site::start()?;
    let agent = site.agent("n1")?;
    let stolen = site.token("shop", "n2", 600)?;
    let refused = Cli::bearing_through(&stolen, &agent.socket())?.run(&["get", "local/db#password"])?;
    refused.refused(77, &["that of a pod on another node than `spiffe://example.org/node/east.n1`"])?;
    let records = site.admin.audit(&["--principal", SHOP])?;
    let record = records.first().context("no record")?;
    ensure!(text(record, "/action") == "authenticate" && text(record, "/outcome") == "denied", "{record}");
    ensure!(text(record, "/error_kind") == "other_node" && text(record, "/actor/node") == N1, "{record}");
    // Nor by way of a node that a join token let in, whatever it is called there.
    let web = Caller::presenting(&site.broker, &site.joined("n2")?)?.bearing(&stolen);
    ensure!(read(&web)?.reason == Some(Reason::TokenInvalid), "another node passed it on");
    let own = Caller::presenting(&site.broker, &site.joined("east.n2")?)?.bearing(&stolen);
    ensure!(read(&own)?.reason.is_none(), "its own node could not pass it on");
    Ok(())
}

#[test]
fn a_node_speaks_for_nobody_beside_a_token() -> Result<()> {
    let site = Site::start()?;
    let node = Caller::presenting(&site.broker, &site.joined("east.n1")?)?;
    let node = node.bearing(&site.token("shop", "n1", 600)?);
    let workload = v1::WorkloadContext {
        selectors: vec!["k8s:pod-name:web-0".to_owned()],
        instance: "1:2@3".to_owned(),
        pid: 1,
    };
    let ended = node.call_for(READ, reference(), Some(&workload))?;
    ensure!(ended.reason == Some(Reason::AccessDenied), "{ended:?}");
    Ok(())
}

#[test]
fn an_evicted_node_passes_no_token_on_and_what_it_passed_on_is_taken_back() -> Result<()> {
    let site = Site::start()?;
    let token = site.token("shop", "n1", 600)?;
    let pod = Caller::connect(&site.broker, None)?.bearing(&token);
    ensure!(read(&pod)?.reason.is_none(), "the token does not count");
    let own = site.admin.json(&["lease", "list", "--principal", SHOP])?;
    let node = Caller::presenting(&site.broker, &site.joined("east.n1")?)?.bearing(&token);
    ensure!(read(&node)?.reason.is_none(), "the token does not count by way of the node");
    let stream = node.listen(WATCH, v1::SecretsWatchRequest::default().encode_to_vec())?;
    site.admin.done(&["node", "evict", "east.n1", "--reason", "a test", "--yes"])?;
    let ended = stream.end(LIMIT)?;
    ensure!(ended.reason == Some(Reason::CertificateInvalid), "{ended:?}");
    let ended = read(&node)?;
    ensure!(ended.reason == Some(Reason::CertificateInvalid), "{ended:?}");
    // What the pod asked for by itself is its own, and so is what it asks for from now on: it is nobody's node.
    let left = site.admin.json(&["lease", "list", "--principal", SHOP])?;
    ensure!(ids(&left) == ids(&own) && ids(&own).len() == 1, "{left}");
    ensure!(read(&pod)?.reason.is_none(), "the pod is refused, too");
    Ok(())
}

#[test]
fn a_node_gives_back_what_was_asked_for_by_way_of_it_and_nobody_else_does() -> Result<()> {
    let site = Site::start()?;
    let token = site.token("shop", "n1", 600)?;
    let own = site.joined("east.n1")?;
    let node = Caller::presenting(&site.broker, &own)?;
    let pod = Caller::presenting(&site.broker, &own)?.bearing(&token);
    let read = |caller: &Caller| -> Result<String> {
        let mut answered = v1::SecretsReadResponse::decode(read(caller)?.answer.as_slice())?;
        Ok(answered.lease.take().context("no lease")?.id)
    };
    let revoke = |caller: &Caller, id: &str| {
        let message = v1::LeasesRevokeRequest { lease_id: id.to_owned(), ..Default::default() };
        caller.call("/bursar.v1.Leases/Revoke", message.encode_to_vec())
    };
    let lease = read(&pod)?;
    let other = Caller::presenting(&site.broker, &site.joined("east.n2")?)?;
    // The pod is let do no such thing, and its right would be its own, of which the node has none.
    for (who, caller) in [("another node", &other), ("the pod", &pod)] {
        let ended = revoke(caller, &lease)?;
        ensure!(ended.reason == Some(Reason::LeaseNotFound), "{who}: {ended:?}");
    }
    let direct = read(&Caller::connect(&site.broker, None)?.bearing(&token))?;
    let ended = revoke(&node, &direct)?;
    ensure!(ended.reason == Some(Reason::LeaseNotFound), "what the pod asked for by itself: {ended:?}");
    let ended = revoke(&node, &lease)?;
    ensure!(ended.reason.is_none(), "{ended:?}");
    ensure!(ids(&site.admin.json(&["lease", "list", "--principal", SHOP])?) == [direct], "not given back");
    Ok(())
}

/// A cluster with nodes, and a broker that knows them.
pub(crate) struct Site {
    door: IssuerDoor,
    issuer: TokenIssuer,
    pub(crate) broker: Broker,
    pub(crate) admin: Cli,
}

impl Site {
    pub(crate) fn start() -> Result<Self> {
        let (door, issuer) = (IssuerDoor::start()?, TokenIssuer::new()?);
        door.publish(&[&issuer]);
        let broker = Broker::start(&format!(
            "[identity.issuers.east]\nkind = 'kubernetes'\npath = 'east'\nissuer = '{}'\naudience = 'bursar'\n\
             ca_file = '{}'\n[identity.nodes.east]\nissuer = 'east'\nprefix = 'east.'\n\
             service_account = 'bursar-system/web'\n[backends.local]\nkind = 'local'\n",
            door.url(),
            door.ca().display(),
        ))?;
        let admin = Cli::administering(&broker)?;
        admin.apply_policies(&format!("{NOBODY}{SHOP_MAY}"), "")?;
        admin.done_with(&["secret", "put", "local/db", "--field", "password"], b"hunter2-of-shop")?;
        Ok(Self { door, issuer, broker, admin })
    }

    /// The agent of a node, as its pod runs.
    fn agent(&self, node: &str) -> Result<Agent> {
        self.agent_with(node, "")
    }

    /// The same, with the lines `more` at the end of its configuration.
    pub(crate) fn agent_with(&self, node: &str, more: &str) -> Result<Agent> {
        let file = self.door.file(&format!("agent-{node}"));
        std::fs::write(&file, self.token("bursar-system", node, 3600)?)?;
        let by = format!("join_kubernetes = {{ token_file = '{}' }}", file.display());
        let mut agent = Agent::launch_by(&self.broker, &by, more)?;
        agent.wait_ready()?;
        Ok(agent)
    }

    /// A node that a join token let in.
    fn joined(&self, name: &str) -> Result<ClientCertificate> {
        let (token, key) = (self.admin.done(&["node", "token", name])?, rcgen::KeyPair::generate()?);
        let credential = Credential::Token(token.trim().as_bytes().to_vec());
        join(&Caller::connect(&self.broker, None)?, credential, &key)?.certificate(&key)
    }

    pub(crate) fn token(&self, namespace: &str, node: &str, life: i64) -> Result<String> {
        self.issuer.token(&self.claims(namespace, node, life))
    }

    fn claims(&self, namespace: &str, node: &str, life: i64) -> Value {
        json!({
            "iss": self.door.url(), "aud": ["bursar"], "sub": format!("system:serviceaccount:{namespace}:web"),
            "iat": now() - 300, "nbf": now() - 300, "exp": now() + life,
            "kubernetes.io": {
                "namespace": namespace,
                "serviceaccount": { "name": "web", "uid": format!("sa-{namespace}") },
                "pod": { "name": "web-0", "uid": format!("pod-{namespace}") },
                "node": { "name": node, "uid": format!("uid-{node}") },
            },
        })
    }
}

fn read(caller: &Caller) -> Result<Ended> {
    caller.call(READ, reference())
}

fn reference() -> Vec<u8> {
    v1::SecretsReadRequest { reference: "local/db#password".to_owned(), ..Default::default() }.encode_to_vec()
}

fn ids(leases: &Value) -> Vec<String> {
    leases.as_array().into_iter().flatten().map(|lease| text(lease, "/id")).collect()
}

fn now() -> i64 {
    SystemClock.now().as_second()
}

pub(crate) const SHOP: &str = "spiffe://example.org/east/ns/shop/sa/web";
pub(crate) const N1: &str = "spiffe://example.org/node/east.n1";
const READ: &str = "/bursar.v1.Secrets/Read";
const READ_FROM_THE_CACHE: &str = "bursar_agent_reads_total{outcome=\"fresh\"}";
const WATCH: &str = "/bursar.v1.Secrets/Watch";
const LIMIT: Duration = Duration::from_secs(60);

/// Nobody but the administrator may do anything, and everybody hears of changes.
pub(crate) const NOBODY: &str = r#"
@id("everything")
permit (principal == Bursar::Principal::"spiffe://example.org/user/admin", action, resource);
@id("watch")
permit (principal, action == Bursar::Action::"watch", resource);
"#;
/// Beside that: the pods of the shop.
pub(crate) const SHOP_MAY: &str = r#"
@id("shop")
permit (principal in Bursar::Group::"spiffe://example.org/east/ns/shop", action in Bursar::Action::"use", resource)
when { principal.method == "kubernetes" && principal.selectors.contains("k8s:pod-name:web-0") };
"#;
