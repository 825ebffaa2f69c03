//! Which secrets there are.
//! <https://cloud.google.com/secret-manager/docs/reference/rest/v1/projects.secrets/list>

use std::collections::BTreeSet;

use bursar_core::SecretPath;
use bursar_core::backend::{BackendError, ErrorKind, Operation};
use serde::Deserialize;

use crate::backend::GcpBackend;
use crate::client::Request;

/// A page of names, and nothing else: descriptions can be long.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    #[serde(default)]
    secrets: Vec<Secret>,
    next_page_token: Option<String>,
}

#[derive(Deserialize)]
struct Secret {
    name: String,
}

impl GcpBackend {
    /// What lies right below `folder`, folders with a `/` at their end. Google has no folders, so all ids that may be
    /// below it are read, a page at a time. Refuses to go on after [`MOST_PAGES`]: a part of the answer would be taken
    /// for the whole.
    pub(crate) async fn entries(
        &self,
        folder: Option<&SecretPath>,
    ) -> Result<BTreeSet<String>, BackendError> {
        let Some(start) = self.names.start(folder) else { return Ok(BTreeSet::new()) };
        let above = folder.map(|folder| format!("{}/", folder.as_str())).unwrap_or_default();
        let mut entries = BTreeSet::new();
        let mut from = None;
        for _ in 0..MOST_PAGES {
            let page = self.page(&start, from.as_deref()).await?;
            let ids = page.secrets.iter().filter_map(|secret| secret.name.rsplit_once("/secrets/"));
            let paths = ids.filter_map(|(_, id)| self.names.path(id));
            entries.extend(paths.filter_map(|path| Some(entry(path.as_str().strip_prefix(&above)?))));
            from = page.next_page_token.filter(|token| !token.is_empty());
            if from.is_none() {
                return Ok(entries);
            }
        }
        tracing::warn!(backend = %self.client.backend, pages = MOST_PAGES, "too many secrets to list");
        Err(self.client.error(ErrorKind::Misconfigured, Operation::List))
    }

    /// Secrets whose names hold `start`, in the order that Google has them.
    async fn page(&self, start: &str, from: Option<&str>) -> Result<Page, BackendError> {
        // A `-` before a term, or a term that is an operator, would mean something else.
        let held = start.trim_matches(['-', '_']);
        let held = if ["AND", "NOT", "OR"].contains(&held) { "" } else { held };
        let filter = format!("name:{held}");
        let mut query = vec![("pageSize", PAGE), ("fields", "secrets/name,nextPageToken")];
        if !held.is_empty() {
            query.push(("filter", &filter));
        }
        if let Some(from) = from {
            query.push(("pageToken", from));
        }
        let request = Request { operation: Operation::List, path: &["secrets"], query: &query };
        self.client.ask(request).await?.parse()
    }
}

/// The entry of a folder that `rest` of a path lies in or is.
fn entry(rest: &str) -> String {
    match rest.split_once('/') {
        Some((folder, _)) => format!("{folder}/"),
        None => rest.to_owned(),
    }
}

const PAGE: &str = "1000";
const MOST_PAGES: usize = 20;
