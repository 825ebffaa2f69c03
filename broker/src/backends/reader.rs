//! How backends read the secrets that their configuration names.

use std::io;

use bursar_core::secret::SecretReader;
use bursar_core::settings::SecretSource;

use crate::source;

/// Reads a secret of the configuration anew each time.
pub(super) fn reader(source: &SecretSource) -> SecretReader {
    let from = source.clone();
    SecretReader::new(&source.to_string(), move || source::fetch(&from).map_err(io::Error::other))
}

/// The same for a token that its source gives to all of a pod.
pub(super) fn token_reader(source: &SecretSource) -> SecretReader {
    let from = source.clone();
    SecretReader::new(&source.to_string(), move || source::fetch_token(&from).map_err(io::Error::other))
}
