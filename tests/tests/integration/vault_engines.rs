//! Engines of a real OpenBao that create by being written, and namespaces.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bursar_backend_vault::{MountKind, VaultBackend, VaultConfig};
use bursar_core::backend::{Backend, BackendError, ErrorKind, Issued, Leasing, Operation, Removal};
use bursar_core::{Clock, FieldName, LeaseId, SecretPath, SystemClock};
use bursar_tests::{Broker, Cli, OpenBao, Postgres};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::vault_backend::{self, logs_in};

#[test]
fn a_certificate_is_issued_for_the_name_in_its_path_and_revoked() -> Result<()> {
    let site = Site::start()?;
    site.enable_pki()?;
    let backend =
        site.backend(&[("pki", MountKind::Pki)], &[("pki/issue/web", &[("alt_names", "www.example.org")])])?;
    let path = SecretPath::from_store("pki/issue/web/app.example.org")?;
    ensure!(backend.is_leased(&path), "a certificate is said to be static");
    let begun = SystemClock.now();
    let issued = site.issue(&backend, &path, Duration::from_secs(3600))?;
    ensure!(!issued.renewable && issued.ttl <= Duration::from_secs(3600), "{:?}", issued.ttl);

    let certificate = text(&issued, "certificate")?;
    let known =
        site.bao.api("GET", &format!("pki/cert/{}", text(&issued, "serial_number")?), &Value::Null)?;
    ensure!(
        known.pointer("/data/certificate").and_then(Value::as_str).map(str::trim) == Some(certificate.trim())
    );
    ensure!(known.pointer("/data/revocation_time") == Some(&json!(0)), "it is revoked already");
    for name in ["app.example.org", "www.example.org"] {
        let der = pem(&certificate)?;
        ensure!(der.windows(name.len()).any(|part| part == name.as_bytes()), "it is not for `{name}`");
    }
    ensure!(text(&issued, "private_key")?.starts_with("-----BEGIN"), "no key came with it");
    ensure!(text(&issued, "ca_chain")?.starts_with("-----BEGIN CERTIFICATE"), "its authorities are no PEM");

    let found = site.runtime.block_on(backend.find_orphans(&path, begun..Timestamp::MAX))?;
    ensure!(found.contains(&issued.handle), "it is not found by when it was made");
    ensure!(site.runtime.block_on(backend.revoke(&issued.handle))? == Removal::Gone);
    let known =
        site.bao.api("GET", &format!("pki/cert/{}", text(&issued, "serial_number")?), &Value::Null)?;
    let revoked = known.pointer("/data/revocation_time").and_then(Value::as_u64);
    ensure!(revoked.is_some_and(|time| time > 0), "the store does not say that it is revoked");
    Ok(())
}

#[test]
fn a_certificate_that_nobody_would_take_back_is_not_handed_out() -> Result<()> {
    let site = Site::start()?;
    site.enable_pki()?;
    site.bao.api("POST", "pki/roles/web", &json!({ "allow_any_name": true, "generate_lease": false }))?;
    let backend = site.backend(&[("pki", MountKind::Pki)], &[])?;
    let refused = |path: &str| -> Result<BackendError> {
        let issued = site.issue(&backend, &SecretPath::from_store(path)?, Duration::from_secs(60));
        issued.err().with_context(|| format!("`{path}` was issued"))?.downcast()
    };
    for path in ["pki/issue/web/app.example.org", "pki/issue/web", "pki/sign/web/app.example.org", "pki"] {
        let error = refused(path)?;
        ensure!(
            (error.kind, error.operation) == (ErrorKind::Misconfigured, Operation::Issue),
            "{path}: {error}"
        );
    }
    Ok(())
}

#[test]
fn an_engine_that_is_written_gets_the_parameters_of_its_path() -> Result<()> {
    let site = Site::start()?;
    site.bao.api("POST", "sys/mounts/ssh", &json!({ "type": "ssh" }))?;
    let role = json!({ "key_type": "otp", "default_user": "ubuntu", "cidr_list": "10.0.0.0/8" });
    site.bao.api("POST", "ssh/roles/otp", &role)?;
    let path = SecretPath::from_store("ssh/creds/otp")?;
    let backend = site.backend(&[("ssh", MountKind::Leased)], &[("ssh/creds/otp", &[("ip", "10.1.2.3")])])?;
    let issued = site.issue(&backend, &path, Duration::from_secs(60))?;
    ensure!(text(&issued, "ip")? == "10.1.2.3" && text(&issued, "username")? == "ubuntu");
    site.runtime.block_on(backend.revoke(&issued.handle))?;
    // Without parameters it would be read, which this engine does not take.
    let without = site.backend(&[("ssh", MountKind::Leased)], &[])?;
    let error: BackendError =
        site.issue(&without, &path, Duration::from_secs(60)).err().context("it was read")?.downcast()?;
    ensure!(error.kind == ErrorKind::Misconfigured, "{error}");
    Ok(())
}

