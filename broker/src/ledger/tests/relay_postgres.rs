//! The network between a ledger and its PostgreSQL, which can lose a COMMIT or the answer to one.
//!
//! It reads what passes, so sessions cross it in the clear.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

/// What becomes of the next COMMIT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    /// It never arrives, and the server sees its client go.
    Before,
    /// It never arrives, and the server sees nothing.
    Silent,
    /// It comes into effect, and the answer never arrives.
    After,
}

/// Carries sessions, until it is dropped and those have ended.
pub(super) struct Relay {
    address: SocketAddr,
    fate: Arc<Mutex<Fate>>,
}

#[derive(Default)]
struct Fate {
    cut: Option<Cut>,
    /// Whether nothing gets through from the cut on.
    away_after: bool,
    away: bool,
    /// Connections that nothing passes any more, kept open.
    silent: Vec<TcpStream>,
    stopped: bool,
}

impl Relay {
    pub(super) fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("port");
        let address = listener.local_addr().expect("address");
        let fate: Arc<Mutex<Fate>> = Arc::default();
        let shared = Arc::clone(&fate);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (away, stopped) = with(&shared, |fate| (fate.away, fate.stopped));
                if stopped {
                    return;
                }
                // A client that is not let through is hung up on.
                if !away {
                    let server = TcpStream::connect(server).expect("PostgreSQL");
                    carry(&client, &server, &shared).expect("two connections");
                }
            }
        });
        Self { address, fate }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Cuts the next COMMIT.
    pub(super) fn cut(&self, cut: Cut) {
        with(&self.fate, |fate| fate.cut = Some(cut));
    }

    /// Cuts the next COMMIT, and lets nothing through from then on.
    pub(super) fn cut_and_go_away(&self, cut: Cut) {
        with(&self.fate, |fate| (fate.cut, fate.away_after) = (Some(cut), true));
    }

    /// Lets sessions through again.
    pub(super) fn come_back(&self) {
        with(&self.fate, |fate| (fate.away, fate.away_after) = (false, false));
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        with(&self.fate, |fate| {
            fate.stopped = true;
            fate.silent.clear();
        });
        // Wakes whoever accepts, so that it sees.
        drop(TcpStream::connect(self.address));
    }
}

/// Carries both ways, on threads that end with their connection.
fn carry(client: &TcpStream, server: &TcpStream, fate: &Arc<Mutex<Fate>>) -> std::io::Result<()> {
    let (mut client, mut server) = (client.try_clone()?, server.try_clone()?);
    let (mut to_client, mut from_server) = (client.try_clone()?, server.try_clone()?);
    let answered: Arc<Mutex<bool>> = Arc::default();
    let (lost, fate) = (Arc::clone(&answered), Arc::clone(fate));
    thread::spawn(move || {
        let _ended = ask(&mut client, &mut server, &fate, &lost);
    });
    thread::spawn(move || {
        let _ended = answer(&mut from_server, &mut to_client, &answered);
        let _ended = to_client.shutdown(Shutdown::Both);
    });
    Ok(())
}

/// Carries what a client asks.
fn ask(
    client: &mut TcpStream,
    server: &mut TcpStream,
    fate: &Mutex<Fate>,
    lost: &Mutex<bool>,
) -> std::io::Result<()> {
    let mut piece = [0; 64 * 1024];
    loop {
        let length = client.read(&mut piece)?;
        let asked = &piece[..length];
        // Nothing else is sent with a COMMIT, so it comes in one piece.
        let cut = has(asked, b"COMMIT\0").then(|| with(fate, take)).flatten();
        match cut {
            _ if length == 0 => return server.shutdown(Shutdown::Both),
            None => server.write_all(asked)?,
            Some(Cut::Before) => {
                server.shutdown(Shutdown::Both)?;
                return client.shutdown(Shutdown::Both);
            }
            Some(Cut::Silent) => {
                let ends = [client.try_clone()?, server.try_clone()?];
                with(fate, |fate| fate.silent.extend(ends));
                return Ok(());
            }
            Some(Cut::After) => {
                *lock(lost) = true;
                server.write_all(asked)?;
            }
        }
    }
}

/// Carries what the server answers, up to the answer that is lost.
fn answer(server: &mut TcpStream, client: &mut TcpStream, lost: &Mutex<bool>) -> std::io::Result<()> {
    let mut piece = [0; 64 * 1024];
    loop {
        let length = server.read(&mut piece)?;
        let answered = &piece[..length];
        if length == 0 {
            return Ok(());
        }
        match *lock(lost) {
            false => client.write_all(answered)?,
            true if has(answered, b"COMMIT\0") => return server.shutdown(Shutdown::Both),
            true => {}
        }
    }
}

fn take(fate: &mut Fate) -> Option<Cut> {
    let cut = fate.cut.take();
    fate.away |= cut.is_some() && fate.away_after;
    cut
}

fn has(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}

fn with<T>(fate: &Mutex<Fate>, work: impl FnOnce(&mut Fate) -> T) -> T {
    work(&mut lock(fate))
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
