//! What `output.NAME` says, and the sidecar is told by `--output`: the form in which variables are written.

use crate::config::{Content, format_named};

/// `env`, `json`, `yaml`, `properties`, or `pem:NAME,…`.
///
/// # Errors
/// What is wrong, to be put after the name of what said so.
pub(crate) fn parse(text: &str) -> Result<Content, String> {
    match text.strip_prefix("pem") {
        None => Ok(Content::Listing { format: format_named(text)?, variables: None }),
        Some(named) => {
            let names: Option<Vec<_>> = named.strip_prefix(':').map(|names| names.split(',').collect());
            let names = names.filter(|names| names.iter().all(|name| !name.is_empty()));
            let names = names.ok_or("names its variables: `pem:KEY,CERT`")?;
            Ok(Content::Pem { variables: names.into_iter().map(str::to_owned).collect() })
        }
    }
}
