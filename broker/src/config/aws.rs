//! `kind = "aws"`: Secrets Manager of one region, and roles that STS makes sessions of.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use bursar_core::settings::{SecretSource, Section};

/// How AWS is reached, and as whom.
#[derive(Debug)]
pub struct AwsSettings {
    pub region: String,
    pub endpoint: Option<String>,
    pub sts_endpoint: Option<String>,
    pub kms_endpoint: Option<String>,
    pub iam_endpoint: Option<String>,
    pub allow_plaintext: bool,
    pub ca_file: Option<PathBuf>,
    pub timeout: Duration,
    pub prefix: String,
    pub credentials: AwsCredentials,
    pub assume_role: Option<String>,
    pub roles: BTreeMap<String, AwsRole>,
}

/// Where the broker's own credentials come from.
#[derive(Debug)]
pub enum AwsCredentials {
    /// The chain of AWS's own tools.
    Chain,
    Keys {
        access_key_id: String,
        secret_access_key: SecretSource,
        session_token: Option<SecretSource>,
    },
    WebIdentity {
        role: String,
        token: SecretSource,
    },
}

/// A role that sessions are made of.
#[derive(Debug)]
pub struct AwsRole {
    pub arn: String,
    pub ttl: Duration,
    pub external_id: Option<String>,
    pub policy: Option<String>,
    pub session_tags: BTreeMap<String, String>,
    /// Whether a session that is taken back is denied everything by a policy of the role.
    pub deny: bool,
}

pub(super) fn aws(section: &mut Section<'_>) -> Option<AwsSettings> {
    let region = section.parsed("region", region);
    let region = section.required("region", region);
    let allow_plaintext = section.flag("allow_plaintext").unwrap_or(false);
    let endpoint = endpoint(section, "endpoint", allow_plaintext);
    let sts_endpoint = self::endpoint(section, "sts_endpoint", allow_plaintext);
    let kms_endpoint = self::endpoint(section, "kms_endpoint", allow_plaintext);
    let iam_endpoint = self::endpoint(section, "iam_endpoint", allow_plaintext);
    let ca_file = section.path("ca_file");
    let timeout = section.duration("timeout").unwrap_or(Duration::from_secs(5));
    let prefix = section.parsed("prefix", prefix).unwrap_or_default();
    let credentials = section.section("credentials", credentials);
    let assume_role = section.parsed("assume_role", role_arn);
    let roles = section.each("roles", |name, section| Some((name.to_owned(), role(name, section)?)));
    Some(AwsSettings {
        region: region?,
        endpoint,
        sts_endpoint,
        kms_endpoint,
        iam_endpoint,
        allow_plaintext,
        ca_file,
        timeout,
        prefix,
        credentials: credentials?,
        assume_role,
        roles: roles.into_iter().collect(),
    })
}

fn endpoint(section: &mut Section<'_>, key: &'static str, allow_plaintext: bool) -> Option<String> {
    let endpoint = section.text(key)?;
    if !endpoint.starts_with("https://") && !allow_plaintext {
        return section.fault(
            key,
            "must start with `https://`; for a test without TLS set `allow_plaintext = true`".to_owned(),
        );
    }
    Some(endpoint)
}

/// Without any key: the chain. With one of a form, all that the form needs, and nothing of the other.
fn credentials(section: &mut Section<'_>) -> Option<AwsCredentials> {
    let access_key_id = section.text("access_key_id");
    let secret_access_key = section.secret_source("secret_access_key");
    let session_token = section.secret_source("session_token");
    let token = section.secret_source("web_identity_token");
    let role = section.parsed("role", role_arn);
    let key = access_key_id.is_some() || secret_access_key.is_some() || session_token.is_some();
    match (key, token.is_some() || role.is_some()) {
        (false, false) => Some(AwsCredentials::Chain),
        (true, false) => {
            let access_key_id = section.required("access_key_id", access_key_id);
            let secret_access_key = section.required("secret_access_key", secret_access_key);
            Some(AwsCredentials::Keys {
                access_key_id: access_key_id?,
                secret_access_key: secret_access_key?,
                session_token,
            })
        }
        (false, true) => {
            let token = section.required("web_identity_token", token);
            let role = section.required("role", role);
            Some(AwsCredentials::WebIdentity { role: role?, token: token? })
        }
        (true, true) => section.fault(
            "",
            "are a key (`access_key_id`, `secret_access_key`) or a web identity (`web_identity_token`, `role`), not both"
                .to_owned(),
        ),
    }
}

fn role(name: &str, section: &mut Section<'_>) -> Option<AwsRole> {
    let arn = section.parsed("arn", role_arn);
    let arn = section.required("arn", arn);
    let ttl = section.parsed("ttl", session_length).unwrap_or(Duration::from_secs(3600));
    let external_id = section.text("external_id");
    let policy = section.parsed("policy", policy);
    let session_tags = section.pairs("session_tags").into_iter().collect();
    let deny = section.parsed("revoke", revoke).unwrap_or(false);
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if name.is_empty() || name.len() > 64 || matches!(name, "." | "..") || !name.bytes().all(allowed) {
        return section.fault("", "a role's name has 1 to 64 letters, digits, `.`, `_` and `-`".to_owned());
    }
    Some(AwsRole { arn: arn?, ttl, external_id, policy, session_tags, deny })
}

fn revoke(text: &str) -> Result<bool, String> {
    match text {
        "at_end" => Ok(false),
        "deny" => Ok(true),
        _ => Err("is `at_end`, to let a session end by itself, or `deny`".to_owned()),
    }
}

fn region(text: &str) -> Result<String, String> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if text.is_empty() || text.len() > 63 || !text.bytes().all(allowed) {
        return Err("is the code of a region, such as `eu-central-1`".to_owned());
    }
    Ok(text.to_owned())
}

fn prefix(text: &str) -> Result<String, String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"/_+=.@-".contains(&byte);
    if text.len() > 512 || !text.bytes().all(allowed) {
        return Err("is part of a secret's name: at most 512 letters, digits and `/_+=.@-`".to_owned());
    }
    Ok(text.to_owned())
}

fn role_arn(text: &str) -> Result<String, String> {
    let parts: Vec<_> = text.splitn(6, ':').collect();
    let fits = match parts.as_slice() {
        ["arn", partition, "iam", "", account, role] => {
            !partition.is_empty()
                && !account.is_empty()
                && role.len() > "role/".len()
                && role.starts_with("role/")
        }
        _ => false,
    };
    if !fits || text.bytes().any(|byte| !byte.is_ascii_graphic()) {
        return Err("is the ARN of a role, such as `arn:aws:iam::123456789012:role/NAME`".to_owned());
    }
    Ok(text.to_owned())
}

/// What STS grants; see `Role` of the backend.
fn session_length(text: &str) -> Result<Duration, String> {
    let length = bursar_core::settings::parse_duration(text).map_err(|error| error.to_string())?;
    match (Duration::from_secs(15 * 60)..=Duration::from_secs(12 * 3600)).contains(&length) {
        true => Ok(length),
        false => Err("is 15m to 12h, and no longer than the role's own maximum".to_owned()),
    }
}

fn policy(text: &str) -> Result<String, String> {
    match serde_json::from_str(text) {
        Ok(serde_json::Value::Object(_)) if text.len() <= 2048 => Ok(text.to_owned()),
        _ => Err("is an IAM policy: a JSON object of at most 2048 characters".to_owned()),
    }
}
