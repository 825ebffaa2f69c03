//! A broker with environments that may be kept and such that may not, and people of both kinds.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use bursar_core::Clock;
use bursar_core::clock::SystemClock;
use bursar_tests::{Agent, Broker, Canary, Cli, ClientAuthority, IssuerDoor, OddStore, TokenIssuer};
use jiff::Timestamp;
use serde_json::{Value, json};

pub(super) struct Site {
    pub(super) broker: Broker,
    pub(super) admin: Cli,
    /// The value of `local/shop#key`.
    pub(super) key: Canary,
    /// Makes credentials for leases, and is not to be asked.
    _store: OddStore,
    authority: ClientAuthority,
    issuer: TokenIssuer,
    door: IssuerDoor,
    _files: [tempfile::NamedTempFile; 2],
}

impl Site {
    pub(super) fn start() -> Result<Self> {
        let (authority, store) = (ClientAuthority::new()?, OddStore::start("unused")?);
        let (door, issuer) = (IssuerDoor::start()?, TokenIssuer::new()?);
        door.publish(&[&issuer]);
        let (bundle, token) = (tempfile::NamedTempFile::new()?, tempfile::NamedTempFile::new()?);
        std::fs::write(token.path(), "a token")?;
        let broker = Broker::start(&format!(
            "{trusted}[identity.issuers.acme]\nkind = 'oidc'\nissuer = '{url}'\naudience = 'bursar'\nca_file = '{ca}'\n\
             [[identity.issuers.acme.rules]]\nmatch = {{ sub = '*' }}\nprincipal = '/user/{{sub}}'\n\
             [backends.local]\nkind = 'local'\n\
             [backends.odd]\nkind = 'vault'\naddress = '{store}'\nallow_plaintext = true\n\
             auth = {{ method = 'token', token = {{ file = '{token}' }} }}\nmounts = {{ database = 'leased' }}\n",
            trusted = authority.trusted(bundle.path())?,
            url = door.url(),
            ca = door.ca().display(),
            store = store.url(),
            token = token.path().display(),
        ))?;
        let admin = Cli::administering(&broker)?;
        admin.apply_policies(POLICIES, "")?;
        let key = Canary::random("key");
        admin.done_with(&["secret", "put", "local/shop", "--field", "key"], key.value().as_bytes())?;
        admin.done_with(&["secret", "put", "local/pem"], PEM.as_bytes())?;
        admin.write("environments.toml", ENVIRONMENTS)?;
        admin.done(&["env", "apply", "environments.toml"])?;
        let (_store, _files) = (store, [bundle, token]);
        Ok(Self { broker, admin, key, _store, authority, issuer, door, _files })
    }

    pub(super) fn cli(&self, principal: &str) -> Result<Cli> {
        Cli::presenting(&self.authority.issue(principal)?, &self.broker)
    }

    /// Somebody who may keep copies, with an identity.
    pub(super) fn ada(&self) -> Result<Cli> {
        let ada = self.cli(ADA)?;
        ada.done(&["offline", "init"])?;
        Ok(ada)
    }

    /// The same, by a token that ends in `life` seconds.
    pub(super) fn bearing_a_token(&self, life: i64) -> Result<Cli> {
        let claims = json!({
            "iss": self.door.url(), "aud": "bursar", "sub": "ada", "iat": now() - 300, "exp": now() + life,
        });
        Cli::bearing(&self.issuer.token(&claims)?, &self.broker)
    }

    pub(super) fn agent(&self) -> Result<Agent> {
        let join = self.admin.done(&["node", "token", "web-1"])?;
        Agent::start(&self.broker, "web-1", join.trim())
    }

    /// The newest record of an action.
    pub(super) fn newest(&self, action: &str) -> Result<Value> {
        let records = self.admin.audit(&["--action", action])?;
        records.into_iter().next().with_context(|| format!("{action} left no record"))
    }
}

/// The files among the copies of somebody.
pub(super) fn files(cli: &Cli) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(cli.path("cache/bursar/offline"))?;
    entries.map(|entry| Ok(entry?.path())).collect()
}

pub(super) fn text(value: &Value, at: &str) -> String {
    value.pointer(at).and_then(Value::as_str).unwrap_or_default().to_owned()
}

pub(super) fn time(value: &Value, at: &str) -> Result<Timestamp> {
    text(value, at).parse().with_context(|| format!("no time at {at}: {value}"))
}

pub(super) fn now() -> i64 {
    SystemClock.now().as_second()
}

pub(super) fn registration(uid: u32) -> String {
    format!(
        "[[registration]]\nprincipal = 'spiffe://example.org/workload/app'\nnode = 'web-1'\n\
         selectors = ['unix:uid:{uid}']\n"
    )
}

pub(super) const ADA: &str = "spiffe://example.org/user/ada";
pub(super) const BOB: &str = "spiffe://example.org/user/bob";
pub(super) const LIMIT: Duration = Duration::from_secs(30);
pub(super) const PEM: &str = "-----BEGIN KEY-----\nbm90IGEga2V5LCBidXQgc29tZXRoaW5n\n-----END KEY-----\n";

pub(super) const POLICIES: &str = r#"
@id("administration")
permit (principal == Bursar::Principal::"spiffe://example.org/user/admin",
        action in Bursar::Action::"administer", resource);
@id("use")
permit (principal, action in Bursar::Action::"use", resource)
when { principal.kind == "user" || principal.kind == "workload" };
@id("ada-keeps")
permit (principal == Bursar::Principal::"spiffe://example.org/user/ada",
        action == Bursar::Action::"keep", resource in Bursar::EnvironmentFolder::"shop");
@id("watch")
permit (principal, action == Bursar::Action::"watch", resource);
"#;

const ENVIRONMENTS: &str = r#"
[environment."shop/base".vars]
LEVEL = "info"

[environment."shop/dev"]
extends = ["shop/base"]
offline = "8h"
vars.KEY = { from = "local/shop#key" }
files."tls/key.pem" = { from = "local/pem" }

[environment."shop/prod"]
extends = ["shop/dev"]

[environment."shop/fresh"]
offline = "8h"
vars.KEY = { from = "local/shop#key", max_stale = "10m" }

[environment."shop/leased"]
extends = ["shop/dev"]
offline = "8h"
vars.USER = { from = "odd/database/creds/app#username" }
vars.URL = { compose = "x://${USER}@db" }
files.pgpass = { compose = "*:${odd/database/creds/app#password}" }
"#;
