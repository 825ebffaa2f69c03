//! What stands before an emulator that lets everybody in: who gives tokens, as Google does, and who asks for them.
//!
//! A token is given for the assertion of one service account, whose signature is checked, and to whoever asks as one asks
//! a metadata server. It is the same until it ends. Each answer ends its connection, so that what stands before the door
//! in turn decides about each call.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result, ensure};
use data_encoding::{BASE64, BASE64URL_NOPAD};
use ring::signature::{KeyPair, RSA_PKCS1_2048_8192_SHA256, RsaKeyPair, UnparsedPublicKey};
use serde_json::{Value, json};

use crate::canary::Canary;
use crate::http::{self, Reply};

/// A door on a port of its own, in plain text. Its thread ends on drop.
#[derive(Debug)]
pub struct GoogleDoor {
    address: SocketAddr,
    keeper: Arc<Keeper>,
}

#[derive(Debug)]
struct Keeper {
    server: SocketAddr,
    token: Mutex<Canary>,
    /// Tokens that were given.
    given: AtomicUsize,
    /// What was asked for with a good token.
    asked: Mutex<Vec<String>>,
    /// Whether the account's key was taken away.
    refusing: AtomicBool,
    stop: AtomicBool,
}

struct Request {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl GoogleDoor {
    /// Stands before `server`.
    ///
    /// # Errors
    /// No port can be had.
    pub fn before(server: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let keeper = Arc::new(Keeper {
            server,
            token: Mutex::new(Canary::alphanumeric("access token")),
            given: AtomicUsize::new(0),
            asked: Mutex::default(),
            refusing: AtomicBool::new(false),
            stop: AtomicBool::new(false),
        });
        let kept = Arc::clone(&keeper);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if kept.stop.load(Ordering::Acquire) {
                    return;
                }
                let keeper = Arc::clone(&kept);
                // Who asks gets an error of its own when this fails.
                thread::spawn(move || drop(keeper.serve(stream)));
            }
        });
        Ok(Self { address, keeper })
    }

    /// Base URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The token that is good now.
    pub fn token(&self) -> Canary {
        self.keeper.token()
    }

    /// Ends the token that was given, and answers it: another is good from now on.
    pub fn end_token(&self) -> Canary {
        let mut token = self.keeper.token.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *token, Canary::alphanumeric("access token"))
    }

    /// How many tokens were given.
    pub fn given(&self) -> usize {
        self.keeper.given.load(Ordering::Acquire)
    }

    /// How often something was asked for whose name ends so.
    pub fn asked(&self, end: &str) -> usize {
        let asked = self.keeper.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.iter().filter(|target| target.ends_with(end)).count()
    }

    /// Takes the account's key away, or gives it back.
    pub fn refuse(&self, refuse: bool) {
        self.keeper.refusing.store(refuse, Ordering::Release);
    }

    /// The account's key, in Google's JSON.
    pub fn key(&self) -> String {
        let token_uri = format!("{}/token", self.url());
        let key = json!({
            "type": "service_account", "client_email": EMAIL, "private_key_id": "key-1", "private_key": KEY,
            "token_uri": token_uri,
        });
        key.to_string()
    }

    /// Writes it where only its reader may read it.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write_key(&self, file: &Path) -> Result<()> {
        fs::write(file, self.key())?;
        Ok(fs::set_permissions(file, fs::Permissions::from_mode(0o600))?)
    }

    /// A line of that key, to be searched for.
    ///
    /// # Errors
    /// It has none.
    pub fn key_line() -> Result<Canary> {
        Canary::known("private key", lines().nth(3).context("a key without lines")?)
    }
}

impl Drop for GoogleDoor {
    fn drop(&mut self) {
        self.keeper.stop.store(true, Ordering::Release);
        // Wakes whoever accepts, so that it sees.
        drop(TcpStream::connect(self.address));
    }
}

