//! The agent's port for programs made for AWS: AWS's own client reads what is in another store, each caller as who it is.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bursar_core::Clock;
use bursar_core::clock::SystemClock;
use bursar_tests::{
    Agent, Broker, Canary, Cli, Finding, IssuerDoor, OpenBao, TokenIssuer, free_port, http, scan, scan_bytes,
    text, venv, wait_until,
};
use serde_json::{Value, json};

#[test]
fn aws_own_client_reads_what_is_in_openbao_and_nothing_of_it_is_anywhere_else() -> Result<()> {
    let (bao, value, other) = (OpenBao::start()?, Canary::random("password"), Canary::random("other"));
    bao.enable_kv("secret")?;
    let put = |path: &str, data: Value| {
        bao.api("POST", &format!("secret/data/{path}"), &json!({ "data": data })).map(drop)
    };
    put("shop/db", json!({ "password": value.value(), "user": "shop" }))?;
    put("shop/other", json!({ "password": other.value() }))?;
    let mut site = Site::start(&bao.backend("vault", BAO_POLICY, "{ secret = 'kv-v2' }")?)?;
    let names = "mount = 'vault/secret'\n[aws.secrets]\npassword = 'vault/secret/shop/db#password'\n\
                 closed = 'local/closed'\n";
    let mut agent = site.agent(names)?;
    site.boto("whole", &[("VALUE", value.value())])?;
    bao.seal()?;
    site.boto("sealed", &[])?;

    let records = site.admin.audit(&["--action", "read", "--outcome", "ok"])?;
    let record = records.first().context("no record")?;
    ensure!(text(record, "/actor/principal") == WORKLOAD, "{record}");
    ensure!(text(record, "/reason") == "read as from AWS Secrets Manager", "{record}");
    let counted = "bursar_agent_aws_requests_total{operation=\"GetSecretValue\",outcome=\"answered\"}";
    let metrics = agent.http("/metrics")?.body;
    ensure!(String::from_utf8_lossy(&metrics).contains(counted), "the requests are not counted");
    agent.process().stop()?;
    // What the cache answered is accounted for, too.
    let local = site.admin.audit(&["--action", "local-read"])?;
    ensure!(local.iter().any(|record| text(record, "/actor/principal") == WORKLOAD), "no local read");
    site.broker.process().stop()?;
    let mut found = scan(agent.directory(), &[&value, &other])?;
    found.extend(scan(site.broker.directory(), &[&value, &other])?);
    found.extend(scan_bytes("metrics", &metrics, &[&value, &other])?);
    ensure!(found.is_empty(), "secrets leaked: {}", list(&found));
    Ok(())
}