#[test]
fn a_namespace_holds_login_secrets_and_leases() -> Result<()> {
    let (site, postgres) = (Site::start()?, Postgres::start()?);
    site.bao.api("POST", "sys/namespaces/team", &Value::Null)?;
    site.bao.enable_kv("team/kv")?;
    site.bao.api("POST", "team/kv/data/a", &json!({ "data": { "p": "of the team" } }))?;
    site.bao.enable_database("team/db", &postgres)?;
    site.bao.database_role("team/db", "ro", Duration::from_secs(600))?;
    let login = site.bao.approle_in("team/", "broker", vault_backend::POLICY)?;
    let namespace = Some("team".to_owned());
    let backend =
        vault_backend::backend(VaultConfig { namespace, ..vault_backend::config(&site.bao, &login)? })?;

    let fetched = site.runtime.block_on(backend.read(&SecretPath::from_store("kv/a")?, None))?;
    ensure!(fetched.data.select(Some(&FieldName::parse("p")?))?.ct_eq(b"of the team"), "another value");
    let (path, begun) = (SecretPath::from_store("db/creds/ro")?, SystemClock.now());
    let issued = site.issue(&backend, &path, Duration::from_secs(60))?;
    ensure!(logs_in(&postgres, &issued.data)?, "the credential opens nothing");
    site.runtime.block_on(backend.renew(&issued.handle, Duration::from_secs(60)))?;
    let found = site.runtime.block_on(backend.find_orphans(&path, begun..Timestamp::MAX))?;
    ensure!(found == [issued.handle.clone()], "{} were found", found.len());
    site.runtime.block_on(backend.revoke(&issued.handle))?;
    ensure!(!logs_in(&postgres, &issued.data)?, "the credential outlived its revocation");
    site.runtime.block_on(backend.health())?;
    Ok(())
}

#[test]
fn a_broker_hands_a_certificate_out_as_a_lease() -> Result<()> {
    let site = Site::start()?;
    site.enable_pki()?;
    let mounts = "{ pki = 'pki' }\nparameters.'pki/issue/web' = { alt_names = 'www.example.org' }";
    let broker = Broker::start(&site.bao.backend("vault", POLICY, mounts)?)?;
    let administrator = Cli::administering(&broker)?;
    administrator.apply_policies(CEDAR, "")?;
    let reference = "vault/pki/issue/web/app.example.org";
    let first = administrator.done(&["get", &format!("{reference}#certificate")])?;
    let again = administrator.done(&["get", &format!("{reference}#certificate")])?;
    ensure!(first == again, "a repeated read had another certificate issued");
    let other = administrator.done(&["get", "vault/pki/issue/web/other.example.org#serial_number"])?;
    ensure!(!first.contains(other.trim()), "two names have one certificate");
    // Taken back with all that was issued below it; the next read gets another.
    administrator.done(&[
        "lease",
        "revoke-many",
        "--path",
        "vault/pki/issue/web",
        "--yes",
        "--reason",
        "a test",
    ])?;
    ensure!(
        administrator.done(&["get", &format!("{reference}#certificate")])? != first,
        "a revoked one is given out"
    );
    Ok(())
}

struct Site {
    bao: OpenBao,
    runtime: Runtime,
}

impl Site {
    fn start() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        Ok(Self { bao: OpenBao::start()?, runtime })
    }

    /// An authority, and a role for names of `example.org`.
    fn enable_pki(&self) -> Result<()> {
        self.bao.api("POST", "sys/mounts/pki", &json!({ "type": "pki" }))?;
        let root = json!({ "common_name": "Authority of a test", "ttl": "24h" });
        self.bao.api("POST", "pki/root/generate/internal", &root)?;
        let role = json!({
            "allowed_domains": ["example.org"], "allow_subdomains": true, "generate_lease": true, "max_ttl": "12h",
        });
        self.bao.api("POST", "pki/roles/web", &role).map(drop)
    }

    fn backend(
        &self,
        mounts: &[(&str, MountKind)],
        parameters: &[(&str, &[(&str, &str)])],
    ) -> Result<VaultBackend> {
        let login = self.bao.approle("broker", POLICY)?;
        let mounts = mounts.iter().map(|(mount, kind)| ((*mount).to_owned(), *kind)).collect();
        let owned = |given: &[(&str, &str)]| -> BTreeMap<_, _> {
            given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let parameters = parameters.iter().map(|(path, given)| ((*path).to_owned(), owned(given))).collect();
        vault_backend::backend(VaultConfig {
            mounts,
            parameters,
            ..vault_backend::config(&self.bao, &login)?
        })
    }

    fn issue(&self, backend: &VaultBackend, path: &SecretPath, ttl: Duration) -> Result<Issued> {
        let lease = LeaseId::new(SystemClock.now(), std::array::from_fn(|_| fastrand::u8(..)));
        Ok(self.runtime.block_on(backend.issue(path, lease, ttl))?)
    }
}

/// A field that is no secret to this test: the certificate of an authority that ends with it.
fn text(issued: &Issued, field: &str) -> Result<String> {
    let value = issued.data.select(Some(&FieldName::parse(field)?))?;
    Ok(String::from_utf8(value.expose().to_vec())?)
}

/// The bytes of the first block.
fn pem(text: &str) -> Result<Vec<u8>> {
    let lines = text.lines().skip(1).take_while(|line| !line.starts_with("-----"));
    Ok(data_encoding::BASE64.decode(lines.collect::<String>().as_bytes())?)
}

const CEDAR: &str = r#"
@id("all")
permit (principal == Bursar::Principal::"spiffe://example.org/user/admin", action, resource);
"#;

const POLICY: &str = r#"
path "pki/issue/web" { capabilities = ["create", "update"] }
path "ssh/creds/*" { capabilities = ["create", "update", "read"] }
path "sys/leases/renew" { capabilities = ["update"] }
path "sys/leases/revoke" { capabilities = ["update"] }
path "sys/leases/lookup" { capabilities = ["update"] }
path "sys/leases/lookup/*" { capabilities = ["list", "sudo"] }
"#;