impl Keeper {
    fn token(&self) -> Canary {
        self.token.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn serve(&self, stream: TcpStream) -> Result<()> {
        let request = Request::read(&stream)?;
        let reply = match request.target.as_str() {
            "/token" if self.refusing.load(Ordering::Acquire) => {
                answer(400, &json!({ "error": "invalid_grant" }))
            }
            "/token" => match signed_by_account(&request.body) {
                Ok(()) => self.give(),
                Err(_) => answer(400, &json!({ "error": "invalid_grant" })),
            },
            METADATA if request.header("metadata-flavor") == Some("Google") => self.give(),
            _ if request.header("authorization") == Some(&format!("Bearer {}", self.token().value())) => {
                self.asked.lock().unwrap_or_else(PoisonError::into_inner).push(request.target.clone());
                http::request(self.server, &request.method, &request.target, &[], &request.body)?
            }
            _ => answer(401, &json!({ "error": { "code": 401, "status": "UNAUTHENTICATED" } })),
        };
        let head = format!(
            "HTTP/1.1 {} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            reply.status,
            reply.body.len()
        );
        Ok((&stream).write_all(&[head.as_bytes(), &reply.body].concat())?)
    }

    fn give(&self) -> Reply {
        self.given.fetch_add(1, Ordering::AcqRel);
        let token = self.token();
        answer(200, &json!({ "access_token": token.value(), "expires_in": 3599, "token_type": "Bearer" }))
    }
}

impl Request {
    fn read(stream: &TcpStream) -> Result<Self> {
        let mut reader = BufReader::new(stream);
        let mut first = String::new();
        reader.read_line(&mut first)?;
        let mut words = first.split(' ').map(str::to_owned);
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let mut headers = Vec::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
                break;
            }
            if let Some((name, value)) = line.split_once(':') {
                headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
            }
        }
        let mut request = Self { method, target, headers, body: Vec::new() };
        let length = request.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        reader.take(length).read_to_end(&mut request.body)?;
        Ok(request)
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }
}

/// Fails unless the form holds an assertion of the account, for this audience, signed with its key.
fn signed_by_account(form: &[u8]) -> Result<()> {
    let form = std::str::from_utf8(form)?;
    ensure!(
        form.contains("grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer"),
        "another grant"
    );
    let assertion = form.split('&').find_map(|pair| pair.strip_prefix("assertion="));
    let (said, signature) = assertion.and_then(|text| text.rsplit_once('.')).context("no assertion")?;
    let claims = said.split('.').nth(1).context("no claims")?;
    let claims: Value = serde_json::from_slice(&BASE64URL_NOPAD.decode(claims.as_bytes())?)?;
    ensure!(claims.get("iss").and_then(Value::as_str) == Some(EMAIL), "another account");
    let key = BASE64.decode(lines().collect::<String>().as_bytes())?;
    let key = RsaKeyPair::from_pkcs8(&key).ok().context("no key")?;
    let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key.public_key().as_ref());
    let signature = BASE64URL_NOPAD.decode(signature.as_bytes())?;
    public.verify(said.as_bytes(), &signature).ok().context("another key")
}

/// What is between the lines of the key's PEM.
fn lines() -> impl Iterator<Item = &'static str> {
    let (_, rest) = KEY.split_once("-----BEGIN PRIVATE KEY-----").unwrap_or_default();
    let (text, _) = rest.split_once("-----END").unwrap_or_default();
    text.lines().filter(|line| !line.is_empty())
}

fn answer(status: u16, body: &Value) -> Reply {
    Reply { status, body: body.to_string().into_bytes() }
}

/// The one with which the backend's own tests sign. Nothing here can make another.
const KEY: &str = include_str!("../../broker/backends/http/src/testing/key.pem");
const EMAIL: &str = "broker@bursar-test.iam.gserviceaccount.com";
const METADATA: &str = "/computeMetadata/v1/instance/service-accounts/default/token";
