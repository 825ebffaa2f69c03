//! Slots: the keys under which leases are found by whom they belong to.
//!
//! A slot is 28 bytes: eight of the hash of the principal, four of that of the instance, then sixteen that tell the
//! leases apart. The leases of one principal thus lie side by side, and one index answers both what a repeated read has
//! to ask ("is there a live lease like this?") and what an operator asks ("what does this principal hold?"). Those of one
//! instance lie closer still, so that a workload that starts with twenty secrets writes to one page of the index. A gone
//! lease has no slot.
//!
//! A dynamic lease has a second one while its credential is kept ([`CredentialSlot`]): by that a repeated read finds it.
//!
//! The node is part of what is shared, in both: the end of a lease is told to its node and taken from that node's memory,
//! and evicting it takes back what was asked for through it. Whoever asked by another way, too, would not hear of it.

use bursar_core::lease::Lease;
use bursar_core::{Reference, SpiffeId, Version};
use ring::digest;

/// Where the credential of a dynamic lease is kept: two reads that share principal, node, instance, secret and environment
/// share it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CredentialSlot(Vec<u8>);

impl CredentialSlot {
    /// That of a read of `reference`.
    pub fn new(
        principal: &SpiffeId,
        node: Option<&SpiffeId>,
        instance: &str,
        environment: Option<&str>,
        reference: &Reference,
    ) -> Self {
        let parts = [
            Some(principal.as_str()),
            node.map(SpiffeId::as_str),
            Some(instance),
            environment,
            Some(reference.backend.as_str()),
            Some(reference.path.as_str()),
            reference.version.as_ref().map(Version::as_str),
        ];
        Self(hash_parts(&parts).as_ref().to_vec())
    }

    pub(super) fn of(lease: &Lease) -> Self {
        let (node, environment) = (lease.node.as_ref(), lease.environment.as_deref());
        Self::new(&lease.principal, node, &lease.instance, environment, &lease.reference)
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The slot of a static lease: two reads that share principal, node, instance, secret, version and environment share it,
/// and the slot being unique, they share a lease. For two that do not to share one, a principal would have to search some
/// 2^64 names of secrets that it may read anyhow.
pub(super) fn of_static(lease: &Lease) -> Vec<u8> {
    let parts = [
        Some(lease.principal.as_str()),
        Some(lease.instance.as_str()),
        Some(lease.reference.backend.as_str()),
        Some(lease.reference.path.as_str()),
        lease.reference.version.as_ref().map(Version::as_str),
        lease.environment.as_deref(),
        lease.node.as_ref().map(SpiffeId::as_str),
    ];
    slot(lease, hash_parts(&parts).as_ref())
}

/// The slot of a dynamic lease, which no other shares: each credential is its own.
pub(super) fn of_dynamic(lease: &Lease) -> Vec<u8> {
    slot(lease, &lease.id.to_bytes())
}

/// All slots of a principal: from the first up to, and not with, the second.
pub(super) fn range(principal: &SpiffeId) -> [Vec<u8>; 2] {
    let first = hash(principal.as_str(), PRINCIPAL);
    let above = first.iter().copied().chain(std::iter::repeat_n(u8::MAX, LENGTH)).collect();
    [first, above]
}

fn hash_parts(parts: &[Option<&str>]) -> digest::Digest {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        // The length before each part keeps `a`, `bc` apart from `ab`, `c`; an absent part has one that no text has.
        context.update(&part.map_or(u64::MAX, |text| text.len() as u64).to_be_bytes());
        context.update(part.unwrap_or_default().as_bytes());
    }
    context.finish()
}

fn slot(lease: &Lease, apart: &[u8]) -> Vec<u8> {
    let mut slot = hash(lease.principal.as_str(), PRINCIPAL);
    slot.extend(hash(&lease.instance, INSTANCE));
    slot.extend(apart);
    slot.truncate(LENGTH);
    slot
}

fn hash(text: &str, length: usize) -> Vec<u8> {
    digest::digest(&digest::SHA256, text.as_bytes()).as_ref().iter().copied().take(length).collect()
}

const PRINCIPAL: usize = 8;
const INSTANCE: usize = 4;
const LENGTH: usize = 28;
