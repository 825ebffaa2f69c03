use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::admission::Admission;
use crate::attest::Attestor;
use crate::config::{Aws, Config};
use crate::testing::{LIMIT, Rig, eventually};

/// The port, before a fake broker that has the secret `kv/app`.
struct Served {
    rig: Rig,
    address: SocketAddr,
}

impl Served {
    async fn new() -> Self {
        Self::with("mount = 'kv'\n", 16).await
    }

    async fn with(aws: &str, places: usize) -> Self {
        let rig = Rig::new().await;
        let text = format!(
            "broker = 'https://b'\nca_file = 'c'\nnode = 'n'\ndata_dir = 'd'\n[aws]\nlisten = '127.0.0.1:0'\n{aws}"
        );
        let config: Aws = Config::parse(&text).expect("good").aws.expect("a port");
        let port = Port::bind(config.listen).await.expect("bound");
        let address = port.address().expect("an address");
        let attestor = Arc::new(Attestor::new().expect("attestor"));
        let front = Front::new(&config, Arc::clone(&rig.answers), attestor, rig.metrics.clone());
        let admission = Admission::new(places, places);
        rig.tasks.run("aws", port.serve(front, admission, rig.tasks.clone()));
        Self { rig, address }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("connected")
    }

    async fn get(&self, path: &str, headers: &str) -> (u16, Value) {
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n")).await
    }

    async fn post(&self, target: &str, body: &Value, headers: &str) -> (u16, Value) {
        let body = body.to_string();
        self.send(&format!(
            "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-amz-json-1.1\r\n\
             X-Amz-Target: secretsmanager.{target}\r\nContent-Length: {}\r\n{headers}\r\n{body}",
            body.len()
        ))
        .await
    }

    async fn send(&self, request: &str) -> (u16, Value) {
        let mut stream = self.connect().await;
        stream.write_all(request.as_bytes()).await.expect("sent");
        answer(&mut stream).await
    }

    /// How many reads reached the broker.
    fn asked(&self) -> usize {
        self.rig.broker.script.calls("read")
    }
}

/// Reads one answer. The body is text where it is no JSON.
async fn answer(stream: &mut TcpStream) -> (u16, Value) {
    let (mut bytes, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
            let lower = head.to_ascii_lowercase();
            let length = lower.lines().find_map(|line| line.strip_prefix("content-length: "));
            if length
                .and_then(|length| length.parse::<usize>().ok())
                .is_none_or(|length| body.len() >= length)
            {
                return (status, serde_json::from_str(body).unwrap_or_else(|_| body.into()));
            }
        }
        let read =
            tokio::time::timeout(LIMIT, stream.read(&mut piece)).await.expect("in time").expect("read");
        assert!(read > 0, "it was closed after `{text}`");
        bytes.extend_from_slice(&piece[..read]);
    }
}

const GET: &str = "/secretsmanager/get?secretId=app";
const PEER: &str = "X-Aws-Parameters-Secrets-Token: peer\r\n";
const TOKEN: &str = "X-Aws-Parameters-Secrets-Token: a.b.c\r\n";

fn app() -> Value {
    json!({
        "ARN": "arn:bursar:secretsmanager:::secret:app",
        "Name": "app",
        "VersionId": "===============================1",
        "VersionStages": ["AWSCURRENT"],
        "SecretString": "secret-value",
    })
}

fn uid() -> String {
    format!("unix:uid:{}", rustix::process::geteuid().as_raw())
}

#[tokio::test]
async fn a_caller_is_attested_as_on_the_socket_and_what_the_cache_answers_is_journaled() {
    let served = Served::new().await;
    assert_eq!(served.get(GET, PEER).await, (200, app()));
    assert_eq!(served.get("/v1/app?versionStage=AWSCURRENT", PEER).await, (200, app()));
    assert_eq!(served.post("GetSecretValue", &json!({ "SecretId": "app" }), "").await, (200, app()));
    assert_eq!((served.asked(), served.rig.journal.len()), (1, 1));
    let contexts = served.rig.broker.script.state().contexts.clone();
    assert!(contexts.len() == 1 && contexts[0].selectors.contains(&uid()), "{contexts:?}");
    assert_eq!(contexts[0].pid, std::process::id());
    assert!(contexts[0].selectors.iter().any(|selector| selector.starts_with("unix:exe-sha256:")));
}

