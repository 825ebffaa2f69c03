//! The main job: a workload gets an environment out of a real OpenBao and a real PostgreSQL, under leases, and the
//! ledger knows of all of it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bursar_core::LeaseState;
use bursar_core::audit::Action;
use bursar_core::tlog::{LogVerifier, Verifier};
use bursar_proto::v1::audit_export_response::Piece;
use bursar_proto::v1::policies_apply_response::Result as Applied;
use bursar_proto::v1::{
    AuditExportRequest, AuditFilter, AuditQueryRequest, EnvironmentsApplyRequest, LeasesListRequest,
    PoliciesApplyRequest, PolicyFile,
};
use bursar_sdk::{Address, Client, Identity, ResolveOptions, ResolvedEnvironment, Secret, Tls};
use bursar_tests::{Broker, Canary, OpenBao, Postgres, binary, scan};
use serde_json::json;
use tokio::runtime::Runtime;

#[test]
fn an_environment_is_leased_used_revoked_and_accounted_for() -> Result<()> {
    let site = Site::start()?;
    let environment = site.resolve()?;

    // What the workload gets works: it reads a row as the user that was made for it.
    let url = site.variable(&environment, "DATABASE_URL")?;
    let (user, password) = login(&url)?;
    ensure!(site.postgres.psql_as(&user, &password, "SELECT name FROM payments")? == "first");
    ensure!(site.variable(&environment, "API_KEY")? == site.key.value());
    ensure!(site.variable(&environment, "LOG_LEVEL")? == "info");

    // Who holds what.
    let leases = site.leases()?;
    ensure!(leases.len() == 2, "one lease for each secret, not {}", leases.len());
    ensure!(leases.iter().all(|lease| lease.environment == "payments/prod"));
    let dynamic = environment.leases.iter().find(|lease| lease.dynamic).context("no dynamic lease")?;

    // Taken back: the role is gone from PostgreSQL when the answer comes.
    let revoked = site.run(site.client.revoke(dynamic.id, "leaked"))?;
    ensure!(revoked.state == LeaseState::Gone, "the lease is {}", revoked.state.as_str());
    ensure!(
        site.postgres.psql_as(&user, &password, "SELECT 1").is_err(),
        "the user logs in after the revocation"
    );
    let left = site.postgres.psql(&format!("SELECT count(*) FROM pg_roles WHERE rolname = '{user}'"))?;
    ensure!(left == "0", "the role is still there");

    // Who, what, when, why.
    let records = site.audit(Action::Revoke)?;
    let record = records.first().context("the revocation is not in the ledger")?;
    ensure!(record.reason == "leaked" && record.lease_id == dynamic.id.to_string());
    let reads = site.audit(Action::Read)?;
    ensure!(reads.len() == 2 && reads.iter().all(|record| record.reason == "test of the main job"));

    // Nothing that was written anywhere holds a value.
    let password = Canary::known("database password", &password)?;
    let found = scan(site.broker.directory(), &[&site.key, &password])?;
    ensure!(found.is_empty(), "secrets leaked: {found:?}");
    Ok(())
}

#[test]
fn bursar_run_starts_a_program_that_reads_a_row_with_what_it_was_leased() -> Result<()> {
    let site = Site::start()?;
    let query = format!(
        "exec '{}' \"$DATABASE_URL\" -tAc 'SELECT name FROM payments'",
        site.postgres.client()?.display()
    );
    let run = ["run", "--env", "payments/prod", "--reason", "reads a row", "--", "/bin/sh", "-c", &query];
    let output = site.bursar(&run)?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "`bursar run` failed ({}): {said}", output.status);
    ensure!(output.stdout == b"first\n", "the program read {:?}", String::from_utf8_lossy(&output.stdout));

    // Nothing of ours is in its environment, and one reference that does not resolve keeps it from starting.
    let output = site.bursar(&["run", "--env", "payments/prod", "--", "/usr/bin/env"])?;
    ensure!(
        !String::from_utf8_lossy(&output.stdout).contains("BURSAR_"),
        "the program sees BURSAR_ variables"
    );
    let run = ["run", "--env", "payments/broken", "--", "/bin/echo", "started"];
    let output = site.bursar(&run)?;
    ensure!(output.stdout.is_empty() && !output.status.success(), "started with an unresolved reference");
    Ok(())
}

