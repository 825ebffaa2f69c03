//! Every backend against the suite that says what a backend has to do.

mod aws;
mod azure;
mod gcp;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use async_trait::async_trait;
use bursar_backend_local::{DEFAULT_MAX_VERSIONS, LocalBackend, LocalConfig};
use bursar_backend_vault::{MountKind, VaultBackend, VaultConfig};
use bursar_core::backend::{Backend, PutTerms};
use bursar_core::conformance::{self, Fault, Site, Trouble};
use bursar_core::secret::{MAX_SIZE, SecretData};
use bursar_core::{BackendName, Secret, SecretPath, SystemClock};
use bursar_tests::{OpenBao, Postgres, wait_stopped};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Map, Value, json};

use super::vault_backend::{self, POLICY};

mod postgres;

#[test]
fn the_local_store_does_what_a_backend_has_to_do() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let backend = LocalBackend::open(LocalConfig {
        name: BackendName::parse("local")?,
        path: folder.path().join("store.db"),
        clock: Arc::new(SystemClock),
        key: Secret::new((0..32).map(|_| fastrand::u8(..)).collect()),
        previous: None,
        max_versions: DEFAULT_MAX_VERSIONS,
    })?;
    conforms(&Local { backend }, "`local`")
}

#[test]
fn vault_does_what_a_backend_has_to_do_with_versions_and_credentials() -> Result<()> {
    conforms(&Vault::start("kv", MountKind::KvV2)?, "`vault`: KV version 2, engines that lease")
}

#[test]
fn vault_does_what_a_backend_has_to_do_without_versions() -> Result<()> {
    conforms(&Vault::start("kv1", MountKind::KvV1)?, "`vault`: KV version 1, engines that lease")
}

/// Runs the suite, and compares what the backend says that it can do with the row of the documentation.
fn conforms(site: &dyn Site, kind: &str) -> Result<()> {
    let can = site.backend().capabilities();
    let told = [can.versions, can.list, can.leasing, can.writing].map(|can| if can { "yes" } else { "no" });
    let row = format!("| {kind} | {} |", told.join(" | "));
    ensure!(BACKENDS.lines().any(|line| line == row), "`docs/backends.md` has no row `{row}`");

    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let failed = runtime.block_on(conformance::run(site));
    ensure!(failed.is_empty(), "{} cases do not hold:\n{}", failed.len(), failed.join("\n"));
    Ok(())
}

/// Whose it is to write the local store is the broker itself.
struct Local {
    backend: LocalBackend,
}

#[async_trait]
impl Site for Local {
    fn backend(&self) -> &dyn Backend {
        &self.backend
    }

    fn path(&self, name: &str) -> String {
        name.to_owned()
    }

    async fn write(&self, path: &SecretPath, data: &SecretData) -> Result<(), Fault> {
        let writing = self.backend.writing().ok_or("the local store cannot be written")?;
        Ok(writing.put(path, data.clone(), PutTerms::default()).await.map(drop)?)
    }

    fn takes_bytes(&self) -> bool {
        true
    }

    fn longest(&self) -> usize {
        MAX_SIZE - "p".len()
    }

    fn beyond(&self) -> usize {
        MAX_SIZE
    }

    /// It is a file.
    fn troubles(&self) -> &[Trouble] {
        &[]
    }

    async fn befall(&self, trouble: Trouble) -> Result<(), Fault> {
        Err(format!("{trouble:?} cannot befall it").into())
    }

    async fn mend(&self, trouble: Trouble) -> Result<(), Fault> {
        self.befall(trouble).await
    }
}

/// A real OpenBao with a KV engine, and a database engine over a real PostgreSQL.
struct Vault {
    // Dropped first: it calls the server.
    backend: VaultBackend,
    bao: Mutex<OpenBao>,
    postgres: Postgres,
    mount: &'static str,
    kind: MountKind,
}

impl Vault {
    fn start(mount: &'static str, kind: MountKind) -> Result<Self> {
        let (bao, postgres) = (OpenBao::start()?, Postgres::start()?);
        match kind {
            MountKind::KvV2 => bao.enable_kv(mount)?,
            _ => bao.api("POST", &format!("sys/mounts/{mount}"), &json!({ "type": "kv" })).map(drop)?,
        }
        bao.enable_database("db", &postgres)?;
        bao.database_role("db", "ro", Duration::from_secs(600))?;
        let login = bao.approle(ROLE, POLICY)?;
        let mounts = [(mount, kind), ("db", MountKind::Leased)];
        let mounts = mounts.map(|(mount, kind)| (mount.to_owned(), kind)).into();
        let timeout = Duration::from_secs(3);
        let backend =
            vault_backend::backend(VaultConfig { mounts, timeout, ..vault_backend::config(&bao, &login)? })?;
        Ok(Self { backend, bao: Mutex::new(bao), postgres, mount, kind })
    }

