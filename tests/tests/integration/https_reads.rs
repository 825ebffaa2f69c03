//! Reads over HTTPS, as the External Secrets Operator makes them: by templates, with a token, and no way past what a read by
//! gRPC has to pass.

mod crowd;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bursar_core::Clock;
use bursar_core::clock::SystemClock;
use bursar_tests::{
    Broker, Canary, Cli, IssuerDoor, TokenIssuer, free_port, scan, scan_bytes, text, venv, wait_for,
    wait_until,
};
use serde_json::{Value, json};

#[test]
fn templates_get_values_and_maps_under_one_lease_and_nothing_of_it_is_anywhere_else() -> Result<()> {
    let mut site = Site::start("")?;
    let (value, token) = (Canary::random("password"), site.token("shop", 600)?);
    let put = |reference: &str, field: &str, value: &str| {
        site.admin.done_with(&["secret", "put", reference, "--field", field], value.as_bytes()).map(drop)
    };
    put("local/shop/db", "password", "the first")?;
    put("local/shop/db", "password", value.value())?;
    put("local/team a/100%25", "port", "5432")?;
    let answers = site.ask(&[
        json!({ "key": "local/shop/db", "property": "password", "headers": bearer(&token) }),
        json!({ "key": "local/shop/db", "property": "password", "version": "1", "headers": bearer(&token) }),
        json!({ "key": "local/shop/db", "headers": bearer(&token) }),
        json!({ "key": "local/team a/100%25", "property": "port", "headers": bearer(&token) }),
        json!({ "path": "/v1/secret?path=local/shop/db&property=password&encoding=base64", "headers": bearer(&token) }),
    ])?;
    let said = |at: usize| answers.get(at).map(|answer| text(answer, "/body/value")).unwrap_or_default();
    ensure!(said(0) == value.value() && said(1) == "the first", "another value was read");
    // The operator reads a text that is JSON as the map of `extract`.
    let map: Value = serde_json::from_str(&said(2))?;
    ensure!(map == json!({ "password": value.value() }), "the map is another");
    ensure!(said(3) == "5432", "a number is no text: {:?}", answers.get(3));
    ensure!(said(4) == data_encoding::BASE64.encode(value.value().as_bytes()), "the Base64 is another");
    let headers = answers.first().and_then(|answer| answer.get("headers")).context("no headers")?;
    ensure!(headers.get("cache-control") == Some(&json!("no-store")), "{headers}");

    let records = site.admin.audit(&["--principal", SHOP, "--action", "read"])?;
    ensure!(records.len() == 5, "there are {} records", records.len());
    let id = headers.get("bursar-request-id").and_then(Value::as_str).context("no request id")?;
    let record = records.iter().find(|record| text(record, "/request_id") == id).context("no record")?;
    ensure!(text(record, "/actor/method") == "kubernetes", "{record}");
    let leases = site.admin.json(&["lease", "list", "--principal", SHOP])?;
    let of_db = |lease: &&Value| text(lease, "/reference").starts_with("local/shop/db@2");
    let held = leases.as_array().map_or(0, |leases| leases.iter().filter(of_db).count());
    ensure!(held == 1, "repeated reads hold {held} leases: {leases}");

    let signature = token.rsplit('.').next().context("no signature")?;
    let canaries = [value, Canary::known("the token", &token)?, Canary::known("its signature", signature)?];
    let canaries: Vec<&Canary> = canaries.iter().collect();
    let mut shown = site.broker.http("/metrics")?.body;
    shown.extend(site.admin.run(&["audit", "export"])?.stdout);
    site.broker.process().stop()?;
    let mut found = scan(site.broker.directory(), &canaries)?;
    found.extend(scan_bytes("metrics and records", &shown, &canaries)?);
    ensure!(
        found.is_empty(),
        "secrets leaked: {}",
        found.iter().map(|one| format!("\n  {one}")).collect::<String>()
    );
    Ok(())
}

