//! `[seal]`: the key that everything in the data directory is sealed with.

use std::fmt;

use bursar_core::BackendName;
use bursar_core::settings::{SecretSource, Section};

use super::{BackendConfig, BackendKind};

/// The seal key, and the one before while there is something that it sealed.
#[derive(Debug)]
pub struct SealSettings {
    pub key: SealKey,
    pub previous: Option<SealKey>,
}

/// A key of 32 bytes.
#[derive(Debug)]
pub struct SealKey {
    pub source: SecretSource,
    /// What the source gives is encrypted by this, where there is one.
    pub wrapped_by: Option<KeyPlace>,
}

/// A key that never leaves its store: `BACKEND/KEY`, such as `aws-prod/alias/bursar` or `vault/transit/bursar`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyPlace {
    pub backend: BackendName,
    /// As the store calls it.
    pub key: String,
}

impl fmt::Display for KeyPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.backend, self.key)
    }
}

pub(super) fn seal(section: &mut Section<'_>) -> Option<SealSettings> {
    let key = key(section);
    let previous = section.section_if_given("previous", self::key);
    Some(SealSettings { key: key?, previous: previous.flatten() })
}

fn key(section: &mut Section<'_>) -> Option<SealKey> {
    let source = section.secret_source("key");
    let source = section.required("key", source);
    let wrapped_by = section.parsed("wrapped_by", place);
    Some(SealKey { source: source?, wrapped_by })
}

fn place(text: &str) -> Result<KeyPlace, String> {
    let form = "is BACKEND/KEY, such as `aws-prod/alias/bursar` or `vault/transit/bursar`";
    let (backend, key) = text.split_once('/').filter(|(_, key)| !key.is_empty()).ok_or(form)?;
    let backend = BackendName::parse(backend).map_err(|error| error.to_string())?;
    Ok(KeyPlace { backend, key: key.to_owned() })
}

/// A key can be wrapped by the stores that have keys.
pub(super) fn check(
    root: &mut Section<'_>,
    seal: Option<&SealSettings>,
    named: &[String],
    backends: &[BackendConfig],
) {
    let Some(SealSettings { key, previous }) = seal else { return };
    let keys = [("seal", Some(key)), ("seal.previous", previous.as_ref())];
    for (section, key) in keys {
        let Some(place) = key.and_then(|key| key.wrapped_by.as_ref()) else { continue };
        let backend = backends.iter().find(|backend| backend.name == place.backend);
        let message = match backend.map(|backend| &backend.kind) {
            Some(BackendKind::Aws(_)) => continue,
            Some(BackendKind::Vault(_)) if place.key.contains('/') => continue,
            Some(BackendKind::Vault(_)) => {
                format!("`{place}` names no mount; it is `{}/MOUNT/KEY`", place.backend)
            }
            Some(_) => format!("`{}` has no keys; backends of kind `aws` and `vault` do", place.backend),
            // Its own faults are told.
            None if named.iter().any(|name| name == place.backend.as_str()) => continue,
            None => format!("there is no backend `{}`", place.backend),
        };
        root.fault::<()>(&format!("{section}.wrapped_by"), message);
    }
}
