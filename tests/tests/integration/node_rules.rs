//! Nodes that are let in by what they have already: the token of their agent's service account, or a certificate. Only by
//! a rule of the configuration, under its prefix, and not once they were evicted.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bursar_core::Clock;
use bursar_core::clock::SystemClock;
use bursar_proto::v1::nodes_join_request::Credential;
use bursar_proto::{Reason, v1};
use bursar_tests::{
    Agent, Broker, Canary, Cli, ClientAuthority, ClientCertificate, IssuerDoor, TokenIssuer, scan, text,
    wait_until,
};
use prost::Message;
use rcgen::KeyPair;
use serde_json::{Value, json};

use crate::raw::{Caller, Ended, join, signing_request};

#[test]
fn the_pod_of_an_agent_is_the_node_that_its_token_names_and_joins_again_for_each_certificate() -> Result<()> {
    let site = Site::start()?;
    let (token, key) = (site.east.token("n1")?, KeyPair::generate()?);
    let joined = site.present(&token, &key)?;
    let certificate = joined.certificate(&key)?;
    let record = site.record(&joined)?;
    ensure!(text(&record, "/outcome") == "ok" && text(&record, "/decision") == "allow", "{record}");
    ensure!(text(&record, "/resource") == "spiffe://example.org/node/east.n1", "{record}");
    ensure!(text(&record, "/actor/method") == "kubernetes", "{record}");
    ensure!(text(&record, "/actor/principal") == "spiffe://example.org/east/ns/bursar-system/sa/agent");
    ensure!(record.pointer("/policies/0") == Some(&json!("identity.nodes.east")), "{record}");

    let node = Caller::presenting(&site.broker, &certificate)?;
    let request = v1::NodesRenewCertificateRequest { csr: signing_request(&KeyPair::generate()?)? };
    let renewed = node.call("/bursar.v1.Nodes/RenewCertificate", request.encode_to_vec())?;
    ensure!(renewed.reason == Some(Reason::AccessDenied), "{renewed:?}");
    ensure!(renewed.message.contains("joins again by what let it in"), "{renewed:?}");
    let next = KeyPair::generate()?;
    let again = site.present(&token, &next)?.certificate(&next)?;
    ensure!(certificate.certificate != again.certificate, "the same certificate came again");
    ensure!(site.nodes()? == ["east.n1"], "{:?}", site.nodes()?);
    ensure!(site.metric("bursar_joins_total", "kubernetes", "ok")?, "it is not counted");
    Ok(())
}

