use std::time::Duration;

use bursar_core::audit::AuditRecord;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, UdpSocket, UnixDatagram};

use super::{Site, eventually, sink};
use crate::config::{SinkKind, SyslogPlace};

#[tokio::test]
async fn a_message_has_the_form_of_rfc_5424() {
    let site = Site::new();
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("socket");
    let place = SyslogPlace::Udp(socket.local_addr().expect("address").to_string());
    site.start(vec![sink("udp", SinkKind::Syslog(place))]);
    site.records(vec![site.plain("vault/a"), site.denied("vault/b")]).await;
    let mut buffer = vec![0; 65_536];
    let mut next = async || {
        let read = within(socket.recv(&mut buffer)).await.expect("message");
        String::from_utf8(buffer[..read].to_vec()).expect("text")
    };
    let (allowed, denied) = (next().await, next().await);
    let fields: Vec<_> = allowed.splitn(8, ' ').collect();
    // Facility 13, log audit, severity 6.
    assert_eq!(fields[0], "<110>1");
    assert!(fields[1].parse::<jiff::Timestamp>().is_ok(), "{}", fields[1]);
    assert!(!fields[2].is_empty());
    assert_eq!(fields[3..7], ["bursar-broker", "-", "read", "-"]);
    assert_eq!(AuditRecord::from_line(fields[7].as_bytes()).expect("record").resource, "vault/a");
    // Severity 4.
    assert!(denied.starts_with("<108>1 "), "{denied}");
}

#[tokio::test]
async fn a_stream_counts_octets_and_is_taken_up_again_when_it_broke() {
    let site = Site::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("listener");
    let place = SyslogPlace::Tcp(listener.local_addr().expect("address").to_string());
    let shipping = site.start(vec![sink("tcp", SinkKind::Syslog(place))]);
    site.record(0..3).await;
    let (mut stream, _) = within(listener.accept()).await.expect("connection");
    for number in 0..3 {
        assert_eq!(frame(&mut stream).await.resource, number.to_string());
    }
    eventually("the position", || async { (site.position("tcp").await == 3).then_some(()) }).await;
    drop(stream);
    site.record(3..4).await;
    let (mut stream, _) = within(listener.accept()).await.expect("connection");
    assert_eq!(frame(&mut stream).await.resource, "3");
    assert_eq!(shipping.findings(), [("tcp".to_owned(), None)]);
}

#[tokio::test]
async fn a_local_socket_gets_datagrams() {
    let site = Site::new();
    let path = site.path("log");
    let socket = UnixDatagram::bind(&path).expect("socket");
    site.start(vec![sink("local", SinkKind::Syslog(SyslogPlace::Unix(path)))]);
    site.record(0..1).await;
    let mut buffer = vec![0; 65_536];
    let read = within(socket.recv(&mut buffer)).await.expect("message");
    assert!(buffer[..read].starts_with(b"<110>1 "));
}

async fn frame(stream: &mut tokio::net::TcpStream) -> AuditRecord {
    let mut length = String::new();
    loop {
        match within(stream.read_u8()).await.expect("length") {
            b' ' => break,
            digit => length.push(char::from(digit)),
        }
    }
    let mut message = vec![0; length.parse().expect("length")];
    within(stream.read_exact(&mut message)).await.expect("message");
    let text = String::from_utf8(message).expect("text");
    let line = text.splitn(8, ' ').last().expect("line").to_owned();
    AuditRecord::from_line(line.as_bytes()).expect("record")
}

async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), work).await.expect("done in time")
}
