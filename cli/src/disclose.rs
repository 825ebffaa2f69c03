//! The ways by which a secret leaves this process. All there are: no other module of the command line exposes one.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use bursar_core::secret::urlencoded;
use bursar_core::{Reference, Secret, Version};
use bursar_sdk::Leased;
use bytes::Bytes;
use jiff::Timestamp;
use serde::Serialize;
use zeroize::Zeroizing;

use crate::error::Error;

/// Writes the value as it is to standard output, because its user asked for it.
///
/// # Errors
/// [`Error::Output`].
pub(crate) fn to_stdout(value: &Secret) -> Result<(), Error> {
    write(value.expose())
}

/// Ends the line after [`to_stdout`].
///
/// # Errors
/// [`Error::Output`].
pub(crate) fn line_end() -> Result<(), Error> {
    write(b"\n")
}

/// Writes a read as a JSON object with the value in it.
///
/// # Errors
/// [`Error::Output`].
pub(crate) fn json(reference: &Reference, leased: &Leased) -> Result<(), Error> {
    let value = leased.value.expose();
    let text = std::str::from_utf8(value).ok();
    let base64 = text.is_none().then(|| Zeroizing::new(data_encoding::BASE64.encode(value)));
    let found = Found {
        reference: reference.to_string(),
        version: leased.version().map(Version::as_str),
        lease_id: leased.lease.id.to_string(),
        expires_at: leased.lease.expires_at,
        age_seconds: leased.age.as_secs(),
        value: text,
        value_base64: base64.as_ref().map(|text| text.as_str()),
    };
    // Room for the worst case, every byte escaped, so that writing does not grow the buffer and leave copies.
    let mut json = Zeroizing::new(Vec::with_capacity(6 * value.len() + ROOM_FOR_NAMES));
    serde_json::to_writer(&mut *json, &found).map_err(|error| Error::Output(error.into()))?;
    json.push(b'\n');
    write(&json)
}

/// A new file that only its user can read, from its first byte on.
///
/// # Errors
/// [`Error::Unwritable`], also when there is such a file.
pub(crate) fn private_file(path: &Path) -> Result<File, Error> {
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    made.map_err(|source| Error::Unwritable { path: path.to_owned(), source })
}

/// Writes the value as it is to `file`, which [`private_file`] made at `path`.
///
/// # Errors
/// [`Error::Unwritable`].
pub(crate) fn to_file(mut file: File, path: &Path, value: &Secret) -> Result<(), Error> {
    let written = file.write_all(value.expose()).and_then(|()| file.sync_all());
    written.map_err(|source| Error::Unwritable { path: path.to_owned(), source })
}

/// Puts the value, as it is, into a file that only its user can read, in the place of whatever was there: at no moment
/// is there half a file.
///
/// # Errors
/// [`Error::Unwritable`].
pub(crate) fn replace_file(path: &Path, value: &Secret) -> Result<(), Error> {
    let unwritable = |source| Error::Unwritable { path: path.to_owned(), source };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Made for this user alone, whatever the umask.
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(unwritable)?;
    file.write_all(value.expose()).and_then(|()| file.as_file().sync_all()).map_err(unwritable)?;
    file.persist(path).map_err(|error| unwritable(error.error)).map(drop)
}

/// The body of a request to an issuer, a form (`application/x-www-form-urlencoded`): the only way by which a device's
/// code goes back to whoever gave it. It is wiped when the request is gone.
pub(crate) fn to_issuer(plain: &[(&str, &str)], secret: Option<(&str, &Secret)>) -> Bytes {
    let plain = plain.iter().map(|(name, value)| (*name, value.as_bytes()));
    let secret = secret.map(|(name, value)| (name, value.expose()));
    Bytes::from_owner(urlencoded(plain.chain(secret)))
}

/// A variable for a program that this process is about to become. The kernel copies it over; this copy goes with the
/// rest of the process.
pub(crate) fn to_variable(value: &Secret) -> OsString {
    OsString::from_vec(value.expose().to_vec())
}

/// Whether two values are the same.
pub(crate) fn same(one: &Secret, other: &Secret) -> bool {
    one.ct_eq(other.expose())
}

/// The JSON form of a read.
#[derive(Serialize)]
struct Found<'value> {
    reference: String,
    version: Option<&'value str>,
    lease_id: String,
    expires_at: Timestamp,
    age_seconds: u64,
    /// Where it is UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<&'value str>,
    /// Otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    value_base64: Option<&'value str>,
}

/// Straight to the descriptor: the buffer of `Stdout` would keep a copy, and a terminal's filter would change bytes.
fn write(mut bytes: &[u8]) -> Result<(), Error> {
    let stdout = io::stdout();
    while !bytes.is_empty() {
        let written = rustix::io::retry_on_intr(|| rustix::io::write(stdout.as_fd(), bytes));
        let written = written.map_err(|error| Error::Output(error.into()))?;
        bytes = bytes.get(written..).unwrap_or_default();
    }
    Ok(())
}

/// For everything in [`Found`] but the value; a reference takes at most 4 KiB, escaped at most six times that.
const ROOM_FOR_NAMES: usize = 32 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole() {
        let place = tempfile::tempdir().expect("directory");
        let path = place.path().join("token");
        for value in ["first, which is longer", "second"] {
            replace_file(&path, &Secret::from(value.to_owned())).expect("written");
            assert_eq!(std::fs::read_to_string(&path).expect("read"), value);
        }
        let missing = replace_file(&place.path().join("nowhere/token"), &Secret::from("x".to_owned()));
        assert!(matches!(missing, Err(Error::Unwritable { .. })));
        assert_eq!(std::fs::read_dir(place.path()).expect("listed").count(), 1, "nothing is left beside it");
    }
}
