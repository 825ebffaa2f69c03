//! The one command that people type: arguments in, a result on standard output, words on standard error, and an exit
//! code that says what kind of failure it was.
//!
//! A command is typed ([`arguments`]), checked (each module of [`command`] turns its arguments into what it means),
//! then carried out over one connection, by one thread: nothing here does two things at once. `bursar run` is the
//! exception to the shape: it ends by becoming the program it was asked to run, once the runtime is gone, or stands before
//! it and passes on what comes and goes.

mod arguments;
mod command;
mod connection;
mod disclose;
mod dumps;
mod error;
mod export;
mod hint;
mod import;
mod input;
mod issuer;
mod offline;
mod output;
mod page;
mod progress;
mod proof;
mod report;
mod settings;
mod table;
mod terminal;
mod text;
mod view;

use std::process::ExitCode;

use clap::Parser;

use crate::arguments::Arguments;

fn main() -> ExitCode {
    // Before anything else: where this process was started to become a program, it is `bursar` no longer.
    if let Some(error) = bursar_exec::become_program(std::env::args_os()) {
        return report::failure(&error.into());
    }
    // The one TLS stack. Installing fails only where it is installed already.
    drop(rustls::crypto::ring::default_provider().install_default());
    match command::carry_out(Arguments::parse()) {
        Ok(code) => code,
        Err(error) => report::failure(&error),
    }
}
