//! What goes over the connection: a credential, or what systemd cannot take for one.
//!
//! systemd reads until the end and takes whatever came for the credential. A connection that is closed without a word is an
//! *empty* credential, and the service starts with it; there is no other word for "no". Nor can a refusal be a broken
//! connection: the kernel tells the other end of a reset only when there is something unread on this one, and systemd sends
//! nothing. What it does refuse is a credential that is longer than 1 MiB, and then it does not start the unit. So a refusal
//! is 4 MiB of NUL bytes.

use std::io;

use bursar_core::Secret;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;

/// Writes a credential.
pub(super) async fn give(stream: &mut UnixStream, value: &Secret) -> io::Result<()> {
    stream.write_all(value.expose()).await?;
    stream.shutdown().await
}

/// Has systemd refuse to start the unit. It reads no further than it has to, and closes then.
pub(super) async fn refuse(stream: &mut UnixStream) {
    for _ in 0..TOO_MUCH / PIECE.len() {
        if stream.write_all(&PIECE).await.is_err() {
            return;
        }
    }
}

/// The longest credential that systemd takes, and all of a unit's together. In bytes.
pub(super) const LONGEST: usize = 1024 * 1024;
/// More than it takes in any form, base64 of encrypted ones included.
const TOO_MUCH: usize = 4 * 1024 * 1024;
static PIECE: [u8; 64 * 1024] = [0; 64 * 1024];
