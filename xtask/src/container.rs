//! What images are made with: podman, its runtime, and a directory of what goes into one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use bursar_tests::Podman;
use tempfile::TempDir;

use crate::workspace::Workspace;
use crate::{apt, command};

/// Podman over a directory of the target directory named `name`; podman and its runtime are installed where they are not there.
pub(crate) fn podman(workspace: &Workspace, name: &str) -> Result<Podman> {
    for program in ["podman", "runc"] {
        if Command::new(program).arg("--version").output().is_err() {
            apt::install(program, program)?;
        }
    }
    Podman::over(&workspace.target.join(name))
}

/// A directory with copies of `files`, for an image to be made of.
pub(crate) fn gather<'a>(files: impl IntoIterator<Item = &'a Path>) -> Result<TempDir> {
    let directory = tempfile::tempdir()?;
    for file in files {
        let name = file.file_name().with_context(|| format!("`{}` has no name", file.display()))?;
        fs::copy(file, directory.path().join(name))
            .with_context(|| format!("`{}` cannot be copied", file.display()))?;
    }
    Ok(directory)
}

/// The images that the pods of the tests run: the programs that other tests run, with the libraries that they are linked
/// to below them. Answers the podman that has them, without what an earlier run left.
pub(crate) fn for_tests(workspace: &Workspace) -> Result<Podman> {
    let programs =
        ["bursar-agent", "bursar", "bursar-pod"].map(|name| workspace.target.join("debug").join(name));
    let podman = podman(workspace, "podman-test")?;
    podman.run(&["pod", "rm", "--all", "--force", "--time=0"])?;
    let context = gather(programs.iter().map(AsRef::as_ref))?;
    for program in &programs {
        let name = program.file_name().context("a program has a name")?;
        command::run(Command::new("strip").arg(context.path().join(name)))?;
        for library in libraries(program)? {
            let below = context.path().join("root").join(library.strip_prefix("/")?);
            fs::create_dir_all(below.parent().context("a library is in a directory")?)?;
            fs::copy(&library, &below)
                .with_context(|| format!("`{}` cannot be copied", library.display()))?;
        }
    }
    for (name, file, base) in [
        (BASE, "tests/pod/base.Containerfile", "scratch"),
        ("localhost/bursar-agent:test", "deploy/container/agent.Containerfile", BASE),
        ("localhost/bursar-pod:test", "tests/pod/bare.Containerfile", BASE),
        ("localhost/bursar-pod-client:test", "tests/pod/client.Containerfile", BASE),
    ] {
        podman.build(name, &workspace.root.join(file), context.path(), base)?;
    }
    Ok(podman)
}

/// What `program` is linked to, and what loads it.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let listed = command::output(Command::new("ldd").arg(program))?;
    let paths = listed.split_ascii_whitespace().filter(|word| word.starts_with('/'));
    Ok(paths.map(PathBuf::from).collect())
}

const BASE: &str = "localhost/bursar-libraries:test";