    fn bao(&self) -> MutexGuard<'_, OpenBao> {
        self.bao.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, path: &SecretPath, data: &SecretData) -> Result<()> {
        let mut body = Map::new();
        for name in data.field_names() {
            let value = data.select(Some(name))?;
            body.insert(name.to_string(), Value::from(std::str::from_utf8(value.expose())?));
        }
        let (mount, rest) = path.as_str().split_once('/').context("a path without a mount")?;
        let (infix, body) = match self.kind {
            MountKind::KvV2 => ("data/", json!({ "data": body })),
            _ => ("", Value::Object(body)),
        };
        self.bao().api("POST", &format!("{mount}/{infix}{}", encoded(rest)), &body).map(drop)
    }

    fn begin(&self, trouble: Trouble) -> Result<()> {
        let quota = json!({ "path": format!("{}/", self.mount), "rate": 1, "interval": "1h" });
        match trouble {
            Trouble::Down => self.bao().stop(),
            Trouble::Hung => {
                self.signal(Signal::STOP)?;
                wait_stopped(self.bao().pid())
            }
            Trouble::Sealed => self.bao().seal(),
            Trouble::Denied => self.policy(""),
            Trouble::Throttled => {
                self.bao().api("POST", QUOTA, &quota)?;
                // The only call that it allows within an hour.
                drop(
                    self.put(
                        &SecretPath::from_store(&self.path("throttled"))?,
                        &SecretData::Fields([].into()),
                    ),
                );
                Ok(())
            }
        }
    }

    fn end(&self, trouble: Trouble) -> Result<()> {
        match trouble {
            Trouble::Down => self.bao().start_again(),
            Trouble::Hung => self.signal(Signal::CONT),
            Trouble::Sealed => self.bao().unseal(),
            Trouble::Denied => self.policy(POLICY),
            Trouble::Throttled => self.bao().api("DELETE", QUOTA, &Value::Null).map(drop),
        }
    }

    fn policy(&self, policy: &str) -> Result<()> {
        let path = format!("sys/policies/acl/{ROLE}");
        // An empty policy is no policy, and one that names another path allows nothing here.
        let policy = if policy.is_empty() { r#"path "other/*" { capabilities = ["read"] }"# } else { policy };
        self.bao().api("PUT", &path, &json!({ "policy": policy })).map(drop)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.bao().pid()).ok().and_then(Pid::from_raw).context("no process id")?;
        Ok(kill_process(pid, signal)?)
    }
}

#[async_trait]
impl Site for Vault {
    fn backend(&self) -> &dyn Backend {
        &self.backend
    }

    fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.mount)
    }

    async fn write(&self, path: &SecretPath, data: &SecretData) -> Result<(), Fault> {
        tokio::task::block_in_place(|| Ok(self.put(path, data)?))
    }

    /// Values are members of a JSON object.
    fn takes_bytes(&self) -> bool {
        false
    }

    fn longest(&self) -> usize {
        1_000_000
    }

    /// Raft's `max_entry_size` is 1 MiB.
    fn beyond(&self) -> usize {
        2 * 1024 * 1024
    }

    fn leased(&self) -> Option<String> {
        Some("db/creds/ro".to_owned())
    }

    async fn opens(&self, credential: &SecretData) -> Result<bool, Fault> {
        tokio::task::block_in_place(|| Ok(vault_backend::logs_in(&self.postgres, credential)?))
    }

    fn troubles(&self) -> &[Trouble] {
        &[Trouble::Down, Trouble::Hung, Trouble::Sealed, Trouble::Denied, Trouble::Throttled]
    }

    async fn befall(&self, trouble: Trouble) -> Result<(), Fault> {
        tokio::task::block_in_place(|| Ok(self.begin(trouble)?))
    }

    async fn mend(&self, trouble: Trouble) -> Result<(), Fault> {
        tokio::task::block_in_place(|| Ok(self.end(trouble)?))
    }
}

/// A path as it stands in a URL.
fn encoded(path: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    path.bytes().map(byte).collect()
}

const BACKENDS: &str = include_str!("../../../docs/backends.md");
const ROLE: &str = "broker";
const QUOTA: &str = "sys/quotas/rate-limit/conformance";
