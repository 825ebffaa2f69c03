//! Whose a connection over loopback is, in the words of the kernel: one question to its table of sockets (`sock_diag`,
//! linux/inet_diag.h), which anybody may ask and which answers for the agent's own network namespace alone.
//!
//! An answer counts only for the very connection that was asked about. Where the kernel has none, it answers with a socket
//! that listens on the same port; and what is left of a connection whose program has closed it is root's, by number 0.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
};

use crate::attest::Held;

/// The socket at `peer` that is connected to `local`, and the user who made it.
///
/// # Errors
/// [`NoSocket`]; the caller must be refused then.
pub(super) fn socket_of(peer: SocketAddr, local: SocketAddr) -> Result<Held, NoSocket> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let kernel = socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, Some(netlink::SOCK_DIAG));
    let kernel = kernel.map_err(fault)?;
    send(&kernel, &question(peer, local), SendFlags::empty()).map_err(fault)?;
    // The answer is there when the question has been sent.
    let mut answer = [0; 512];
    let (length, _) = recv(&kernel, &mut answer, RecvFlags::empty()).map_err(fault)?;
    read(answer.get(..length).unwrap_or_default(), peer, local)
}

fn question(peer: SocketAddr, local: SocketAddr) -> Vec<u8> {
    let family = if peer.is_ipv4() { INET } else { INET6 };
    let mut bytes = Vec::with_capacity(QUESTION);
    bytes.extend_from_slice(&u32::try_from(QUESTION).unwrap_or_default().to_ne_bytes());
    bytes.extend_from_slice(&BY_FAMILY.to_ne_bytes());
    bytes.extend_from_slice(&REQUEST.to_ne_bytes());
    bytes.extend_from_slice(&[0; 8]);
    bytes.extend_from_slice(&[family, TCP, 0, 0]);
    bytes.extend_from_slice(&ANY_STATE.to_ne_bytes());
    bytes.extend_from_slice(&peer.port().to_be_bytes());
    bytes.extend_from_slice(&local.port().to_be_bytes());
    for address in [peer.ip(), local.ip()] {
        let mut wide = [0; 16];
        match address {
            IpAddr::V4(address) => {
                wide.iter_mut().zip(address.octets()).for_each(|(byte, octet)| *byte = octet);
            }
            IpAddr::V6(address) => wide = address.octets(),
        }
        bytes.extend_from_slice(&wide);
    }
    // Of any interface, and without the cookie, which nobody knows yet.
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&[0xff; 8]);
    bytes
}

pub(super) fn read(answer: &[u8], peer: SocketAddr, local: SocketAddr) -> Result<Held, NoSocket> {
    match u16::from_ne_bytes(part(answer, 4)?) {
        BY_FAMILY => {}
        ERROR => {
            // Not every number is an error that there is.
            let number = i32::from_ne_bytes(part(answer, HEADER)?).saturating_neg();
            return match number == Errno::NOENT.raw_os_error() {
                true => Err(NoSocket::Unknown),
                false => Err(NoSocket::Kernel(io::Error::from_raw_os_error(number))),
            };
        }
        _ => return Err(NoSocket::Malformed),
    }
    let [family] = part(answer, HEADER)?;
    let end = |port, address| {
        let port = u16::from_be_bytes(part(answer, port)?);
        let address = match family {
            INET => IpAddr::V4(Ipv4Addr::from(part::<4>(answer, address)?)),
            // A socket of both families has the addresses of the older one in the form of the newer.
            INET6 => Ipv6Addr::from(part::<16>(answer, address)?).to_canonical(),
            _ => return Err(NoSocket::Malformed),
        };
        Ok((address, port))
    };
    let (source, destination) = (end(HEADER + 4, HEADER + 8)?, end(HEADER + 6, HEADER + 24)?);
    let (uid, inode) =
        (u32::from_ne_bytes(part(answer, HEADER + 64)?), u32::from_ne_bytes(part(answer, HEADER + 68)?));
    let is_asked_for = source == (peer.ip().to_canonical(), peer.port())
        && destination == (local.ip().to_canonical(), local.port());
    if is_asked_for && inode != 0 { Ok(Held { inode, uid }) } else { Err(NoSocket::Unknown) }
}

fn part<const N: usize>(answer: &[u8], at: usize) -> Result<[u8; N], NoSocket> {
    answer.get(at..).and_then(|rest| rest.first_chunk()).copied().ok_or(NoSocket::Malformed)
}

fn fault(error: Errno) -> NoSocket {
    NoSocket::Kernel(error.into())
}

/// Why the kernel did not say whose a connection is.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoSocket {
    #[error(
        "the kernel knows no open socket of this network namespace at the other end; a proxy between the two hides it, and \
         so does a kernel without `inet_diag`"
    )]
    Unknown,
    #[error("the kernel cannot be asked about sockets")]
    Kernel(#[source] io::Error),
    #[error("the kernel's answer about a socket does not look as it should")]
    Malformed,
}

/// A header of netlink, and with the question after it.
const HEADER: usize = 16;
const QUESTION: usize = HEADER + 56;
const BY_FAMILY: u16 = 20;
const ERROR: u16 = 2;
const REQUEST: u16 = 1;
const INET: u8 = 2;
const INET6: u8 = 10;
const TCP: u8 = 6;
const ANY_STATE: u32 = u32::MAX;

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use rustix::fs::fstat;

    use super::*;

    fn connected(listener: &TcpListener) -> (TcpStream, SocketAddr, SocketAddr) {
        let stream = TcpStream::connect(listener.local_addr().expect("address")).expect("connected");
        let (_, peer) = listener.accept().expect("accepted");
        let local = listener.local_addr().expect("address");
        (stream, peer, local)
    }

    #[test]
    fn a_connection_is_whoever_made_it_and_nobodys_once_it_is_closed() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(address).expect("listener");
            let stream = TcpStream::connect(listener.local_addr().expect("address")).expect("connected");
            let (accepted, peer) = listener.accept().expect("accepted");
            let local = accepted.local_addr().expect("address");
            let held = socket_of(peer, local).expect("known");
            assert_eq!(held.uid, rustix::process::geteuid().as_raw());
            assert_eq!(u64::from(held.inode), fstat(&stream).expect("stat").st_ino);
            drop(stream);
            assert!(matches!(socket_of(peer, local), Err(NoSocket::Unknown)), "the socket has no program");
        }
    }

    #[test]
    fn whoever_listens_on_the_same_port_is_not_taken_for_whoever_connected() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listener");
        let (stream, peer, local) = connected(&listener);
        let elsewhere = SocketAddr::new(local.ip(), peer.port());
        drop(stream);
        // The port of a listener, as the peer of a connection that there is not.
        let other = TcpListener::bind("127.0.0.1:0").expect("listener").local_addr().expect("address");
        assert!(socket_of(local, elsewhere).is_err() && socket_of(local, other).is_err());
    }

    #[test]
    fn half_an_answer_is_refused() {
        let (peer, local): (SocketAddr, SocketAddr) =
            ("127.0.0.1:1".parse().expect("address"), "127.0.0.1:2".parse().expect("address"));
        let mut answer = question(peer, local);
        answer.resize(HEADER + 72, 1);
        for length in 0..HEADER + 72 {
            let read = read(answer.get(..length).expect("a piece"), peer, local);
            assert!(read.is_err(), "{length}");
        }
    }
}
