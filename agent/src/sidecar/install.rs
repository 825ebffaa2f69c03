//! What the init container of the shape `exec` does: the program and the broker's roots are put into a volume of the pod.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use clap::Args;

/// Put `bursar` and the broker's roots into a volume of the pod, and end.
///
/// Added to pods by the webhook. It has no token and asks nobody.
#[derive(Debug, Args)]
pub struct Installation {
    /// The directory of the volume.
    #[arg(long, value_name = "DIRECTORY")]
    to: PathBuf,
    /// The roots that vouch for the broker, PEM.
    #[arg(long, env = "BURSAR_CA_PEM", hide_env_values = true, value_name = "PEM")]
    ca_pem: String,
}

impl Installation {
    /// Does it. What is there already is replaced, each file at once.
    ///
    /// # Errors
    /// [`InstallError`].
    pub fn carry_out(&self) -> Result<(), InstallError> {
        let own = std::env::current_exe()
            .map_err(|source| InstallError { path: PathBuf::from("/proc/self/exe"), source })?;
        let program = own.parent().unwrap_or_else(|| Path::new("/")).join("bursar");
        let open = File::open(&program).map_err(|source| InstallError { path: program.clone(), source });
        let mut program = open?;
        self.put("ca.pem", 0o444, &mut self.ca_pem.as_bytes())?;
        self.put("bursar", 0o555, &mut program)
    }

    fn put(&self, name: &str, mode: u32, from: &mut impl io::Read) -> Result<(), InstallError> {
        let path = self.to.join(name);
        let beside = self.to.join(format!(".{name}.new"));
        let mut put = || {
            let mut file = File::create(&beside)?;
            io::copy(from, &mut file)?;
            file.set_permissions(Permissions::from_mode(mode))?;
            fs::rename(&beside, &path)
        };
        put().map_err(|source| InstallError { path: path.clone(), source })
    }
}

/// Why the program is not in the volume.
#[derive(Debug, thiserror::Error)]
#[error("cannot copy `{}`; the image has to have `bursar` beside `bursar-agent`, and the volume room for it", path.display())]
pub struct InstallError {
    path: PathBuf,
    #[source]
    source: io::Error,
}
