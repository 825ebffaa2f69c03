//! Where PostgreSQL's server programs are. Debian keeps them out of `PATH`, one directory a version.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::{apt, command};

/// The directory of `initdb`, `postgres` and `psql`, the newest version first; installs them when there is none.
pub(crate) fn binaries() -> Result<PathBuf> {
    if let Some(found) = find() {
        return Ok(found);
    }
    apt::install("postgresql", "a PostgreSQL server")?;
    find().with_context(|| {
        format!(
            "`postgresql` is installed, yet `{DEBIAN}/*/bin`, `pg_config --bindir` and PATH lack {PROGRAMS:?}"
        )
    })
}

fn find() -> Option<PathBuf> {
    let packaged = versions(Path::new(DEBIAN)).into_iter().map(|version| version.join("bin"));
    let configured = command::output(Command::new("pg_config").arg("--bindir")).ok().map(PathBuf::from);
    packaged.chain(configured).chain(path()).find(|directory| complete(directory))
}

/// The subdirectories of `directory` named by a version, the highest first.
fn versions(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut versions: Vec<(u32, PathBuf)> =
        entries.filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path()))).collect();
    versions.sort_by(|one, other| other.cmp(one));
    versions.into_iter().map(|(_, path)| path).collect()
}

#[expect(clippy::disallowed_methods, reason = "PATH is where programs are looked for")]
fn path() -> Vec<PathBuf> {
    std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default()
}

fn complete(directory: &Path) -> bool {
    PROGRAMS.iter().all(|program| directory.join(program).is_file())
}

const DEBIAN: &str = "/usr/lib/postgresql";
const PROGRAMS: [&str; 3] = ["initdb", "postgres", "psql"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_by_number_and_other_names_ignored() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["9", "15", "conf"] {
            fs::create_dir(directory.path().join(name)).unwrap();
        }
        let names: Vec<_> = versions(directory.path());
        assert_eq!(names, [directory.path().join("15"), directory.path().join("9")]);
    }

    #[test]
    fn a_directory_with_only_the_client_is_not_enough() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("psql"), "").unwrap();
        assert!(!complete(directory.path()));
    }
}
