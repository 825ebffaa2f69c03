//! The one integration binary: each module tests one part of Bursar against real servers and real processes.
//! Run it by `cargo xtask test`, which finds the servers.

mod cli_dev;
mod cli_golden;
mod denials;
mod harness;
mod house;
mod main_job;
mod revocation;
mod vault_backend;