#[test]
fn a_pod_is_who_its_session_token_says_and_the_token_is_nowhere() -> Result<()> {
    let (door, issuer) = (IssuerDoor::start()?, TokenIssuer::new()?);
    door.publish(&[&issuer]);
    let cluster = format!(
        "[identity.issuers.east]\nkind = 'kubernetes'\npath = 'east'\nissuer = '{}'\naudience = 'bursar'\n\
         ca_file = '{}'\n",
        door.url(),
        door.ca().display()
    );
    let mut site = Site::start(&cluster)?;
    let value = Canary::random("password");
    site.admin.done_with(&["secret", "put", "local/shop/db"], value.value().as_bytes())?;
    let mut agent = site.agent("mount = 'local'\n")?;
    let claims = |life: i64| {
        json!({
            "iss": door.url(), "aud": ["bursar"], "sub": "system:serviceaccount:shop:web",
            "iat": now() - 300, "nbf": now() - 300, "exp": now() + life,
            "kubernetes.io": {
                "namespace": "shop",
                "serviceaccount": { "name": "web", "uid": "sa" },
                "pod": { "name": "web-0", "uid": "pod" },
            },
        })
    };
    let token = issuer.token(&claims(600))?;
    for _ in 0..2 {
        site.boto("token", &[("VALUE", value.value()), ("TOKEN", &token)])?;
    }
    let forged = TokenIssuer::new()?.token_by(&text(issuer.jwk(), "/kid"), &claims(600))?;
    site.boto("forged", &[("TOKEN", &forged)])?;
    site.boto("ended", &[("TOKEN", &issuer.token(&claims(-120))?)])?;
    let headers = [("X-Aws-Parameters-Secrets-Token", token.as_str())];
    let reply = site.get("/secretsmanager/get?secretId=shop/db", &headers)?;
    ensure!(reply.status == 200, "{}", String::from_utf8_lossy(&reply.body));
    // Of AWS itself: none of ours, and it goes nowhere.
    let session = Canary::alphanumeric("a session token of AWS");
    site.boto("token", &[("VALUE", value.value()), ("TOKEN", session.value())])?;

    let records = site.admin.audit(&["--principal", POD])?;
    let record = records.iter().find(|record| text(record, "/action") == "read").context("no record")?;
    ensure!(text(record, "/actor/method") == "kubernetes", "{record}");
    ensure!(text(record, "/actor/node") == "spiffe://example.org/node/web-1", "{record}");
    agent.process().stop()?;
    site.broker.process().stop()?;
    let signature = token.rsplit('.').next().context("no signature")?;
    let canaries = [Canary::known("the token", &token)?, Canary::known("its signature", signature)?, session];
    let canaries: Vec<&Canary> = canaries.iter().collect();
    let mut found = scan(agent.directory(), &canaries)?;
    found.extend(scan(site.broker.directory(), &canaries)?);
    ensure!(found.is_empty(), "tokens leaked: {}", list(&found));
    Ok(())
}

#[test]
fn each_user_is_who_the_kernel_says_and_whoever_is_not_registered_gets_nothing() -> Result<()> {
    let mut site = Site::start("")?;
    site.register(&[SHOP])?;
    site.admin.done_with(&["secret", "put", "local/shop/db"], b"of-the-shop")?;
    let _agent = site.agent("mount = 'local'\n")?;
    ensure!(site.ask_as(SHOP)? == "200", "the registered user was refused");
    ensure!(site.ask_as(SHOP + 1)? == "400 AccessDeniedException", "somebody else was served");
    let records = site.admin.audit(&["--action", "read", "--outcome", "ok"])?;
    let selectors =
        records.first().and_then(|record| record.pointer("/actor/selectors")).context("no record")?;
    let expected = [format!("unix:uid:{SHOP}"), format!("unix:gid:{SHOP}")];
    let seen = selectors.to_string();
    ensure!(expected.iter().all(|selector| seen.contains(selector)), "{seen}");
    ensure!(seen.contains("unix:exe:"), "the process was not attested: {seen}");
    Ok(())
}

#[test]
fn ten_thousand_connections_take_a_few_places_and_keep_nobody_else_out() -> Result<()> {
    let mut site = Site::start("")?;
    site.register(&[SHOP])?;
    site.admin.done_with(&["secret", "put", "local/shop/db"], b"of-the-shop")?;
    let agent = site.agent("mount = 'local'\n[limits]\nconnections = 40\nconnections_per_user = 30\n")?;
    let (mut held, mut refused) = (Vec::new(), 0);
    for _ in 0..10_000 {
        let mut stream = TcpStream::connect(site.address)?;
        if held.len() < 30 {
            held.push(stream);
            continue;
        }
        stream.set_read_timeout(Some(LIMIT))?;
        let mut answer = [0; 12];
        // As a client does, who has not heard yet that there is no place.
        drop(stream.write_all(b"GET /ping HTTP/1.1\r\nHost: "));
        if stream.read_exact(&mut answer).is_ok() && answer == *b"HTTP/1.1 429" {
            refused += 1;
        } else {
            held.push(stream);
        }
    }
    ensure!(refused > 9000, "only {refused} were turned away");
    ensure!(site.ask_as(SHOP)? == "200", "somebody else has no place");
    let full = agent.counted("bursar_agent_connections_total{outcome=\"full\"}");
    ensure!(full >= refused, "{full} of {refused} that were turned away are counted");
    drop(held);
    wait_until(LIMIT, "a place", || site.get("/ping", &[]).is_ok_and(|reply| reply.body == b"healthy"))
}

