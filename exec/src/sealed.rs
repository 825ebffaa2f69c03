//! A value on a descriptor that a program inherits: no name, no file system, and nothing of it in the environment.

use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::fd::{AsRawFd, OwnedFd};

use bursar_core::Secret;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

/// A descriptor that has one value, and that every program which this process starts from now on inherits.
#[derive(Debug)]
pub struct Sealed(OwnedFd);

impl Sealed {
    /// Writes `value` to memory that nobody can change, grow or shrink after.
    ///
    /// # Errors
    /// The system refuses: there are no descriptors or no memory left.
    pub fn new(value: &Secret) -> io::Result<Self> {
        let mut file = File::from(memfd_create("bursar", MemfdFlags::ALLOW_SEALING)?);
        file.write_all(value.expose())?;
        file.rewind()?;
        fcntl_add_seals(&file, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
        Ok(Self(file.into()))
    }

    /// Where the program finds it. Opened there, it is read from its beginning, however often.
    pub fn path(&self) -> String {
        format!("/proc/self/fd/{}", self.0.as_raw_fd())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_again_and_again_and_never_written() {
        let sealed = Sealed::new(&Secret::from("value".to_owned())).expect("sealed");
        for _ in 0..2 {
            assert_eq!(std::fs::read(sealed.path()).expect("read"), b"value");
        }
        let file = File::options().write(true).open(sealed.path());
        assert!(file.and_then(|mut file| file.write_all(b"other")).is_err());
    }

    #[test]
    fn a_program_inherits_it() {
        let sealed = Sealed::new(&Secret::from("value".to_owned())).expect("sealed");
        let output = std::process::Command::new("cat").arg(sealed.path()).output().expect("cat");
        assert_eq!(output.stdout, b"value");
    }
}
