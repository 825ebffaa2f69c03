//! Slots: the keys under which leases are found by whom they belong to.
//!
//! A slot is 28 bytes: eight of the hash of the principal, four of that of the instance, then sixteen that tell the
//! leases apart. The leases of one principal thus lie side by side, and one index answers both what a repeated read has
//! to ask ("is there a live lease like this?") and what an operator asks ("what does this principal hold?"). Those of one
//! instance lie closer still, so that a workload that starts with twenty secrets writes to one page of the index. A gone
//! lease has no slot.

use bursar_core::lease::Lease;
use bursar_core::{SpiffeId, Version};
use ring::digest;

/// The slot of a static lease: two reads that share principal, instance, secret, version and environment share it, and
/// the slot being unique, they share a lease. For two that do not to share one, a principal would have to search some
/// 2^64 names of secrets that it may read anyhow.
pub(super) fn of_static(lease: &Lease) -> Vec<u8> {
    let parts = [
        Some(lease.principal.as_str()),
        Some(lease.instance.as_str()),
        Some(lease.reference.backend.as_str()),
        Some(lease.reference.path.as_str()),
        lease.reference.version.as_ref().map(Version::as_str),
        lease.environment.as_deref(),
    ];
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        // The length before each part keeps `a`, `bc` apart from `ab`, `c`; an absent part has one that no text has.
        context.update(&part.map_or(u64::MAX, |text| text.len() as u64).to_be_bytes());
        context.update(part.unwrap_or_default().as_bytes());
    }
    slot(lease, context.finish().as_ref())
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

/// Whether two slots are of one principal; of two that share the beginning of their hashes, now and then.
pub(super) fn same_principal(one: &[u8], other: &[u8]) -> bool {
    one.iter().take(PRINCIPAL).eq(other.iter().take(PRINCIPAL))
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
