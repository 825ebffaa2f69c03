//! What Secrets Manager keeps, as a secret.

use std::sync::Arc;

use aws_sdk_secretsmanager::operation::get_secret_value::GetSecretValueOutput;
use bursar_core::backend::Fetched;
use bursar_core::secret::{SecretData, json};
use bursar_core::{Secret, Version};

/// A text that is a JSON object has its members as fields; any other text, and bytes, are one value. None where the
/// answer holds neither, or no version.
pub(crate) fn fetched(mut answer: GetSecretValueOutput) -> Option<Fetched> {
    let text = answer.secret_string.take().map(Secret::from);
    let bytes = answer.secret_binary.take().map(|blob| Secret::new(blob.into_inner()));
    let data = match (text, bytes) {
        (Some(text), _) => fields(&text).unwrap_or_else(|| SecretData::Opaque(Arc::new(text))),
        (None, Some(bytes)) => SecretData::Opaque(Arc::new(bytes)),
        (None, None) => return None,
    };
    let version = Version::from_store(answer.version_id()?).ok()?;
    Some(Fetched { data, version: Some(version) })
}

fn fields(text: &Secret) -> Option<SecretData> {
    json::object(text.expose())
}