struct Site {
    broker: Broker,
    admin: Cli,
    address: SocketAddr,
}

impl Site {
    fn start(more: &str) -> Result<Self> {
        let broker = Broker::start(&format!("{more}[backends.local]\nkind = 'local'\n"))?;
        let admin = Cli::administering(&broker)?;
        let site = Self { broker, admin, address: free_port()? };
        site.register(&[rustix::process::geteuid().as_raw()])?;
        Ok(site)
    }

    fn register(&self, users: &[u32]) -> Result<()> {
        let entry = |user: &u32| {
            format!(
                "[[registration]]\nprincipal = '{WORKLOAD}'\nnode = 'web-1'\nselectors = ['unix:uid:{user}']\n"
            )
        };
        self.admin.apply_policies(POLICIES, &users.iter().map(entry).collect::<String>())
    }

    fn agent(&mut self, aws: &str) -> Result<Agent> {
        let token = self.admin.done(&["node", "token", "web-1"])?;
        let aws = format!("[aws]\nlisten = '{}'\n{aws}", self.address);
        Agent::start_with(&self.broker, "web-1", token.trim(), &aws)
    }

    /// Has AWS's client do `part` of what it can.
    fn boto(&self, part: &str, variables: &[(&str, &str)]) -> Result<()> {
        let said = Command::new(venv("python")?)
            .env_clear()
            .env("PORT", format!("http://{}", self.address))
            .env("PART", part)
            .envs(variables.iter().copied())
            .args(["-c", include_str!("aws_port/boto.py")])
            .output()?;
        ensure!(said.status.success(), "`{part}`: {}", String::from_utf8_lossy(&said.stderr));
        Ok(())
    }

    fn get(&self, path: &str, headers: &[(&str, &str)]) -> Result<http::Reply> {
        http::request(self.address, "GET", path, headers, &[])
    }

    /// What a program of `user` is answered when it asks for a secret.
    fn ask_as(&self, user: u32) -> Result<String> {
        let url = format!("http://{}/secretsmanager/get?secretId=shop/db", self.address);
        let said = Command::new("python3")
            .args(["-c", ASK, &url])
            .env_clear()
            .current_dir("/")
            .uid(user)
            .gid(user)
            .output()
            .context("a program cannot be run as another user: run the tests as root")?;
        ensure!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
        Ok(String::from_utf8(said.stdout)?.trim().to_owned())
    }
}

fn list(found: &[Finding]) -> String {
    found.iter().map(|finding| format!("\n  {finding}")).collect()
}

fn now() -> i64 {
    SystemClock.now().as_second()
}

const LIMIT: Duration = Duration::from_secs(60);
/// A number that no account has.
const SHOP: u32 = 61_004;
const WORKLOAD: &str = "spiffe://example.org/workload/shop";
const POD: &str = "spiffe://example.org/east/ns/shop/sa/web";

/// Says the status, and the kind of error where it is one.
const ASK: &str = r#"
import json, sys, urllib.error, urllib.request
request = urllib.request.Request(sys.argv[1], headers={"X-Aws-Parameters-Secrets-Token": "peer"})
try:
    answer = urllib.request.urlopen(request)
    json.load(answer)["SecretString"]
    print(answer.status)
except urllib.error.HTTPError as error:
    print(error.code, json.load(error)["__type"])
"#;

const BAO_POLICY: &str = r#"
path "secret/data/*" { capabilities = ["read"] }
path "secret/metadata/*" { capabilities = ["read"] }
"#;

const POLICIES: &str = r#"
@id("administrator")
permit (principal == Bursar::Principal::"spiffe://example.org/user/admin", action, resource);
@id("watch")
permit (principal, action == Bursar::Action::"watch", resource);
@id("shop")
permit (principal in Bursar::Group::"spiffe://example.org/workload", action in Bursar::Action::"use", resource)
unless { resource == Bursar::Secret::"local/closed" };
@id("pod")
permit (principal == Bursar::Principal::"spiffe://example.org/east/ns/shop/sa/web",
        action in Bursar::Action::"use", resource);
"#;
