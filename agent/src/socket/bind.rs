//! The socket's file.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};

/// A socket that listens. Its file is removed when this is dropped, unless another has taken its place.
#[derive(Debug)]
pub struct Bound {
    path: PathBuf,
    inode: u64,
}

/// Listens at `path`. The folder is made if it is not there; the file of an agent that is gone is replaced, and that of
/// one that answers is left alone.
///
/// # Errors
/// [`SocketError`].
pub async fn bind(path: &Path, mode: u32) -> Result<(UnixListener, Bound), SocketError> {
    let fault = |source| SocketError::Io { path: path.to_owned(), source };
    prepare_folder(path)?;
    match fs::symlink_metadata(path) {
        Ok(file) if file.file_type().is_socket() => match UnixStream::connect(path).await {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                fs::remove_file(path).map_err(fault)?;
            }
            Ok(_) => return Err(SocketError::InUse { path: path.to_owned() }),
            Err(error) => return Err(fault(error)),
        },
        Ok(_) => return Err(SocketError::NoSocket { path: path.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(fault(error)),
    }
    let listener = UnixListener::bind(path).map_err(fault)?;
    // The process's umask made it the agent's own; only now is it opened to others.
    fs::set_permissions(path, Permissions::from_mode(mode)).map_err(fault)?;
    let inode = fs::symlink_metadata(path).map_err(fault)?.ino();
    Ok((listener, Bound { path: path.to_owned(), inode }))
}

/// Whoever may rename files in the folder may put a socket of his own in place of this one, and be sent reasons and
/// references by callers who trust the path.
fn prepare_folder(path: &Path) -> Result<(), SocketError> {
    let folder =
        path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let fault = |source| SocketError::Io { path: folder.to_owned(), source };
    if !folder.exists() {
        DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(folder).map_err(fault)?;
        fs::set_permissions(folder, Permissions::from_mode(FOLDER_MODE)).map_err(fault)?;
    }
    let mode = fs::metadata(folder).map_err(fault)?.mode();
    if mode & OTHERS_WRITE != 0 && mode & STICKY == 0 {
        return Err(SocketError::OpenFolder { folder: folder.to_owned() });
    }
    Ok(())
}

impl Drop for Bound {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|file| file.ino() == self.inode) {
            // The process ends; a file that stays is replaced by the next one.
            drop(fs::remove_file(&self.path));
        }
    }
}

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    #[error("another agent answers on `{}`; stop it, or give this one another `socket`", path.display())]
    InUse { path: PathBuf },
    #[error("`{}` is there and is no socket; remove it, or give the agent another `socket`", path.display())]
    NoSocket { path: PathBuf },
    #[error("anybody may replace files in `{}`; take the right to write from others: `chmod go-w`", folder.display())]
    OpenFolder { folder: PathBuf },
    #[error("cannot listen on `{}`; check that this user may make files there", path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

const FOLDER_MODE: u32 = 0o755;
const OTHERS_WRITE: u32 = 0o022;
const STICKY: u32 = 0o1000;

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().expect("folder")
    }

    #[tokio::test]
    async fn the_socket_has_the_mode_that_was_asked_for_and_goes_with_its_owner() {
        let folder = folder();
        let path = folder.path().join("run/agent.sock");
        let (_listener, bound) = bind(&path, 0o660).await.expect("bound");
        assert_eq!(fs::metadata(&path).expect("file").mode() & 0o777, 0o660);
        drop(bound);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn the_socket_of_an_agent_that_is_gone_is_replaced() {
        let folder = folder();
        let path = folder.path().join("agent.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).expect("first"));
        assert!(path.exists());
        assert!(bind(&path, 0o666).await.is_ok());
    }

    #[tokio::test]
    async fn the_socket_of_a_live_agent_is_left_alone() {
        let folder = folder();
        let path = folder.path().join("agent.sock");
        let _first = bind(&path, 0o666).await.expect("first");
        assert!(matches!(bind(&path, 0o666).await, Err(SocketError::InUse { .. })));
    }

    #[tokio::test]
    async fn what_is_no_socket_is_not_removed() {
        let folder = folder();
        let path = folder.path().join("agent.sock");
        fs::write(&path, "precious").expect("written");
        assert!(matches!(bind(&path, 0o666).await, Err(SocketError::NoSocket { .. })));
        assert_eq!(fs::read_to_string(&path).expect("read"), "precious");
    }

    #[tokio::test]
    async fn a_folder_in_which_others_may_write_is_refused() {
        let folder = folder();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).expect("mode");
        let refused = bind(&folder.path().join("agent.sock"), 0o666).await;
        assert!(matches!(refused, Err(SocketError::OpenFolder { .. })));
    }
}
