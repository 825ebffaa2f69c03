//! The directory of a development setup, and what lies in it.

use std::fs::{self, DirBuilder};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use bursar_sdk::{Address, Client};
use tempfile::TempDir;

use crate::connection;
use crate::error::Error;
use crate::settings::{IdentityFiles, Settings};

/// A directory with configuration files for this run.
#[derive(Debug)]
pub(super) struct Place {
    directory: PathBuf,
    grpc: SocketAddr,
    /// Removes the directory at the end, where nobody asked to keep it.
    _temporary: Option<TempDir>,
}

impl Place {
    /// Makes the directory where it is not there, and writes the configuration of this run.
    pub(super) fn prepare(kept: Option<PathBuf>) -> Result<Self, Error> {
        let (directory, temporary) = match kept {
            Some(directory) => {
                let made = DirBuilder::new().recursive(true).mode(0o700).create(&directory);
                made.map_err(|source| Error::Unwritable { path: directory.clone(), source })?;
                (fs::canonicalize(&directory)?, None)
            }
            None => {
                let temporary = tempfile::Builder::new().prefix("bursar-dev-").tempdir()?;
                (temporary.path().to_owned(), Some(temporary))
            }
        };
        let place = Self { directory, grpc: free_port()?, _temporary: temporary };
        place.write(&place.config("bursar-broker"), &place.broker_config(free_port()?))?;
        place.write(&place.config("bursar-agent"), &place.agent_config(free_port()?))?;
        place.write(&place.exports(), &place.exported())?;
        Ok(place)
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(super) fn broker(&self) -> Address {
        let address = Address::parse(&format!("https://{}", self.grpc));
        // A socket address makes an address whatever its numbers are.
        address.unwrap_or_else(|_| Address::unix(self.socket()))
    }

    pub(super) fn agent(&self) -> Address {
        Address::unix(self.socket())
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.directory.join("agent.sock")
    }

    /// The configuration of a program.
    pub(super) fn config(&self, program: &str) -> PathBuf {
        self.directory.join(format!("{program}.toml"))
    }

    /// What a program writes.
    pub(super) fn log(&self, program: &str) -> PathBuf {
        self.directory.join(format!("{program}.log"))
    }

    pub(super) fn join_token(&self) -> PathBuf {
        self.directory.join("join-token")
    }

    /// Shell commands that make whoever sources them the administrator.
    pub(super) fn exports(&self) -> PathBuf {
        self.directory.join("administrator.env")
    }

    pub(super) fn administrator(&self) -> Result<Client, Error> {
        connection::client(&Settings {
            address: self.broker(),
            ca: Some(self.bootstrap("ca.pem")),
            token: None,
            identity: Some(IdentityFiles {
                cert: self.bootstrap("admin.crt"),
                key: self.bootstrap("admin.key"),
            }),
            file: None,
        })
    }

    /// Whether an earlier run got as far as putting in what a setup begins with.
    pub(super) fn is_furnished(&self) -> bool {
        self.directory.join(FURNISHED).exists()
    }

    /// Notes that it did, so that what was changed since is left alone.
    pub(super) fn furnished(&self) -> Result<(), Error> {
        self.write(&self.directory.join(FURNISHED), "")
    }

    /// What to try, once everything runs.
    pub(super) fn welcome(&self) -> String {
        let exports = self.exports();
        let (exports, socket, key) = (exports.display(), self.agent(), self.bootstrap("audit.vkey"));
        format!(
            "broker and agent run; Ctrl-C ends both. Their logs are in {}\n\n\
             As a program of this machine, through the agent:\n  \
             bursar --address {socket} run --env dev/app -- env\n  \
             bursar --address {socket} get local/dev/db#password --show\n\n\
             As the administrator:\n  \
             . {exports}\n  \
             bursar status\n  \
             bursar lease list\n  \
             bursar secret put local/dev/stripe\n  \
             bursar env get dev/app\n  \
             bursar audit query\n  \
             bursar audit verify --key-file {}",
            self.directory.display(),
            key.display(),
        )
    }

    fn broker_config(&self, http: SocketAddr) -> String {
        format!(
            "trust_domain = \"dev.test\"\ndata_dir = {data}\n\n[listen]\ngrpc = \"{grpc}\"\nhttp = \"{http}\"\n\n\
             [seal]\nkey = {{ file = {seal} }}\n\n[log]\nformat = \"human\"\n\n[backends.local]\nkind = \"local\"\n",
            data = quoted(&self.directory.join("broker")),
            seal = quoted(&self.directory.join("seal.key")),
            grpc = self.grpc,
        )
    }

    fn agent_config(&self, http: SocketAddr) -> String {
        format!(
            "broker = \"https://{grpc}\"\nca_file = {ca}\nnode = \"dev\"\ndata_dir = {data}\nsocket = {socket}\n\
             join_token = {{ file = {token} }}\n\n[http]\nlisten = \"{http}\"\n\n[log]\nformat = \"human\"\n",
            grpc = self.grpc,
            ca = quoted(&self.bootstrap("ca.pem")),
            data = quoted(&self.directory.join("agent")),
            socket = quoted(&self.socket()),
            token = quoted(&self.join_token()),
        )
    }

    fn exported(&self) -> String {
        let file = |name: &str| shell_quoted(&self.bootstrap(name));
        format!(
            "export BURSAR_ADDRESS={}\nexport BURSAR_CA={}\nexport BURSAR_CERT={}\nexport BURSAR_KEY={}\n",
            self.broker(),
            file("ca.pem"),
            file("admin.crt"),
            file("admin.key"),
        )
    }

    fn bootstrap(&self, name: &str) -> PathBuf {
        self.directory.join("broker").join("bootstrap").join(name)
    }

    fn write(&self, path: &Path, text: &str) -> Result<(), Error> {
        fs::write(path, text).map_err(|source| Error::Unwritable { path: path.to_owned(), source })
    }
}

/// A port of the loopback interface that is free now. Whoever takes it before the program does makes the program fail,
/// and its log says so.
fn free_port() -> Result<SocketAddr, Error> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// A path as a TOML text.
fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy();
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// A path as one word of a shell.
fn shell_quoted(path: &Path) -> String {
    format!("'{}'", path.to_string_lossy().replace('\'', "'\\''"))
}

const FURNISHED: &str = "furnished";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_directory_is_taken_up_with_what_is_in_it() {
        let home = tempfile::tempdir().expect("directory");
        let directory = home.path().join("a b'c");
        let place = Place::prepare(Some(directory.clone())).expect("place");
        assert!(!place.is_furnished());
        place.furnished().expect("noted");
        drop(place);
        let again = Place::prepare(Some(directory)).expect("place");
        assert!(again.is_furnished() && again.config("bursar-broker").exists());
    }

    #[test]
    fn without_a_directory_nothing_stays() {
        let place = Place::prepare(None).expect("place");
        let directory = place.directory().to_owned();
        assert!(directory.exists());
        drop(place);
        assert!(!directory.exists());
    }

    #[test]
    fn odd_paths_survive_both_quotings() {
        let path = Path::new("/a b/c'd/e\"f");
        assert_eq!(quoted(path), "\"/a b/c'd/e\\\"f\"");
        assert_eq!(shell_quoted(path), "'/a b/c'\\''d/e\"f'");
    }
}
