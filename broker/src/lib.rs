//! The Bursar broker. `main.rs` parses arguments; everything else is here, so that tests can reach it.
//!
//! Floors, each knowing only those below: start -> ports -> https -> api -> broker (with catalog, rulebook, membership,
//! store, journal, oversight, check, rotation, keeping) -> lease -> mounts, identity -> backends, ledger, policy, environment, config.

pub mod api;
pub mod approvals;
pub mod backends;
pub mod backup;
pub mod break_glass;
pub mod broker;
pub mod call;
pub mod catalog;
pub mod check;
pub mod config;
pub mod disk;
pub mod environment;
pub mod failure;
pub mod hardening;
pub mod health;
pub mod http;
pub mod https;
pub mod identity;
pub mod ids;
pub mod init;
pub mod journal;
pub mod keeping;
pub mod keys;
pub mod kill;
pub mod lease;
pub mod ledger;
pub mod membership;
pub mod mounts;
pub mod oversight;
pub mod pace;
pub mod policy;
pub mod ports;
pub mod rotation;
pub mod rulebook;
pub mod seal;
pub mod sealing;
pub mod server;
pub mod shipping;
pub mod source;
pub mod start;
pub mod store;
pub mod telemetry;
pub mod verify;
