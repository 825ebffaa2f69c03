//! Secrets Manager and STS that answer what a test tells them to.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use bursar_backend_http::testing;
pub(super) use bursar_backend_http::testing::{Call, Reply, install_provider, path};
use bursar_core::clock::TestClock;
use bursar_core::{BackendName, LeaseId, Secret};

use crate::{AwsBackend, AwsConfig, Credentials, Revocation, Role, SecretReader};

/// The key that [`config`] signs with.
pub(super) const KEY_ID: &str = "AKIAFAKEFAKEFAKEFAKE";
pub(super) const KEY: &str = "key-canary-Wx3";
pub(super) const ROLE: &str = "arn:aws:iam::123456789012:role/deploy";

/// What a call of AWS says of itself.
pub(super) trait OfAws {
    /// `GetSecretValue`, `AssumeRole`…
    fn action(&self) -> &str;
    /// Whose key it is signed with; empty for a call that is not.
    fn key_id(&self) -> &str;
}

impl OfAws for Call {
    fn action(&self) -> &str {
        match self.headers.get("x-amz-target") {
            Some(target) => target.rsplit('.').next().unwrap_or_default(),
            None => self.body.split('&').find_map(|pair| pair.strip_prefix("Action=")).unwrap_or_default(),
        }
    }

    fn key_id(&self) -> &str {
        let credential =
            self.headers.get("authorization").and_then(|header| header.split_once("Credential="));
        credential.and_then(|(_, rest)| rest.split('/').next()).unwrap_or_default()
    }
}

/// A running fake, stopped when dropped.
pub(super) struct Fake(testing::Fake);

impl Fake {
    /// Answers as `script` says, and that there is nothing where it says nothing.
    pub(super) async fn start(script: impl Fn(&Call) -> Option<Reply> + Send + Sync + 'static) -> Self {
        let otherwise = || refused("ResourceNotFoundException").expect("a reply");
        Self(testing::Fake::start(move |call| script(call).unwrap_or_else(otherwise)).await)
    }

    /// How many calls of `action` there were.
    pub(super) fn count(&self, action: &str) -> usize {
        self.calls().iter().filter(|call| call.action() == action).count()
    }

    /// A backend before this fake.
    pub(super) fn backend(&self) -> AwsBackend {
        backend(config(&self.address))
    }
}

impl Deref for Fake {
    type Target = testing::Fake;
    fn deref(&self) -> &testing::Fake {
        &self.0
    }
}

pub(super) fn backend(config: AwsConfig) -> AwsBackend {
    install_provider();
    AwsBackend::new(config, Arc::new(TestClock::new())).expect("configuration")
}

pub(super) fn config(address: &str) -> AwsConfig {
    let role = Role {
        arn: ROLE.to_owned(),
        ttl: Role::DEFAULT_TTL,
        external_id: None,
        policy: None,
        session_tags: BTreeMap::new(),
        revoke: Revocation::AtEnd,
    };
    AwsConfig {
        name: BackendName::parse("aws").expect("name"),
        owner: "a test".to_owned(),
        region: "eu-central-1".to_owned(),
        endpoint: Some(address.to_owned()),
        sts_endpoint: Some(address.to_owned()),
        kms_endpoint: Some(address.to_owned()),
        iam_endpoint: Some(address.to_owned()),
        allow_plaintext: true,
        ca_file: None,
        timeout: Duration::from_secs(20),
        prefix: String::new(),
        credentials: keys(|| Secret::from(KEY.to_owned())),
        assume_role: None,
        roles: [("deploy".to_owned(), role)].into(),
    }
}

/// A key whose secret half is read by `read`.
pub(super) fn keys(read: impl Fn() -> Secret + Send + Sync + 'static) -> Credentials {
    let secret_access_key = SecretReader::new("a test", move || Ok(read()));
    Credentials::Keys { access_key_id: KEY_ID.to_owned(), secret_access_key, session_token: None }
}

/// The id of some lease.
pub(super) fn lease() -> LeaseId {
    LeaseId::from_bytes([7; 16])
}

pub(super) fn text(status: u16, body: &str) -> Option<Reply> {
    Some(Reply::Text(status, body.to_owned()))
}

/// A refusal in the form of Secrets Manager.
pub(super) fn refused(code: &str) -> Option<Reply> {
    text(400, &format!(r#"{{"__type":"{code}","Message":"words of AWS"}}"#))
}

/// A secret in the form of Secrets Manager; `member` is its value.
pub(super) fn value(member: &str) -> Option<Reply> {
    text(200, &format!(r#"{{"ARN":"a","Name":"n","VersionId":"{VERSION}","CreatedDate":1.5,{member}}}"#))
}

/// What STS answers: new credentials until `end`.
pub(super) fn session(action: &str, key_id: &str, secret: &str, end: &str) -> Option<Reply> {
    let made = format!(
        "<Credentials><AccessKeyId>{key_id}</AccessKeyId><SecretAccessKey>{secret}</SecretAccessKey>\
         <SessionToken>token of {key_id}</SessionToken><Expiration>{end}</Expiration></Credentials>"
    );
    let space = "https://sts.amazonaws.com/doc/2011-06-15/";
    let body = format!(
        r#"<{action}Response xmlns="{space}"><{action}Result>{made}</{action}Result></{action}Response>"#
    );
    text(200, &body)
}

pub(super) const VERSION: &str = "d04f2f0c-7a3b-4a8e-9a52-5b1a0e8f1c3d";
