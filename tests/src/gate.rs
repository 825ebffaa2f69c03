//! What stands before a server that cannot be stopped without forgetting everything: it closes and opens again on one
//! port, and can answer in the server's place.

use std::io::{BufRead, BufReader, Read, Write, copy};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result};

use crate::port::free_port;

/// A gate on a port of its own, open at first. Closed on drop.
#[derive(Debug)]
pub struct Gate {
    address: SocketAddr,
    server: SocketAddr,
    instead: Arc<Mutex<Option<Answer>>>,
    keeper: Option<Keeper>,
}

#[derive(Debug)]
struct Keeper {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

#[derive(Debug, Clone)]
struct Answer {
    status: u16,
    body: String,
}

impl Gate {
    /// Stands before `server`.
    ///
    /// # Errors
    /// No port can be had.
    pub fn before(server: SocketAddr) -> Result<Self> {
        let mut gate = Self { address: free_port()?, server, instead: Arc::default(), keeper: None };
        gate.open()?;
        Ok(gate)
    }

    /// Base URL, in plain text.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Lets connections through again.
    ///
    /// # Errors
    /// Somebody else took the port.
    pub fn open(&mut self) -> Result<()> {
        if self.keeper.is_some() {
            return Ok(());
        }
        let listener = TcpListener::bind(self.address).context("the gate's port was taken")?;
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, server, instead) = (Arc::clone(&stop), self.server, Arc::clone(&self.instead));
        let thread = thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if stopped.load(Ordering::Acquire) {
                    return;
                }
                let answer = instead.lock().unwrap_or_else(PoisonError::into_inner).clone();
                // Ends with its connection, whatever becomes of that.
                thread::spawn(move || match answer {
                    Some(answer) => drop(reply(client, &answer)),
                    None => drop(carry(client, server)),
                });
            }
        });
        self.keeper = Some(Keeper { stop, thread });
        Ok(())
    }

    /// Listens no more. Connections that are open go on.
    pub fn close(&mut self) {
        let Some(Keeper { stop, thread }) = self.keeper.take() else { return };
        stop.store(true, Ordering::Release);
        // Wakes whoever accepts, so that it sees.
        drop(TcpStream::connect(self.address));
        drop(thread.join());
    }

    /// Answers every request with this from now on, in the server's place.
    pub fn answer(&self, status: u16, body: &str) {
        let answer = Answer { status, body: body.to_owned() };
        *self.instead.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
    }

    /// Lets the server answer again.
    pub fn stand_aside(&self) {
        *self.instead.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.close();
    }
}

fn carry(client: TcpStream, server: SocketAddr) -> std::io::Result<()> {
    let server = TcpStream::connect(server)?;
    let (mut from_client, mut to_server) = (client.try_clone()?, server.try_clone()?);
    let (mut from_server, mut to_client) = (server, client);
    thread::spawn(move || {
        drop(copy(&mut from_client, &mut to_server));
        drop(to_server.shutdown(Shutdown::Write));
    });
    copy(&mut from_server, &mut to_client)?;
    to_client.shutdown(Shutdown::Both)
}

fn reply(client: TcpStream, answer: &Answer) -> std::io::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
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
    copy(&mut reader.take(length), &mut std::io::sink())?;
    let Answer { status, body } = answer;
    let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    (&client).write_all([head.as_bytes(), body.as_bytes()].concat().as_slice())
}
