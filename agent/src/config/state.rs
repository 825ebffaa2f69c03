//! `[state]`: what is kept through a restart.

use std::path::{Path, PathBuf};

use bursar_core::settings::{SecretSource, Section};

use super::{CacheLimits, OnOutage};

/// What is kept, and where.
#[derive(Debug, Clone)]
pub struct StateSettings {
    /// Holds the file, and not its key.
    pub directory: PathBuf,
    /// The key that the file is sealed with; one in the kernel's keyring when not given.
    pub key: Option<SecretSource>,
    /// The file's values are not longer together.
    pub bytes: u64,
}

/// The table, where it is there.
pub(super) fn state(
    root: &mut Section<'_>,
    data_dir: Option<&Path>,
    cache: &CacheLimits,
) -> Option<StateSettings> {
    let settings = root.section_if_given("state", |section| {
        let directory = section.path("directory").or_else(|| data_dir.map(|data| data.join("state")));
        let key = section.secret_source("key");
        let bytes = section.number("bytes", 1024 * 1024..=MOST).unwrap_or(cache.bytes.min(MOST));
        Some(StateSettings { directory: directory?, key, bytes })
    })?;
    if cache.on_outage == OnOutage::Fail {
        let message =
            "is for bridging outages, which `cache.on_outage = \"fail\"` forbids; leave one of them out";
        return root.fault("state", message.to_owned());
    }
    settings
}

/// Read and written at once.
const MOST: u64 = 256 * 1024 * 1024;
