//! Opens Google Secret Manager.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bursar_backend_gcp::{Credentials, GcpBackend, GcpConfig, Machine};
use bursar_core::secret::SecretReader;
use bursar_core::settings::SecretSource;
use bursar_core::{BackendName, Clock};

use super::reader::{reader, token_reader};
use super::{Opened, fault};
use crate::config::{GcpCredentials, GcpSettings};
use crate::source::{self, SourceError};
use crate::start::StartError;

pub(super) fn open(
    name: &BackendName,
    settings: &GcpSettings,
    clock: Arc<dyn Clock>,
) -> Result<Opened, StartError> {
    let credentials = match &settings.credentials {
        GcpCredentials::Machine => Some(Credentials::Machine(machine())),
        GcpCredentials::Json(source) => Some(Credentials::Json(reader(source))),
        GcpCredentials::Anonymous => None,
    };
    let config = GcpConfig {
        name: name.clone(),
        project: settings.project.clone(),
        location: settings.location.clone(),
        endpoint: settings.endpoint.clone(),
        allow_plaintext: settings.allow_plaintext,
        ca_file: settings.ca_file.clone(),
        timeout: settings.timeout,
        prefix: settings.prefix.clone(),
        separator: settings.separator.clone(),
        credentials,
    };
    let backend = GcpBackend::new(config, clock).map_err(|error| fault(name, &error))?;
    Ok(Opened { backend: Arc::new(backend), upkeep: None })
}

/// Where Google's own tools look, in the environment of the broker.
fn machine() -> Machine {
    let told = |name: &str| source::variable(name).ok().filter(|value| !value.is_empty());
    let file = |path: PathBuf| token_reader(&SecretSource::File(path));
    let home = told("HOME").map(PathBuf::from);
    Machine {
        named: told("GOOGLE_APPLICATION_CREDENTIALS").map(|path| file(path.into())),
        left: home.map(|home| left(&home.join(LEFT))),
        metadata: told("GCE_METADATA_HOST").unwrap_or_else(|| Machine::METADATA.to_owned()),
    }
}

/// What `gcloud` may have left: that it is not there is told as such.
fn left(path: &Path) -> SecretReader {
    let from = SecretSource::File(path.to_owned());
    SecretReader::new(&from.to_string(), move || {
        source::fetch(&from).map_err(|error| match error {
            SourceError::Unreadable { source, .. } => source,
            other => io::Error::other(other),
        })
    })
}

const LEFT: &str = ".config/gcloud/application_default_credentials.json";
