//! Secrets Manager and STS that answer what a test tells them to.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, Once};
use std::time::Duration;

use bursar_core::clock::TestClock;
use bursar_core::{BackendName, LeaseId, Secret, SecretPath};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::{AwsBackend, AwsConfig, Credentials, Revocation, Role, SecretReader};

/// The key that [`config`] signs with.
pub(super) const KEY_ID: &str = "AKIAFAKEFAKEFAKEFAKE";
pub(super) const KEY: &str = "key-canary-Wx3";
pub(super) const ROLE: &str = "arn:aws:iam::123456789012:role/deploy";

/// A running fake, stopped when dropped.
pub(super) struct Fake {
    pub(super) address: String,
    seen: Arc<Mutex<Vec<Call>>>,
    _connections: JoinSet<()>,
}

/// A call as it arrived.
#[derive(Debug, Clone, Default)]
pub(super) struct Call {
    /// `GetSecretValue`, `AssumeRole`…
    pub(super) action: String,
    pub(super) headers: BTreeMap<String, String>,
    pub(super) body: String,
}

impl Call {
    /// Whose key it is signed with; empty for a call that is not.
    pub(super) fn key_id(&self) -> &str {
        let credential =
            self.headers.get("authorization").and_then(|header| header.split_once("Credential="));
        credential.and_then(|(_, rest)| rest.split('/').next()).unwrap_or_default()
    }
}

/// What the fake does about a call.
#[derive(Debug, Clone)]
pub(super) enum Reply {
    /// Status and body.
    Text(u16, String),
    /// Status, one header, body.
    With(u16, &'static str, String),
    /// These bytes instead of HTTP.
    Raw(Vec<u8>),
    /// A head, and then a byte now and then without an end.
    Drips,
    Silence,
}

impl Fake {
    /// Answers as `script` says, and that there is nothing where it says nothing.
    pub(super) async fn start(script: impl Fn(&Call) -> Option<Reply> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = format!("http://{}", listener.local_addr().expect("address"));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let mut connections = JoinSet::new();
        let calls = Arc::clone(&seen);
        connections.spawn(async move {
            let script = Arc::new(script);
            let mut served = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.expect("a connection");
                served.spawn(serve(stream, Arc::clone(&script), Arc::clone(&calls)));
            }
        });
        Self { address, seen, _connections: connections }
    }

    /// Every call until now, oldest first.
    pub(super) fn calls(&self) -> Vec<Call> {
        self.seen.lock().expect("lock").clone()
    }

    /// How many calls of `action` there were.
    pub(super) fn count(&self, action: &str) -> usize {
        self.calls().iter().filter(|call| call.action == action).count()
    }

    /// A backend before this fake.
    pub(super) fn backend(&self) -> AwsBackend {
        backend(config(&self.address))
    }
}

pub(super) fn backend(config: AwsConfig) -> AwsBackend {
    install_provider();
    AwsBackend::new(config, Arc::new(TestClock::new())).expect("configuration")
}

pub(super) fn config(address: &str) -> AwsConfig {
    let role = Role {
        arn: ROLE.to_owned(),
        ttl: Role::DEFAULT_TTL,
        external_id: None,
        policy: None,
        session_tags: BTreeMap::new(),
        revoke: Revocation::AtEnd,
    };
    AwsConfig {
        name: BackendName::parse("aws").expect("name"),
        owner: "a test".to_owned(),
        region: "eu-central-1".to_owned(),
        endpoint: Some(address.to_owned()),
        sts_endpoint: Some(address.to_owned()),
        kms_endpoint: Some(address.to_owned()),
        iam_endpoint: Some(address.to_owned()),
        allow_plaintext: true,
        ca_file: None,
        timeout: Duration::from_secs(20),
        prefix: String::new(),
        credentials: keys(|| Secret::from(KEY.to_owned())),
        assume_role: None,
        roles: [("deploy".to_owned(), role)].into(),
    }
}

