//! How what was resolved reaches the program: in its environment, in files, or on descriptors.
//!
//! An environment is read by more than its program: by every program that is started from there, by crash reports, by
//! `ps e` and `/proc/PID/environ` of the same user. `NAME_FILE` is what images of databases and others read instead of
//! `NAME`, so that is where a value is said to be. Literals are no secret and stay variables.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::sync::Arc;

use bursar_exec::{Folder, FolderError, Sealed, Site};
use bursar_sdk::ResolvedEnvironment;

use super::Arguments;
use crate::disclose;
use crate::error::Error;
use crate::settings::Folders;

/// How the values of secrets reach a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(super) enum Way {
    /// As its variables
    #[default]
    Env,
    /// In files in memory
    Files,
    /// On descriptors
    Fd,
}

/// What a program is given. What it has to find while it runs goes when this does.
pub(super) struct Delivered {
    pub(super) variables: BTreeMap<OsString, OsString>,
    pub(super) folder: Option<Arc<Folder>>,
    /// Held until the program has inherited them.
    pub(super) descriptors: Vec<Sealed>,
}

impl Delivered {
    /// The environment wins over what is passed. Files go into `folder`, in the place of those that are there.
    pub(super) fn new(
        arguments: &Arguments,
        passed: BTreeMap<OsString, OsString>,
        resolved: &ResolvedEnvironment,
        program: &str,
        folder: Option<Arc<Folder>>,
    ) -> Result<Self, Error> {
        let cannot = |source: FolderError| Error::Deliver { program: program.to_owned(), source };
        let mut delivered = Self { variables: passed, folder, descriptors: Vec::new() };
        let has_secrets = resolved.variables.iter().any(|variable| variable.secret);
        let needs_folder = !resolved.files.is_empty() || (arguments.way == Way::Files && has_secrets);
        if needs_folder && delivered.folder.is_none() {
            let made = site(arguments).and_then(|site| Folder::make(&site)).map_err(cannot)?;
            delivered.folder = Some(Arc::new(made));
        }
        let names: Vec<_> = resolved.variables.iter().map(|variable| variable.name.clone()).collect();
        for variable in &resolved.variables {
            let value = match (arguments.way, &delivered.folder) {
                (Way::Files, Some(folder)) if variable.secret => {
                    let path = format!("{VARIABLES}/{}", variable.name);
                    folder.put(&path, OWNER_READS, &variable.value).map_err(cannot)?.into_os_string()
                }
                (Way::Fd, _) if variable.secret => {
                    let sealed = Sealed::new(&variable.value);
                    let sealed =
                        sealed.map_err(|source| Error::Run { program: program.to_owned(), source })?;
                    let path = sealed.path();
                    delivered.descriptors.push(sealed);
                    path.into()
                }
                _ => {
                    let value = disclose::to_variable(&variable.value);
                    delivered.variables.insert(OsString::from(&variable.name), value);
                    continue;
                }
            };
            let name = format!("{}_FILE", variable.name);
            if names.contains(&name) {
                return Err(Error::Clash { environment: arguments.env.clone(), variable: name });
            }
            // What is passed under the name itself would be taken for the value.
            delivered.variables.remove(&OsString::from(&variable.name));
            delivered.variables.insert(name.into(), value);
        }
        if let Some(folder) = &delivered.folder {
            for file in &resolved.files {
                let path = format!("{FILES}/{}", file.path);
                folder.put(&path, file.mode, &file.contents).map_err(cannot)?;
            }
            if !resolved.files.is_empty() {
                delivered.variables.insert("BURSAR_FILES".into(), folder.path().join(FILES).into());
            }
        }
        Ok(delivered)
    }
}

fn site(arguments: &Arguments) -> Result<Site, FolderError> {
    match &arguments.dir {
        Some(path) => Site::named(path.clone(), arguments.on_disk),
        None => Site::in_memory(Folders::of_environment().runtime()),
    }
}

/// Folders of the program's folder: an environment may have a variable and a file of one name.
const VARIABLES: &str = "vars";
const FILES: &str = "files";
const OWNER_READS: u32 = 0o400;