#[tokio::test]
async fn without_a_word_of_who_asks_nothing_is_asked() {
    let served = Served::new().await;
    let bad = [
        (GET, ""),
        (GET, "X-Aws-Parameters-Secrets-Token: \r\n"),
        (GET, "X-Aws-Parameters-Secrets-Token: of-the-whole-machine\r\n"),
        (GET, "Authorization: AWS4-HMAC-SHA256 Credential=x\r\n"),
    ];
    for (path, headers) in bad {
        let (status, body) = served.get(path, headers).await;
        assert!(
            status == 403 && body["message"].as_str().is_some_and(|text| text.starts_with("Bad Token")),
            "{body}"
        );
    }
    for headers in ["X-Forwarded-For: 10.0.0.1\r\n", "Forwarded: for=10.0.0.1\r\n"] {
        assert_eq!(served.get(GET, &format!("{PEER}{headers}")).await.0, 400);
    }
    assert_eq!(served.get("/ping", "").await, (200, "healthy".into()));
    assert_eq!(served.asked(), 0);
}

#[tokio::test]
async fn what_a_token_got_is_for_that_token_and_for_nobody_without_it() {
    let served = Served::new().await;
    let post = |headers: &'static str| {
        let served = &served;
        async move { served.post("GetSecretValue", &json!({ "SecretId": "app" }), headers).await.0 }
    };
    assert_eq!(served.get(GET, TOKEN).await.0, 200);
    assert_eq!(served.get(GET, "Authorization: Bearer a.b.c\r\n").await.0, 200);
    assert_eq!(post("X-Amz-Security-Token: a.b.c\r\nAuthorization: AWS4-HMAC-SHA256 x\r\n").await, 200);
    assert_eq!(served.asked(), 1);
    assert_eq!(served.get(GET, PEER).await.0, 200);
    assert_eq!(served.get(GET, "X-Vault-Token: d.e.f\r\n").await.0, 200);
    let state = served.rig.broker.script.state();
    assert_eq!(state.authorizations, ["Bearer a.b.c", "Bearer d.e.f"]);
    assert_eq!(state.contexts.len(), 1, "a token and what was attested were sent together");
}

#[tokio::test]
async fn where_the_user_is_enough_nothing_else_is_attested() {
    let served = Served::with("mount = 'kv'\ncallers = 'user'\n", 16).await;
    assert_eq!(served.get(GET, PEER).await.0, 200);
    let contexts = served.rig.broker.script.state().contexts.clone();
    assert!(contexts.len() == 1 && contexts[0].selectors == [uid()] && contexts[0].pid == 0, "{contexts:?}");
}