#[test]
fn what_makes_no_node_is_refused_and_kept_where_somebody_is_known() -> Result<()> {
    let site = Site::start()?;
    let east = &site.east;
    let with = |at: &str, value: Value| {
        let mut claims = east.claims("n1", 600);
        *claims.pointer_mut(at).context("no claim")? = value;
        east.issuer.token(&claims)
    };
    let mut nowhere = east.claims("n1", 600);
    nowhere.pointer_mut("/kubernetes.io").and_then(Value::as_object_mut).context("no claim")?.remove("node");
    let mut account = east.claims("n1", 600);
    *account.pointer_mut("/sub").context("no claim")? = json!("system:serviceaccount:bursar-system:other");
    *account.pointer_mut("/kubernetes.io/serviceaccount/name").context("no claim")? = json!("other");
    let mut namespace = east.claims("n1", 600);
    *namespace.pointer_mut("/sub").context("no claim")? = json!("system:serviceaccount:shop:agent");
    *namespace.pointer_mut("/kubernetes.io/namespace").context("no claim")? = json!("shop");
    let known = [
        ("another account", east.issuer.token(&account)?, "join_no_rule"),
        ("another namespace", east.issuer.token(&namespace)?, "join_no_rule"),
        ("no node", east.issuer.token(&nowhere)?, "join_no_node"),
        ("a node that no node is called", with("/kubernetes.io/node/name", json!("a b"))?, "claim"),
        (
            "a node with a name that is too long",
            with("/kubernetes.io/node/name", json!("n".repeat(250)))?,
            "claim",
        ),
        ("a node with a path", with("/kubernetes.io/node/name", json!("../user/admin"))?, "join_name"),
    ];
    for (case, token, kind) in known {
        let ended = site.present(&token, &KeyPair::generate()?)?;
        if kind == "claim" {
            ensure!(ended.reason == Some(Reason::TokenInvalid), "{case}: {ended:?}");
            continue;
        }
        ensure!(ended.reason == Some(Reason::AccessDenied), "{case}: {ended:?}");
        let record = site.record(&ended)?;
        ensure!(
            text(&record, "/error_kind") == kind && text(&record, "/outcome") == "denied",
            "{case}: {record}"
        );
    }
    let stranger = TokenIssuer::new()?;
    let unknown = [
        ("another audience", with("/aud", json!(["vault"]))?, Reason::TokenInvalid),
        ("expired", east.issuer.token(&east.claims("n1", -120))?, Reason::TokenExpired),
        ("forged", stranger.token(&east.claims("n1", 600))?, Reason::TokenInvalid),
        (
            "forged under the name of a key",
            stranger.token_by(&text(east.issuer.jwk(), "/kid"), &east.claims("n1", 600))?,
            Reason::TokenInvalid,
        ),
        ("of nobody known", with("/iss", json!("https://evil.example"))?, Reason::IssuerUnknown),
        ("garbage", "x".to_owned(), Reason::TokenInvalid),
    ];
    for (case, token, reason) in unknown {
        let ended = site.present(&token, &KeyPair::generate()?)?;
        ensure!(ended.reason == Some(reason), "{case}: {ended:?}");
        ensure!(site.records(&ended)?.is_empty(), "{case}: a token that names nobody left a record");
    }
    let nothing = v1::NodesJoinRequest { credential: None, csr: signing_request(&KeyPair::generate()?)? };
    let ended = site.nobody.call("/bursar.v1.Nodes/Join", nothing.encode_to_vec())?;
    ensure!(ended.reason == Some(Reason::RequestInvalid), "{ended:?}");
    ensure!(site.nodes()?.is_empty(), "{:?}", site.nodes()?);
    Ok(())
}

#[test]
fn nodes_of_two_clusters_that_have_the_same_name_are_two() -> Result<()> {
    let site = Site::start()?;
    for cluster in [&site.east, &site.west] {
        let key = KeyPair::generate()?;
        site.present(&cluster.token("n1")?, &key)?.certificate(&key)?;
    }
    ensure!(site.nodes()? == ["east.n1", "west.n1"], "{:?}", site.nodes()?);
    Ok(())
}

#[test]
fn an_evicted_node_stays_out_whatever_it_has_until_it_is_readmitted() -> Result<()> {
    let mut site = Site::start()?;
    let (token, key) = (site.east.token("n1")?, KeyPair::generate()?);
    let old = site.present(&token, &key)?.certificate(&key)?;
    site.admin.done(&["node", "evict", "east.n1", "--reason", "a test", "--yes"])?;
    for restarted in [false, true] {
        if restarted {
            site.broker.process().stop()?;
            site.broker.start_again()?;
        }
        for token in [&token, &site.east.token("n1")?] {
            let ended = join_by(&Caller::connect(&site.broker, None)?, token, &key)?;
            ensure!(ended.reason == Some(Reason::CertificateInvalid), "{ended:?}");
            ensure!(ended.message.contains("`bursar node readmit`"), "{ended:?}");
            let record = site.record(&ended)?;
            ensure!(
                text(&record, "/error_kind") == "evicted" && text(&record, "/outcome") == "denied",
                "{record}"
            );
        }
    }
    site.admin.done(&["node", "readmit", "east.n1", "--reason", "a test"])?;
    let again = site.admin.run(&["node", "readmit", "east.n1", "--reason", "a test"])?;
    again.refused(1, &["was not evicted"])?;
    let new = join_by(&Caller::connect(&site.broker, None)?, &token, &key)?.certificate(&key)?;
    let read = |certificate| Caller::presenting(&site.broker, certificate)?.call(READ, reference());
    ensure!(read(&old)?.reason == Some(Reason::CertificateInvalid), "the certificate from before counts");
    ensure!(read(&new)?.reason == Some(Reason::AccessDenied), "the new one does not count");
    Ok(())
}

