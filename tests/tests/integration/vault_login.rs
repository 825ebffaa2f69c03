//! The broker's login at a real OpenBao by what it has anyhow: a token that somebody else signed, a certificate.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bursar_backend_vault::{Auth, Credential, SecretReader, VaultBackend};
use bursar_core::backend::{Backend, BackendError, ErrorKind, Operation};
use bursar_core::{Clock, FieldName, Secret, SecretPath, SystemClock};
use bursar_tests::{Broker, Canary, Cli, ClientAuthority, OpenBao, TokenIssuer, TokenReviews, wait_until};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::vault_backend;

#[test]
fn a_token_of_an_identity_provider_is_a_login() -> Result<()> {
    let site = Site::start()?;
    let issuer = TokenIssuer::new()?;
    site.enable_jwt(&issuer)?;
    let backend = site.backend("jwt")?;

    site.present(&issuer.token(&claims(json!({})))?)?;
    site.read(&backend)?;
    // Its token at the store is gone, and the provider has signed another for the broker.
    site.bao.api("PUT", "sys/leases/revoke-prefix/auth/jwt/login", &Value::Null)?;
    site.present(&issuer.token(&claims(json!({ "jti": "2" })))?)?;
    site.read(&backend)?;
    Ok(())
}

#[test]
fn a_token_that_the_store_does_not_believe_is_denied_and_said_nowhere() -> Result<()> {
    let site = Site::start()?;
    let (issuer, other) = (TokenIssuer::new()?, TokenIssuer::new()?);
    site.enable_jwt(&issuer)?;
    let now = SystemClock.now().as_second();
    let wrong = [
        ("another key", other.token(&claims(json!({})))?),
        ("another audience", issuer.token(&claims(json!({ "aud": "else" })))?),
        ("another issuer", issuer.token(&claims(json!({ "iss": "https://else.test" })))?),
        ("another subject", issuer.token(&claims(json!({ "sub": "eve" })))?),
        (
            "expired",
            issuer.token(&claims(json!({ "exp": now - 3600, "iat": now - 7200, "nbf": now - 7200 })))?,
        ),
        ("not yet valid", issuer.token(&claims(json!({ "nbf": now + 3600, "iat": now + 3600 })))?),
        ("no token", Canary::random("no token").value().to_owned()),
    ];
    for (what, token) in wrong {
        site.present(&token)?;
        // Each has its first try: what fails again and again is tried ever more seldom.
        let error = site.read(&site.backend("jwt")?).err().with_context(|| format!("{what} was believed"))?;
        let error: BackendError = error.downcast()?;
        ensure!((error.kind, error.operation) == (ErrorKind::Denied, Operation::Login), "{what}: {error:?}");
        ensure!(!format!("{error:?} {error}").contains(&token), "{what}: the error quotes the token");
    }
    std::fs::remove_file(&site.token)?;
    let error: BackendError =
        site.read(&site.backend("jwt")?).err().context("a file that is not there was read")?.downcast()?;
    ensure!(error.kind == ErrorKind::Misconfigured, "{error:?}");
    Ok(())
}

#[test]
fn a_pod_logs_in_by_its_service_account() -> Result<()> {
    let site = Site::start()?;
    let (cluster, reviews) = (TokenIssuer::new()?, TokenReviews::start()?);
    site.enable_kubernetes(&reviews)?;
    let backend = site.backend("kubernetes")?;
    let pod = |number: u32| cluster.token(&pod_claims(number));

    let first = pod(1)?;
    reviews.know(&first);
    site.present(&first)?;
    site.read(&backend)?;
    // Kubelet has put another into the file, and the old one is no longer good.
    let second = pod(2)?;
    reviews.know(&second);
    site.present(&second)?;
    site.bao.api("PUT", "sys/leases/revoke-prefix/auth/kubernetes/login", &Value::Null)?;
    site.read(&backend)?;

    site.present(&first)?;
    let error: BackendError =
        site.read(&site.backend("kubernetes")?).err().context("a token of old was believed")?.downcast()?;
    ensure!((error.kind, error.operation) == (ErrorKind::Denied, Operation::Login), "{error:?}");
    Ok(())
}

