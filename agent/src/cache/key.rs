//! What a cached answer is found by.

use std::time::Duration;

use bursar_proto::v1::{EnvironmentsResolveRequest, SecretsReadRequest};
use sha2::{Digest, Sha256};

use crate::attest::Identity;

/// A digest of who asks and of everything in the request that the broker decides on.
///
/// The reason is part of it: policy may demand one, so an answer that was given for one reason is none for another. How
/// old the value may be is not: that is compared with its age. Neither is whether the lease has to be a new one: what was
/// got by that is the answer to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key([u8; 32]);

impl Key {
    /// For one secret.
    pub fn of_read(identity: Identity, request: &SecretsReadRequest) -> Self {
        let SecretsReadRequest { reference, ttl, reason, instance, max_age: _, new_lease: _ } = request;
        Fields::of("read", identity).text(reference).duration(*ttl).text(reason).text(instance).finish()
    }

    /// For an environment. One that is to be kept has no answer here.
    pub fn of_resolve(identity: Identity, request: &EnvironmentsResolveRequest) -> Self {
        let EnvironmentsResolveRequest { name, ttl, reason, instance, new_lease: _, offline: _ } = request;
        Fields::of("resolve", identity).text(name).duration(*ttl).text(reason).text(instance).finish()
    }

    /// As it was kept.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The digest.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// For a call to the broker on behalf of several: those that would make the very same call share it, except where
    /// `apart` tells it from every other.
    pub fn of_call(parts: impl IntoIterator<Item = (Self, Option<Duration>)>, apart: Option<u64>) -> Self {
        let mut digest = Sha256::new();
        for (key, max_age) in parts {
            digest.update(key.0);
            digest.update(max_age.map_or(u128::MAX, |age| age.as_nanos()).to_be_bytes());
        }
        digest.update(apart.unwrap_or(u64::MAX).to_be_bytes());
        Self(digest.finalize().into())
    }
}

/// Fields of a digest, each with its length, so that no two lists of fields run together.
struct Fields(Sha256);

impl Fields {
    fn of(kind: &str, identity: Identity) -> Self {
        Self(Sha256::new().chain_update(identity.as_bytes())).text(kind)
    }

    fn text(mut self, text: &str) -> Self {
        self.0.update(text.len().to_be_bytes());
        self.0.update(text);
        self
    }

    fn duration(mut self, duration: Option<prost_types::Duration>) -> Self {
        let (seconds, nanos) = duration.map_or((i64::MIN, 0), |duration| (duration.seconds, duration.nanos));
        self.0.update(seconds.to_be_bytes());
        self.0.update(nanos.to_be_bytes());
        self
    }

    fn finish(self) -> Key {
        Key(self.0.finalize().into())
    }
}
