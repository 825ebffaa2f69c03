//! Where the programs under test and the servers they need are.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// The workspace's own program `name`, as built for the profile of the test that asks.
///
/// # Errors
/// It was not built.
pub fn binary(name: &str) -> Result<PathBuf> {
    let test = std::env::current_exe().context("a test cannot tell its own path")?;
    // A test is TARGET/PROFILE/deps/NAME-HASH, a program TARGET/PROFILE/NAME.
    let profile = test.parent().and_then(Path::parent).context("a test lies outside a target directory")?;
    let path = profile.join(name);
    ensure!(
        path.is_file(),
        "`{}` is not there: run `cargo xtask test`, or `cargo build` first",
        path.display()
    );
    Ok(path)
}

/// The `bao` program, server and client in one.
pub(crate) fn bao() -> Result<PathBuf> {
    told("BURSAR_TEST_BAO")
}

/// The directory of the programs of the system's PostgreSQL.
pub(crate) fn postgres() -> Result<PathBuf> {
    told("BURSAR_TEST_PG_BIN")
}

/// The directory of a package in the Python environment.
pub(crate) fn package(name: &str) -> Result<PathBuf> {
    let libraries = told("BURSAR_TEST_VENV")?.join("lib");
    let versions = std::fs::read_dir(&libraries)?.collect::<Result<Vec<_>, _>>()?;
    let packages = versions.iter().map(|version| version.path().join("site-packages").join(name));
    let found = packages.into_iter().find(|package| package.is_dir());
    found.with_context(|| format!("there is no `{name}` in `{}`: {ADVICE}", libraries.display()))
}

/// A program of the Python environment.
///
/// # Errors
/// The environment is not there.
pub fn venv(program: &str) -> Result<PathBuf> {
    Ok(told("BURSAR_TEST_VENV")?.join("bin").join(program))
}

pub(crate) fn told(variable: &str) -> Result<PathBuf> {
    let path = std::env::var_os(variable).map(PathBuf::from);
    let path = path.with_context(|| format!("`{variable}` is not set: {ADVICE}"))?;
    ensure!(path.exists(), "`{}`, named by `{variable}`, is not there: {ADVICE}", path.display());
    Ok(path)
}

const ADVICE: &str = "run the tests by `cargo xtask test`, which sets up the servers they need";
