//! A store of three nodes, of which one may be lost, one sealed.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bursar_backend_vault::{VaultBackend, VaultConfig};
use bursar_core::backend::{Backend, Issued, Leasing};
use bursar_core::{Clock, FieldName, LeaseId, SecretPath, SystemClock};
use bursar_tests::{AppRole, Canary, OpenBao, Postgres, wait_until};
use serde_json::json;
use tokio::runtime::Runtime;

use super::vault_backend::{self, POLICY, logs_in};

#[test]
fn a_cluster_that_loses_its_leader_serves_on() -> Result<()> {
    let mut site = Site::start()?;
    let leader = site.leader()?;
    let backend = site.backend(leader)?;
    site.read(&backend)?;
    let before = site.issue(&backend)?;

    site.nodes.get_mut(leader).context("a leader")?.stop()?;
    wait_until(LIMIT, "a node to serve", || site.read(&backend).is_ok())?;
    wait_until(LIMIT, "a leader among those that are left", || site.leader().is_ok())?;
    // A lease of before is renewed and taken back by those that are left, under the same token.
    ensure!(logs_in(&site.postgres, &before.data)?, "a credential went with the leader");
    site.runtime.block_on(backend.renew(&before.handle, Duration::from_secs(30)))?;
    site.runtime.block_on(backend.revoke(&before.handle))?;
    ensure!(!logs_in(&site.postgres, &before.data)?, "a credential outlived its revocation");
    let after = site.issue(&backend)?;
    ensure!(logs_in(&site.postgres, &after.data)?, "a credential of the new leader opens nothing");
    Ok(())
}

#[test]
fn a_node_that_is_sealed_is_passed_over() -> Result<()> {
    let mut site = Site::start()?;
    let standby = site.nodes.iter().position(|node| !node.leads()).context("all nodes lead")?;
    let node = site.nodes.get_mut(standby).context("a standby")?;
    node.stop()?;
    node.start_sealed()?;
    // The first that is asked is the sealed one.
    let backend = site.backend(standby)?;
    site.runtime.block_on(backend.health())?;
    site.read(&backend)?;
    let issued = site.issue(&site.backend(standby)?)?;
    ensure!(logs_in(&site.postgres, &issued.data)?, "a credential opens nothing");
    Ok(())
}

#[test]
fn a_standby_serves_by_itself() -> Result<()> {
    let site = Site::start()?;
    let standby = site.nodes.iter().position(|node| !node.leads()).context("all nodes lead")?;
    let node = site.nodes.get(standby).context("a standby")?;
    let config = VaultConfig { addresses: vec![node.tls_url()], ..site.config(standby)? };
    let backend = vault_backend::backend(config)?;
    site.runtime.block_on(backend.health())?;
    site.read(&backend)?;
    site.issue(&backend).map(drop)
}

struct Site {
    // Dropped first: they call the servers.
    runtime: Runtime,
    nodes: Vec<OpenBao>,
    authority: PathBuf,
    postgres: Postgres,
    login: AppRole,
    secret: Canary,
}

impl Site {
    /// Three nodes, one of which can be lost, with a secret and a database engine.
    fn start() -> Result<Self> {
        let (first, postgres) = (OpenBao::start()?, Postgres::start()?);
        let (second, third) = (first.join()?, first.join()?);
        first.enable_kv("kv")?;
        let secret = Canary::random("secret of the cluster");
        first.api("POST", "kv/data/a", &json!({ "data": { "p": secret.value() } }))?;
        first.enable_database("db", &postgres)?;
        first.database_role("db", "ro", Duration::from_secs(600))?;
        let login = first.approle("broker", POLICY)?;
        let authority = first.authority().to_owned();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let site = Self { runtime, nodes: vec![first, second, third], authority, postgres, login, secret };
        let backends = (0..3).map(|node| site.backend(node)).collect::<Result<Vec<_>>>()?;
        // A node that has just joined is behind for a moment.
        wait_until(LIMIT, "all nodes to serve", || {
            backends.iter().all(|backend| site.read(backend).is_ok())
        })?;
        Ok(site)
    }

    fn leader(&self) -> Result<usize> {
        self.nodes.iter().position(OpenBao::leads).context("no node leads")
    }

    /// A backend that asks the node `first`, and the others after it.
    fn backend(&self, first: usize) -> Result<VaultBackend> {
        vault_backend::backend(self.config(first)?)
    }

    fn config(&self, first: usize) -> Result<VaultConfig> {
        let node = self.nodes.get(first).context("a node")?;
        let mut addresses: Vec<_> = self.nodes.iter().map(OpenBao::tls_url).collect();
        addresses.rotate_left(first);
        let config = vault_backend::config(node, &self.login)?;
        Ok(VaultConfig { addresses, ca_file: Some(self.authority.clone()), ..config })
    }

    fn read(&self, backend: &VaultBackend) -> Result<()> {
        let fetched = self.runtime.block_on(backend.read(&SecretPath::from_store("kv/a")?, None))?;
        let value = fetched.data.select(Some(&FieldName::parse("p")?))?;
        ensure!(value.ct_eq(self.secret.value().as_bytes()), "another value was read");
        Ok(())
    }

    fn issue(&self, backend: &VaultBackend) -> Result<Issued> {
        let lease = LeaseId::new(SystemClock.now(), std::array::from_fn(|_| fastrand::u8(..)));
        let path = SecretPath::from_store("db/creds/ro")?;
        Ok(self.runtime.block_on(backend.issue(&path, lease, Duration::from_secs(60)))?)
    }
}

const LIMIT: Duration = Duration::from_secs(60);
