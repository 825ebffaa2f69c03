//! A broker for tests: real TLS, real gRPC, scripted answers. It can be stopped like one that is killed, and started
//! again on the same port.

mod authority;
mod broker;
mod harness;
mod rig;
mod services;

pub(crate) use authority::Authority;
pub(crate) use broker::FakeBroker;
pub(crate) use harness::{Harness, LIMIT, eventually, eventually_said};
pub(crate) use rig::{Rig, workload};