#[test]
fn denied_looks_the_same_whatever_is_there_and_only_what_is_gone_is_not_found() -> Result<()> {
    let site = Site::start("")?;
    site.admin.done_with(&["secret", "put", "local/shop/db", "--field", "password"], b"x")?;
    let (shop, other) = (bearer(&site.token("shop", 600)?), bearer(&site.token("other", 600)?));
    let answers = site.ask(&[
        json!({ "key": "local/shop/db", "headers": other }),
        json!({ "key": "local/shop/absent", "headers": other }),
        json!({ "key": "nowhere/a", "headers": other }),
        json!({ "key": "local/shop/absent", "headers": shop }),
        json!({ "key": "local/shop/db", "property": "absent", "headers": shop }),
        json!({ "key": "local/shop/db", "version": "9", "headers": shop }),
        json!({ "key": "local", "headers": shop }),
        json!({ "path": "/v2/secret?path=local/shop/db", "headers": shop }),
        json!({ "path": "/v1/secret?path=local/shop/db&env=x", "headers": shop }),
        json!({ "key": "local/shop/db", "method": "POST", "headers": shop }),
    ])?;
    let statuses: Vec<_> = answers.iter().map(status).collect();
    ensure!(statuses == [403, 403, 403, 404, 404, 404, 400, 400, 400, 405], "{answers:?}");
    let refusal = |at: usize| answers.get(at).map(|answer| text(answer, "/body/error/message"));
    ensure!(refusal(0) == refusal(1), "a denial tells what is there: {answers:?}");
    let reasons: Vec<_> = answers.iter().map(|answer| text(answer, "/body/error/reason")).collect();
    ensure!(
        reasons.get(..6).is_some_and(|reasons| reasons
            == [
                "ACCESS_DENIED",
                "ACCESS_DENIED",
                "ACCESS_DENIED",
                "SECRET_NOT_FOUND",
                "FIELD_NOT_FOUND",
                "VERSION_NOT_FOUND",
            ]),
        "{reasons:?}"
    );
    let id = answers.first().map(|answer| text(answer, "/body/error/request_id")).context("no answer")?;
    let records = site.admin.audit(&["--request", &id])?;
    let record = records.first().context("the denial left no record")?;
    ensure!(text(record, "/outcome") == "denied" && text(record, "/action") == "read", "{record}");
    Ok(())
}

#[test]
fn nobody_is_answered_and_leaves_no_record() -> Result<()> {
    let site = Site::start("[limits.rate]\nper_address = 20\n")?;
    site.admin.done_with(&["secret", "put", "local/shop/db"], b"x")?;
    let (token, ended) = (site.token("shop", 600)?, site.token("shop", -120)?);
    let forged = TokenIssuer::new()?.token_by(&text(site.issuer.jwk(), "/kid"), &site.claims("shop", 600))?;
    let two =
        json!([["Authorization", format!("Bearer {token}")], ["Authorization", format!("Bearer {token}")]]);
    let cases = [
        (json!([]), "UNAUTHENTICATED"),
        (bearer(&forged), "TOKEN_INVALID"),
        (bearer(&ended), "TOKEN_EXPIRED"),
        (bearer("x"), "TOKEN_INVALID"),
        (json!([["Authorization", "Basic eDp5"]]), "TOKEN_INVALID"),
        (two, "TOKEN_INVALID"),
    ];
    let before = site.admin.audit(&[])?.len();
    for (headers, reason) in cases {
        let answers = site.ask(&[json!({ "key": "local/shop/db", "headers": headers })])?;
        let answer = answers.first().context("no answer")?;
        ensure!(status(answer) == 401 && text(answer, "/body/error/reason") == reason, "{answer}");
        ensure!(text(answer, "/headers/www-authenticate") == "Bearer", "{answer}");
    }
    // A header by which nodes speak for others is worth nothing here.
    let odd = json!([["Authorization", format!("Bearer {token}")], ["bursar-workload-bin", "AAAA"]]);
    let answers = site.ask(&[json!({ "key": "local/shop/db", "headers": odd })])?;
    ensure!(answers.first().map(status) == Some(200), "{answers:?}");
    // The address pays, and is told when to come back.
    let often = json!({ "key": "local/shop/db", "headers": bearer("x") });
    let refused = wait_for(LIMIT, "the rate to be used up", || {
        // Whoever comes too often may be turned away before the handshake, too.
        let answers = site.ask(&vec![often.clone(); 400]).unwrap_or_default();
        Ok(answers.into_iter().find(|answer| status(answer) == 429))
    })?;
    ensure!(!text(&refused, "/headers/retry-after").is_empty(), "{refused}");
    let after = wait_for(LIMIT, "the administrator to be let in", || Ok(site.admin.audit(&[]).ok()))?;
    let strangers = after.iter().filter(|record| text(record, "/action") == "authenticate").count();
    let added = after.len() - before;
    // The query itself and the one read.
    ensure!(strangers == 0 && added <= 3, "{strangers} of strangers, {added} in all");
    Ok(())
}

