//! The node agent: attests the processes of one machine, and serves them their secrets through a Unix socket on behalf
//! of a broker.
//!
//! From the outside in: [`socket`] takes connections, [`attest`] says who is there, [`answer`] decides where an answer
//! comes from, [`cache`] keeps secrets under their leases, [`upstream`] reaches the broker. Beside them run [`node`], which
//! keeps the machine's own certificate; [`listen`], which hears of revocations; [`tend`], which renews; [`journal`], which
//! accounts for what the cache served; [`files`], which puts environments where programs read them; [`run`], which keeps
//! programs running; [`csi`], which answers for volumes of pods; [`systemd`], which answers for units; [`sds`], which tells
//! Envoy its secrets; [`aws`], which speaks to programs made for AWS; [`state`], which keeps what an outage is bridged with
//! through a restart; and [`witness`], which checks that the audit log is only ever added to. [`agent`] puts them together.

pub mod account;
pub mod admission;
pub mod agent;
pub mod answer;
mod attempts;
pub mod attest;
pub mod aws;
pub mod cache;
pub mod config;
pub mod csi;
pub mod files;
pub mod hardening;
pub mod health;
pub mod http;
pub mod journal;
pub mod listen;
pub mod node;
pub mod run;
pub mod sds;
pub mod sidecar;
pub mod socket;
pub mod source;
pub mod state;
pub mod systemd;
pub mod telemetry;
pub mod tend;
#[cfg(test)]
mod testing;
pub mod upstream;
pub mod webhook;
pub mod witness;
