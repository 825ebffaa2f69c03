//! The Vault backend against a real OpenBao, and its database engine against a real PostgreSQL.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use bursar_backend_vault::{Auth, Credential, MountKind, SecretReader, VaultBackend, VaultConfig};
use bursar_core::backend::{
    Backend, BackendError, ErrorKind, Issued, Leasing, Operation, StoreHandle, VersionState,
};
use bursar_core::secret::SecretData;
use bursar_core::{BackendName, Clock, FieldName, LeaseId, Secret, SecretPath, SystemClock, Version};
use bursar_tests::{AppRole, Canary, OpenBao, Postgres, wait_until};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

/// A store with a login for the broker, and the backend before it, reached by TLS.
struct Store {
    bao: OpenBao,
    backend: VaultBackend,
    runtime: Runtime,
}

impl Store {
    fn start() -> Result<Self> {
        let bao = OpenBao::start()?;
        bao.enable_kv("kv")?;
        bao.api("POST", "sys/mounts/kv1", &json!({ "type": "kv", "options": { "version": "1" } }))?;
        let login = bao.approle("broker", POLICY)?;
        let backend = backend(config(&bao, &login)?)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        Ok(Self { bao, backend, runtime })
    }

    /// The same with a database engine at `db` whose role `ro` lasts `ttl`.
    fn with_database(ttl: Duration) -> Result<(Self, Postgres)> {
        let (store, postgres) = (Self::start()?, Postgres::start()?);
        store.bao.enable_database("db", &postgres)?;
        store.bao.database_role("db", "ro", ttl)?;
        Ok((store, postgres))
    }

    fn write(&self, path: &str, data: &Value) -> Result<()> {
        self.bao.api("POST", &format!("kv/data/{path}"), &json!({ "data": data })).map(drop)
    }

    /// Reads one field.
    fn field(&self, path: &str, field: &str, version: Option<u64>) -> Result<Arc<Secret>> {
        let version = version.map(Version::number);
        let path = SecretPath::from_store(path)?;
        let fetched = self.runtime.block_on(self.backend.read(&path, version.as_ref()))?;
        Ok(fetched.data.select(Some(&FieldName::parse(field)?))?)
    }

    fn refusal(&self, path: &str, version: Option<u64>) -> Result<BackendError> {
        let refused = self.field(path, "any", version).err().context("the read was meant to be refused")?;
        refused.downcast()
    }

    fn issue(&self) -> Result<Issued> {
        let path = SecretPath::from_store("db/creds/ro")?;
        Ok(self.runtime.block_on(self.backend.issue(&path, LEASE, Duration::from_secs(60)))?)
    }

    fn revoke(&self, handle: &StoreHandle) -> Result<()> {
        Ok(self.runtime.block_on(self.backend.revoke(handle)).map(drop)?)
    }

    fn orphans(&self, since: jiff::Timestamp) -> Result<Vec<StoreHandle>> {
        let path = SecretPath::from_store("db/creds/ro")?;
        Ok(self.runtime.block_on(self.backend.find_orphans(&path, since..jiff::Timestamp::MAX))?)
    }
}

/// How often OpenBao has answered a call to `path`, by its audit file.
pub(crate) fn answers(audit: &Path, path: &str) -> usize {
    let text = std::fs::read_to_string(audit).unwrap_or_default();
    let records = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let answers = records.filter(|record| record.pointer("/type").is_some_and(|kind| kind == "response"));
    answers.filter(|record| record.pointer("/request/path").is_some_and(|asked| asked == path)).count()
}

pub(crate) fn config(bao: &OpenBao, login: &AppRole) -> Result<VaultConfig> {
    config_by(bao, approle(login))
}

/// The login of an AppRole.
pub(crate) fn approle(login: &AppRole) -> Auth {
    let secret_id = login.secret_id.value().to_owned();
    let reader = SecretReader::new("a test", move || Ok(Secret::from(secret_id.clone())));
    let secret_id = Credential { reader, wrapping_path: None };
    Auth::AppRole { mount: "approle".to_owned(), role_id: login.role_id.clone(), secret_id }
}

