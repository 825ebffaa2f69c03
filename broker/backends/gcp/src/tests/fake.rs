//! Secret Manager, token endpoint and metadata server that answer what a test tells them to.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use bursar_backend_http::testing;
pub(super) use bursar_backend_http::testing::{Call, KEY, Reply, install_provider, path};
use bursar_core::clock::TestClock;
use bursar_core::{BackendName, Secret};
use data_encoding::BASE64;
use serde_json::{Value, json};

use crate::crc32c::crc32c;
use crate::{Credentials, GcpBackend, GcpConfig, SecretReader};

/// Where `GET`s of the project's secrets go.
pub(super) const SECRETS: &str = "/v1/projects/shop/secrets";

pub(super) trait IsLogin {
    /// Whether it asks for a token, whichever way.
    fn is_login(&self) -> bool;
}

impl IsLogin for Call {
    fn is_login(&self) -> bool {
        !self.path().starts_with("/v1/")
    }
}

/// A running fake, stopped when dropped.
pub(super) struct Fake(testing::Fake);

impl Fake {
    /// Answers as `script` says, and that there is nothing where it says nothing.
    pub(super) async fn start(script: impl Fn(&Call) -> Option<Reply> + Send + Sync + 'static) -> Self {
        let otherwise = || refused(404, "NOT_FOUND").expect("a reply");
        Self(testing::Fake::start(move |call| script(call).unwrap_or_else(otherwise)).await)
    }

    /// The calls for a token.
    pub(super) fn logins(&self) -> Vec<Call> {
        self.calls().into_iter().filter(Call::is_login).collect()
    }

    /// `HOST:PORT`
    pub(super) fn host(&self) -> &str {
        self.address.trim_start_matches("http://")
    }

    /// A backend before this fake, which is asked for no token.
    pub(super) fn backend(&self) -> GcpBackend {
        backend(config(&self.address))
    }

    /// One that gets its token here by the key of a service account.
    pub(super) fn backend_with_key(&self) -> GcpBackend {
        backend(GcpConfig { credentials: Some(json(account(&self.address))), ..config(&self.address) })
    }
}

impl Deref for Fake {
    type Target = testing::Fake;
    fn deref(&self) -> &testing::Fake {
        &self.0
    }
}

pub(super) fn backend(config: GcpConfig) -> GcpBackend {
    install_provider();
    GcpBackend::new(config, Arc::new(TestClock::new())).expect("configuration")
}

pub(super) fn config(address: &str) -> GcpConfig {
    GcpConfig {
        name: BackendName::parse("gcp").expect("name"),
        project: "shop".to_owned(),
        location: None,
        endpoint: Some(address.to_owned()),
        allow_plaintext: true,
        ca_file: None,
        timeout: Duration::from_secs(20),
        prefix: String::new(),
        separator: None,
        credentials: None,
    }
}

/// The key of a service account, whose token endpoint is at `address`.
pub(super) fn account(address: &str) -> Value {
    json!({
        "type": "service_account", "project_id": "shop", "private_key_id": "key-1", "private_key": KEY,
        "client_email": "broker@shop.iam.gserviceaccount.com", "token_uri": format!("{address}/token"),
    })
}

/// A credential in Google's JSON.
pub(super) fn json(credential: Value) -> Credentials {
    Credentials::Json(reader(credential.to_string()))
}

pub(super) fn reader(text: String) -> SecretReader {
    SecretReader::new("a test", move || Ok(Secret::from(text.clone())))
}

pub(super) fn text(status: u16, body: impl ToString) -> Option<Reply> {
    Some(Reply::Text(status, body.to_string()))
}

/// A refusal in the form of Google's APIs.
pub(super) fn refused(status: u16, code: &str) -> Option<Reply> {
    text(status, json!({ "error": { "code": status, "message": "words of Google", "status": code } }))
}

/// Version 3 of the secret `db` with this value.
pub(super) fn value(value: &[u8]) -> Option<Reply> {
    text(200, accessed(value, crc32c(value)))
}

pub(super) fn accessed(value: &[u8], checksum: u32) -> Value {
    json!({
        "name": "projects/4711/secrets/db/versions/3",
        "payload": { "data": BASE64.encode(value), "dataCrc32c": checksum.to_string() },
    })
}

/// What a token endpoint and the metadata server answer.
pub(super) fn token(token: &str, seconds: u64) -> Option<Reply> {
    text(200, json!({ "access_token": token, "expires_in": seconds, "token_type": "Bearer" }))
}