#[test]
fn an_export_of_the_ledger_verifies_and_one_changed_byte_is_found() -> Result<()> {
    let site = Site::start()?;
    site.resolve()?;
    let (mut records, note) = site.export()?;
    let key = std::fs::read_to_string(site.broker.bootstrap("audit.vkey"))?;
    let verifier = Verifier::parse(key.trim())?;

    let verify = |records: &[u8]| {
        let mut log = LogVerifier::new(verifier.clone());
        for line in records.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            log.push(line);
        }
        log.finish(&note).is_ok()
    };
    ensure!(verify(&records), "an untouched export does not verify");
    let middle = records.len() / 2;
    *records.get_mut(middle).context("the export is empty")? ^= 1;
    ensure!(!verify(&records), "a changed byte was not found");
    Ok(())
}

#[test]
fn after_kill_9_every_disclosed_secret_has_its_lease_and_its_record() -> Result<()> {
    let mut site = Site::start()?;
    let environment = site.resolve()?;
    site.broker.process().kill()?;
    site.broker.start_again()?;
    site.connect()?;
    let held = site.leases()?;
    for lease in &environment.leases {
        ensure!(held.iter().any(|held| held.id == lease.id.to_string()), "lease {} was lost", lease.id);
    }
    ensure!(site.audit(Action::Read)?.len() == environment.leases.len(), "a disclosure has no record");
    Ok(())
}

#[test]
fn a_sealed_store_fails_the_whole_environment_and_says_so() -> Result<()> {
    let site = Site::start()?;
    site.bao.seal()?;
    let error = site.resolve().err().context("resolved from a sealed store")?.to_string();
    ensure!(error.contains("sealed") || error.contains("payments/prod"), "{error}");
    ensure!(site.leases()?.is_empty(), "a lease was granted without its value");
    Ok(())
}

/// A broker with OpenBao and PostgreSQL behind it, an environment and the policies for it.
struct Site {
    broker: Broker,
    bao: OpenBao,
    postgres: Postgres,
    key: Canary,
    client: Client,
    runtime: Runtime,
}

impl Site {
    fn start() -> Result<Self> {
        let postgres = Postgres::start()?;
        postgres.psql("CREATE TABLE payments (name text); INSERT INTO payments VALUES ('first')")?;
        let bao = OpenBao::start()?;
        let key = Canary::random("api key");
        bao.enable_kv("secret")?;
        bao.api("POST", "secret/data/payments/api", &json!({ "data": { "key": key.value() } }))?;
        bao.enable_database("database", &postgres)?;
        bao.database_role("database", "payments", Duration::from_secs(600))?;
        let role = bao.approle("bursar", BAO_POLICY)?;

        let secret_id = tempfile::NamedTempFile::new()?;
        std::fs::write(secret_id.path(), role.secret_id.value())?;
        let broker = Broker::start(&format!(
            "[backends.vault]\nkind = 'vault'\naddress = '{}'\nca_file = '{}'\n\
             auth = {{ method = 'approle', role_id = '{}', secret_id = {{ file = '{}' }} }}\n\
             mounts = {{ secret = 'kv-v2', database = 'leased' }}\n",
            bao.tls_url(),
            bao.authority().display(),
            role.role_id,
            secret_id.path().display(),
        ))?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let client = runtime.block_on(administrator(&broker))?;
        let site = Self { broker, bao, postgres, key, client, runtime };
        site.apply()?;
        Ok(site)
    }

    /// Runs the command line as the administrator.
    fn bursar(&self, arguments: &[&str]) -> Result<std::process::Output> {
        let mut command = std::process::Command::new(binary("bursar")?);
        command.env_clear().env("BURSAR_ADDRESS", self.broker.address());
        let files = [("BURSAR_CA", "ca.pem"), ("BURSAR_CERT", "admin.crt"), ("BURSAR_KEY", "admin.key")];
        command.envs(files.map(|(name, file)| (name, self.broker.bootstrap(file))));
        command.args(arguments).output().context("`bursar` cannot be run")
    }

    fn connect(&mut self) -> Result<()> {
        self.client = self.runtime.block_on(administrator(&self.broker))?;
        Ok(())
    }

    fn apply(&self) -> Result<()> {
        let files = vec![PolicyFile { name: "test.cedar".to_owned(), text: POLICIES.to_owned() }];
        let request = PoliciesApplyRequest { files, expected_revision: None, dry_run: false };
        let answer = self.run(async { self.client.policies().apply(request).await })?;
        ensure!(
            matches!(answer.into_inner().result, Some(Applied::Accepted(_))),
            "the policies were refused"
        );
        let document = ENVIRONMENT.replace("POSTGRES", &self.postgres.address().to_string());
        let request = EnvironmentsApplyRequest { document, ..EnvironmentsApplyRequest::default() };
        self.run(async { self.client.environments().apply(request).await })?;
        Ok(())
    }