/// A key whose secret half is read by `read`.
pub(super) fn keys(read: impl Fn() -> Secret + Send + Sync + 'static) -> Credentials {
    let secret_access_key = SecretReader::new("a test", move || Ok(read()));
    Credentials::Keys { access_key_id: KEY_ID.to_owned(), secret_access_key, session_token: None }
}

pub(super) fn install_provider() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        rustls::crypto::ring::default_provider().install_default().expect("the only provider");
    });
}

pub(super) fn path(text: &str) -> SecretPath {
    SecretPath::from_store(text).expect("path")
}

/// The id of some lease.
pub(super) fn lease() -> LeaseId {
    LeaseId::from_bytes([7; 16])
}

pub(super) fn text(status: u16, body: &str) -> Option<Reply> {
    Some(Reply::Text(status, body.to_owned()))
}

/// A refusal in the form of Secrets Manager.
pub(super) fn refused(code: &str) -> Option<Reply> {
    text(400, &format!(r#"{{"__type":"{code}","Message":"words of AWS"}}"#))
}

/// A secret in the form of Secrets Manager; `member` is its value.
pub(super) fn value(member: &str) -> Option<Reply> {
    text(200, &format!(r#"{{"ARN":"a","Name":"n","VersionId":"{VERSION}","CreatedDate":1.5,{member}}}"#))
}

/// What STS answers: new credentials until `end`.
pub(super) fn session(action: &str, key_id: &str, secret: &str, end: &str) -> Option<Reply> {
    let made = format!(
        "<Credentials><AccessKeyId>{key_id}</AccessKeyId><SecretAccessKey>{secret}</SecretAccessKey>\
         <SessionToken>token of {key_id}</SessionToken><Expiration>{end}</Expiration></Credentials>"
    );
    let space = "https://sts.amazonaws.com/doc/2011-06-15/";
    let body = format!(
        r#"<{action}Response xmlns="{space}"><{action}Result>{made}</{action}Result></{action}Response>"#
    );
    text(200, &body)
}

pub(super) const VERSION: &str = "d04f2f0c-7a3b-4a8e-9a52-5b1a0e8f1c3d";

async fn serve(
    mut stream: TcpStream,
    script: Arc<impl Fn(&Call) -> Option<Reply>>,
    seen: Arc<Mutex<Vec<Call>>>,
) {
    let Some(call) = receive(&mut stream).await else { return };
    seen.lock().expect("lock").push(call.clone());
    let reply = script(&call).or_else(|| refused("ResourceNotFoundException"));
    let bytes = match reply.expect("a reply") {
        Reply::Text(status, body) => http(status, "Content-Type: application/x-amz-json-1.1", &body),
        Reply::With(status, header, body) => http(status, header, &body),
        Reply::Raw(bytes) => bytes,
        Reply::Drips => {
            drop(stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n").await);
            while stream.write_all(b" ").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            return;
        }
        Reply::Silence => std::future::pending().await,
    };
    // The client may be gone: some tests want it to be.
    drop(stream.write_all(&bytes).await);
}

fn http(status: u16, header: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status} X\r\n{header}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")
        .into_bytes()
}

async fn receive(stream: &mut TcpStream) -> Option<Call> {
    let mut bytes = Vec::new();
    let head_end = loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(bytes[..head_end].to_vec()).expect("an ASCII head");
    let header = |line: &str| {
        let (name, value) = line.split_once(": ").expect("a header");
        (name.to_lowercase(), value.to_owned())
    };
    let headers: BTreeMap<_, _> = head.lines().skip(1).map(header).collect();
    let length = headers.get("content-length").map_or(0, |length| length.parse().expect("a length"));
    while bytes.len() < head_end + 4 + length {
        stream.read_buf(&mut bytes).await.ok()?;
    }
    let body = String::from_utf8(bytes[head_end + 4..].to_vec()).expect("a UTF-8 body");
    let action = match headers.get("x-amz-target") {
        Some(target) => target.rsplit('.').next().unwrap_or_default(),
        None => body.split('&').find_map(|pair| pair.strip_prefix("Action=")).unwrap_or_default(),
    };
    Some(Call { action: action.to_owned(), headers, body })
}
