//! A file of JSON Lines, synced before the records count as shipped, rotated by size.
//!
//! The name is looked at before every batch: a file that was moved or removed by somebody who rotates it himself is
//! noticed, and not written to under no name.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::threaded::Blocking;
use super::{Line, SinkError, SinkFault};
use crate::config::FileSink;

pub(super) struct File {
    settings: FileSink,
    open: Option<Open>,
}

struct Open {
    file: fs::File,
    length: u64,
}

impl File {
    pub(super) fn new(settings: FileSink) -> Self {
        Self { settings, open: None }
    }

    /// The file under the configured name, ready for the next record.
    fn current(&mut self) -> io::Result<&mut Open> {
        let path = &self.settings.path;
        let open = self.open.take().filter(|open| is_at(&open.file, path));
        let open = match open {
            Some(open) => open,
            None => Open::at(path)?,
        };
        Ok(self.open.insert(open))
    }

    fn write(&mut self, lines: &[Line]) -> io::Result<()> {
        let bytes: Vec<u8> = lines.iter().flat_map(|line| [line.bytes.as_slice(), b"\n"].concat()).collect();
        let limit = self.settings.rotate_bytes;
        let length = self.current()?.length;
        if length > 0 && length.saturating_add(bytes.len() as u64) > limit {
            self.open = None;
            rotate(&self.settings.path, self.settings.keep)?;
        }
        let open = self.current()?;
        let written = open.file.write_all(&bytes).and_then(|()| open.file.sync_data());
        if written.is_err() {
            // What went in of the batch goes out again: it is written whole, later. Where even this fails, the next
            // record starts on a line of its own.
            drop(open.file.set_len(open.length));
            self.open = None;
        } else {
            open.length += bytes.len() as u64;
        }
        written
    }
}

impl Blocking for File {
    fn deliver(&mut self, lines: &[Line]) -> Result<(), SinkError> {
        if fs::metadata(&self.settings.path).is_ok_and(|found| !found.is_file()) {
            let message =
                format!("`{}` is no regular file; name one in `path`", self.settings.path.display());
            return Err(SinkError::new(SinkFault::Misconfigured, message));
        }
        let written = self.write(lines);
        written.map_err(|error| SinkError::of_io(&format!("`{}`", self.settings.path.display()), &error))
    }
}

impl Open {
    /// Opens the file, or makes it for this user alone. One that ends inside a line gets an end to it: a crash tore it,
    /// and the whole line follows.
    fn at(path: &Path) -> io::Result<Self> {
        // Not to wait: what was a file a moment ago may be a pipe now.
        let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true).mode(0o600).custom_flags(flags);
        let mut file = options.open(path)?;
        let length = file.metadata()?.len();
        let mut last = [b'\n'];
        if length > 0 {
            file.read_exact_at(&mut last, length - 1)?;
        }
        if length == 0 {
            sync_folder(path)?;
        }
        if last != *b"\n" {
            file.write_all(b"\n")?;
            return Ok(Self { file, length: length + 1 });
        }
        Ok(Self { file, length })
    }
}

/// Whether the name still leads to this file.
fn is_at(file: &fs::File, path: &Path) -> bool {
    let place = |found: &fs::Metadata| (found.dev(), found.ino());
    match (fs::metadata(path), file.metadata()) {
        (Ok(found), Ok(open)) => place(&found) == place(&open),
        _ => false,
    }
}

/// Moves `path` to `path.1`, that to `path.2` and so on; what would be the one past `keep` goes.
fn rotate(path: &Path, keep: u64) -> io::Result<()> {
    for number in (0..keep).rev() {
        let from = if number == 0 { path.to_owned() } else { numbered(path, number) };
        match fs::rename(&from, numbered(path, number + 1)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    sync_folder(path)
}

fn numbered(path: &Path, number: u64) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    PathBuf::from(name)
}

/// Names are to be as durable as what is written under them.
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    fs::File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}
