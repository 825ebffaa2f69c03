//! Azure: a key vault behind a gate.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Result;
use async_trait::async_trait;
use bursar_backend_azure::{AzureBackend, AzureConfig, Credentials, Proof, SecretReader};
use bursar_core::backend::Backend;
use bursar_core::conformance::{Fault, Site, Trouble};
use bursar_core::secret::SecretData;
use bursar_core::{BackendName, SecretPath, SystemClock};
use bursar_tests::{CLIENT_ID, Gate, KeyVault, LONGEST_VALUE, RESOURCE, TENANT};
use serde_json::Value;

use super::conforms;

#[test]
fn azure_does_what_a_backend_has_to_do() -> Result<()> {
    conforms(&Azure::start()?, "`azure`")
}

/// One vault, read by an application.
struct Azure {
    // Dropped first: it calls the vault.
    backend: AzureBackend,
    gate: Mutex<Gate>,
    vault: KeyVault,
}

impl Azure {
    fn start() -> Result<Self> {
        // Another test of this process may have been first.
        drop(rustls::crypto::ring::default_provider().install_default());
        let vault = KeyVault::start()?;
        let gate = Gate::before(vault.address())?;
        let url = gate.url().replace("http://", "https://");
        let secret = vault.client_secret();
        let secret = SecretReader::new("a test", move || Ok(secret.value().to_owned().into()));
        let config = AzureConfig {
            name: BackendName::parse("azure")?,
            vault: url.clone(),
            resource: Some(RESOURCE.to_owned()),
            ca_file: Some(vault.ca_file().to_owned()),
            timeout: Duration::from_secs(3),
            prefix: "bursar-".to_owned(),
            separator: Some("--".to_owned()),
            credentials: Credentials::Application {
                authority: Some(url),
                tenant: TENANT.to_owned(),
                client_id: CLIENT_ID.to_owned(),
                proof: Proof::ClientSecret(secret),
            },
        };
        let backend = AzureBackend::new(config, Arc::new(SystemClock))?;
        Ok(Self { backend, gate: Mutex::new(gate), vault })
    }

    fn gate(&self) -> MutexGuard<'_, Gate> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, path: &SecretPath, data: &SecretData) -> Result<()> {
        let whole = data.select(None)?;
        let text = std::str::from_utf8(whole.expose())?;
        self.vault.put(&format!("bursar-{}", path.as_str().replace('/', "--")), text, &Value::Null).map(drop)
    }

    fn begin(&self, trouble: Trouble) -> Result<()> {
        match trouble {
            Trouble::Down => self.gate().close(),
            Trouble::Hung => self.vault.hang(),
            Trouble::Throttled => self.vault.answer(429, JSON, r#"{"error":{"code":"Throttled"}}"#),
            Trouble::Denied => self.vault.allow(false),
            Trouble::Sealed => anyhow::bail!("Azure has no seal"),
        }
        Ok(())
    }

    fn end(&self, trouble: Trouble) -> Result<()> {
        match trouble {
            Trouble::Down => self.gate().open()?,
            Trouble::Hung | Trouble::Throttled => self.vault.mend(),
            Trouble::Denied => self.vault.allow(true),
            Trouble::Sealed => anyhow::bail!("Azure has no seal"),
        }
        Ok(())
    }
}

#[async_trait]
impl Site for Azure {
    fn backend(&self) -> &dyn Backend {
        &self.backend
    }

    fn path(&self, name: &str) -> String {
        name.to_owned()
    }

    async fn write(&self, path: &SecretPath, data: &SecretData) -> Result<(), Fault> {
        tokio::task::block_in_place(|| Ok(self.put(path, data)?))
    }

    /// The vault would take capitals, which are not served.
    fn takes_name(&self, name: &str) -> bool {
        name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-/".contains(&byte))
    }

    /// Values are members of a JSON object.
    fn takes_bytes(&self) -> bool {
        false
    }

    fn longest(&self) -> usize {
        LONGEST_VALUE - r#"{"p":""}"#.len()
    }

    fn beyond(&self) -> usize {
        LONGEST_VALUE
    }

    fn troubles(&self) -> &[Trouble] {
        &[Trouble::Down, Trouble::Hung, Trouble::Denied, Trouble::Throttled]
    }

    async fn befall(&self, trouble: Trouble) -> Result<(), Fault> {
        tokio::task::block_in_place(|| Ok(self.begin(trouble)?))
    }

    async fn mend(&self, trouble: Trouble) -> Result<(), Fault> {
        tokio::task::block_in_place(|| Ok(self.end(trouble)?))
    }
}

const JSON: &str = "Content-Type: application/json";
