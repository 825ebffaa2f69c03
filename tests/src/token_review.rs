//! As much of a cluster's API server as whoever is shown a pod's token asks it: `TokenReview`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::Result;
use serde_json::{Value, json};

/// A running server on loopback, in plain text. Its thread ends on drop.
#[derive(Debug)]
pub struct TokenReviews {
    address: SocketAddr,
    good: Arc<Mutex<Option<String>>>,
    stop: Arc<AtomicBool>,
}

impl TokenReviews {
    /// Starts one that knows no token, of the service account `bursar` in the namespace `bursar`.
    ///
    /// # Errors
    /// No port can be had.
    pub fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let good = Arc::new(Mutex::new(None));
        let stop = Arc::new(AtomicBool::new(false));
        let (known, stopped) = (Arc::clone(&good), Arc::clone(&stop));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if stopped.load(Ordering::Acquire) {
                    return;
                }
                // Who asks gets an error of its own when this fails.
                drop(answer(stream, &known));
            }
        });
        Ok(Self { address, good, stop })
    }

    /// Base URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The one token that is good from now on: as when kubelet replaced a pod's.
    pub fn know(&self, token: &str) {
        *self.good.lock().unwrap_or_else(PoisonError::into_inner) = Some(token.to_owned());
    }
}

impl Drop for TokenReviews {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        // Wakes whoever accepts, so that it sees.
        drop(TcpStream::connect(self.address));
    }
}

fn answer(stream: TcpStream, good: &Mutex<Option<String>>) -> Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse()?;
        }
    }
    let mut body = Vec::new();
    reader.take(length).read_to_end(&mut body)?;
    let asked: Value = serde_json::from_slice(&body)?;
    let token = asked.pointer("/spec/token").and_then(Value::as_str);
    let known = token.is_some() && token == good.lock().unwrap_or_else(PoisonError::into_inner).as_deref();
    let user = json!({ "username": "system:serviceaccount:bursar:bursar", "uid": UID });
    // Good for every audience that was asked about.
    let audiences = asked.pointer("/spec/audiences").cloned().unwrap_or_default();
    let status = match known {
        true => json!({ "authenticated": true, "user": user, "audiences": audiences }),
        false => json!({}),
    };
    let review = json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {}, "status": status,
    });
    let review = review.to_string();
    let head = "HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nConnection: close";
    let mut stream = stream;
    Ok(write!(stream, "{head}\r\nContent-Length: {}\r\n\r\n{review}", review.len())?)
}

/// Of the service account.
const UID: &str = "9d0f8d1e-5b2c-4c51-9c2b-1f6a8f7a1c11";
