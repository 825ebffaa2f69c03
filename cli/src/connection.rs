//! From files to a client.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use bursar_core::Secret;
use bursar_sdk::{Client, Identity, Tls, TokenCommand};
use zeroize::Zeroizing;

use crate::error::Error;
use crate::settings::{IdentityFiles, Settings, TokenPlace};
use crate::terminal;

/// A client for broker or agent; the connection is made by the first call.
///
/// # Errors
/// [`Error::Unreadable`], [`Error::OpenKey`], and those of the client.
pub(crate) fn client(settings: &Settings) -> Result<Client, Error> {
    let tls = tls(settings)?;
    Ok(presenting(settings, Client::connect_lazy(&settings.address, tls.as_ref())?))
}

/// The client, with the token that is configured.
pub(crate) fn presenting(settings: &Settings, client: Client) -> Client {
    match &settings.token {
        Some(TokenPlace::File(path)) => client.with_token_file(path),
        Some(TokenPlace::Command { program, arguments }) => {
            let command = TokenCommand::new(program, arguments.iter().map(OsString::from));
            // Somebody who sees what it says may have to do something.
            let patient = terminal::is_stderr();
            client.with_token_command(if patient { command.with_limit(PATIENCE) } else { command })
        }
        None => client,
    }
}

/// What the files say for a broker; nothing for an agent, which knows its callers by other means.
///
/// # Errors
/// [`Error::Unreadable`], [`Error::OpenKey`].
pub(crate) fn tls(settings: &Settings) -> Result<Option<Tls>, Error> {
    let (None, Some(ca)) = (settings.address.socket(), &settings.ca) else { return Ok(None) };
    let ca_pem = std::fs::read(ca).map_err(|source| Error::Unreadable { path: ca.clone(), source })?;
    let identity = settings.identity.as_ref().map(identity).transpose()?;
    Ok(Some(Tls { ca_pem, identity, server_name: None }))
}

fn identity(files: &IdentityFiles) -> Result<Identity, Error> {
    let cert_pem = std::fs::read(&files.cert)
        .map_err(|source| Error::Unreadable { path: files.cert.clone(), source })?;
    Ok(Identity { cert_pem, key_pem: key(&files.key)? })
}

/// The mode is that of the file which is then read, not of whatever the path names a moment later.
fn key(path: &Path) -> Result<Secret, Error> {
    let unreadable = |source| Error::Unreadable { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & OTHERS != 0 {
        return Err(Error::OpenKey { path: path.to_owned(), mode });
    }
    let size = usize::try_from(metadata.len()).unwrap_or(usize::MAX);
    if size > MAX_KEY {
        return Err(Error::TooLarge { path: path.to_owned(), limit: MAX_KEY });
    }
    // Room for one byte more, so that reading to the end does not grow the buffer and leave a copy behind.
    let mut content = Zeroizing::new(Vec::with_capacity(size + 1));
    file.read_to_end(&mut content).map_err(unreadable)?;
    Ok(Secret::from(content))
}

/// Reading or writing by everybody.
const OTHERS: u32 = 0o006;
const MAX_KEY: usize = 64 * 1024;
/// For a token command on a terminal: as long as `bursar token` waits for a person.
const PATIENCE: Duration = Duration::from_secs(1830);

#[cfg(test)]
mod tests {
    use super::*;

    fn key_file(mode: u32) -> (tempfile::TempDir, std::path::PathBuf) {
        let place = tempfile::tempdir().expect("directory");
        let path = place.path().join("me.key");
        std::fs::write(&path, "hunter2").expect("file");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("mode");
        (place, path)
    }

    #[test]
    fn a_key_that_everybody_can_read_is_refused() {
        let (_place, path) = key_file(0o644);
        assert!(matches!(key(&path), Err(Error::OpenKey { mode: 0o644, .. })));
    }

    #[test]
    fn a_key_of_ones_own_is_read() {
        let (_place, path) = key_file(0o600);
        assert!(key(&path).is_ok_and(|key| key.ct_eq(b"hunter2")));
    }

    #[test]
    fn a_missing_key_is_named() {
        let error = key(Path::new("/nowhere/me.key")).err().map(|error| error.to_string());
        assert_eq!(error.as_deref(), Some("cannot read `/nowhere/me.key`"));
    }
}
