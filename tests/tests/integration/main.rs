//! The one integration binary: each module tests one part of Bursar against real servers and real processes.
//! Run it by `cargo xtask test`, which finds the servers.

mod audit_log;
mod aws;
mod aws_login;
mod backup;
mod bad_input;
mod bad_start;
mod canaries;
mod certificates;
mod changes;
mod cli_dev;
mod cli_golden;
mod conformance;
mod disk;
mod disk_full;
mod gcp;
mod harness;
mod house;
mod import;
mod joining;
mod killed;
mod local_site;
mod main_job;
mod ordinary_user;
mod postgres_backend;
mod quotas;
mod raw;
mod repeated;
mod revocation;
mod slow_store;
mod unauthorized;
mod vault_backend;
mod vault_cluster;
mod vault_engines;
mod vault_login;