#[test]
fn a_client_certificate_is_a_login_and_is_read_anew_at_each() -> Result<()> {
    let site = Site::start()?;
    let authority = ClientAuthority::new()?;
    site.bao.api("POST", "sys/auth/cert", &json!({ "type": "cert" }))?;
    let role = json!({ "certificate": authority.pem(), "token_policies": ["bursar"], "token_period": "1h" });
    site.bao.api("POST", "auth/cert/certs/bursar", &role)?;
    let folder = tempfile::tempdir()?;
    let id = "spiffe://example.org/broker";
    let (certificate, key) = authority.issue(id)?.write(folder.path(), "broker")?;
    let auth = || Auth::Certificate {
        mount: "cert".to_owned(),
        role: Some("bursar".to_owned()),
        certificate: certificate.clone(),
        key: from_file(&key),
    };
    let backend = site.backend_by(auth())?;
    site.read(&backend)?;

    // Renewed in place, while the broker's token at the store came to its end.
    authority.issue(id)?.write(folder.path(), "broker")?;
    site.bao.api("PUT", "sys/leases/revoke-prefix/auth/cert/login", &Value::Null)?;
    site.read(&backend)?;

    ClientAuthority::new()?.issue(id)?.write(folder.path(), "broker")?;
    let refused =
        site.read(&site.backend_by(auth())?).err().context("a stranger's certificate was believed")?;
    let error: BackendError = refused.downcast()?;
    ensure!((error.kind, error.operation) == (ErrorKind::Denied, Operation::Login), "{error:?}");

    // A key that is not that of the certificate.
    std::fs::write(&certificate, &authority.issue(id)?.certificate)?;
    ensure!(site.backend_by(auth()).is_err(), "a key that does not fit was taken");
    Ok(())
}

#[test]
fn a_broker_is_configured_to_log_in_by_a_file_that_all_of_its_pod_may_read() -> Result<()> {
    let site = Site::start()?;
    let issuer = TokenIssuer::new()?;
    site.enable_jwt(&issuer)?;
    site.present(&issuer.token(&claims(json!({})))?)?;
    let broker = Broker::start(&format!(
        "[backends.vault]\nkind = 'vault'\naddress = '{}'\nca_file = '{}'\n\
         auth = {{ method = 'jwt', role = 'bursar', jwt = {{ file = '{}' }} }}\nmounts = {{ kv = 'kv-v2' }}\n",
        site.bao.tls_url(),
        site.bao.authority().display(),
        site.token.display(),
    ))?;
    let administrator = Cli::administering(&broker)?;
    wait_until(LIMIT, "the store to be well", || {
        let listed = administrator.json(&["backend", "list"]).unwrap_or_default();
        let vault = |one: &Value| one.get("name").is_some_and(|name| name == "vault");
        let is_ok = |one: &Value| one.get("ok") == Some(&Value::Bool(true));
        listed.as_array().is_some_and(|all| all.iter().any(|one| vault(one) && is_ok(one)))
    })
}

#[test]
fn a_secret_id_is_handed_over_wrapped_and_used_once() -> Result<()> {
    let site = Site::start()?;
    let path = "auth/approle/role/broker/secret-id";
    let role_id = site.bao.approle("broker", POLICY)?.role_id;
    let wrapped = || -> Result<()> {
        let answer = site.bao.wrapped(path, "10m")?;
        site.present(answer.value())
    };
    let login = |wrapping_path: &str| {
        let reader = from_file(&site.token);
        let secret_id = Credential { reader, wrapping_path: Some(wrapping_path.to_owned()) };
        Auth::AppRole { mount: "approle".to_owned(), role_id: role_id.clone(), secret_id }
    };
    let refused = |backend: &VaultBackend| -> Result<ErrorKind> {
        let error: BackendError = site.read(backend).err().context("it was believed")?.downcast()?;
        Ok(error.kind)
    };
    wrapped()?;
    let backend = site.backend_by(login(path))?;
    site.read(&backend)?;
    // The store has forgotten the broker's token; the secret id inside is good for another.
    site.bao.api("PUT", "sys/leases/revoke-prefix/auth/approle/login", &Value::Null)?;
    site.read(&backend)?;

    // A broker that starts with the same token finds it used, and so does one that comes after a thief.
    ensure!(refused(&site.backend_by(login(path))?)? == ErrorKind::Denied);
    wrapped()?;
    ensure!(refused(&site.backend_by(login("auth/approle/role/eve/secret-id"))?)? == ErrorKind::Denied);
    // That one was looked at and left alone.
    site.read(&site.backend_by(login(path))?)
}

/// A store with a secret, and a file for the token that the broker presents.
struct Site {
    bao: OpenBao,
    token: PathBuf,
    secret: Canary,
    runtime: Runtime,
    _folder: TempDir,
}

