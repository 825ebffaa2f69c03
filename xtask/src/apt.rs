//! Debian packages that the tests need: installed when that is possible without asking, else named.

use std::process::Command;

use anyhow::{Result, bail};

use crate::command;

/// Installs `package`, which provides `what`.
///
/// # Errors
/// Without root or without `apt-get` nothing is tried; the error says which command to run.
pub(crate) fn install(package: &str, what: &str) -> Result<()> {
    let available = Command::new(APT).arg("--version").output().is_ok();
    if !available || !rustix::process::geteuid().is_root() {
        bail!(
            "{what} is missing: run `{APT} update && {APT} install -y --no-install-recommends {package}` as root \
             (or install it as your system does), then run this command again"
        );
    }
    eprintln!("xtask: {what} is missing, installing the Debian package `{package}`");
    command::run(Command::new(APT).args(["update", "--quiet=2"]))?;
    let mut install = Command::new(APT);
    install.args(["install", "--quiet=2", "--yes", "--no-install-recommends", package]);
    command::run(install.env("DEBIAN_FRONTEND", "noninteractive"))
}

const APT: &str = "apt-get";
