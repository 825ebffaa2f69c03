//! The targets.

mod aws;
mod certificates;
mod csi;
mod envoy;
mod head;
mod https;
mod policies;
mod processes;
mod references;
mod reviews;
mod spiffe_ids;
mod states;
mod systemd;
mod tokens;

use crate::Target;

/// Every target.
pub const TARGETS: &[Target] = &[
    aws::REQUESTS,
    aws::SOCKETS,
    certificates::TARGET,
    csi::LISTS,
    csi::REQUESTS,
    envoy::TARGET,
    https::TARGET,
    policies::TARGET,
    processes::TARGET,
    references::TARGET,
    reviews::TARGET,
    spiffe_ids::TARGET,
    states::TARGET,
    systemd::TARGET,
    tokens::TARGET,
];
