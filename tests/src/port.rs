//! Ports for servers that cannot be told to take port 0 and say what they got.
//!
//! Asking the kernel for one and giving it back is a race: until the server binds it, the kernel may lend the same
//! port to any outgoing connection of a test beside this one. So ports are taken from below the range the kernel
//! lends (32768 on Linux unless configured), each once a process, from a start that differs by process.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Result, bail};

/// A loopback address that nothing listens on and that this process will not be given again.
///
/// # Errors
/// Every port of the range is taken.
pub fn free_port() -> Result<SocketAddr> {
    static NEXT: OnceLock<AtomicU16> = OnceLock::new();
    let next = NEXT.get_or_init(|| AtomicU16::new(fastrand::u16(..COUNT)));
    for _ in 0..COUNT {
        let port = FIRST + next.fetch_add(1, Ordering::Relaxed) % COUNT;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
    bail!(
        "no port from {FIRST} to {} of 127.0.0.1 is free: end servers that earlier test runs left",
        FIRST + COUNT - 1
    )
}

const FIRST: u16 = 16_384;
const COUNT: u16 = 16_384;
