//! Restoring a backup into a data directory that is not there.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use bursar_core::Clock;

use super::manifest::{Copied, LEDGER, Manifest, STORE, new_file};
use super::{BackupError, Staging};
use crate::backends;
use crate::config::{BackendKind, Config};
use crate::keys;
use crate::ledger::{LedgerPlace, LogKey};
use crate::seal::Seal;
use crate::start::origin;

/// Makes the data directory of `config` out of the backup in `from`, after checking all of it: lengths and hashes, the
/// form, the broker's name, the seal, the whole log against its signed head, and that each store opens. A ledger of an
/// older broker is brought up to date.
///
/// # Errors
/// [`BackupError`]; nothing is left of what was begun, and a directory that has anything in it is not touched.
pub fn restore(
    config: &Config,
    seal: &Seal,
    clock: &Arc<dyn Clock>,
    from: &Path,
) -> Result<Manifest, BackupError> {
    if !config.ledger.is_a_file() {
        return Err(BackupError::Elsewhere);
    }
    let manifest = Manifest::read(from)?;
    let configured = origin(config);
    if manifest.origin != configured {
        return Err(BackupError::OtherBroker { found: manifest.origin, configured });
    }
    let staging = Staging::new(&config.data_dir)?;
    for file in &manifest.files {
        copy(from, &staging.partial, file)?;
    }
    check_log(&staging.partial.join(LEDGER), seal, &configured, &manifest)?;
    for file in manifest.files.iter().filter(|file| file.name != LEDGER) {
        check_store(config, &staging.partial, seal, clock, &file.name)?;
    }
    staging.finish()?;
    Ok(manifest)
}

fn copy(from: &Path, to: &Path, file: &Copied) -> Result<(), BackupError> {
    let (source, target) = (from.join(&file.name), to.join(&file.name));
    let missing = |_| BackupError::Changed { name: file.name.clone(), what: "it cannot be read" };
    let mut reader = fs::File::open(&source).map_err(missing)?;
    let fault = |source| BackupError::File { path: target.clone(), source };
    let mut writer = new_file(&target).map_err(fault)?;
    io::copy(&mut reader, &mut writer).and_then(|_| writer.sync_all()).map_err(fault)?;
    // Of what was written here, so that a fault of the copying is found too.
    let found = Copied::of(to, &file.name).map_err(fault)?;
    match found {
        found if found == *file => Ok(()),
        found if found.bytes != file.bytes => {
            Err(BackupError::Changed { name: file.name.clone(), what: "its length is another" })
        }
        _ => Err(BackupError::Changed { name: file.name.clone(), what: "its hash is another" }),
    }
}

fn check_log(ledger: &Path, seal: &Seal, origin: &str, manifest: &Manifest) -> Result<(), BackupError> {
    let ledger = LedgerPlace::sqlite(ledger.to_owned());
    ledger.bring_up()?;
    ledger.drop_credentials()?;
    let signer = keys::signer_in(&ledger, seal, origin)?;
    let inspection = ledger.inspect(LogKey::Own(&signer))?;
    let mut findings = inspection.findings;
    if inspection.size != manifest.log_size {
        findings
            .push(format!("it has {} records, and the manifest says {}", inspection.size, manifest.log_size));
    }
    if findings.is_empty() { Ok(()) } else { Err(BackupError::Unsound(findings)) }
}

fn check_store(
    config: &Config,
    folder: &Path,
    seal: &Seal,
    clock: &Arc<dyn Clock>,
    name: &str,
) -> Result<(), BackupError> {
    let backend = name.strip_suffix(STORE).unwrap_or(name);
    let configured = config.backends.iter().find(|configured| {
        configured.name.as_str() == backend && matches!(configured.kind, BackendKind::Local { .. })
    });
    let configured = configured.ok_or_else(|| BackupError::UnknownStore(backend.to_owned()))?;
    let ground =
        backends::Ground { data_dir: folder, seal, clock, origin: &origin(config), opened: &BTreeMap::new() };
    drop(backends::open(configured, &ground)?);
    Ok(())
}
