//! What images are made with: podman, its runtime, and a directory of what goes into one.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use bursar_tests::Podman;
use tempfile::TempDir;

use crate::workspace::Workspace;
use crate::{apt, musl};

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

/// The images that the pods of the tests run, of programs that are built static and not optimised; answers the podman that
/// has them, without what an earlier run left.
pub(crate) fn for_tests(workspace: &Workspace) -> Result<Podman> {
    let programs = musl::build(workspace, "pod", &["bursar-agent", "bursar", "bursar-pod"])?;
    let podman = podman(workspace, "podman-test")?;
    podman.run(&["pod", "rm", "--all", "--force", "--time=0"])?;
    let context = gather(
        ["bursar-agent", "bursar", "bursar-pod"].map(|name| programs.join(name)).iter().map(AsRef::as_ref),
    )?;
    for (name, file) in [
        ("bursar-agent", "deploy/container/agent.Containerfile"),
        ("bursar-pod", "tests/pod/bare.Containerfile"),
        ("bursar-pod-client", "tests/pod/client.Containerfile"),
    ] {
        podman.build(&format!("localhost/{name}:test"), &workspace.root.join(file), context.path())?;
    }
    Ok(podman)
}
