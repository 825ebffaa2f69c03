//! What commands read besides their arguments: documents, and secret values, which are never arguments.

use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::path::Path;

use bursar_core::Secret;
use bursar_proto::limits;
use zeroize::Zeroizing;

use crate::error::Error;
use crate::terminal;

/// A secret value: from `file` as it is, else from standard input when that is no terminal, else from a prompt.
///
/// One line end at the end of standard input is dropped: it is `echo`'s, not the secret's.
///
/// # Errors
/// [`Error::Unreadable`], [`Error::TooLarge`], [`Error::Usage`] for an empty value.
pub(crate) fn secret(file: Option<&Path>, what: &str) -> Result<Secret, Error> {
    let value = match file {
        Some(path) => {
            let file = File::open(path).map_err(|source| unreadable(path, source))?;
            Secret::from(bounded(file, path, limits::VALUE)?)
        }
        None if can_prompt() => terminal::ask_secret(what)?,
        None => {
            let mut value = bounded(io::stdin().lock(), Path::new(STDIN), limits::VALUE)?;
            drop_line_end(&mut value);
            Secret::from(value)
        }
    };
    if value.is_empty() {
        return Err(Error::Usage(format!("the {what} is empty")));
    }
    Ok(value)
}

/// Whether there is a terminal to ask on.
pub(crate) fn can_prompt() -> bool {
    io::stdin().is_terminal()
}

/// The text of a file, or of standard input for `-`, of at most `limit` bytes.
///
/// # Errors
/// [`Error::Unreadable`], [`Error::TooLarge`], [`Error::NotText`].
pub(crate) fn document(path: &Path, limit: usize) -> Result<String, Error> {
    private_document(path, limit).map(|text| text.as_str().to_owned())
}

/// The same of a document that holds secrets.
///
/// # Errors
/// As [`document`].
pub(crate) fn private_document(path: &Path, limit: usize) -> Result<Zeroizing<String>, Error> {
    let bytes = if path == Path::new("-") {
        bounded(io::stdin().lock(), Path::new(STDIN), limit)?
    } else {
        bounded(File::open(path).map_err(|source| unreadable(path, source))?, path, limit)?
    };
    let text = std::str::from_utf8(&bytes).map_err(|_| Error::NotText { path: path.to_owned() })?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// Reads everything into a buffer that never grows, so that no copy is left behind where it was before. `path` is what
/// errors name.
///
/// # Errors
/// [`Error::Unreadable`], [`Error::TooLarge`].
pub(crate) fn bounded(from: impl Read, path: &Path, limit: usize) -> Result<Zeroizing<Vec<u8>>, Error> {
    // One byte to see that there is more than the limit, one so that the end is seen without growing.
    let mut bytes = Zeroizing::new(Vec::with_capacity(limit + 2));
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    from.take(most).read_to_end(&mut bytes).map_err(|source| unreadable(path, source))?;
    if bytes.len() > limit {
        return Err(Error::TooLarge { path: path.to_owned(), limit });
    }
    Ok(bytes)
}

fn drop_line_end(value: &mut Vec<u8>) {
    if value.last() == Some(&b'\n') {
        value.pop();
        if value.last() == Some(&b'\r') {
            value.pop();
        }
    }
}

fn unreadable(path: &Path, source: io::Error) -> Error {
    Error::Unreadable { path: path.to_owned(), source }
}

const STDIN: &str = "standard input";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_end_is_dropped_and_no_more() {
        let dropped = |text: &str| {
            let mut value = text.as_bytes().to_vec();
            drop_line_end(&mut value);
            String::from_utf8(value).expect("text")
        };
        assert_eq!(dropped("a\n"), "a");
        assert_eq!(dropped("a\r\n"), "a");
        assert_eq!(dropped("a\n\n"), "a\n");
        assert_eq!(dropped("a"), "a");
        assert_eq!(dropped("\n"), "");
    }

    #[test]
    fn reading_stops_at_the_limit() {
        let endless = io::repeat(b'x');
        assert!(matches!(bounded(endless, Path::new("x"), 10), Err(Error::TooLarge { limit: 10, .. })));
        let exact = bounded(&b"0123456789"[..], Path::new("x"), 10).expect("bytes");
        assert_eq!((exact.len(), exact.capacity()), (10, 12));
    }

    #[test]
    fn a_document_has_to_be_text() {
        let place = tempfile::tempdir().expect("directory");
        let path = place.path().join("binary");
        std::fs::write(&path, b"\xff\xfe").expect("file");
        assert!(matches!(document(&path, 10), Err(Error::NotText { .. })));
    }
}
