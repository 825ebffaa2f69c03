//! `kind = "vault"`: HashiCorp Vault and OpenBao.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use bursar_core::settings::{SecretSource, Section};

/// How a Vault is reached.
#[derive(Debug)]
pub struct VaultSettings {
    pub addresses: Vec<String>,
    pub allow_plaintext: bool,
    pub namespace: Option<String>,
    pub ca_file: Option<PathBuf>,
    pub timeout: Duration,
    pub auth: VaultAuth,
    pub mounts: BTreeMap<String, VaultMount>,
    /// Names and values by the path at which they create a credential.
    pub parameters: BTreeMap<String, BTreeMap<String, String>>,
}

/// How the broker logs in to a Vault.
#[derive(Debug)]
pub enum VaultAuth {
    AppRole {
        mount: String,
        role_id: String,
        secret_id: VaultCredential,
    },
    Certificate {
        mount: String,
        role: Option<String>,
        certificate: PathBuf,
        key: SecretSource,
    },
    /// The methods `jwt` and `kubernetes`.
    Jwt {
        mount: String,
        role: String,
        jwt: SecretSource,
    },
    Token(VaultCredential),
}

/// A credential that somebody hands to the broker; wrapped at a path of the store, or as it is.
#[derive(Debug)]
pub struct VaultCredential {
    pub source: SecretSource,
    pub wrapping_path: Option<String>,
}

/// What kind of engine a mount is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VaultMount {
    KvV1,
    KvV2,
    Leased,
    Pki,
}

/// Reads what `kind = "vault"` needs.
pub(super) fn read(section: &mut Section<'_>) -> Option<VaultSettings> {
    let addresses = section.one_or_more("address");
    let addresses = section.required("address", addresses);
    let allow_plaintext = section.flag("allow_plaintext").unwrap_or(false);
    let plain = |address: &String| !address.starts_with("https://");
    if addresses.iter().flatten().any(plain) && !allow_plaintext {
        section.fault::<()>(
            "address",
            "must start with `https://`; for a test without TLS set `allow_plaintext = true`".to_owned(),
        );
    }
    let namespace = section.text("namespace");
    let ca_file = section.path("ca_file");
    let timeout = section.duration("timeout").unwrap_or(Duration::from_secs(5));
    let auth = section.section("auth", login);
    let mut mounts = BTreeMap::new();
    for (mount, kind) in section.pairs("mounts") {
        match kind.as_str() {
            "kv-v1" => mounts.insert(mount, VaultMount::KvV1),
            "kv-v2" => mounts.insert(mount, VaultMount::KvV2),
            "leased" => mounts.insert(mount, VaultMount::Leased),
            "pki" => mounts.insert(mount, VaultMount::Pki),
            other => section.fault(
                &format!("mounts.{mount}"),
                format!(
                    "there is no kind of mount `{other}`; there are `kv-v1`, `kv-v2`, `leased` and `pki`"
                ),
            ),
        };
    }
    let parameters = section.each("parameters", |path, given| Some((path.to_owned(), given.rest())));
    Some(VaultSettings {
        addresses: addresses?,
        allow_plaintext,
        namespace,
        ca_file,
        timeout,
        auth: auth?,
        mounts,
        parameters: parameters.into_iter().map(|(path, given)| (path, given.into_iter().collect())).collect(),
    })
}

fn login(auth: &mut Section<'_>) -> Option<VaultAuth> {
    let method = auth.text("method");
    match auth.required("method", method)?.as_str() {
        "approle" => {
            let mount = auth.text("mount").unwrap_or_else(|| "approle".to_owned());
            let role_id = auth.text("role_id");
            let role_id = auth.required("role_id", role_id);
            let secret_id = credential(auth, "secret_id");
            Some(VaultAuth::AppRole { mount, role_id: role_id?, secret_id: secret_id? })
        }
        "cert" => {
            let mount = auth.text("mount").unwrap_or_else(|| "cert".to_owned());
            let role = auth.text("role");
            let certificate = auth.path("certificate");
            let certificate = auth.required("certificate", certificate);
            let key = auth.secret_source("key");
            let key = auth.required("key", key);
            Some(VaultAuth::Certificate { mount, role, certificate: certificate?, key: key? })
        }
        method @ ("jwt" | "kubernetes") => {
            let mount = auth.text("mount").unwrap_or_else(|| method.to_owned());
            let role = auth.text("role");
            let role = auth.required("role", role);
            let jwt = auth.secret_source("jwt");
            let pod = method == "kubernetes" && jwt.is_none();
            let jwt =
                if pod { Some(SecretSource::File(POD_TOKEN.into())) } else { auth.required("jwt", jwt) };
            Some(VaultAuth::Jwt { mount, role: role?, jwt: jwt? })
        }
        "token" => credential(auth, "token").map(VaultAuth::Token),
        other => {
            let known = "`approle`, `cert`, `jwt`, `kubernetes` and `token`";
            auth.fault("method", format!("there is no method `{other}`; there are {known}"))
        }
    }
}

fn credential(auth: &mut Section<'_>, key: &'static str) -> Option<VaultCredential> {
    let source = auth.secret_source(key);
    let source = auth.required(key, source);
    let wrapping_path = auth.text("wrapping_path");
    Some(VaultCredential { source: source?, wrapping_path })
}

/// Far above what a workload needs, and low enough that one which asks for leases without end is stopped.
/// Where kubelet puts the token of a pod's service account.
pub(super) const POD_TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";