impl Site {
    fn start() -> Result<Self> {
        let bao = OpenBao::start()?;
        bao.enable_kv("kv")?;
        let secret = Canary::random("value");
        bao.api("POST", "kv/data/a", &json!({ "data": { "p": secret.value() } }))?;
        bao.api("PUT", "sys/policies/acl/bursar", &json!({ "policy": POLICY }))?;
        let folder = tempfile::tempdir()?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        Ok(Self { bao, token: folder.path().join("token"), secret, runtime, _folder: folder })
    }

    fn enable_jwt(&self, issuer: &TokenIssuer) -> Result<()> {
        self.bao.api("POST", "sys/auth/jwt", &json!({ "type": "jwt" }))?;
        let config = json!({ "jwt_validation_pubkeys": [issuer.public_key_pem()], "bound_issuer": ISSUER });
        self.bao.api("POST", "auth/jwt/config", &config)?;
        let role = json!({
            "role_type": "jwt", "user_claim": "sub", "bound_audiences": ["vault"], "bound_subject": "broker",
            "token_policies": ["bursar"], "token_period": "1h",
        });
        self.bao.api("POST", "auth/jwt/role/bursar", &role).map(drop)
    }

    fn enable_kubernetes(&self, reviews: &TokenReviews) -> Result<()> {
        self.bao.api("POST", "sys/auth/kubernetes", &json!({ "type": "kubernetes" }))?;
        // It wants an authority, though the reviews come in plain text.
        let authority = std::fs::read_to_string(self.bao.authority())?;
        let config = json!({
            "kubernetes_host": reviews.url(), "kubernetes_ca_cert": authority, "disable_local_ca_jwt": true,
            "token_reviewer_jwt": "a-token-of-the-store",
        });
        self.bao.api("POST", "auth/kubernetes/config", &config)?;
        let role = json!({
            "bound_service_account_names": ["bursar"], "bound_service_account_namespaces": ["bursar"],
            "token_policies": ["bursar"], "token_period": "1h",
        });
        self.bao.api("POST", "auth/kubernetes/role/bursar", &role).map(drop)
    }

    /// Puts a token where the broker looks, as kubelet does: whole or not at all, and readable by all of the pod.
    fn present(&self, token: &str) -> Result<()> {
        let new = self.token.with_extension("new");
        std::fs::write(&new, format!("{token}\n"))?;
        std::fs::set_permissions(&new, std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
        Ok(std::fs::rename(&new, &self.token)?)
    }

    fn backend(&self, mount: &str) -> Result<VaultBackend> {
        let jwt = from_file(&self.token);
        self.backend_by(Auth::Jwt { mount: mount.to_owned(), role: "bursar".to_owned(), jwt })
    }

    fn backend_by(&self, auth: Auth) -> Result<VaultBackend> {
        vault_backend::backend(vault_backend::config_by(&self.bao, auth)?)
    }

    fn read(&self, backend: &VaultBackend) -> Result<()> {
        let fetched = self.runtime.block_on(backend.read(&SecretPath::from_store("kv/a")?, None))?;
        let value = fetched.data.select(Some(&FieldName::parse("p")?))?;
        ensure!(value.ct_eq(self.secret.value().as_bytes()), "another value was read");
        Ok(())
    }
}

fn from_file(path: &Path) -> SecretReader {
    let path = path.to_owned();
    SecretReader::new("a file", move || std::fs::read(&path).map(Secret::new))
}

/// Claims that the role takes, but for those that are said otherwise.
fn claims(other: Value) -> Value {
    let now = SystemClock.now().as_second();
    let mut claims =
        json!({ "iss": ISSUER, "sub": "broker", "aud": "vault", "iat": now, "nbf": now, "exp": now + 600 });
    if let (Some(claims), Value::Object(other)) = (claims.as_object_mut(), other) {
        claims.extend(other);
    }
    claims
}

/// What a cluster says in a token of a pod of the service account.
fn pod_claims(number: u32) -> Value {
    let account = json!({ "name": "bursar", "uid": "9d0f8d1e-5b2c-4c51-9c2b-1f6a8f7a1c11" });
    let pod = json!({ "name": format!("bursar-{number}"), "uid": "41e3cd8e-0a4b-4d1c-8a37-d2c8ad2bff30" });
    let other = json!({
        "iss": "https://kubernetes.default.svc", "sub": "system:serviceaccount:bursar:bursar",
        "aud": ["https://kubernetes.default.svc"],
        "kubernetes.io": { "namespace": "bursar", "pod": pod, "serviceaccount": account },
    });
    claims(other)
}

const LIMIT: Duration = Duration::from_secs(60);
const ISSUER: &str = "https://ci.test";
const POLICY: &str = r#"path "kv/*" { capabilities = ["read", "list"] }"#;