#[test]
fn a_name_that_an_administrator_gave_away_is_not_a_clusters_to_take() -> Result<()> {
    let site = Site::start()?;
    let (web, key) = (site.admin.done(&["node", "token", "east.n1"])?, KeyPair::generate()?);
    join(&site.nobody, Credential::Token(web.trim().as_bytes().to_vec()), &key)?.certificate(&key)?;
    let ended = site.present(&site.east.token("n1")?, &key)?;
    ensure!(ended.reason == Some(Reason::AccessDenied), "{ended:?}");
    ensure!(text(&site.record(&ended)?, "/error_kind") == "join_held");
    ensure!(site.let_in_by("east.n1")? == "join_token");
    // Unless he says so.
    site.admin.done(&["node", "evict", "east.n1", "--reason", "a test", "--yes"])?;
    site.admin.done(&["node", "readmit", "east.n1", "--reason", "a test"])?;
    ensure!(site.let_in_by("east.n1")? == "readmission");
    site.present(&site.east.token("n1")?, &key)?.certificate(&key)?;
    ensure!(site.let_in_by("east.n1")? == "identity.nodes.east");
    Ok(())
}

#[test]
fn a_certificate_makes_the_node_that_the_rule_makes_of_it_and_without_one_none() -> Result<()> {
    let site = Site::start()?;
    let present = |certificate: &ClientCertificate, key: &KeyPair| {
        join(&Caller::presenting(&site.broker, certificate)?, by_certificate(), key)
    };
    let key = KeyPair::generate()?;
    let machine = site.machines.issue("spiffe://machines.example/host/h1")?;
    let joined = present(&machine, &key)?;
    joined.certificate(&key)?;
    let record = site.record(&joined)?;
    ensure!(text(&record, "/actor/principal") == "spiffe://machines.example/host/h1", "{record}");
    ensure!(text(&record, "/actor/method") == "mtls", "{record}");
    ensure!(record.pointer("/policies/0") == Some(&json!("identity.nodes.machines")), "{record}");
    for (case, certificate) in [
        ("another path", site.machines.issue("spiffe://machines.example/user/h2")?),
        ("below it", site.machines.issue("spiffe://machines.example/host/h2/x")?),
        ("a node there", site.machines.issue("spiffe://machines.example/node/h2")?),
        ("a domain without a rule", site.partner.issue("spiffe://partner.example/host/h2")?),
        ("a node of a domain without a rule", site.partner.issue("spiffe://partner.example/node/m-h1")?),
    ] {
        let ended = present(&certificate, &key).context(case)?;
        ensure!(ended.reason == Some(Reason::AccessDenied), "{case}: {ended:?}");
        ensure!(text(&site.record(&ended)?, "/error_kind") == "join_no_rule", "{case}");
    }
    // Its authority does not vouch for that domain.
    let ended = present(&site.partner.issue("spiffe://machines.example/host/h2")?, &key)?;
    ensure!(ended.reason == Some(Reason::CertificateInvalid), "{ended:?}");
    let ended = join(&site.nobody, by_certificate(), &key)?;
    ensure!(ended.reason == Some(Reason::Unauthenticated), "{ended:?}");
    // What lets it in is no certificate of the node.
    let own = Caller::presenting(&site.broker, &machine)?.call(READ, reference())?;
    ensure!(own.reason == Some(Reason::AccessDenied), "{own:?}");
    ensure!(site.nodes()? == ["m-h1"], "{:?}", site.nodes()?);

    site.admin.done(&["node", "evict", "m-h1", "--reason", "a test", "--yes"])?;
    let ended = present(&site.machines.issue("spiffe://machines.example/host/h1")?, &key)?;
    ensure!(ended.reason == Some(Reason::CertificateInvalid), "{ended:?}");
    Ok(())
}

