//! Tokens that something else puts into a file and replaces before they end, as kubelet does.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use tonic::metadata::{Ascii, MetadataValue};
use zeroize::Zeroizing;

/// Reads the token at `path` as the value of an `authorization` header. It is not kept: the next call reads the next one.
///
/// # Errors
/// The file cannot be read, or holds no token.
pub(crate) async fn header(path: &Arc<Path>) -> io::Result<MetadataValue<Ascii>> {
    let path = Arc::clone(path);
    tokio::task::spawn_blocking(move || read(&path)).await.map_err(io::Error::other)?
}

fn read(path: &Path) -> io::Result<MetadataValue<Ascii>> {
    // Of its final size, so that it does not grow and leave a copy behind.
    let mut value = Zeroizing::new(Vec::with_capacity(SCHEME.len() + LONGEST + 1));
    value.extend_from_slice(SCHEME);
    File::open(path)?.take(LONGEST as u64 + 1).read_to_end(&mut value)?;
    let no_token = || io::Error::new(io::ErrorKind::InvalidData, "it holds no token of at most 16 KiB");
    let length = value.trim_ascii_end().len();
    value.truncate(length);
    let token = value.get(SCHEME.len()..).filter(|token| !token.is_empty() && token.len() <= LONGEST);
    if !token.is_some_and(|token| token.iter().all(u8::is_ascii_graphic)) {
        return Err(no_token());
    }
    let mut header = MetadataValue::try_from(Bytes::from_owner(value)).map_err(|_| no_token())?;
    header.set_sensitive(true);
    Ok(header)
}

const SCHEME: &[u8] = b"Bearer ";
const LONGEST: usize = 16 * 1024;

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
