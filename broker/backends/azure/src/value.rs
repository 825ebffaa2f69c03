//! What Key Vault keeps, as a secret.

use std::sync::Arc;

use bursar_core::backend::Fetched;
use bursar_core::secret::{SecretData, json};
use bursar_core::{Secret, Version};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::name::{Id, is_version};

/// What is told of a version beside its value. Times are in seconds since 1970.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct Attributes {
    pub(crate) enabled: Option<bool>,
    pub(crate) nbf: Option<i64>,
    pub(crate) exp: Option<i64>,
    pub(crate) created: Option<i64>,
}

impl Attributes {
    /// The end of its time.
    pub(crate) fn expires_at(&self) -> Option<Timestamp> {
        // One beyond all times that can be told is none.
        self.exp.and_then(|second| Timestamp::from_second(second).ok())
    }

    /// Why the version is not handed out at `now`. Key Vault refuses one that is disabled, and answers those outside their
    /// time: it takes the times for a note to whoever reads. Bursar holds to them, since its callers do not see them.
    pub(crate) fn withheld(&self, now: Timestamp) -> Option<&'static str> {
        let now = now.as_second();
        match () {
            () if self.enabled == Some(false) => Some("disabled"),
            () if self.nbf.is_some_and(|start| now < start) => Some("not valid yet"),
            () if self.exp.is_some_and(|end| now >= end) => Some("expired"),
            () => None,
        }
    }
}

/// Which secret and version an answer has to be of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'call> {
    pub(crate) name: &'call str,
    pub(crate) version: Option<&'call Version>,
}

/// An answer that gives no secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unfit {
    Malformed,
    /// It is there and is not to be handed out, for this reason.
    Withheld(&'static str),
}

/// A text that is a JSON object has its members as fields; any other is one value.
///
/// # Errors
/// [`Unfit`].
pub(crate) fn fetched(body: &[u8], asked: Asked<'_>, now: Timestamp) -> Result<Fetched, Unfit> {
    // What a JSON library says about text that it cannot read quotes that text.
    let bundle: Bundle<'_> = serde_json::from_slice(body).map_err(|_| Unfit::Malformed)?;
    let version = version(&bundle.id, asked).ok_or(Unfit::Malformed)?;
    if let Some(reason) = bundle.attributes.withheld(now) {
        return Err(Unfit::Withheld(reason));
    }
    let text = text(bundle.value).ok_or(Unfit::Malformed)?;
    let data = json::object(text.expose()).unwrap_or_else(|| SecretData::Opaque(Arc::new(text)));
    Ok(Fetched { data, version: Some(version), expires_at: bundle.attributes.expires_at() })
}

#[derive(Deserialize)]
struct Bundle<'body> {
    #[serde(borrow)]
    value: &'body RawValue,
    id: String,
    #[serde(default)]
    attributes: Attributes,
}

/// The version that an answer is of, if that is what was asked for.
fn version(id: &str, asked: Asked<'_>) -> Option<Version> {
    let id = Id::parse(id).filter(|id| id.name.eq_ignore_ascii_case(asked.name))?;
    let version = Version::from_store(id.version?).ok().filter(is_version)?;
    asked.version.is_none_or(|asked| *asked == version).then_some(version)
}

fn text(value: &RawValue) -> Option<Secret> {
    if value.get().starts_with('"') { json::secret(value) } else { None }
}
