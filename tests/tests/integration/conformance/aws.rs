//! AWS: a moto server behind a gate, since moto forgets everything when it ends.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use async_trait::async_trait;
use bursar_backend_aws::{AwsBackend, AwsConfig, Credentials, Revocation, Role, SecretReader};
use bursar_core::backend::Backend;
use bursar_core::conformance::{Fault, Site, Trouble};
use bursar_core::secret::SecretData;
use bursar_core::{BackendName, FieldName, SecretPath, SystemClock};
use bursar_tests::{AwsKey, EVERYTHING, Gate, LONGEST_SECRET, Moto, REGION};
use rustix::process::{Pid, Signal, kill_process};

use super::conforms;

#[test]
fn aws_does_what_a_backend_has_to_do() -> Result<()> {
    conforms(&Aws::start(&[], Revocation::AtEnd)?, "`aws`: secrets")
}

#[test]
fn aws_does_what_a_backend_has_to_do_with_sessions_of_roles() -> Result<()> {
    conforms(&Aws::start(&["deploy"], Revocation::AtEnd)?, "`aws`: secrets and roles")
}

#[test]
fn aws_does_what_a_backend_has_to_do_with_sessions_that_it_denies() -> Result<()> {
    conforms(&Aws::start(&["deploy"], Revocation::Deny)?, "`aws`: secrets and roles")
}

/// Secrets Manager and STS, in an account with one user.
struct Aws {
    // Dropped first: it calls the server.
    backend: AwsBackend,
    gate: Mutex<Gate>,
    moto: Moto,
    key: AwsKey,
    leases: bool,
}

impl Aws {
    fn start(roles: &[&str], revoke: Revocation) -> Result<Self> {
        // Another test of this process may have been first.
        drop(rustls::crypto::ring::default_provider().install_default());
        let moto = Moto::start()?;
        let key = moto.user("broker", EVERYTHING)?;
        for role in roles {
            moto.role(role)?;
        }
        let gate = Gate::before(moto.address())?;
        let role = |name: &&str| {
            let arn = format!("arn:aws:iam::123456789012:role/{name}");
            let (ttl, session_tags) = (Role::DEFAULT_TTL, BTreeMap::new());
            ((*name).to_owned(), Role { arn, ttl, external_id: None, policy: None, session_tags, revoke })
        };
        let secret = key.secret.value().to_owned();
        let config = AwsConfig {
            name: BackendName::parse("aws")?,
            owner: "a test".to_owned(),
            region: REGION.to_owned(),
            endpoint: Some(gate.url()),
            sts_endpoint: Some(gate.url()),
            kms_endpoint: None,
            iam_endpoint: Some(gate.url()),
            allow_plaintext: true,
            ca_file: None,
            timeout: Duration::from_secs(3),
            prefix: "bursar/".to_owned(),
            credentials: Credentials::Keys {
                access_key_id: key.id.clone(),
                secret_access_key: SecretReader::new("a test", move || Ok(secret.clone().into())),
                session_token: None,
            },
            assume_role: None,
            roles: roles.iter().map(role).collect(),
        };
        let backend = AwsBackend::new(config, Arc::new(SystemClock))?;
        Ok(Self { backend, gate: Mutex::new(gate), moto, key, leases: !roles.is_empty() })
    }

    fn gate(&self) -> MutexGuard<'_, Gate> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, path: &SecretPath, data: &SecretData) -> Result<()> {
        let whole = data.select(None)?;
        let text = std::str::from_utf8(whole.expose())?;
        self.moto.put_secret(&format!("bursar/{}", path.as_str()), text).map(drop)
    }

    fn begin(&self, trouble: Trouble) -> Result<()> {
        match trouble {
            Trouble::Down => self.gate().close(),
            Trouble::Hung => self.signal(Signal::STOP)?,
            Trouble::Throttled => self.gate().answer(400, r#"{"__type":"ThrottlingException"}"#),
            Trouble::Denied => {
                self.moto.allow(&self.key.user, NOTHING)?;
                self.moto.enforce(true)?;
            }
            Trouble::Sealed => anyhow::bail!("AWS has no seal"),
        }
        Ok(())
    }

    fn end(&self, trouble: Trouble) -> Result<()> {
        match trouble {
            Trouble::Down => self.gate().open()?,
            Trouble::Hung => self.signal(Signal::CONT)?,
            Trouble::Throttled => self.gate().stand_aside(),
            Trouble::Denied => {
                self.moto.enforce(false)?;
                self.moto.allow(&self.key.user, EVERYTHING)?;
            }
            Trouble::Sealed => anyhow::bail!("AWS has no seal"),
        }
        Ok(())
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.moto.pid()).ok().and_then(Pid::from_raw).context("no process id")?;
        Ok(kill_process(pid, signal)?)
    }
}

#[async_trait]
impl Site for Aws {
    fn backend(&self) -> &dyn Backend {
        &self.backend
    }

    fn path(&self, name: &str) -> String {
        name.to_owned()
    }

    async fn write(&self, path: &SecretPath, data: &SecretData) -> Result<(), Fault> {
        tokio::task::block_in_place(|| Ok(self.put(path, data)?))
    }

    /// moto would take any.
    fn takes_name(&self, name: &str) -> bool {
        name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/_+=.@-".contains(&byte))
    }

    /// Values are members of a JSON object.
    fn takes_bytes(&self) -> bool {
        false
    }

    fn longest(&self) -> usize {
        LONGEST_SECRET - r#"{"p":""}"#.len()
    }

    fn beyond(&self) -> usize {
        LONGEST_SECRET
    }

    fn leased(&self) -> Option<String> {
        self.leases.then(|| "sts/deploy".to_owned())
    }

    async fn opens(&self, credential: &SecretData) -> Result<bool, Fault> {
        let key = credential.select(Some(&FieldName::parse("access_key_id")?))?;
        let key = std::str::from_utf8(key.expose())?;
        let identity = tokio::task::block_in_place(|| self.moto.identity(key))?;
        let denied = tokio::task::block_in_place(|| self.moto.is_denied("deploy", &identity))?;
        Ok(identity.contains(":assumed-role/deploy/bursar-") && !denied)
    }

    /// STS has no list of them.
    fn tells_credentials(&self) -> bool {
        false
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

const NOTHING: &str =
    r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:GetObject","Resource":"*"}]}"#;
