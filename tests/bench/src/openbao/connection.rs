//! One HTTP/1.1 connection, by TLS or over a Unix socket, kept from request to request.
//!
//! Hand-made to stay cheap: client and server share the processors, so what a full client spends on headers it
//! does not need would be taken from the server and show as the server's slowness.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, version};

/// An open connection.
pub(super) struct Connection<S = TlsStream<TcpStream>> {
    stream: S,
    /// What is called the host.
    host: String,
    answer: Vec<u8>,
}

impl Connection<UnixStream> {
    /// Connects to the server at `socket`.
    pub(super) async fn at(socket: &Path) -> Result<Self> {
        let stream = UnixStream::connect(socket).await?;
        Ok(Self { stream, host: "localhost".to_owned(), answer: Vec::new() })
    }
}

impl Connection {
    /// Connects by TLS 1.3 to a server whose certificate is by `authority`.
    pub(super) async fn open(address: SocketAddr, authority: CertificateDer<'_>) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        roots.add(authority.into_owned())?;
        let config = ClientConfig::builder_with_protocol_versions(&[&version::TLS13])
            .with_root_certificates(roots)
            .with_no_client_auth();
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::from(address.ip());
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
        Ok(Self { stream, host: address.to_string(), answer: Vec::new() })
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// Sends `GET path`, reads the whole answer and returns its status.
    ///
    /// # Errors
    /// The connection ends, or the answer is not HTTP/1.1 with a length and at most 64 KiB.
    pub(super) async fn get(&mut self, path: &str, (name, value): (&str, &str)) -> Result<u16> {
        let host = &self.host;
        self.exchange(&format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{name}: {value}\r\n\r\n")).await
    }

    /// The same with `POST path` and a body.
    ///
    /// # Errors
    /// As [`Connection::get`].
    pub(super) async fn post(&mut self, path: &str, (name, value): (&str, &str), body: &str) -> Result<u16> {
        let (host, length) = (&self.host, body.len());
        self.exchange(&format!(
            "POST {path} HTTP/1.1\r\nHost: {host}\r\n{name}: {value}\r\nContent-Length: {length}\r\n\r\n{body}"
        ))
        .await
    }

    /// The body of the last answer.
    pub(super) fn body(&self) -> &[u8] {
        let end = self.answer.windows(END.len()).position(|bytes| bytes == END);
        end.and_then(|end| self.answer.get(end + END.len()..)).unwrap_or_default()
    }

    async fn exchange(&mut self, request: &str) -> Result<u16> {
        self.stream.write_all(request.as_bytes()).await?;
        self.stream.flush().await?;
        self.answer.clear();
        loop {
            let read = self.stream.read_buf(&mut self.answer).await?;
            ensure!(read > 0, "{} closed the connection", self.host);
            ensure!(self.answer.len() <= LARGEST, "the answer is longer than {LARGEST} bytes");
            if let Some(Head { status, length }) = Head::parse(&self.answer)?
                && self.answer.len() >= length
            {
                ensure!(self.answer.len() == length, "the answer is longer than it says");
                return Ok(status);
            }
        }
    }
}

/// What the headers say.
#[derive(Debug, PartialEq)]
struct Head {
    status: u16,
    /// Of the whole answer, headers included.
    length: usize,
}

impl Head {
    /// `None` while the headers are not all there.
    fn parse(answer: &[u8]) -> Result<Option<Self>> {
        let Some(end) = answer.windows(END.len()).position(|bytes| bytes == END) else { return Ok(None) };
        let (head, _) = answer.split_at(end);
        let head = str::from_utf8(head).context("the headers are not text")?;
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")?.split(' ').next());
        let status = status.context("the answer is not HTTP/1.1")?.parse()?;
        let length = lines.find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>())
        });
        let body = length.context("the answer does not say its length")??;
        Ok(Some(Self { status, length: (end + END.len()).saturating_add(body) }))
    }
}

const END: &[u8] = b"\r\n\r\n";
const LARGEST: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_of_the_whole_answer_is_known_once_its_headers_are_there() {
        let answer = b"HTTP/1.1 200 OK\r\nDate: today\r\ncontent-length: 2\r\n\r\n{}";
        let (all, begun) = (answer.len(), answer.get(..40).unwrap());
        assert_eq!(Head::parse(answer).unwrap(), Some(Head { status: 200, length: all }));
        assert_eq!(Head::parse(begun).unwrap(), None);
    }

    #[test]
    fn an_answer_in_another_form_is_an_error() {
        let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".as_slice();
        for answer in [chunked, b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", b"SSH-2.0\r\n\r\n"] {
            Head::parse(answer).unwrap_err();
        }
    }
}
