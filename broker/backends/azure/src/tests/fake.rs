//! A vault, an Entra ID and a machine's identity service that answer what a test tells them to, by TLS.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use bursar_backend_http::testing;
pub(super) use bursar_backend_http::testing::{Call, Reply, install_provider, path};
use bursar_core::clock::TestClock;
use bursar_core::{BackendName, Clock, Secret};

use crate::{AzureBackend, AzureConfig, Credentials, Proof, SecretReader};

/// The secret of the application that [`Fake::config`] logs in as.
pub(super) const CLIENT_SECRET: &str = "client-secret-canary-Wx3";
pub(super) const RESOURCE: &str = "https://vault.azure.net";
pub(super) const VERSION: &str = "0123456789abcdef0123456789abcdef";

pub(super) trait IsLogin {
    fn is_login(&self) -> bool;
}

impl IsLogin for Call {
    fn is_login(&self) -> bool {
        self.target.contains("/token")
    }
}

/// A running fake, stopped when dropped.
pub(super) struct Fake(testing::Fake);

impl Fake {
    /// Answers as `script` says, and where it says nothing: logins with the token `t`, all else that there is no such
    /// secret.
    pub(super) async fn start(script: impl Fn(&Call) -> Option<Reply> + Send + Sync + 'static) -> Self {
        Self::start_as("127.0.0.1", script).await
    }

    /// The same with a certificate for `host`.
    pub(super) async fn start_as(
        host: &str,
        script: impl Fn(&Call) -> Option<Reply> + Send + Sync + 'static,
    ) -> Self {
        let usual = |call: &Call| match call.is_login() {
            true => token("t", 3600),
            false => refused(404, "SecretNotFound", None),
        };
        let answer = move |call: &Call| script(call).or_else(|| usual(call)).expect("a reply");
        Self(testing::Fake::start_tls(host, answer).await)
    }

    /// The logins until now.
    pub(super) fn logins(&self) -> Vec<Call> {
        self.calls().into_iter().filter(Call::is_login).collect()
    }

    /// The calls to the vault until now.
    pub(super) fn reads(&self) -> Vec<Call> {
        self.calls().into_iter().filter(|call| !call.is_login()).collect()
    }

    /// As which the backend is configured: an application with a secret.
    pub(super) fn config(&self) -> AzureConfig {
        AzureConfig {
            name: BackendName::parse("azure").expect("name"),
            vault: self.address.clone(),
            resource: Some(RESOURCE.to_owned()),
            ca_file: Some(self.ca_file()),
            timeout: Duration::from_secs(20),
            prefix: String::new(),
            separator: None,
            credentials: self.application(Proof::ClientSecret(holding(CLIENT_SECRET))),
        }
    }

    pub(super) fn application(&self, proof: Proof) -> Credentials {
        Credentials::Application {
            authority: Some(self.address.clone()),
            tenant: "contoso.example".to_owned(),
            client_id: "client".to_owned(),
            proof,
        }
    }

    /// A backend before this fake.
    pub(super) fn backend(&self) -> AzureBackend {
        backend(self.config())
    }
}

impl Deref for Fake {
    type Target = testing::Fake;
    fn deref(&self) -> &testing::Fake {
        &self.0
    }
}

pub(super) fn backend(config: AzureConfig) -> AzureBackend {
    backend_at(config, Arc::new(TestClock::new()))
}

pub(super) fn backend_at(config: AzureConfig, clock: Arc<dyn Clock>) -> AzureBackend {
    install_provider();
    AzureBackend::new(config, clock).expect("configuration")
}

pub(super) fn holding(text: &'static str) -> SecretReader {
    SecretReader::new("a test", move || Ok(Secret::from(text.to_owned())))
}

pub(super) fn text(status: u16, body: &str) -> Option<Reply> {
    Some(Reply::Text(status, body.to_owned()))
}

/// A refusal in the form of Key Vault.
pub(super) fn refused(status: u16, code: &str, inner: Option<&str>) -> Option<Reply> {
    let inner = inner.map(|inner| format!(r#","innererror":{{"code":"{inner}"}}"#)).unwrap_or_default();
    text(status, &format!(r#"{{"error":{{"code":"{code}","message":"words of Azure"{inner}}}}}"#))
}

/// The secret `db`; `members` are further ones.
pub(super) fn value(value: &str, members: &str) -> Option<Reply> {
    let id = format!("https://v.vault.azure.net/secrets/db/{VERSION}");
    let attributes = r#""attributes":{"enabled":true,"created":1767225600,"updated":1767225600}"#;
    text(200, &format!(r#"{{"value":{value},"id":"{id}",{attributes}{members}}}"#))
}

/// What Entra ID answers.
pub(super) fn token(token: &str, seconds: u64) -> Option<Reply> {
    let life = format!(r#""expires_in":{seconds},"ext_expires_in":{seconds}"#);
    text(200, &format!(r#"{{"token_type":"Bearer",{life},"access_token":"{token}"}}"#))
}
