//! What Secret Manager keeps, as a secret.
//! <https://cloud.google.com/secret-manager/docs/reference/rest/v1/SecretPayload>

use std::sync::Arc;

use bursar_core::secret::{SecretData, json};
use bursar_core::{Secret, Version};
use data_encoding::BASE64;
use serde::Deserialize;
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use crate::crc32c::crc32c;
use crate::version;

/// The answer to an access.
#[derive(Deserialize)]
pub(crate) struct Accessed<'body> {
    /// `projects/…/secrets/ID/versions/NUMBER`
    name: String,
    #[serde(borrow)]
    payload: Payload<'body>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Payload<'body> {
    #[serde(borrow)]
    data: &'body RawValue,
    /// A number, which Google writes as a text. Payloads from before Google kept one have none.
    #[serde(borrow)]
    data_crc32c: Option<&'body RawValue>,
}

/// Why an answer holds no secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is not what was asked for, or cannot be read.
    Unreadable,
    /// It was changed on the way: another try may get it whole.
    Damaged,
}

/// The secret in an answer about the secret `id`, and which version it is. A payload that is a JSON object has its
/// members as fields; any other is one value.
pub(crate) fn secret(answer: &Accessed<'_>, id: &str) -> Result<(SecretData, Version), Fault> {
    let version = version::of_name(&answer.name, id).ok_or(Fault::Unreadable)?;
    let value = decoded(answer.payload.data).ok_or(Fault::Unreadable)?;
    if let Some(due) = answer.payload.data_crc32c {
        let due: u32 = due.get().trim_matches('"').parse().map_err(|_| Fault::Unreadable)?;
        if due != checksum(&value) {
            return Err(Fault::Damaged);
        }
    }
    let data = fields(&value).unwrap_or_else(|| SecretData::Opaque(Arc::new(value)));
    Ok((data, version))
}

/// Base64 into a buffer that becomes the secret.
fn decoded(data: &RawValue) -> Option<Secret> {
    if !data.get().starts_with('"') {
        return None;
    }
    let text = json::secret(data)?;
    let text = text.expose();
    let mut value = Zeroizing::new(vec![0; BASE64.decode_len(text.len()).ok()?]);
    let written = BASE64.decode_mut(text, &mut value).ok()?;
    value.truncate(written);
    Some(Secret::from(value))
}

fn checksum(value: &Secret) -> u32 {
    crc32c(value.expose())
}

fn fields(value: &Secret) -> Option<SecretData> {
    json::object(value.expose())
}
