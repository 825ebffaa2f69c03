//! What Secrets Manager keeps, as a secret.

use std::sync::Arc;

use aws_smithy_types::Blob;
use bursar_core::backend::Fetched;
use bursar_core::secret::{SecretData, json};
use bursar_core::{Secret, Version};

/// A text that is a JSON object has its members as fields; any other text, and bytes, are one value. None where the
/// answer holds neither, or no version.
pub(crate) fn fetched(text: Option<String>, bytes: Option<Blob>, version: Option<String>) -> Option<Fetched> {
    let (text, bytes) = (text.map(Secret::from), bytes.map(|blob| Secret::new(blob.into_inner())));
    let data = match (text, bytes) {
        (Some(text), _) => fields(&text).unwrap_or_else(|| SecretData::Opaque(Arc::new(text))),
        (None, Some(bytes)) => SecretData::Opaque(Arc::new(bytes)),
        (None, None) => return None,
    };
    let version = Version::from_store(&version?).ok()?;
    Some(Fetched { data, version: Some(version), expires_at: None })
}

fn fields(text: &Secret) -> Option<SecretData> {
    json::object(text.expose())
}