#[tokio::test]
async fn a_connection_that_several_programs_hold_is_nobodys() {
    let served = Served::new().await;
    let stream = std::net::TcpStream::connect(served.address).expect("connected");
    let copy = OwnedFd::from(stream.try_clone().expect("a copy"));
    let mut child = Command::new("tail");
    let mut child = child.args(["-f", "/dev/null"]).stdin(Stdio::from(copy)).spawn().expect("a child");
    stream.set_nonblocking(true).expect("set");
    let mut stream = TcpStream::from_std(stream).expect("a stream");
    let request = format!("GET {GET} HTTP/1.1\r\nHost: localhost\r\n{PEER}\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let (status, body) = answer(&mut stream).await;
    let message = body["message"].as_str().unwrap_or_default().to_owned();
    child.kill().expect("killed");
    child.wait().expect("ended");
    assert!(status == 403 && message.contains("several programs hold the connection"), "{status} {body}");
    assert_eq!(served.asked(), 0);
    // A token is enough where nobody can tell the process.
    stream.write_all(request.replace("peer", "a.b.c").as_bytes()).await.expect("sent");
    assert_eq!(answer(&mut stream).await.0, 200);
}

#[tokio::test]
async fn a_refresh_asks_the_store_and_versions_are_those_of_the_store() {
    let served = Served::new().await;
    served.rig.broker.script.state().secrets.insert("kv/app@AWSPREVIOUS".to_owned(), b"\xff".to_vec());
    assert_eq!(served.get(GET, PEER).await.0, 200);
    assert_eq!(served.get(&format!("{GET}&refreshNow=true"), PEER).await.0, 200);
    assert_eq!(served.asked(), 2);
    let (status, body) = served.get(&format!("{GET}&versionStage=AWSPREVIOUS"), PEER).await;
    assert_eq!(
        (status, &body["SecretBinary"], &body["VersionStages"]),
        (200, &json!("/w=="), &json!(["AWSPREVIOUS"]))
    );
    let (status, body) = served.get(&format!("{GET}&versionStage=AWSCURRENT&versionId=2"), PEER).await;
    assert_eq!((status, &body["__type"]), (400, &json!("ResourceNotFoundException")));
}

#[tokio::test]
async fn a_batch_names_what_failed_beside_what_was_read() {
    let served = Served::new().await;
    let (status, body) =
        served.post("BatchGetSecretValue", &json!({ "SecretIdList": ["app", "absent"] }), "").await;
    let error = json!({ "SecretId": "absent", "ErrorCode": "ResourceNotFoundException", "Message": "no such secret" });
    assert_eq!((status, body), (200, json!({ "SecretValues": [app()], "Errors": [error] })));
    let described = served.post("DescribeSecret", &json!({ "SecretId": "app" }), "").await;
    let arn = "arn:bursar:secretsmanager:::secret:app";
    assert_eq!(
        described,
        (
            200,
            json!({ "ARN": arn, "Name": "app", "VersionIdsToStages": { "===============================1": ["AWSCURRENT"] } })
        )
    );
    for bad in
        [json!({ "SecretIdList": [] }), json!({ "SecretIdList": vec!["app"; 21] }), json!({ "Filters": [] })]
    {
        assert_eq!(served.post("BatchGetSecretValue", &bad, "").await.0, 400, "{bad}");
    }
    let (status, body) = served.post("PutSecretValue", &json!({ "SecretId": "app" }), "").await;
    assert_eq!((status, &body["__type"]), (400, &json!("UnknownOperationException")));
}

#[tokio::test]
async fn requests_that_are_none_are_refused_and_the_port_goes_on() {
    let served = Served::new().await;
    let long = format!("GET /v1/{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "x".repeat(100_000));
    let many = format!("GET /ping HTTP/1.1\r\nHost: localhost\r\n{}\r\n", "A: b\r\n".repeat(1000));
    let large = format!(
        "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-amz-json-1.1\r\n\
         X-Amz-Target: secretsmanager.GetSecretValue\r\nContent-Length: 100000\r\n\r\n{}",
        "x".repeat(100_000)
    );
    for (request, status) in [(&long, 431), (&many, 431), (&large, 400)] {
        let mut stream = served.connect().await;
        // It may be refused before all of it is sent.
        drop(stream.write_all(request.as_bytes()).await);
        let mut bytes = [0; 12];
        let read = tokio::time::timeout(LIMIT, stream.read_exact(&mut bytes)).await.expect("in time");
        // What was not read yet makes the kernel reset the connection, at times before the answer has been taken.
        if read.is_ok() {
            assert_eq!(String::from_utf8_lossy(&bytes), format!("HTTP/1.1 {status}"));
        }
    }
    for junk in [&b"\x16\x03\x01\x02\x00\x01\x00"[..], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET\r\n\r\n"] {
        let mut stream = served.connect().await;
        stream.write_all(junk).await.expect("sent");
        drop(stream);
    }
    assert_eq!(served.get(GET, PEER).await, (200, app()));
}

#[tokio::test]
async fn places_are_bounded_and_come_back() {
    let served = Served::with("mount = 'kv'\n", 2).await;
    let silent = [served.connect().await, served.connect().await];
    eventually("both to have a place", || served.rig.metrics.open_connections.get() == 2).await;
    for _ in 0..300 {
        let mut stream = served.connect().await;
        let (status, body) = answer(&mut stream).await;
        assert_eq!((status, &body["__type"]), (429, &json!("ThrottlingException")));
    }
    drop(silent);
    eventually("the places to be free", || served.rig.metrics.open_connections.get() == 0).await;
    assert_eq!(served.get(GET, PEER).await.0, 200);
}

#[tokio::test]
async fn whoever_sends_nothing_or_half_a_request_loses_the_place() {
    let served = Served::new().await;
    let mut silent = vec![served.connect().await, served.connect().await];
    silent[1].write_all(b"GET /ping HTTP/1.1\r\nHost: loc").await.expect("sent");
    eventually("both to be there", || served.rig.metrics.open_connections.get() == 2).await;
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(60)).await;
    tokio::time::resume();
    for mut stream in silent {
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(LIMIT, stream.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "it still has its place");
    }
}
