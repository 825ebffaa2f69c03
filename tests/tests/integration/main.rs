//! The one integration binary: each module tests one part of Bursar against real servers and real processes.
//! Run it by `cargo xtask test`, which finds the servers.

mod audit_log;
mod backup;
mod cli_dev;
mod cli_golden;
mod denials;
mod disk;
mod harness;
mod house;
mod local_site;
mod main_job;
mod vault_backend;
