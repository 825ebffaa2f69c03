use std::fs::DirBuilder;
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

use bursar_core::{Clock, SystemClock};
use serde::Serialize;

use crate::disclose;
use crate::error::Error;
use crate::offline::{OfflineError, generate};
use crate::output::Output;
use crate::settings::{Folders, OfflineArguments};

#[derive(Serialize)]
struct Made {
    file: PathBuf,
}

pub(super) fn carry_out(copies: &OfflineArguments, output: Output) -> Result<(), Error> {
    let file = copies.identity(&Folders::of_environment())?;
    let identity = generate(SystemClock.now())?;
    if let Some(folder) = file.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(|source| Error::Unwritable { path: folder.to_owned(), source })?;
    }
    let made = disclose::private_file(&file).map_err(|error| match error {
        Error::Unwritable { path, source } if source.kind() == ErrorKind::AlreadyExists => {
            OfflineError::IdentityThere { path }.into()
        }
        other => other,
    })?;
    disclose::to_file(made, &file, &identity)?;
    let words = format!("the identity is in `{}`, for you alone", file.display());
    output.done(&Made { file }, &words)
}
