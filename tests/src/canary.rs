//! Secret values that are recognised wherever they turn up, and the search for them (promise 3).
//!
//! A leak is seldom verbatim: a log line is JSON, a header is base64, a debugger prints bytes as numbers. The search
//! therefore looks for each form of the value that something between a store and a file could make of it; see
//! [`bursar_core::secret::forms`]. It does not see through compression, encryption or a value cut in two.

use std::fmt;

use anyhow::{Result, ensure};

pub use scan::{Finding, scan, scan_bytes};

mod scan;

/// A named secret value. Formatting shows the name only, so that a failing assertion is not itself the leak.
#[derive(Clone)]
pub struct Canary {
    name: String,
    value: String,
}

impl Canary {
    /// A new random value: 40 printable characters, among them such as JSON, URLs and shells escape.
    pub fn random(name: &str) -> Self {
        Self { name: name.to_owned(), value: format!("{}{AWKWARD}{}", alphanumeric(16), alphanumeric(16)) }
    }

    /// A new random value of 32 letters and digits, for where others are refused.
    pub fn alphanumeric(name: &str) -> Self {
        Self { name: name.to_owned(), value: alphanumeric(32) }
    }

    /// A value that a server made.
    ///
    /// # Errors
    /// It is so short that it would be found by chance.
    pub fn known(name: &str, value: &str) -> Result<Self> {
        ensure!(
            value.len() >= SHORTEST,
            "the value of `{name}` has fewer than {SHORTEST} bytes: too few to search for"
        );
        Ok(Self { name: name.to_owned(), value: value.to_owned() })
    }

    /// What it is called in findings.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The value. To be stored and handed to servers, never to be formatted.
    pub fn value(&self) -> &str {
        &self.value
    }
}

impl fmt::Debug for Canary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Canary").field("name", &self.name).finish_non_exhaustive()
    }
}

fn alphanumeric(count: usize) -> String {
    std::iter::repeat_with(fastrand::alphanumeric).take(count).collect()
}

/// In bytes. A shorter value is met by chance in a large file.
const SHORTEST: usize = 8;
const AWKWARD: &str = r#""\/+%&<$"#;

#[cfg(test)]
mod tests;
