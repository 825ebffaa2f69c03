//! Google Cloud: a drongo server behind a door that asks for a token, and a gate, since it forgets everything when it ends.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use async_trait::async_trait;
use bursar_backend_gcp::{Credentials, GcpBackend, GcpConfig, SecretReader};
use bursar_core::backend::Backend;
use bursar_core::conformance::{Fault, Site, Trouble};
use bursar_core::secret::SecretData;
use bursar_core::{BackendName, SecretPath, SystemClock};
use bursar_tests::{Drongo, Gate, GoogleDoor, LONGEST_PAYLOAD, PROJECT};
use rustix::process::{Pid, Signal, kill_process};

use super::conforms;

#[test]
fn gcp_does_what_a_backend_has_to_do() -> Result<()> {
    conforms(&Gcp::start()?, "`gcp`")
}

/// Secret Manager of one project.
struct Gcp {
    // Dropped first: it calls the server.
    backend: GcpBackend,
    gate: Mutex<Gate>,
    _door: GoogleDoor,
    drongo: Drongo,
}

impl Gcp {
    fn start() -> Result<Self> {
        // Another test of this process may have been first.
        drop(rustls::crypto::ring::default_provider().install_default());
        let drongo = Drongo::start()?;
        let door = GoogleDoor::before(drongo.address())?;
        let (gate, key) = (Gate::before(door.address())?, door.key());
        let key = SecretReader::new("a test", move || Ok(key.clone().into()));
        let config = GcpConfig {
            name: BackendName::parse("gcp")?,
            project: PROJECT.to_owned(),
            location: None,
            endpoint: Some(gate.url()),
            allow_plaintext: true,
            ca_file: None,
            timeout: Duration::from_secs(3),
            prefix: "bursar-".to_owned(),
            separator: Some("--".to_owned()),
            credentials: Some(Credentials::Json(key)),
        };
        let backend = GcpBackend::new(config, Arc::new(SystemClock))?;
        Ok(Self { backend, gate: Mutex::new(gate), _door: door, drongo })
    }

    fn gate(&self) -> MutexGuard<'_, Gate> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, path: &SecretPath, data: &SecretData) -> Result<()> {
        let id = format!("bursar-{}", path.as_str().replace('/', "--"));
        self.drongo.put_secret(&id, data.select(None)?.expose()).map(drop)
    }

    fn begin(&self, trouble: Trouble) -> Result<()> {
        match trouble {
            Trouble::Down => self.gate().close(),
            Trouble::Hung => self.signal(Signal::STOP)?,
            Trouble::Throttled => self.gate().answer(429, r#"{"error":{"status":"RESOURCE_EXHAUSTED"}}"#),
            Trouble::Denied => self.gate().answer(403, r#"{"error":{"status":"PERMISSION_DENIED"}}"#),
            Trouble::Sealed => anyhow::bail!("Google has no seal"),
        }
        Ok(())
    }

    fn end(&self, trouble: Trouble) -> Result<()> {
        match trouble {
            Trouble::Down => self.gate().open()?,
            Trouble::Hung => self.signal(Signal::CONT)?,
            Trouble::Throttled | Trouble::Denied => self.gate().stand_aside(),
            Trouble::Sealed => anyhow::bail!("Google has no seal"),
        }
        Ok(())
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.drongo.pid()).ok().and_then(Pid::from_raw).context("no process id")?;
        Ok(kill_process(pid, signal)?)
    }
}

#[async_trait]
impl Site for Gcp {
    fn backend(&self) -> &dyn Backend {
        &self.backend
    }

    fn path(&self, name: &str) -> String {
        name.to_owned()
    }

    async fn write(&self, path: &SecretPath, data: &SecretData) -> Result<(), Fault> {
        tokio::task::block_in_place(|| Ok(self.put(path, data)?))
    }

    /// drongo would take more.
    fn takes_name(&self, name: &str) -> bool {
        name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/_-".contains(&byte))
    }

    /// Values are members of a JSON object.
    fn takes_bytes(&self) -> bool {
        false
    }

    fn longest(&self) -> usize {
        LONGEST_PAYLOAD - r#"{"p":""}"#.len()
    }

    fn beyond(&self) -> usize {
        LONGEST_PAYLOAD
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
