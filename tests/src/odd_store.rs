//! A store that misbehaves as no real server can be made to. It stands where a Vault would.
//!
//! Logins and health checks are answered properly, so that what is tested is the read. What a read gets is the last
//! segment of its path: see [`Oddity`].

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::Result;

/// How a read is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Oddity {
    /// A proper secret, field `p`.
    Proper,
    /// The connection is kept and nothing is ever sent.
    Silent,
    /// The head comes at once, then a byte now and then, without an end.
    Drips,
    /// Bytes that are no HTTP.
    Garbage,
    /// HTTP whose body is no JSON.
    Page,
    /// A body of 10 MiB.
    Huge,
    /// The connection is closed.
    Closes,
    /// Status 500, with a secret in the error.
    Fails,
}

impl Oddity {
    /// The last segment of the path that is answered so.
    pub fn path(self) -> &'static str {
        match self {
            Self::Proper => "proper",
            Self::Silent => "silent",
            Self::Drips => "drips",
            Self::Garbage => "garbage",
            Self::Page => "page",
            Self::Huge => "huge",
            Self::Closes => "closes",
            Self::Fails => "fails",
        }
    }

    /// Every one.
    pub const ALL: [Self; 8] = [
        Self::Proper,
        Self::Silent,
        Self::Drips,
        Self::Garbage,
        Self::Page,
        Self::Huge,
        Self::Closes,
        Self::Fails,
    ];
}

/// A running store. Its threads end with their connections, and the one that accepts on drop.
#[derive(Debug)]
pub struct OddStore {
    address: SocketAddr,
    calls: Arc<Mutex<BTreeMap<Oddity, usize>>>,
    stop: Arc<AtomicBool>,
}

impl OddStore {
    /// Starts one. `said` is what it puts into answers that are no secrets, where nobody may quote it.
    ///
    /// # Errors
    /// No port can be had.
    pub fn start(said: &str) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let calls = Arc::new(Mutex::new(BTreeMap::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (counts, stopped, said) = (Arc::clone(&calls), Arc::clone(&stop), said.to_owned());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if stopped.load(Ordering::Acquire) {
                    return;
                }
                let (counts, stopped, said) = (Arc::clone(&counts), Arc::clone(&stopped), said.clone());
                // A client that hangs up, which most of these answers are for, ends the thread.
                thread::spawn(move || drop(serve(stream, &counts, &stopped, &said)));
            }
        });
        Ok(Self { address, calls, stop })
    }

    /// Base URL, in plain text.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How many reads it got that were to be answered so.
    pub fn calls(&self, oddity: Oddity) -> usize {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).get(&oddity).copied().unwrap_or_default()
    }
}

impl Drop for OddStore {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        // Wakes whoever accepts, so that it sees.
        drop(TcpStream::connect(self.address));
    }
}

fn serve(
    stream: TcpStream,
    calls: &Mutex<BTreeMap<Oddity, usize>>,
    stop: &AtomicBool,
    said: &str,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut writer = stream;
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let target = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut length = 0;
    loop {
        let mut header = String::new();
        if reader.read_line(&mut header)? == 0 || header.trim().is_empty() {
            break;
        }
        if let Some(value) = header.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or_default();
        }
    }
    std::io::copy(&mut reader.by_ref().take(length), &mut std::io::sink())?;
    if target.ends_with("/auth/token/lookup-self") {
        return reply(&mut writer, 200, r#"{"data":{"ttl":3600,"renewable":true}}"#);
    }
    let oddity = Oddity::ALL.into_iter().find(|oddity| target.ends_with(&format!("/data/{}", oddity.path())));
    let Some(oddity) = oddity else { return reply(&mut writer, 200, "{}") };
    *calls.lock().unwrap_or_else(PoisonError::into_inner).entry(oddity).or_default() += 1;
    match oddity {
        Oddity::Proper => {
            let secret = format!(r#"{{"data":{{"data":{{"p":"{said}"}},"metadata":{{"version":1}}}}}}"#);
            reply(&mut writer, 200, &secret)
        }
        // Returns when the client hangs up.
        Oddity::Silent => std::io::copy(&mut reader, &mut std::io::sink()).map(drop),
        Oddity::Drips => {
            writer.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n")?;
            while !stop.load(Ordering::Acquire) {
                writer.write_all(b" ")?;
                thread::sleep(DRIP);
            }
            Ok(())
        }
        Oddity::Garbage => writer.write_all(format!("\x16\x03 {said}\r\n\r\n").as_bytes()),
        Oddity::Page => reply(&mut writer, 200, &format!("<html>log in, {said}</html>")),
        Oddity::Huge => reply(&mut writer, 200, &said.repeat(HUGE / said.len().max(1))),
        Oddity::Closes => Ok(()),
        Oddity::Fails => reply(&mut writer, 500, &format!(r#"{{"errors":["{said}"]}}"#)),
    }
}

fn reply(stream: &mut TcpStream, status: u16, body: &str) -> std::io::Result<()> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())
}

/// Far below any timeout on silence, so that only a deadline on the whole call ends it.
const DRIP: Duration = Duration::from_millis(50);
const HUGE: usize = 10 * 1024 * 1024;
