//! The targets.

mod certificates;
mod policies;
mod references;
mod reviews;
mod spiffe_ids;
mod tokens;

use crate::Target;

/// Every target.
pub const TARGETS: &[Target] = &[
    certificates::TARGET,
    policies::TARGET,
    references::TARGET,
    reviews::TARGET,
    spiffe_ids::TARGET,
    tokens::TARGET,
];
