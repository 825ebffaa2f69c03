//! A store that answers what a test tells it to.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use bursar_backend_http::testing;
pub(super) use bursar_backend_http::testing::{Call, Reply, install_provider, path};
use bursar_core::clock::TestClock;
use bursar_core::{BackendName, LeaseId, Secret};

use crate::{Auth, Credential, MountKind, SecretReader, VaultBackend, VaultConfig};

/// The token that the fake grants.
pub(super) const TOKEN: &str = "s.token-canary-Qz7";
/// The secret id that [`config`] logs in with.
pub(super) const SECRET_ID: &str = "secret-id-canary-Wx3";

/// A running fake, stopped when dropped.
pub(super) struct Fake(testing::Fake);

impl Fake {
    /// Answers as `script` says, and where it says nothing: grants [`TOKEN`] to whoever logs in, knows that token, is
    /// healthy, and has nothing else. A target is without `/v1`.
    pub(super) async fn start(script: impl Fn(&Call) -> Option<Reply> + Send + Sync + 'static) -> Self {
        let answer = move |call: &Call| {
            let call = below_v1(call);
            script(&call).unwrap_or_else(|| usual(&call))
        };
        Self(testing::Fake::start(answer).await)
    }

    /// Every call until now, oldest first.
    pub(super) fn calls(&self) -> Vec<Call> {
        self.0.calls().iter().map(below_v1).collect()
    }

    /// How many calls went to `target`.
    pub(super) fn count(&self, target: &str) -> usize {
        self.calls().iter().filter(|call| call.target == target).count()
    }

    /// A backend before this fake.
    pub(super) fn backend(&self) -> VaultBackend {
        backend(config(&self.address))
    }
}

impl Deref for Fake {
    type Target = testing::Fake;
    fn deref(&self) -> &testing::Fake {
        &self.0
    }
}

pub(super) fn backend(config: VaultConfig) -> VaultBackend {
    install_provider();
    VaultBackend::new(config, Arc::new(TestClock::new())).expect("configuration")
}

/// `kv` and `kv1` are key-value engines, `db` leases.
pub(super) fn config(address: &str) -> VaultConfig {
    let mounts = [("kv", MountKind::KvV2), ("kv1", MountKind::KvV1), ("db", MountKind::Leased)];
    VaultConfig {
        name: BackendName::parse("vault").expect("name"),
        addresses: vec![address.to_owned()],
        allow_plaintext: true,
        namespace: None,
        auth: Auth::AppRole {
            mount: "approle".to_owned(),
            role_id: "role".to_owned(),
            secret_id: plain(SecretReader::new("a test", || Ok(Secret::from(SECRET_ID.to_owned())))),
        },
        mounts: mounts.map(|(mount, kind)| (mount.to_owned(), kind)).into(),
        parameters: BTreeMap::new(),
        ca_file: None,
        timeout: Duration::from_secs(20),
    }
}

/// A credential as it is.
pub(super) fn plain(reader: SecretReader) -> Credential {
    Credential { reader, wrapping_path: None }
}

/// The id of some lease.
pub(super) fn lease() -> LeaseId {
    LeaseId::from_bytes([7; 16])
}

pub(super) fn json(status: u16, body: &str) -> Option<Reply> {
    Some(Reply::Text(status, body.to_owned()))
}

/// A login that grants `token`.
pub(super) fn granted(token: &str, seconds: u64, renewable: bool) -> Option<Reply> {
    let auth = format!(
        r#"{{"auth":{{"client_token":"{token}","lease_duration":{seconds},"renewable":{renewable}}}}}"#
    );
    json(200, &auth)
}

fn below_v1(call: &Call) -> Call {
    let target = call.target.strip_prefix("/v1").unwrap_or(&call.target).to_owned();
    Call { target, ..call.clone() }
}

fn usual(call: &Call) -> Reply {
    let known = call.headers.get("x-vault-token").is_some_and(|token| token == TOKEN);
    let reply = match call.target.as_str() {
        "/auth/approle/login" => granted(TOKEN, 3600, true),
        "/auth/token/lookup-self" if known => json(200, r#"{"data":{"ttl":3600,"renewable":true}}"#),
        "/auth/token/lookup-self" => json(403, r#"{"errors":["permission denied"]}"#),
        "/sys/health" => json(200, "{}"),
        _ => json(404, r#"{"errors":[]}"#),
    };
    reply.expect("each arm answers")
}