/// A broker's way to a store by TLS, whichever its login.
pub(crate) fn config_by(bao: &OpenBao, auth: Auth) -> Result<VaultConfig> {
    let mounts = [("kv", MountKind::KvV2), ("kv1", MountKind::KvV1), ("db", MountKind::Leased)];
    Ok(VaultConfig {
        name: BackendName::parse("vault")?,
        addresses: vec![bao.tls_url()],
        allow_plaintext: false,
        namespace: None,
        auth,
        mounts: mounts.map(|(mount, kind)| (mount.to_owned(), kind)).into(),
        parameters: BTreeMap::new(),
        ca_file: Some(bao.authority().to_owned()),
        timeout: Duration::from_secs(20),
    })
}

pub(crate) fn backend(config: VaultConfig) -> Result<VaultBackend> {
    // Another test of this process may have been first.
    drop(rustls::crypto::ring::default_provider().install_default());
    Ok(VaultBackend::new(config, Arc::new(SystemClock))?)
}

/// Logs in to PostgreSQL with an issued credential.
pub(crate) fn logs_in(postgres: &Postgres, credential: &SecretData) -> Result<bool> {
    let text = |field: &str| -> Result<String> {
        let value = credential.select(Some(&FieldName::parse(field)?))?;
        Ok(String::from_utf8(value.expose().to_vec())?)
    };
    let (user, password) = (text("username")?, text("password")?);
    Ok(postgres.psql_as(&user, &password, "SELECT 1").is_ok())
}