#[test]
fn an_agent_in_a_pod_needs_no_token_of_ours_and_its_own_is_nowhere() -> Result<()> {
    let site = Site::start()?;
    let file = site.east.door.file("agent-token");
    let token = site.east.token("n1")?;
    std::fs::write(&file, site.east.issuer.token(&site.east.claims("n1", -120))?)?;
    let by = format!("join_kubernetes = {{ token_file = '{}' }}", file.display());
    let mut agent = Agent::launch_by(&site.broker, &by, "")?;
    agent.process().wait_for_line(LIMIT, "the token has expired")?;
    // As kubelet replaces it.
    std::fs::write(&file, &token)?;
    agent.wait_ready()?;
    let read = Cli::through(&agent.socket())?.run(&["get", "local/a"])?;
    read.refused(77, &["no registration lets `spiffe://example.org/node/east.n1` speak"])?;

    site.admin.done(&["node", "evict", "east.n1", "--reason", "a test", "--yes"])?;
    agent.process().wait_for_line(LIMIT, "`bursar node readmit`")?;
    site.admin.done(&["node", "readmit", "east.n1", "--reason", "a test"])?;
    wait_until(LIMIT, "the agent to be let in again", || {
        let read = Cli::through(&agent.socket()).and_then(|cli| cli.run(&["get", "local/a"]));
        read.is_ok_and(|read| read.stderr.contains("no registration lets"))
    })?;
    let signature = token.rsplit('.').next().context("no signature")?;
    let canaries = [Canary::known("the token", &token)?, Canary::known("its signature", signature)?];
    let canaries: Vec<&Canary> = canaries.iter().collect();
    let mut found = scan(site.broker.directory(), &canaries)?;
    found.extend(scan(agent.directory(), &canaries)?);
    ensure!(found.is_empty(), "the token is in {} places", found.len());
    Ok(())
}

#[test]
fn an_agent_with_a_certificate_of_its_machine_joins_by_it() -> Result<()> {
    let site = Site::start()?;
    let folder = tempfile::tempdir()?;
    let machine = site.machines.issue("spiffe://machines.example/host/h1")?;
    let (cert, key) = machine.write(folder.path(), "machine")?;
    let by = |node: &str| {
        let (cert, key) = (cert.display(), key.display());
        format!("{node}join_certificate = {{ cert = '{cert}', key = '{key}' }}")
    };
    let mut agent = Agent::launch_by(&site.broker, &by(""), "")?;
    agent.wait_ready()?;
    ensure!(site.nodes()? == ["m-h1"], "{:?}", site.nodes()?);
    let mut other = Agent::launch_by(&site.broker, &by("node = 'm-h2'\n"), "")?;
    other.process().wait_for_line(LIMIT, "but this is node `m-h2`")?;
    Ok(())
}

/// A broker that lets in the nodes of two clusters, and machines of one authority; and trusts another for no nodes.
struct Site {
    east: Cluster,
    west: Cluster,
    machines: ClientAuthority,
    partner: ClientAuthority,
    broker: Broker,
    admin: Cli,
    nobody: Caller,
    _files: tempfile::TempDir,
}

/// A cluster whose agents run as `agent` in `bursar-system`.
struct Cluster {
    door: IssuerDoor,
    issuer: TokenIssuer,
}

impl Cluster {
    fn start() -> Result<Self> {
        let (door, issuer) = (IssuerDoor::start()?, TokenIssuer::new()?);
        door.publish(&[&issuer]);
        Ok(Self { door, issuer })
    }

    /// What lets its nodes in, under a prefix that is its name.
    fn trusted(&self, name: &str) -> String {
        format!(
            "[identity.issuers.{name}]\nkind = 'kubernetes'\npath = '{name}'\nissuer = '{url}'\naudience = 'bursar'\n\
             ca_file = '{ca}'\n[identity.nodes.{name}]\nissuer = '{name}'\nprefix = '{name}.'\n\
             service_account = 'bursar-system/agent'\n",
            url = self.door.url(),
            ca = self.door.ca().display(),
        )
    }

    fn token(&self, node: &str) -> Result<String> {
        self.issuer.token(&self.claims(node, 600 + i64::from(fastrand::u8(..))))
    }

