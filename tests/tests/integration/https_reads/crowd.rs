//! Ten thousand connections, and such as shook hands and say nothing then, at the broker's ports.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use bursar_tests::wait_until;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::json;

use super::{LIMIT, Site, bearer, status};

#[test]
fn ten_thousand_connections_cost_little_and_keep_nobody_elsewhere_out() -> Result<()> {
    let mut site = Site::start("")?;
    site.admin.done_with(&["secret", "put", "local/shop/db"], b"x")?;
    let good = json!({ "key": "local/shop/db", "headers": bearer(&site.token("shop", 600)?) });
    let before = site.broker.process().resident()?;
    let mut crowd = Vec::new();
    for number in 0..10_000 {
        let mut stream = TcpStream::connect(site.address)?;
        if number % 2 == 0 {
            // Half of what a handshake begins with; whoever came too often is closed already.
            drop(stream.write_all(b"\x16\x03\x01\x02\x00\x01"));
        }
        if crowd.len() < 4096 {
            crowd.push(stream);
        }
    }
    let resident = site.broker.process().resident()?;
    let answers = site.ask_from("127.0.0.2", std::slice::from_ref(&good))?;
    ensure!(answers.first().map(status) == Some(200), "{answers:?}");
    ensure!(resident < before + MEMORY, "{resident} KiB with the crowd, {before} before");
    drop(crowd);
    wait_until(LIMIT, "the crowd's own address to be let in", || {
        site.ask(std::slice::from_ref(&good)).is_ok_and(|answers| answers.first().map(status) == Some(200))
    })
}

#[test]
fn whoever_shook_hands_and_says_nothing_or_half_of_something_gives_the_place_back() -> Result<()> {
    let site = Site::start(&format!("[limits]\nconnections = {PLACES}\n"))?;
    site.admin.done_with(&["secret", "put", "local/shop/db"], b"x")?;
    let good = json!({ "key": "local/shop/db", "headers": bearer(&site.token("shop", 600)?) });
    let calls: SocketAddr = site.broker.address().trim_start_matches("https://").parse()?;
    let half_of_a_call =
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\x40\x01\x04\0\0\0\x01\x82";
    let cases = [
        (site.address, &b"GET /v1/secret?path=local/shop/db HTTP/1.1\r\nHost: bro"[..]),
        (calls, half_of_a_call),
    ];
    let mut held = Vec::new();
    for (address, half) in cases {
        for number in 0..PLACES {
            let mut stream = site.shake_hands(address)?;
            if number % 2 == 0 {
                stream.write_all(half)?;
            }
            held.push((address, number, stream));
        }
    }
    for (address, number, mut stream) in held {
        // Closed in order or not, once it took too long.
        let mut bytes = [0; 1024];
        while let Ok(1..) = stream.read(&mut bytes) {}
        let mut left = [0];
        let ended = stream.sock.peek(&mut left);
        let waits = ended.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
        ensure!(!waits, "connection {number} to {address} still has its place");
    }
    let answers = site.ask(&[good])?;
    ensure!(answers.first().map(status) == Some(200), "{answers:?}");
    site.admin.done(&["lease", "list"]).map(drop)
}

impl Site {
    /// A connection by TLS of somebody without a certificate.
    fn shake_hands(&self, address: SocketAddr) -> Result<StreamOwned<ClientConnection, TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.broker.bootstrap("ca.pem"))?)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let mut config = config.with_root_certificates(roots).with_no_client_auth();
        if self.address != address {
            config.alpn_protocols = vec![b"h2".to_vec()];
        }
        let name = ServerName::try_from(address.ip().to_string())?;
        let connection = ClientConnection::new(Arc::new(config), name)?;
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(LIMIT))?;
        let mut stream = StreamOwned::new(connection, stream);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock).context("no handshake")?;
        }
        Ok(stream)
    }
}

const PLACES: usize = 8;
/// For all that a crowd can make the broker hold. In KiB.
const MEMORY: u64 = 96 * 1024;
