//! As whom a real broker reads a key vault.

use std::fs;

use anyhow::{Context, Result, ensure};
use bursar_tests::{Broker, CLIENT_ID, Canary, Cli, KeyVault, TENANT, scan};
use serde_json::{Value, json};

#[test]
fn a_federated_token_that_is_replaced_in_its_file() -> Result<()> {
    let site = Site::start()?;
    let (old, new) = (Canary::alphanumeric("old token"), Canary::alphanumeric("new token"));
    let file = site.vault.directory().join("token");
    fs::write(&file, old.value())?;
    site.vault.trust_assertion(&old);
    let proof = format!("federated_token = {{ file = '{}' }}", file.display());
    let broker = Broker::start(&site.vault.backend_as("azure", &site.vault.application(&proof), ""))?;
    site.reads(&broker)?;
    site.vault.trust_assertion(&new);
    site.vault.end_tokens();
    fs::write(&file, format!("{}\n", new.value()))?;
    site.reads(&broker)?;
    site.said_nowhere(&broker, &[&old, &new])
}

#[test]
fn what_a_cluster_tells_its_pods() -> Result<()> {
    let site = Site::start()?;
    let token = Canary::alphanumeric("federated token");
    let file = site.vault.directory().join("token");
    fs::write(&file, token.value())?;
    site.vault.trust_assertion(&token);
    let (sections, url) = (site.vault.backend_as("azure", "", ""), format!("{}/", site.vault.url()));
    let file = file.to_string_lossy();
    let environment = [
        ("AZURE_FEDERATED_TOKEN_FILE", &*file),
        ("AZURE_TENANT_ID", TENANT),
        ("AZURE_CLIENT_ID", CLIENT_ID),
        ("AZURE_AUTHORITY_HOST", &url),
        // What must not be heeded.
        ("AZURE_CLIENT_SECRET", "wrong"),
        ("HTTPS_PROXY", "http://127.0.0.1:1"),
    ];
    let broker = Broker::start_with(&sections, &environment)?;
    site.reads(&broker)?;
    site.said_nowhere(&broker, &[&token])
}

#[test]
fn half_of_what_a_cluster_tells_is_not_made_up_for() -> Result<()> {
    let site = Site::start()?;
    let environment = [("AZURE_FEDERATED_TOKEN_FILE", "/var/run/token"), ("AZURE_CLIENT_ID", CLIENT_ID)];
    let error = Broker::start_with(&site.vault.backend_as("azure", "", ""), &environment).err();
    let told = format!("{:#}", error.context("a broker started as somebody else")?);
    ensure!(told.contains("`AZURE_TENANT_ID` is not set"), "{told}");
    Ok(())
}

#[test]
fn the_identity_of_the_machine() -> Result<()> {
    let site = Site::start()?;
    for client_id in ["", ", client_id = '7e6d4f1c-52f1-4bb8-b4d7-0a30f1b6e1a9'"] {
        let credentials = format!("managed_identity = true, endpoint = '{}'{client_id}", site.vault.url());
        let broker = Broker::start(&site.vault.backend_as("azure", &credentials, ""))?;
        site.reads(&broker)?;
        site.said_nowhere(&broker, &[])?;
    }
    let credentials =
        format!("managed_identity = true, endpoint = '{}', client_id = 'other'", site.vault.url());
    let broker = Broker::start(&site.vault.backend_as("azure", &credentials, ""))?;
    site.refused(&broker, 1, "misconfigured")
}

#[test]
fn a_secret_or_a_directory_that_is_wrong_is_told_and_is_quoted_nowhere() -> Result<()> {
    let site = Site::start()?;
    let sections = site.vault.backend("azure", "")?;
    let wrong = Canary::random("wrong secret");
    fs::write(site.vault.secret_file(), wrong.value())?;
    let broker = Broker::start(&sections)?;
    site.refused(&broker, 1, "denied")?;
    ensure!(broker.http("/readyz")?.status == 200, "a store without a login makes the broker unready");
    let found = scan(broker.directory(), &[&wrong])?;
    ensure!(found.is_empty(), "{found:?}");
    let broker = Broker::start(&sections.replace(TENANT, "fabrikam.onmicrosoft.com"))?;
    site.refused(&broker, 1, "misconfigured")
}

/// A vault with a secret.
struct Site {
    vault: KeyVault,
    value: Canary,
}

impl Site {
    fn start() -> Result<Self> {
        let (vault, value) = (KeyVault::start()?, Canary::random("value"));
        vault.put("app", &json!({ "password": value.value() }).to_string(), &Value::Null)?;
        Ok(Self { vault, value })
    }

    fn administer(broker: &Broker) -> Result<Cli> {
        let admin = Cli::administering(broker)?;
        admin.apply_policies(POLICIES, "")?;
        Ok(admin)
    }

    /// Reads the secret, not out of the cache.
    fn reads(&self, broker: &Broker) -> Result<()> {
        let read = Self::administer(broker)?.done(&["get", "azure/app#password", "--max-age", "0s"])?;
        ensure!(read == self.value.value(), "another value was read");
        Ok(())
    }

    fn refused(&self, broker: &Broker, exit: i32, kind: &str) -> Result<()> {
        let admin = Self::administer(broker)?;
        let said = admin.run(&["get", "azure/app#password"])?;
        said.refused(exit, &["`azure`", "login", "hint: "])?;
        let records = admin.audit(&["--request", said.request_id().context("no request id")?])?;
        let kept = records.first().and_then(|record| record.get("error_kind")?.as_str());
        ensure!(kept == Some(kind), "kept as {kept:?}");
        Ok(())
    }

    fn said_nowhere(&self, broker: &Broker, credentials: &[&Canary]) -> Result<()> {
        let tokens = self.vault.tokens();
        ensure!(!tokens.is_empty(), "there was no token to search for");
        let all: Vec<_> = credentials.iter().copied().chain([&self.value]).chain(&tokens).collect();
        let found = scan(broker.directory(), &all)?;
        ensure!(found.is_empty(), "{found:?}");
        Ok(())
    }
}

const POLICIES: &str = r#"
@id("everything")
permit (principal == Bursar::Principal::"spiffe://example.org/user/admin", action, resource);
"#;