#[test]
fn what_is_no_request_is_refused_and_the_port_goes_on() -> Result<()> {
    let site = Site::start("")?;
    site.admin.done_with(&["secret", "put", "local/shop/db"], b"x")?;
    let token = site.token("shop", 600)?;
    let good = json!({ "key": "local/shop/db", "headers": bearer(&token) });
    // In the clear, there is nobody.
    let mut plain = TcpStream::connect(site.address)?;
    plain.set_read_timeout(Some(LIMIT))?;
    plain.write_all(
        format!("GET /v1/secret?path=local/shop/db HTTP/1.1\r\nAuthorization: Bearer {token}\r\n\r\n")
            .as_bytes(),
    )?;
    let mut answer = Vec::new();
    drop(plain.read_to_end(&mut answer));
    ensure!(!answer.windows(4).any(|bytes| bytes == b"HTTP"), "it was answered in the clear");
    // Nothing, or half a handshake, loses its place.
    let mut silent = [TcpStream::connect(site.address)?, TcpStream::connect(site.address)?];
    silent[1].write_all(b"\x16\x03\x01\x02\x00\x01")?;
    for stream in &mut silent {
        stream.set_read_timeout(Some(LIMIT))?;
        ensure!(stream.read_to_end(&mut Vec::new()).is_ok(), "it still has its place");
    }
    let long = json!({ "path": format!("/v1/secret?path=local/{}", "x".repeat(200_000)), "headers": bearer(&token) });
    let large = json!({ "key": "local/shop/db", "headers": [["X-Large", "x".repeat(200_000)]] });
    for request in [long, large] {
        // The server may be done before the client has sent it all.
        for answer in site.ask(&[request]).unwrap_or_default() {
            ensure!(status(&answer) == 431, "it was answered with {}", status(&answer));
        }
    }
    let answers = site.ask(&[good])?;
    ensure!(answers.first().map(status) == Some(200), "{answers:?}");
    wait_until(LIMIT, "the broker to be ready", || {
        site.broker.http("/readyz").is_ok_and(|ready| ready.status == 200)
    })
}

struct Site {
    door: IssuerDoor,
    issuer: TokenIssuer,
    broker: Broker,
    admin: Cli,
    address: SocketAddr,
}

impl Site {
    fn start(more: &str) -> Result<Self> {
        let (door, issuer, address) = (IssuerDoor::start()?, TokenIssuer::new()?, free_port()?);
        door.publish(&[&issuer]);
        let mut broker = Broker::start(&format!(
            "{more}[identity.issuers.east]\nkind = 'kubernetes'\npath = 'east'\nissuer = '{}'\n\
             audience = 'bursar'\nca_file = '{}'\n[backends.local]\nkind = 'local'\n",
            door.url(),
            door.ca().display()
        ))?;
        broker.restart_with("[listen]\n", &format!("[listen]\nhttps = '{address}'\n"))?;
        let admin = Cli::administering(&broker)?;
        admin.apply_policies(POLICIES, "")?;
        Ok(Self { door, issuer, broker, admin, address })
    }

    /// The answers to `requests`, one after the other.
    fn ask(&self, requests: &[Value]) -> Result<Vec<Value>> {
        self.ask_from("127.0.0.1", requests)
    }

    /// The same, from another address of this machine.
    fn ask_from(&self, source: &str, requests: &[Value]) -> Result<Vec<Value>> {
        let mut client = Command::new(venv("python")?)
            .args(["-c", include_str!("https_reads/client.py")])
            .env_clear()
            .env("HOST", self.address.to_string())
            .env("SOURCE", source)
            .env("CA", self.broker.bootstrap("ca.pem"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        client.stdin.take().context("no input")?.write_all(json!(requests).to_string().as_bytes())?;
        let said = client.wait_with_output()?;
        ensure!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
        Ok(serde_json::from_slice(&said.stdout)?)
    }

    fn token(&self, namespace: &str, life: i64) -> Result<String> {
        self.issuer.token(&self.claims(namespace, life))
    }

    fn claims(&self, namespace: &str, life: i64) -> Value {
        let now = SystemClock.now().as_second();
        json!({
            "iss": self.door.url(), "aud": ["bursar"], "sub": format!("system:serviceaccount:{namespace}:web"),
            "iat": now - 300, "nbf": now - 300, "exp": now + life,
            "kubernetes.io": {
                "namespace": namespace,
                "serviceaccount": { "name": "web", "uid": format!("sa-{namespace}") },
            },
        })
    }
}

fn bearer(token: &str) -> Value {
    json!([["Authorization", format!("Bearer {token}")]])
}

fn status(answer: &Value) -> u64 {
    answer.get("status").and_then(Value::as_u64).unwrap_or_default()
}

const LIMIT: Duration = Duration::from_secs(60);
const SHOP: &str = "spiffe://example.org/east/ns/shop/sa/web";

const POLICIES: &str = r#"
@id("everything")
permit (principal == Bursar::Principal::"spiffe://example.org/user/admin", action, resource);
@id("shop")
permit (principal in Bursar::Group::"spiffe://example.org/east/ns/shop", action in Bursar::Action::"use",
        resource in Bursar::Backend::"local");
"#;