#[test]
fn a_key_value_entry_is_read_by_field_and_version() -> Result<()> {
    let store = Store::start()?;
    let (old, new) = (Canary::random("old value"), Canary::random("new value"));
    for canary in [&old, &new] {
        let nested = json!({ "a": [1, true] });
        store.write("team%20a/%D0%BA%25%3F%23", &json!({ "p": canary.value(), "nested": nested }))?;
    }
    let path = "kv/team a/к%?#";
    assert!(store.field(path, "p", None)?.ct_eq(new.value().as_bytes()), "the newest is another value");
    assert!(store.field(path, "p", Some(1))?.ct_eq(old.value().as_bytes()), "version 1 is another value");
    assert!(
        store.field(path, "nested", None)?.ct_eq(br#"{"a":[1,true]}"#),
        "a nested value is its JSON text"
    );
    assert_eq!(store.refusal(path, Some(3))?.kind, ErrorKind::NotFound);
    assert_eq!(store.refusal("kv/team a", None)?.kind, ErrorKind::NotFound);
    Ok(())
}

#[test]
fn a_deleted_version_is_not_found_and_told_so() -> Result<()> {
    let store = Store::start()?;
    let path = SecretPath::from_store("kv/a")?;
    for value in ["1", "2", "3"] {
        store.write("a", &json!({ "p": value }))?;
    }
    store.bao.api("DELETE", "kv/data/a", &Value::Null)?;
    store.bao.api("PUT", "kv/destroy/a", &json!({ "versions": [1] }))?;
    assert_eq!(store.refusal("kv/a", None)?.kind, ErrorKind::NotFound);
    assert_eq!(store.refusal("kv/a", Some(1))?.kind, ErrorKind::NotFound);
    let versions = store.runtime.block_on(store.backend.versions(&path))?;
    let told: Vec<_> = versions.iter().map(|info| (info.version.as_str(), info.state)).collect();
    assert_eq!(
        told,
        [("3", VersionState::Deleted), ("2", VersionState::Kept), ("1", VersionState::Destroyed),]
    );
    assert!(versions.iter().all(|info| info.created_at.is_some()));
    Ok(())
}

#[test]
fn custom_metadata_are_labels_and_a_deletion_to_come_is_an_end() -> Result<()> {
    let store = Store::start()?;
    let about = json!({ "custom_metadata": { "owner": "payments" }, "delete_version_after": "1h" });
    store.bao.api("POST", "kv/metadata/a", &about)?;
    store.write("a", &json!({ "p": "v" }))?;
    let path = SecretPath::from_store("kv/a")?;
    let labels = store.runtime.block_on(store.backend.labels(&path))?;
    assert_eq!(labels, [("owner".to_owned(), "payments".to_owned())].into());
    let end = store.runtime.block_on(store.backend.read(&path, None))?.expires_at;
    let left = end.map(|end| end.duration_since(SystemClock.now()).as_secs());
    assert!(left.is_some_and(|left| (3500..=3600).contains(&left)), "{left:?} seconds are left");
    let versions = store.runtime.block_on(store.backend.versions(&path))?;
    assert_eq!(versions.first().map(|info| (info.state, info.expires_at)), Some((VersionState::Kept, end)));
    Ok(())
}

#[test]
fn a_folder_is_listed_in_pages() -> Result<()> {
    let store = Store::start()?;
    for path in ["f/b", "f/a", "f/c", "f/a/deep"] {
        store.write(path, &json!({ "p": "v" }))?;
    }
    let folder = SecretPath::from_store("kv/f")?;
    let page = |after: Option<&str>| store.runtime.block_on(store.backend.list(Some(&folder), after, 2));
    assert_eq!(page(None)?, ["a", "a/"]);
    assert_eq!(page(Some("a/"))?, ["b", "c"]);
    assert_eq!(page(Some("c"))?, Vec::<String>::new());
    let top = SecretPath::from_store("kv")?;
    assert_eq!(store.runtime.block_on(store.backend.list(Some(&top), None, 9))?, ["f/"]);
    Ok(())
}

#[test]
fn what_the_policy_forbids_is_denied_and_costs_one_login() -> Result<()> {
    let store = Store::start()?;
    for _ in 0..3 {
        let error = store.refusal("kv/forbidden/a", None)?;
        assert_eq!((error.kind, error.code), (ErrorKind::Denied, Some(403)));
    }
    assert_eq!(answers(&store.bao.audit_file(), "auth/approle/login"), 1);
    Ok(())
}

#[test]
fn a_wrong_secret_id_is_denied() -> Result<()> {
    let store = Store::start()?;
    let mut login = store.bao.approle("other", POLICY)?;
    login.secret_id = Canary::alphanumeric("wrong secret id");
    let wrong = backend(config(&store.bao, &login)?)?;
    let error = store.runtime.block_on(wrong.health()).expect_err("nobody knows this secret id");
    assert_eq!((error.kind, error.operation), (ErrorKind::Denied, Operation::Login));
    Ok(())
}

#[test]
fn a_mount_that_is_not_there_is_a_fault_of_the_configuration() -> Result<()> {
    let store = Store::start()?;
    let login = store.bao.approle("root-like", r#"path "*" { capabilities = ["read"] }"#)?;
    let mut config = config(&store.bao, &login)?;
    config.mounts = [("absent".to_owned(), MountKind::KvV2)].into();
    let backend = backend(config)?;
    let read = store.runtime.block_on(backend.read(&SecretPath::from_store("absent/a")?, None));
    assert_eq!(read.err().map(|error| error.kind), Some(ErrorKind::Misconfigured));
    Ok(())
}

#[test]
fn a_token_that_was_revoked_is_replaced() -> Result<()> {
    let store = Store::start()?;
    store.write("a", &json!({ "p": "v" }))?;
    store.field("kv/a", "p", None)?;
    store.bao.api("PUT", "sys/leases/revoke-prefix/auth/approle/login", &Value::Null)?;
    store.field("kv/a", "p", None)?;
    assert_eq!(answers(&store.bao.audit_file(), "auth/approle/login"), 2);
    Ok(())
}

#[test]
fn a_seal_and_a_restart_are_told_and_survived() -> Result<()> {
    let mut store = Store::start()?;
    store.write("a", &json!({ "p": "v" }))?;
    store.field("kv/a", "p", None)?;

    store.bao.seal()?;
    assert_eq!(store.refusal("kv/a", None)?.kind, ErrorKind::Sealed);
    let health = store.runtime.block_on(store.backend.health());
    assert_eq!(health.err().map(|error| error.kind), Some(ErrorKind::Sealed));
    store.bao.unseal()?;
    store.field("kv/a", "p", None)?;

    store.bao.stop()?;
    assert_eq!(store.refusal("kv/a", None)?.kind, ErrorKind::Unavailable);
    store.bao.start_again()?;
    store.field("kv/a", "p", None)?;
    store.runtime.block_on(store.backend.health())?;
    assert_eq!(answers(&store.bao.audit_file(), "auth/approle/login"), 1, "the token outlives all of this");
    Ok(())
}

#[test]
fn a_credential_works_until_it_is_revoked() -> Result<()> {
    let (store, postgres) = Store::with_database(Duration::from_secs(600))?;
    let issued = store.issue()?;
    assert_eq!((issued.ttl, issued.renewable), (Duration::from_secs(600), true));
    assert!(logs_in(&postgres, &issued.data)?, "PostgreSQL does not know the credential");

    let renew = |ttl| store.runtime.block_on(store.backend.renew(&issued.handle, Duration::from_secs(ttl)));
    assert_eq!(renew(120)?, Duration::from_secs(120));

    for _ in 0..2 {
        store.revoke(&issued.handle)?;
        assert!(!logs_in(&postgres, &issued.data)?, "the credential outlived its revocation");
    }
    assert_eq!(renew(120).err().map(|error| error.kind), Some(ErrorKind::NotFound));
    Ok(())
}

#[test]
fn an_unknown_role_issues_nothing() -> Result<()> {
    let (store, _postgres) = Store::with_database(Duration::from_secs(600))?;
    let path = SecretPath::from_store("db/creds/nobody")?;
    let issued = store.runtime.block_on(store.backend.issue(&path, LEASE, Duration::from_secs(60)));
    assert_eq!(issued.err().map(|error| error.kind), Some(ErrorKind::Misconfigured));
    Ok(())
}

#[test]
fn orphans_are_found_by_when_they_were_made() -> Result<()> {
    let (store, _postgres) = Store::with_database(Duration::from_secs(600))?;
    let start = SystemClock.now();
    assert!(store.orphans(start)?.is_empty());
    let (first, second) = (store.issue()?.handle, store.issue()?.handle);
    assert_eq!(store.orphans(start)?.len(), 2);
    assert!(store.orphans(SystemClock.now())?.is_empty());
    store.revoke(&first)?;
    assert_eq!(store.orphans(start)?, [second]);
    Ok(())
}

#[test]
fn a_credential_outlives_the_period_of_the_token_that_is_kept_alive() -> Result<()> {
    let (store, postgres) = Store::with_database(Duration::from_secs(600))?;
    let role = json!({ "token_policies": ["broker"], "token_period": "3s" });
    store.bao.api("POST", "auth/approle/role/broker", &role)?;
    let issued = store.issue()?;
    let audit = store.bao.audit_file();
    store.runtime.block_on(async {
        let renewals = move || answers(&audit, "auth/token/renew-self");
        let wait = move || wait_until(LIMIT, "three renewals of the token", || renewals() >= 3);
        tokio::select! {
            () = store.backend.keep_alive() => anyhow::bail!("`keep_alive` returned"),
            renewed = tokio::task::spawn_blocking(wait) => renewed?,
        }
    })?;
    assert!(logs_in(&postgres, &issued.data)?, "the credential went with the first period of the token");
    assert_eq!(answers(&store.bao.audit_file(), "auth/approle/login"), 1);
    Ok(())
}

const LIMIT: Duration = Duration::from_secs(60);
/// What a credential is for; a Vault names its own.
const LEASE: LeaseId = LeaseId::from_bytes([7; 16]);

/// What the documentation of the backend says that it needs.
pub(crate) const POLICY: &str = r#"
path "kv/*" { capabilities = ["read", "list"] }
path "kv/data/forbidden/*" { capabilities = ["deny"] }
path "kv1/*" { capabilities = ["read", "list"] }
path "db/creds/*" { capabilities = ["read"] }
path "sys/leases/renew" { capabilities = ["update"] }
path "sys/leases/revoke" { capabilities = ["update"] }
path "sys/leases/lookup" { capabilities = ["update"] }
path "sys/leases/lookup/db/*" { capabilities = ["list", "sudo"] }
"#;
