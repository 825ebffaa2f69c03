//! Which secrets there are, and which versions of one.

use std::cmp::Reverse;

use bursar_core::backend::{BackendError, ErrorKind, Labels, Operation, VersionInfo, VersionState};
use bursar_core::{BackendName, Version};
use jiff::Timestamp;
use reqwest::Url;
use serde::Deserialize;

use crate::address::LONGEST_PAGE;
use crate::backend::AzureBackend;
use crate::name::{Id, is_version};
use crate::value::Attributes;

/// A part of a list, without values.
#[derive(Deserialize)]
pub(crate) struct Page {
    value: Vec<Item>,
    #[serde(rename = "nextLink")]
    next_link: Option<String>,
}

/// A secret, or a version of one.
#[derive(Deserialize)]
pub(crate) struct Item {
    pub(crate) id: String,
    #[serde(default)]
    attributes: Attributes,
    pub(crate) tags: Option<Labels>,
}

impl Page {
    /// # Errors
    /// It is no page. What a JSON library says about it would quote it.
    pub(crate) fn parse(
        backend: &BackendName,
        operation: Operation,
        body: &[u8],
    ) -> Result<Self, BackendError> {
        serde_json::from_slice(body).map_err(|_| BackendError::new(ErrorKind::Malformed, backend, operation))
    }
}

impl AzureBackend {
    /// What `keep` makes of each entry of the list that begins at `first`. Refuses to go on after [`MOST_PAGES`]: a part of
    /// the answer would be taken for the whole.
    pub(crate) async fn listed<T>(
        &self,
        operation: Operation,
        first: Url,
        keep: impl Fn(Item) -> Option<T>,
    ) -> Result<Vec<T>, BackendError> {
        let mut kept = Vec::new();
        let mut url = first.clone();
        for _ in 0..MOST_PAGES {
            let body = self.caller.ask(operation, &url).await?;
            let page = Page::parse(&self.caller.backend, operation, body.bytes())?;
            if page.value.len() > LONGEST_PAGE {
                return Err(self.error(ErrorKind::Malformed, operation));
            }
            kept.extend(page.value.into_iter().filter_map(&keep));
            let Some(link) = page.next_link.filter(|link| !link.is_empty()) else { return Ok(kept) };
            let Some(next) = self.vault.following(&link, &first) else {
                tracing::warn!(backend = %self.caller.backend, %operation, "a list goes on elsewhere; not followed");
                return Err(self.error(ErrorKind::Malformed, operation));
            };
            url = next;
        }
        tracing::warn!(backend = %self.caller.backend, %operation, pages = MOST_PAGES, "too much to list");
        Err(self.error(ErrorKind::Misconfigured, operation))
    }
}

/// The versions of a secret, newest first. Those of one second are in the order that Key Vault lists them in, the last
/// the newest.
pub(crate) fn newest_first(mut items: Vec<Item>) -> Vec<Item> {
    items.reverse();
    items.sort_by_key(|item| Reverse(item.attributes.created));
    items
}

impl Item {
    /// The version that this is; none for what is no version.
    pub(crate) fn info(&self, now: Timestamp) -> Option<VersionInfo> {
        let version = Version::from_store(Id::parse(&self.id)?.version?).ok().filter(is_version)?;
        let created_at = self.attributes.created.and_then(|second| Timestamp::from_second(second).ok());
        let expires_at = self.attributes.expires_at();
        // One that has expired says so itself. The others may be read again some day.
        let withheld = Attributes { exp: None, ..self.attributes }.withheld(now).is_some();
        let state = if withheld { VersionState::Deleted } else { VersionState::Kept };
        Some(VersionInfo { version, created_at, expires_at, state })
    }
}

/// 10,000 secrets, or versions of one.
const MOST_PAGES: usize = 400;
