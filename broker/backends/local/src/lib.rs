//! Bursar's own store: versioned secrets in one SQLite file, encrypted before they reach it.
//!
//! **Keys.** A key-encryption key (KEK) comes from outside the store. It wraps one random data key (DEK) per store,
//! and is used for nothing else, so a new KEK re-encrypts 32 bytes and not every secret ([`LocalConfig::previous`]).
//! Each version of a secret is sealed with AES-256-GCM under a key of its own: HKDF-SHA256 (RFC 5869) of the DEK with
//! a random salt of 32 bytes kept beside it. That key seals one message in its life, so the nonce is fixed at zero.
//! The alternative, random 96-bit nonces under the DEK itself, must stop at 2^32 versions (NIST SP 800-38D, 8.3) and
//! would need a counter that survives restored backups; salts reach the same odds of a collision near 2^112.
//!
//! **What is bound.** The path, the version number and the expiry are authenticated with each sealed value, and the store's
//! id with every key, so a row moved to another path, version or store does not open, nor one whose expiry was changed. Field names are inside the sealed
//! part. A row that does not open is an error ([`ErrorKind::Malformed`]), never other bytes.
//!
//! **What is not hidden.** Paths, version numbers, times, deletion marks and the length of each value are in clear:
//! listing needs the paths, and nothing here pads. Labels are sealed. Whoever may write the file can destroy rows, take a deletion mark
//! away and put an older copy of the file back; without a key elsewhere no store can notice that by itself.
//!
//! **Ownership.** One connection writes, a few read; each call borrows one for a closure on the blocking pool, so
//! neither the number of threads nor of connections grows with load. Several processes may open one store: SQLite
//! orders their writes.
//!
//! **Deletion.** Deleting marks a version, and undeleting takes the mark away. Destroying takes the value out of its row,
//! and SQLite overwrites the pages; the row stays, so that its number is not given out again. When newer versions push
//! one past `max_versions`, its row goes. The write-ahead log may hold the ciphertext until the log is next checkpointed
//! or the store is closed. A version that has expired is not read, and not destroyed by itself: a clock that is wrong
//! would take values away for good.
//!
//! [`ErrorKind::Malformed`]: bursar_core::backend::ErrorKind::Malformed

mod backend;
mod error;
mod file;
mod keys;
mod label;
mod list;
mod number;
mod open;
mod pool;
mod read;
mod schema;
#[cfg(test)]
mod tests;
mod write;

pub use backend::{DEFAULT_MAX_VERSIONS, LocalBackend, LocalConfig};
pub use error::OpenError;
