//! `kind = "gcp"`: Google Secret Manager of one project.

use std::path::PathBuf;
use std::time::Duration;

use bursar_core::settings::{SecretSource, Section};

/// How Secret Manager is reached, and as whom.
#[derive(Debug)]
pub struct GcpSettings {
    pub project: String,
    pub location: Option<String>,
    pub endpoint: Option<String>,
    pub allow_plaintext: bool,
    pub ca_file: Option<PathBuf>,
    pub timeout: Duration,
    pub prefix: String,
    pub separator: Option<String>,
    pub credentials: GcpCredentials,
}

/// Where the broker's own token comes from.
#[derive(Debug)]
pub enum GcpCredentials {
    /// What Google's own tools find on the machine.
    Machine,
    /// A credential in Google's JSON.
    Json(SecretSource),
    /// An emulator asks for none.
    Anonymous,
}

pub(super) fn gcp(section: &mut Section<'_>) -> Option<GcpSettings> {
    let project = section.parsed("project", project);
    let project = section.required("project", project);
    let location = section.parsed("location", location);
    let allow_plaintext = section.flag("allow_plaintext").unwrap_or(false);
    let given = section.text("endpoint");
    let endpoint = given.as_deref().and_then(|given| endpoint(section, given, allow_plaintext));
    let ca_file = section.path("ca_file");
    let timeout = section.duration("timeout").unwrap_or(Duration::from_secs(5));
    let prefix = section.parsed("prefix", |text| part_of_id(text, 0..=200)).unwrap_or_default();
    let separator = section.parsed("separator", |text| part_of_id(text, 1..=8));
    let credentials = section.section("credentials", credentials);
    if matches!(credentials, Some(GcpCredentials::Anonymous)) && given.is_none() {
        return section.fault(
            "credentials.anonymous",
            "is for an emulator, and needs its `endpoint`: Google gives no secret without a token".to_owned(),
        );
    }
    Some(GcpSettings {
        project: project?,
        location,
        endpoint,
        allow_plaintext,
        ca_file,
        timeout,
        prefix,
        separator,
        credentials: credentials?,
    })
}

fn endpoint(section: &mut Section<'_>, given: &str, allow_plaintext: bool) -> Option<String> {
    if !given.starts_with("https://") && !allow_plaintext {
        return section.fault(
            "endpoint",
            "must start with `https://`; for a test without TLS set `allow_plaintext = true`".to_owned(),
        );
    }
    Some(given.to_owned())
}

/// Without any key: what the machine offers.
fn credentials(section: &mut Section<'_>) -> Option<GcpCredentials> {
    let json = section.secret_source("json");
    let anonymous = section.flag("anonymous").unwrap_or(false);
    match (json, anonymous) {
        (None, false) => Some(GcpCredentials::Machine),
        (Some(json), false) => Some(GcpCredentials::Json(json)),
        (None, true) => Some(GcpCredentials::Anonymous),
        (Some(_), true) => section.fault("", "are `json` or `anonymous`, not both".to_owned()),
    }
}

/// An id, with the domain before it that old ones have, or a number.
fn project(text: &str) -> Result<String, String> {
    let allowed =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.' | b':');
    if text.is_empty()
        || text.len() > 63
        || !text.bytes().all(allowed)
        || text.bytes().all(|byte| byte == b'.')
    {
        return Err("is the id or the number of a project, such as `payments-prod-4711`".to_owned());
    }
    Ok(text.to_owned())
}

fn location(text: &str) -> Result<String, String> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if text.is_empty() || text.len() > 63 || !text.bytes().all(allowed) {
        return Err("is where regional secrets are, such as `europe-west3`".to_owned());
    }
    Ok(text.to_owned())
}

fn part_of_id(text: &str, length: std::ops::RangeInclusive<usize>) -> Result<String, String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if !length.contains(&text.len()) || !text.bytes().all(allowed) {
        let (least, most) = (length.start(), length.end());
        return Err(format!("is part of a secret's id: {least} to {most} letters, digits, `_` and `-`"));
    }
    Ok(text.to_owned())
}
