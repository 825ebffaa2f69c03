//! The test harness: real servers, real processes, and the search for leaked secrets.
//!
//! Everything here is started for one test, in a temporary directory of its own, on loopback ports that were free,
//! and ended when its value is dropped: by the handle of the child, never by name. Servers are real ones because a
//! fake agrees with whoever wrote it. One that cannot be found is an error that says how to get it; a test that is
//! skipped for want of a server proves nothing and says so to nobody.
//!
//! Nothing waits by sleeping for a guessed time. [`wait_until`] and [`wait_for`] poll a condition and give up, with a
//! message, at a limit. They block, as all of the harness does: an async test calls it from outside its runtime or
//! from `spawn_blocking`.
#![expect(
    clippy::disallowed_methods,
    reason = "polls real servers in real time, and is told of them by the environment"
)]

/// The page on backends: what it shows is compiled, and put to the suite.
#[cfg(doctest)]
#[doc = include_str!("../../docs/adding-a-backend.md")]
pub struct AddingABackend;

pub use rustix::process::Signal;

pub use crate::agent::Agent;
pub use crate::broker::Broker;
pub use crate::canary::{Canary, Finding, scan, scan_bytes};
pub use crate::certificate::{ClientAuthority, ClientCertificate};
pub use crate::cli::{Cli, Said};
pub use crate::disk::SmallDisk;
pub use crate::drongo::{Drongo, LONGEST_PAYLOAD, PROJECT};
pub use crate::envoy::Envoy;
pub use crate::gate::Gate;
pub use crate::google_door::GoogleDoor;
pub use crate::issuer_door::{DeviceAnswer, IssuerDoor, Verdict};
pub use crate::key_vault::{CLIENT_ID, KeyVault, LONGEST_VALUE, RESOURCE, TENANT};
pub use crate::kube_api::KubeApi;
pub use crate::moto::{AwsKey, EVERYTHING, LONGEST_SECRET, Moto, REGION};
pub use crate::odd_store::{OddStore, Oddity};
pub use crate::openbao::{AppRole, OpenBao};
pub use crate::place::{binary, venv};
pub use crate::podman::{Fetched, Pod, Podman};
pub use crate::port::free_port;
pub use crate::postgres::{Postgres, Release};
pub use crate::process::{Process, wait_stopped};
pub use crate::token_issuer::TokenIssuer;
pub use crate::token_review::TokenReviews;
pub use crate::wait::{wait_for, wait_until};
pub use crate::webhook::{ServedFiles, Webhook, patiently};

pub mod http;
pub mod webhook;

mod agent;
mod broker;
mod canary;
mod certificate;
mod cli;
mod disk;
mod drongo;
mod envoy;
mod gate;
mod google_door;
mod issuer_door;
mod key_vault;
mod kube_api;
mod moto;
mod odd_store;
mod openbao;
mod place;
mod podman;
mod port;
mod postgres;
mod process;
mod token_issuer;
mod token_review;
mod wait;
