//! Where the identity is by which copies of environments are encrypted.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

use super::{Folders, InFile, filled_path};
use crate::error::Error;
use crate::offline::OfflineError;

/// Options of whoever keeps copies and runs on them.
#[derive(Debug, Default, Args)]
pub(crate) struct OfflineArguments {
    /// The age identity by which copies are encrypted: a file as `age-keygen` makes it; `offline.key` beside `config.toml`
    /// when not given
    #[arg(long, env = "BURSAR_OFFLINE_IDENTITY", value_name = "FILE", hide_env_values = true)]
    offline_identity: Option<OsString>,
}

impl OfflineArguments {
    /// The file of the identity, whether there is one or not.
    ///
    /// # Errors
    /// [`Error::Configuration`], [`OfflineError::Nowhere`] where there is no folder that it would be in.
    pub(crate) fn identity(&self, folders: &Folders) -> Result<PathBuf, Error> {
        if let Some(path) = filled_path(self.offline_identity.clone()) {
            return Ok(path);
        }
        let (in_file, _) = InFile::of(folders)?;
        let usual = folders.config.as_ref().map(|folder| folder.join("bursar").join("offline.key"));
        Ok(in_file.offline_identity.or(usual).ok_or(OfflineError::Nowhere)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_wins_over_the_file_and_that_over_the_usual_place() {
        let place = tempfile::tempdir().expect("directory");
        let folders = Folders { config: Some(place.path().to_owned()), ..Folders::default() };
        let identity = |option: Option<&str>| {
            let arguments = OfflineArguments { offline_identity: option.map(OsString::from) };
            arguments.identity(&folders).expect("a path")
        };
        let folder = place.path().join("bursar");
        assert_eq!(identity(None), folder.join("offline.key"));
        std::fs::create_dir(&folder).expect("folder");
        std::fs::write(folder.join("config.toml"), "offline_identity = 'mine.txt'\n").expect("file");
        assert_eq!(identity(None), folder.join("mine.txt"));
        assert_eq!(identity(Some("")), folder.join("mine.txt"), "an empty variable counts as not set");
        assert_eq!(identity(Some("/else/where")), PathBuf::from("/else/where"));
    }
}
