//! Which secrets there are.

use std::collections::BTreeSet;

use bursar_core::SecretPath;
use bursar_core::backend::{BackendError, ErrorKind, Operation};

use crate::backend::AwsBackend;

impl AwsBackend {
    /// What lies right below `folder`, folders with a `/` at their end. AWS has no folders and lists in an order of its
    /// own, so all names that begin with the folder's are read, a hundred at a time. Refuses to go on after
    /// [`MOST_PAGES`]: a part of the answer would be taken for the whole.
    pub(crate) async fn entries(
        &self,
        folder: Option<&SecretPath>,
    ) -> Result<BTreeSet<String>, BackendError> {
        let Some(start) = self.names.start(folder) else { return Ok(BTreeSet::new()) };
        let mut entries = BTreeSet::new();
        let mut from = None;
        for _ in 0..MOST_PAGES {
            let (names, next) = self.page(&start, from).await?;
            entries.extend(names.iter().filter_map(|name| entry(name.strip_prefix(&start)?)));
            match next {
                Some(_) => from = next,
                None => return Ok(entries),
            }
        }
        tracing::warn!(backend = %self.caller.backend, pages = MOST_PAGES, "too many secrets to list");
        Err(self.error(ErrorKind::Misconfigured, Operation::List))
    }

    /// Names that begin with `start`, and where the next page is.
    async fn page(
        &self,
        start: &str,
        from: Option<String>,
    ) -> Result<(Vec<String>, Option<String>), BackendError> {
        let named = (!start.is_empty()).then(|| vec![starting_with(start)]);
        let call = || {
            let call = self.secrets.list_secrets().max_results(PAGE).set_filters(named.clone());
            call.set_next_token(from.clone()).send()
        };
        let answer = self.caller.ask(Operation::List, call).await?;
        let names = answer.secret_list.unwrap_or_default().into_iter().filter_map(|secret| secret.name);
        Ok((names.collect(), answer.next_token.filter(|token| !token.is_empty())))
    }
}

fn starting_with(start: &str) -> aws_sdk_secretsmanager::types::Filter {
    let name = aws_sdk_secretsmanager::types::FilterNameStringType::Name;
    aws_sdk_secretsmanager::types::Filter::builder().key(name).values(start).build()
}

/// The entry of a folder that `rest` of a name lies in or is. Names that are no paths, such as `a//b`, have none.
fn entry(rest: &str) -> Option<String> {
    SecretPath::from_store(rest).ok()?;
    Some(match rest.split_once('/') {
        Some((folder, _)) => format!("{folder}/"),
        None => rest.to_owned(),
    })
}

const PAGE: i32 = 100;
const MOST_PAGES: usize = 100;
