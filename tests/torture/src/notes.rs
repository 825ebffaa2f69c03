//! What clients say that they got: the one book that no broker can lose.
//!
//! The name of a credential's user is kept as its hash, and the password not at all.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use bursar_core::LeaseId;
use bursar_core::tlog::TreeHead;
use sha2::{Digest, Sha256};

/// A user's name, hashed.
pub(crate) type UserHash = [u8; 32];

/// Everything noted so far.
#[derive(Debug, Default)]
pub(crate) struct Notes(Mutex<Book>);

/// The book itself.
#[derive(Debug, Default, Clone)]
pub(crate) struct Book {
    /// Every lease under which a value arrived.
    pub(crate) received: BTreeMap<LeaseId, Received>,
    /// Every signed head that a client saw, by size.
    pub(crate) heads: BTreeMap<u64, TreeHead>,
    /// Sizes for which there were two.
    pub(crate) forks: Vec<u64>,
    /// Leases on bulk secrets up to this one may have been taken by a bulk revocation.
    pub(crate) ordered: Option<LeaseId>,
    pub(crate) calls: Calls,
}

/// How many calls were answered well, and how many not.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Calls {
    pub(crate) read: u64,
    pub(crate) renewed: u64,
    pub(crate) revoked: u64,
    /// By a broker that refused, failed or died.
    pub(crate) failed: u64,
}

/// What one lease is known by.
#[derive(Debug, Default, Clone)]
pub(crate) struct Received {
    /// The requests that were answered with its value.
    pub(crate) requests: Vec<String>,
    /// The user that the store made for it, if it is a credential.
    pub(crate) user: Option<UserHash>,
    /// A revocation of it was asked for, whatever came of that.
    pub(crate) unwanted: bool,
    /// It is on a secret whose leases are revoked at once, now and then.
    pub(crate) bulk: bool,
    /// A revocation of it was answered.
    pub(crate) revoked: bool,
    /// The latest end that a broker promised, in seconds since 1970.
    pub(crate) until: i64,
}

impl Book {
    /// Whether somebody asked for a lease's revocation.
    pub(crate) fn is_unwanted(&self, id: LeaseId, received: &Received) -> bool {
        received.unwanted || received.bulk && self.ordered.is_some_and(|last| id <= last)
    }
}

impl Notes {
    pub(crate) fn received(
        &self,
        lease: LeaseId,
        request: String,
        (user, bulk): (Option<UserHash>, bool),
        until: i64,
    ) {
        self.write(|book| {
            let received = book.received.entry(lease).or_default();
            received.bulk = bulk;
            received.requests.push(request);
            received.user = user;
            received.until = received.until.max(until);
            book.calls.read += 1;
        });
    }

    pub(crate) fn renewed(&self, lease: LeaseId, until: i64) {
        self.write(|book| {
            let received = book.received.entry(lease).or_default();
            received.until = received.until.max(until);
            book.calls.renewed += 1;
        });
    }

    /// A revocation is about to be asked for.
    pub(crate) fn unwanted(&self, lease: LeaseId) {
        self.write(|book| book.received.entry(lease).or_default().unwanted = true);
    }

    /// A bulk revocation is about to be ordered; answers the leases that it has to take.
    pub(crate) fn ordering(&self) -> Vec<LeaseId> {
        let mut taken = Vec::new();
        self.write(|book| {
            let bulk = book.received.iter_mut().filter(|(_, received)| received.bulk);
            taken.extend(bulk.map(|(id, received)| {
                received.unwanted = true;
                *id
            }));
        });
        taken
    }

    /// A bulk revocation of these leases was answered, of those on credentials or of the others.
    pub(crate) fn bulk_revoked(&self, leases: &[LeaseId], credentials: bool) {
        self.write(|book| {
            for id in leases {
                if let Some(received) = book.received.get_mut(id) {
                    received.revoked |= received.user.is_some() == credentials;
                }
            }
        });
    }

    /// A bulk revocation was asked for, whatever came of it: it may have taken what was granted before `last`.
    pub(crate) fn ordered(&self, last: LeaseId) {
        self.write(|book| book.ordered = book.ordered.max(Some(last)));
    }

    /// The same for every lease.
    pub(crate) fn all_unwanted(&self) {
        self.write(|book| book.received.values_mut().for_each(|received| received.unwanted = true));
    }

    pub(crate) fn revoked(&self, lease: LeaseId) {
        self.write(|book| {
            book.received.entry(lease).or_default().revoked = true;
            book.calls.revoked += 1;
        });
    }

    pub(crate) fn failed(&self) {
        self.write(|book| book.calls.failed += 1);
    }

    pub(crate) fn head(&self, head: TreeHead) {
        self.write(|book| {
            if book.heads.insert(head.size, head).is_some_and(|before| before != head) {
                book.forks.push(head.size);
            }
        });
    }

    /// The book as it is now.
    pub(crate) fn book(&self) -> Book {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many calls were answered well.
    pub(crate) fn answers(&self) -> u64 {
        let calls = self.0.lock().unwrap_or_else(PoisonError::into_inner).calls;
        calls.read + calls.renewed + calls.revoked
    }

    /// In a few words.
    pub(crate) fn summary(&self) -> String {
        let Calls { read, renewed, revoked, failed } =
            self.0.lock().unwrap_or_else(PoisonError::into_inner).calls;
        format!("{read} values read, {renewed} leases renewed, {revoked} revoked, {failed} calls failed")
    }

    fn write(&self, change: impl FnOnce(&mut Book)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// The hash under which a user is noted.
pub(crate) fn hash(user: &[u8]) -> UserHash {
    Sha256::digest(user).into()
}
