//! Syslog, RFC 5424, over UDP, TCP (octet counting, RFC 6587) or a local datagram socket.
//!
//! Syslog confirms nothing. Over UDP a record counts as shipped when the system has sent it, over TCP when the system has
//! taken it and the other end had not hung up before. Where that is not enough, ship to a file or by OTLP as well.

use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use bursar_core::audit::{AuditRecord, Outcome};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, UdpSocket, UnixDatagram, lookup_host};

use super::{Line, Sink, SinkError};
use crate::config::SyslogPlace;

pub(super) struct Syslog {
    place: SyslogPlace,
    host: String,
    open: Option<Link>,
}

enum Link {
    Udp(UdpSocket),
    Tcp(TcpStream),
    Unix(UnixDatagram),
}

impl Syslog {
    pub(super) fn new(place: SyslogPlace) -> Self {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        Self { place, host: header_field(&host, 255), open: None }
    }

    async fn send(&self, link: &mut Link, lines: &[Line]) -> std::io::Result<()> {
        match link {
            Link::Udp(socket) => {
                for line in lines {
                    socket.send(&datagram(self.message(line))).await?;
                }
            }
            Link::Unix(socket) => {
                for line in lines {
                    socket.send(&datagram(self.message(line))).await?;
                }
            }
            Link::Tcp(stream) => {
                for line in lines {
                    let message = self.message(line);
                    stream.write_all(format!("{} ", message.len()).as_bytes()).await?;
                    stream.write_all(&message).await?;
                }
                stream.flush().await?;
            }
        }
        Ok(())
    }

    /// `<PRIORITY>1 TIME HOST APP PROCID MSGID SD MESSAGE`, the message being the record's line.
    fn message(&self, line: &Line) -> Vec<u8> {
        let record = AuditRecord::from_line(&line.bytes).ok();
        let severity = match record.as_ref().map(|record| record.outcome) {
            Some(Outcome::Ok | Outcome::Asked) => INFORMATIONAL,
            Some(Outcome::Denied | Outcome::Failed) => WARNING,
            None => INFORMATIONAL,
        };
        let time = record.as_ref().map_or("-".to_owned(), |record| format!("{:.6}", record.time));
        let id = record.as_ref().map_or("-", |record| record.action.as_str());
        let header = format!("<{}>1 {time} {} {APP} - {id} - ", LOG_AUDIT * 8 + severity, self.host);
        [header.as_bytes(), &line.bytes].concat()
    }
}

#[async_trait]
impl Sink for Syslog {
    async fn deliver(&mut self, lines: &Arc<[Line]>) -> Result<(), SinkError> {
        let fault = |error: &std::io::Error| SinkError::of_io(&format!("syslog at `{}`", self.place), error);
        // Taken out, and put back only when all went well: of a stream that broke off nobody knows where it stands.
        let open = self.open.take().filter(|link| !hung_up(link));
        let mut link = match open {
            Some(link) => link,
            None => connect(&self.place).await.map_err(|error| fault(&error))?,
        };
        self.send(&mut link, lines).await.map_err(|error| fault(&error))?;
        self.open = Some(link);
        Ok(())
    }
}

async fn connect(place: &SyslogPlace) -> std::io::Result<Link> {
    match place {
        SyslogPlace::Tcp(address) => Ok(Link::Tcp(TcpStream::connect(address).await?)),
        SyslogPlace::Udp(address) => {
            let found = lookup_host(address).await?.next();
            let Some(found) = found else { return Err(std::io::ErrorKind::HostUnreachable.into()) };
            let any: SocketAddr = match found {
                SocketAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
                SocketAddr::V6(_) => (std::net::Ipv6Addr::UNSPECIFIED, 0).into(),
            };
            let socket = UdpSocket::bind(any).await?;
            socket.connect(found).await?;
            Ok(Link::Udp(socket))
        }
        SyslogPlace::Unix(path) => {
            let socket = UnixDatagram::unbound()?;
            socket.connect(path)?;
            Ok(Link::Unix(socket))
        }
    }
}

/// Whether the other end closed the stream, so that what is written to it now would be lost without an error.
fn hung_up(link: &Link) -> bool {
    match link {
        Link::Tcp(stream) => !matches!(
            stream.try_read(&mut [0; 64]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock
        ),
        Link::Udp(_) | Link::Unix(_) => false,
    }
}

/// No datagram is longer than this. A record that is gets cut: one that can never be sent would keep back all after it.
fn datagram(mut message: Vec<u8>) -> Vec<u8> {
    message.truncate(LONGEST_DATAGRAM);
    message
}

/// Printable ASCII of at most `limit` characters, or `-`.
fn header_field(text: &str, limit: usize) -> String {
    let field: String = text.chars().filter(char::is_ascii_graphic).take(limit).collect();
    if field.is_empty() { "-".to_owned() } else { field }
}

const APP: &str = "bursar-broker";
/// The facility "log audit".
const LOG_AUDIT: u8 = 13;
const WARNING: u8 = 4;
const INFORMATIONAL: u8 = 6;
const LONGEST_DATAGRAM: usize = 65_000;
