//! Tokens that speak for a caller: what is presented with each call, and where it comes from.
//!
//! A file is read anew for each call, since whoever wrote it replaces it before it ends, as kubelet does. A command is
//! run when a token is needed and not oftener: see [`TokenCommand`].

mod claims;
mod command;

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use tonic::metadata::{Ascii, MetadataValue};
use zeroize::Zeroizing;

pub use claims::token_ends_at;
pub use command::{TokenCommand, TokenCommandError};

use crate::error::Error;

/// Where tokens come from.
#[derive(Debug, Clone)]
pub(crate) enum TokenSource {
    File(Arc<Path>),
    Command(Arc<TokenCommand>),
}

/// A token on its way into a call.
#[derive(Debug, Clone)]
pub(crate) struct Presented {
    pub(crate) header: MetadataValue<Ascii>,
    /// Which run of a command wrote it; 0 for that of a file.
    run: u64,
}

impl TokenSource {
    /// Has a token ready, where that may take a person's time, so that no call's deadline runs meanwhile.
    ///
    /// # Errors
    /// [`Error::TokenCommand`].
    pub(crate) async fn prepare(&self) -> Result<(), Error> {
        match self {
            Self::File(_) => Ok(()),
            Self::Command(_) => self.token().await.map(drop),
        }
    }

    /// The token that speaks now.
    ///
    /// # Errors
    /// [`Error::Token`], [`Error::TokenCommand`].
    pub(crate) async fn token(&self) -> Result<Presented, Error> {
        match self {
            Self::File(path) => {
                let apart = Arc::clone(path);
                let read = tokio::task::spawn_blocking(move || read(&apart)).await;
                let header = read.unwrap_or_else(|error| Err(io::Error::other(error)));
                let header = header.map_err(|source| Error::Token { path: path.to_path_buf(), source })?;
                Ok(Presented { header, run: 0 })
            }
            Self::Command(command) => {
                let token = command.token().await;
                token.map_err(|source| Error::TokenCommand { program: command.program(), source })
            }
        }
    }

    /// Says that the server did not take `used`.
    pub(crate) async fn refused(&self, used: &Presented) {
        if let Self::Command(command) = self {
            command.refused(used).await;
        }
    }
}

fn read(path: &Path) -> io::Result<MetadataValue<Ascii>> {
    let mut value = begin();
    File::open(path)?.take(LONGEST as u64 + 1).read_to_end(&mut value)?;
    finish(value).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, NO_TOKEN))
}

/// The beginning of a header, with room for the rest, so that it does not grow and leave a copy behind.
fn begin() -> Zeroizing<Vec<u8>> {
    // One byte to see that there is more than the limit, one so that the end is seen without growing.
    let mut value = Zeroizing::new(Vec::with_capacity(SCHEME.len() + LONGEST + 2));
    value.extend_from_slice(SCHEME);
    value
}

/// The header, if what was added to its beginning is a token.
fn finish(mut value: Zeroizing<Vec<u8>>) -> Option<MetadataValue<Ascii>> {
    let length = value.trim_ascii_end().len();
    value.truncate(length);
    let token = value.get(SCHEME.len()..).filter(|token| !token.is_empty() && token.len() <= LONGEST);
    if !token.is_some_and(|token| token.iter().all(u8::is_ascii_graphic)) {
        return None;
    }
    let mut header = MetadataValue::try_from(Bytes::from_owner(value)).ok()?;
    header.set_sensitive(true);
    Some(header)
}

const SCHEME: &[u8] = b"Bearer ";
const LONGEST: usize = 16 * 1024;
const NO_TOKEN: &str = "it holds no token of at most 16 KiB";

#[cfg(test)]
mod tests {
    use super::*;

    fn of(content: &[u8]) -> io::Result<MetadataValue<Ascii>> {
        let file = tempfile::NamedTempFile::new().expect("file");
        std::fs::write(file.path(), content).expect("written");
        read(file.path())
    }

    #[test]
    fn a_token_is_sent_without_the_end_of_its_line_and_never_printed() {
        let header = of(b"ey.can.ary\n").expect("a token");
        assert_eq!(header.to_str().expect("text"), "Bearer ey.can.ary");
        assert_eq!(format!("{header:?}"), "Sensitive");
    }

    #[test]
    fn what_is_no_token_is_not_sent() {
        let long = vec![b'x'; LONGEST + 1];
        for bad in [b"".as_slice(), b"\n", b"a b", b"a\nb", b"\xff", &long] {
            assert_eq!(of(bad).expect_err("no token").kind(), io::ErrorKind::InvalidData);
        }
        assert_eq!(read(Path::new("/nowhere/token")).expect_err("no file").kind(), io::ErrorKind::NotFound);
    }
}
