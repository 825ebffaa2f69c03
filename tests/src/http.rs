//! The smallest HTTP client that can ask a server on loopback: plain text, one request a connection.
//!
//! It speaks HTTP/1.0, so that the server neither chunks its answer nor keeps the connection, and the end of the
//! stream is the end of the body. A client crate would drag an async runtime into every test that asks one question.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// An answer.
#[derive(Debug)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// The body as sent.
    pub body: Vec<u8>,
}

/// Sends one request and reads the whole answer, up to 16 MiB.
///
/// # Errors
/// No connection, no answer within 30 seconds, or an answer that is not HTTP.
pub fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Result<Reply> {
    let mut head =
        format!("{method} {path} HTTP/1.0\r\nHost: {address}\r\nContent-Length: {}\r\n", body.len());
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    let answer = exchange(address, head.as_bytes(), body)
        .with_context(|| format!("`{method} {path}` to {address} got no answer"))?;
    parse(&answer).with_context(|| format!("`{method} {path}` to {address} got an answer that is not HTTP"))
}

fn exchange(address: SocketAddr, head: &[u8], body: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&address, LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    stream.write_all(head)?;
    stream.write_all(body)?;
    let mut answer = Vec::new();
    stream.take(LARGEST).read_to_end(&mut answer)?;
    Ok(answer)
}

pub(crate) fn parse(answer: &[u8]) -> Result<Reply> {
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").context("it has no end of headers")?;
    let (head, body) = answer.split_at(end);
    let head = str::from_utf8(head).context("its headers are not text")?;
    ensure!(head.starts_with("HTTP/1."), "it does not begin with a version");
    let status = head.split(' ').nth(1).context("it has no status")?;
    Ok(Reply { status: status.parse()?, body: body.iter().skip(4).copied().collect() })
}

const LIMIT: Duration = Duration::from_secs(30);
const LARGEST: u64 = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_split_into_status_and_body() {
        let reply = parse(b"HTTP/1.0 404 Not Found\r\nDate: today\r\n\r\nno\r\n\r\nmore").unwrap();
        assert_eq!((reply.status, reply.body.as_slice()), (404, b"no\r\n\r\nmore".as_slice()));
    }

    #[test]
    fn an_answer_cut_off_in_its_headers_is_an_error() {
        parse(b"HTTP/1.0 200 OK\r\nDate: to").unwrap_err();
    }

    #[test]
    fn a_server_of_another_protocol_is_an_error() {
        parse(b"SSH-2.0-x 200 \r\n\r\n").unwrap_err();
    }
}