    fn resolve(&self) -> Result<ResolvedEnvironment> {
        let options =
            ResolveOptions { reason: "test of the main job".to_owned(), ..ResolveOptions::default() };
        self.run(self.client.resolve("payments/prod", &options))
    }

    fn variable(&self, environment: &ResolvedEnvironment, name: &str) -> Result<String> {
        let variable = environment.variables.iter().find(|variable| variable.name == name);
        text(&variable.with_context(|| format!("`{name}` is missing"))?.value)
    }

    fn leases(&self) -> Result<Vec<bursar_proto::v1::Lease>> {
        let request = LeasesListRequest::default();
        Ok(self.run(async { self.client.leases().list(request).await })?.into_inner().leases)
    }

    fn audit(&self, action: Action) -> Result<Vec<bursar_proto::v1::AuditRecord>> {
        let filter = AuditFilter { actions: vec![action.as_str().to_owned()], ..AuditFilter::default() };
        let request = AuditQueryRequest { filter: Some(filter), ..AuditQueryRequest::default() };
        Ok(self.run(async { self.client.audit().query(request).await })?.into_inner().records)
    }

    fn export(&self) -> Result<(Vec<u8>, String)> {
        self.run(async {
            let mut pieces = self.client.audit().export(AuditExportRequest::default()).await?.into_inner();
            let mut records = Vec::new();
            while let Some(answer) = pieces.message().await? {
                match answer.piece {
                    Some(Piece::Records(lines)) => records.extend(lines),
                    Some(Piece::Checkpoint(checkpoint)) => return anyhow::Ok((records, checkpoint.note)),
                    Some(Piece::Start(start)) => {
                        anyhow::bail!("the export begins at {}", start.first_sequence)
                    }
                    None => {}
                }
            }
            anyhow::bail!("the export has no checkpoint")
        })
    }

    fn run<T, E: Into<anyhow::Error>>(&self, work: impl Future<Output = Result<T, E>>) -> Result<T> {
        self.runtime.block_on(work).map_err(Into::into)
    }
}

async fn administrator(broker: &Broker) -> Result<Client> {
    let read = |name| std::fs::read(broker.bootstrap(name));
    let identity = Identity { cert_pem: read("admin.crt")?, key_pem: Secret::new(read("admin.key")?) };
    let tls = Tls { ca_pem: read("ca.pem")?, identity: Some(identity), server_name: None };
    let address: Address = broker.address().parse()?;
    Ok(Client::connect(&address, Some(&tls)).await?)
}

/// `postgres://USER:PASSWORD@…`
fn login(url: &str) -> Result<(String, String)> {
    let authority = url.strip_prefix("postgres://").and_then(|rest| rest.split_once('@'));
    let (login, _) = authority.context("DATABASE_URL has another form")?;
    let (user, password) = login.split_once(':').context("DATABASE_URL has no password")?;
    Ok((user.to_owned(), password.to_owned()))
}

fn text(secret: &Secret) -> Result<String> {
    Ok(std::str::from_utf8(secret.expose())?.to_owned())
}

const BAO_POLICY: &str = r#"
path "secret/data/payments/*" { capabilities = ["read"] }
path "secret/metadata/payments/*" { capabilities = ["read", "list"] }
path "database/creds/payments" { capabilities = ["read"] }
path "sys/leases/renew" { capabilities = ["update"] }
path "sys/leases/revoke" { capabilities = ["update"] }
path "sys/leases/lookup" { capabilities = ["update"] }
path "sys/leases/lookup/database/*" { capabilities = ["list", "sudo"] }
"#;

const POLICIES: &str = r#"
@id("administration")
permit (principal == Bursar::Principal::"spiffe://example.org/user/admin",
        action in Bursar::Action::"administer", resource);
@id("payments-read")
permit (principal == Bursar::Principal::"spiffe://example.org/user/admin",
        action in Bursar::Action::"use", resource in Bursar::Backend::"vault");
@id("payments-resolve")
permit (principal == Bursar::Principal::"spiffe://example.org/user/admin",
        action == Bursar::Action::"resolve", resource in Bursar::EnvironmentFolder::"payments");
"#;

const ENVIRONMENT: &str = r#"
[environment."payments/base".vars]
LOG_LEVEL = "debug"
API_KEY = { from = "vault/secret/payments/api#key" }

[environment."payments/broken".vars]
GONE = { from = "vault/secret/payments/absent#key" }

[environment."payments/prod"]
extends = ["payments/base"]
[environment."payments/prod".vars]
LOG_LEVEL = "info"
DATABASE_URL = { compose = "postgres://${vault/database/creds/payments#username}:${vault/database/creds/payments#password}@POSTGRES/postgres" }
"#;