    /// Of the agent's pod on `node`, for `life` seconds.
    fn claims(&self, node: &str, life: i64) -> Value {
        let now = SystemClock.now().as_second();
        json!({
            "iss": self.door.url(), "aud": ["bursar"], "sub": "system:serviceaccount:bursar-system:agent",
            "iat": now - 300, "nbf": now - 300, "exp": now + life,
            "kubernetes.io": {
                "namespace": "bursar-system",
                "serviceaccount": { "name": "agent", "uid": "sa-1" },
                "pod": { "name": format!("agent-{node}"), "uid": format!("pod-{node}") },
                "node": { "name": node, "uid": format!("uid-{node}") },
            },
        })
    }
}

impl Site {
    fn start() -> Result<Self> {
        let (east, west) = (Cluster::start()?, Cluster::start()?);
        let (machines, partner) = (ClientAuthority::new()?, ClientAuthority::new()?);
        let files = tempfile::tempdir()?;
        let folder = files.path().display();
        std::fs::write(files.path().join("machines.pem"), machines.pem())?;
        std::fs::write(files.path().join("partner.pem"), partner.pem())?;
        let broker = Broker::start(&format!(
            "{}{}[identity.trust.machines]\ntrust_domain = 'machines.example'\nbundle = '{folder}/machines.pem'\n\
             [identity.nodes.machines]\nspiffe_id = 'spiffe://machines.example/host/*'\nprefix = 'm-'\n\
             [identity.trust.partner]\ntrust_domain = 'partner.example'\nbundle = '{folder}/partner.pem'\n\
             [backends.local]\nkind = 'local'\n",
            east.trusted("east"),
            west.trusted("west"),
        ))?;
        let (admin, nobody) = (Cli::administering(&broker)?, Caller::connect(&broker, None)?);
        Ok(Self { east, west, machines, partner, broker, admin, nobody, _files: files })
    }

    fn present(&self, token: &str, key: &KeyPair) -> Result<Ended> {
        join_by(&self.nobody, token, key)
    }

    fn records(&self, ended: &Ended) -> Result<Vec<Value>> {
        self.admin.audit(&["--request", &ended.request_id])
    }

    /// The one record of an attempt to join.
    fn record(&self, ended: &Ended) -> Result<Value> {
        let mut records = self.records(ended)?;
        ensure!(records.len() == 1, "{} records", records.len());
        let record = records.pop().context("no record")?;
        ensure!(text(&record, "/action") == "join", "{record}");
        Ok(record)
    }

    fn nodes(&self) -> Result<Vec<String>> {
        let nodes = self.admin.json(&["node", "list"])?;
        Ok(nodes.as_array().into_iter().flatten().map(|node| text(node, "/name")).collect())
    }

    /// What let a node in, as people are told.
    fn let_in_by(&self, name: &str) -> Result<String> {
        let nodes = self.admin.json(&["node", "list"])?;
        let node = nodes.as_array().into_iter().flatten().find(|node| text(node, "/name") == name);
        Ok(text(node.context("no such node")?, "/let_in_by"))
    }

    fn metric(&self, name: &str, method: &str, outcome: &str) -> Result<bool> {
        let metrics = String::from_utf8(self.broker.http("/metrics")?.body)?;
        let counted = format!("{name}{{method=\"{method}\",outcome=\"{outcome}\"}} ");
        Ok(metrics.lines().any(|line| line.starts_with(&counted)))
    }
}

fn join_by(caller: &Caller, token: &str, key: &KeyPair) -> Result<Ended> {
    join(caller, Credential::ServiceAccountToken(token.as_bytes().to_vec()), key)
}

fn by_certificate() -> Credential {
    Credential::ClientCertificate(v1::ClientCertificate {})
}

fn reference() -> Vec<u8> {
    v1::SecretsReadRequest { reference: "local/a".to_owned(), ..Default::default() }.encode_to_vec()
}

const READ: &str = "/bursar.v1.Secrets/Read";
const LIMIT: Duration = Duration::from_secs(60);
