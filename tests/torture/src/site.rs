//! The servers: OpenBao with a database engine, PostgreSQL below it and by itself, and the broker that is killed.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bursar_core::tlog::Verifier;
use bursar_proto::v1::audit_export_response::Piece;
use bursar_proto::v1::leases_revoke_many_request::Selector;
use bursar_proto::v1::local_store_put_request::Data;
use bursar_proto::v1::policies_apply_response::Result as Applied;
use bursar_proto::v1::{
    AuditExportRequest, LeasesRevokeManyRequest, LocalStorePutRequest, PoliciesApplyRequest, PolicyFile,
    SecretFields,
};
use bursar_sdk::{Address, Client, Identity, Secret, Tls};
use bursar_tests::{OpenBao, Postgres, Process, free_port, http, wait_for};
use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::ledger::{Engine, Ledger};
use crate::relay;

/// Everything that is running.
pub(crate) struct Site {
    // Dropped first: the broker ends before what it stands on.
    broker: Option<Process>,
    program: PathBuf,
    directory: TempDir,
    grpc: SocketAddr,
    http: SocketAddr,
    bao: OpenBao,
    postgres: Postgres,
    ledger: Ledger,
}

/// An export of the audit log.
#[derive(Debug)]
pub(crate) struct Export {
    /// JSON Lines, as they were hashed.
    pub(crate) records: Vec<u8>,
    /// The signed head over them.
    pub(crate) note: String,
}

/// The way in for clients.
#[derive(Debug, Clone)]
pub(crate) struct Door {
    address: Address,
    bootstrap: PathBuf,
}

impl Door {
    /// A connection of its own, as the administrator; made when the first call is, and again after each kill. Has to be
    /// called inside a tokio runtime.
    ///
    /// # Errors
    /// The files that `init` left cannot be read.
    pub(crate) fn connect(&self) -> Result<Client> {
        let read = |name| fs::read(self.bootstrap.join(name));
        let identity = Identity { cert_pem: read("admin.crt")?, key_pem: Secret::new(read("admin.key")?) };
        let tls = Tls { ca_pem: read("ca.pem")?, identity: Some(identity), server_name: None };
        Ok(Client::connect_lazy(&self.address, Some(&tls))?)
    }
}

impl Site {
    /// Starts the servers, fills them, and stops the broker again: each life of it has its own start.
    ///
    /// # Errors
    /// One of them does not come up.
    pub(crate) fn start(program: &Path, engine: Engine, runtime: &Runtime) -> Result<Self> {
        let postgres = Postgres::start()?;
        let bao = OpenBao::start()?;
        bao.enable_database("database", &postgres)?;
        for role in ROLES {
            bao.database_role("database", role, STORE_TTL)?;
        }
        let login = bao.approle("bursar", BAO_POLICY)?;
        let directory = tempfile::Builder::new().prefix("torture-").tempdir()?;
        let ledger = Ledger::start(engine, &directory.path().join("data"))?;
        let secret_id = directory.path().join("secret-id");
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&secret_id)?;
        file.write_all(login.secret_id.value().as_bytes())?;
        let password = postgres.role_maker(PG_USER)?;
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(directory.path().join("pg-password"))?;
        file.write_all(password.value().as_bytes())?;
        let (grpc, http) = (free_port()?, free_port()?);
        let store = bao.tls_url().trim_start_matches("https://").parse()?;
        let store = relay::start(runtime, store)?;
        let config = format!(
            "trust_domain = 'torture.test'\ndata_dir = 'data'\n\
             [listen]\ngrpc = '{grpc}'\nhttp = '{http}'\n[seal]\nkey = {{ file = 'seal.key' }}\n\
             [log]\nfilter = 'warn'\n[leases]\ndefault_ttl = '5m'\nsettle_after = '5s'\n\
             keep_gone = '10s'\n\
             [backends.local]\nkind = 'local'\n\
             [backends.vault]\nkind = 'vault'\naddress = 'https://{store}'\nca_file = '{}'\n\
             auth = {{ method = 'approle', role_id = '{}', secret_id = {{ file = 'secret-id' }} }}\n\
             mounts = {{ database = 'leased' }}\n{}{PG_ROLE}{}",
            bao.authority().display(),
            login.role_id,
            postgres.backend("pg", PG_USER, "{ file = 'pg-password' }"),
            ledger.section()?,
        );
        fs::write(directory.path().join(CONFIG), config)?;
        let program =
            program.canonicalize().with_context(|| format!("`{}` is not there", program.display()))?;
        let mut site = Self { broker: None, program, directory, grpc, http, bao, postgres, ledger };
        let made = site.command("init").output().context("`bursar-broker init` cannot be run")?;
        let said = String::from_utf8_lossy(&made.stderr);
        ensure!(made.status.success(), "`bursar-broker init` failed: {said}");
        site.start_broker(None)?;
        site.wait_until_ready()?;
        runtime.block_on(site.fill())?;
        site.stop_broker()?;
        Ok(site)
    }

    /// Starts the broker, to die at `trigger` if that is given.
    ///
    /// # Errors
    /// It cannot be started.
    pub(crate) fn start_broker(&mut self, trigger: Option<&str>) -> Result<()> {
        let mut command = self.command("serve");
        command.envs(trigger.map(|trigger| ("BURSAR_KILL_POINT", trigger)));
        self.broker = Some(Process::start("broker", command, self.directory.path())?);
        Ok(())
    }

    /// Waits until the broker has died by its own hand.
    ///
    /// # Errors
    /// It lives on, so nothing passes the point; or it ended in another way.
    pub(crate) fn wait_for_death(&mut self, trigger: &str) -> Result<()> {
        let broker = self.running()?;
        let status = broker.wait(DEATH).with_context(|| format!("nothing passes `{trigger}`"))?;
        let by_kill = status.signal() == Some(KILL);
        ensure!(by_kill, "the broker ended by {status}, and not at `{trigger}`: {}", broker.report());
        Ok(())
    }

    /// Kills it from outside.
    ///
    /// # Errors
    /// It had ended before.
    pub(crate) fn kill_broker(&mut self) -> Result<()> {
        let broker = self.running()?;
        let status = broker.kill()?;
        ensure!(status.signal() == Some(KILL), "the broker had ended by itself: {}", broker.report());
        Ok(())
    }

    /// Stops it in order.
    ///
    /// # Errors
    /// It does not end well.
    pub(crate) fn stop_broker(&mut self) -> Result<()> {
        let broker = self.running()?;
        let status = broker.stop()?;
        ensure!(status.success(), "the broker stopped with {status}: {}", broker.report());
        self.broker = None;
        Ok(())
    }

    /// Waits until it serves.
    ///
    /// # Errors
    /// It ends, or does not get ready.
    pub(crate) fn wait_until_ready(&mut self) -> Result<()> {
        let http = self.http;
        self.running()?.wait_for(READY, "the broker to be ready", |_| {
            let answer = http::request(http, "GET", "/readyz", &[], &[]).ok();
            Ok(answer.filter(|answer| answer.status == 200).map(drop))
        })
    }

    /// Waits until no lease waits for anything: every intent has its outcome, and what is over is gone at the store.
    ///
    /// # Errors
    /// Some still wait.
    pub(crate) fn wait_until_settled(&mut self) -> Result<()> {
        let waiting = || -> Result<Vec<String>> {
            let found = self.ledger.rows(WAITING)?;
            Ok(found.iter().map(|row| row.join(" leases in state ")).collect())
        };
        let settled =
            wait_for(SETTLED, "every lease to be settled", || Ok(waiting()?.is_empty().then_some(())));
        settled.with_context(|| format!("{:?}; {}", waiting().unwrap_or_default(), self.report()))
    }

    pub(crate) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// The whole audit log.
    ///
    /// # Errors
    /// The broker refuses, or breaks off.
    pub(crate) async fn export(&self) -> Result<Export> {
        let mut audit = self.door()?.connect()?.audit();
        let mut pieces = audit.export(AuditExportRequest::default()).await?.into_inner();
        let mut records = Vec::new();
        while let Some(answer) = pieces.message().await? {
            match answer.piece {
                Some(Piece::Records(lines)) => records.extend(lines),
                Some(Piece::Checkpoint(checkpoint)) => return Ok(Export { records, note: checkpoint.note }),
                Some(Piece::Start(start)) => bail!("the export begins at {}", start.first_sequence),
                None => {}
            }
        }
        bail!("the export has no checkpoint")
    }

    /// Revokes every lease, by their backends.
    ///
    /// # Errors
    /// The broker refuses.
    pub(crate) async fn revoke_everything(&self) -> Result<()> {
        let mut leases = self.door()?.connect()?.leases();
        for backend in ["vault", "pg", "local"] {
            let selector = Some(Selector::PathPrefix(backend.to_owned()));
            let request = LeasesRevokeManyRequest { selector, reason: "the end".to_owned(), dry_run: false };
            leases.revoke_many(request).await?;
        }
        Ok(())
    }

    /// The names of the roles that work at PostgreSQL and were made for a lease.
    ///
    /// # Errors
    /// PostgreSQL does not answer.
    pub(crate) fn roles(&self) -> Result<BTreeSet<String>> {
        let by_openbao = self.roles_like("v-%")?;
        Ok(by_openbao.into_iter().chain(self.roles_like(OWN_ROLES)?).collect())
    }

    fn roles_like(&self, pattern: &str) -> Result<BTreeSet<String>> {
        let select = format!("SELECT rolname FROM pg_roles WHERE rolname LIKE '{pattern}'");
        Ok(self.postgres.psql(&select)?.lines().map(str::to_owned).collect())
    }

    /// What the stores call them: OpenBao by its leases, PostgreSQL by the names of those that the broker made there.
    ///
    /// # Errors
    /// One of them does not answer.
    pub(crate) fn store_handles(&self) -> Result<BTreeSet<String>> {
        let mut leases = self.roles_like(OWN_ROLES)?;
        for role in ROLES {
            let path = format!("database/creds/{role}");
            match self.bao.api("GET", &format!("sys/leases/lookup/{path}?list=true"), &Value::Null) {
                Ok(answer) => {
                    let keys = answer.pointer("/data/keys").and_then(Value::as_array).context("no keys")?;
                    leases.extend(keys.iter().filter_map(Value::as_str).map(|key| format!("{path}/{key}")));
                }
                Err(error) if error.to_string().starts_with("OpenBao answered 404") => {}
                Err(error) => return Err(error),
            }
        }
        Ok(leases)
    }

    pub(crate) fn door(&self) -> Result<Door> {
        let address = format!("https://{}", self.grpc).parse()?;
        Ok(Door { address, bootstrap: self.directory.path().join("data/bootstrap") })
    }

    /// The key that checks the log.
    ///
    /// # Errors
    /// `init` left none.
    pub(crate) fn verifier(&self) -> Result<Verifier> {
        let key = fs::read_to_string(self.directory.path().join("data/bootstrap/audit.vkey"))?;
        Ok(Verifier::parse(key.trim())?)
    }

    async fn fill(&self) -> Result<()> {
        let client = self.door()?.connect()?;
        let files = vec![PolicyFile { name: "torture.cedar".to_owned(), text: POLICIES.to_owned() }];
        let request = PoliciesApplyRequest { files, expected_revision: None, dry_run: false };
        let answer = client.policies().apply(request).await?.into_inner().result;
        ensure!(matches!(answer, Some(Applied::Accepted(_))), "the policies were refused: {answer:?}");
        for name in ROLES {
            let fields = SecretFields { fields: [("value".to_owned(), b"static".to_vec())].into() };
            let request = LocalStorePutRequest {
                reference: format!("local/{name}"),
                data: Some(Data::Fields(fields)),
                expected_version: None,
                expires_at: None,
            };
            client.local_store().put(request).await?;
        }
        Ok(())
    }

    fn command(&self, verb: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.env_clear().current_dir(self.directory.path()).args(["--config", CONFIG, verb]);
        command
    }

    fn running(&mut self) -> Result<&mut Process> {
        self.broker.as_mut().context("no broker was started")
    }

    fn report(&self) -> String {
        self.broker.as_ref().map(Process::report).unwrap_or_default()
    }
}

/// Bulk revocations that are under way count as a state of their own.
const WAITING: &str = "SELECT count(*), state FROM leases WHERE state NOT IN (1, 6) GROUP BY state \
     UNION ALL SELECT count(*), -1 FROM revocations WHERE marked_at IS NULL HAVING count(*) > 0";

/// Whose credentials are leased, and the names of static secrets. All leases on the second are revoked at once, now and
/// then.
pub(crate) const ROLES: [&str; 2] = ["torture", "bulk"];

const BAO_POLICY: &str = r#"
path "database/creds/+" { capabilities = ["read"] }
path "sys/leases/renew" { capabilities = ["update"] }
path "sys/leases/revoke" { capabilities = ["update"] }
path "sys/leases/lookup" { capabilities = ["update"] }
path "sys/leases/lookup/database/*" { capabilities = ["list", "sudo"] }
"#;

const POLICIES: &str = r#"
permit (principal == Bursar::Principal::"spiffe://torture.test/user/admin",
        action in Bursar::Action::"administer", resource);
permit (principal == Bursar::Principal::"spiffe://torture.test/user/admin",
        action in Bursar::Action::"use", resource in Bursar::Backend::"vault");
permit (principal == Bursar::Principal::"spiffe://torture.test/user/admin",
        action in Bursar::Action::"use", resource in Bursar::Backend::"pg");
permit (principal == Bursar::Principal::"spiffe://torture.test/user/admin",
        action in Bursar::Action::"use", resource in Bursar::Backend::"local");
"#;

/// As whom the broker makes roles at PostgreSQL by itself.
const PG_USER: &str = "bursar";
const OWN_ROLES: &str = "bursar\\_torture\\_%";
/// Calls are short, since a server may go on with one for as long after its client is gone.
const PG_ROLE: &str = "timeout = '1s'\nscram_iterations = 1\n[backends.pg.roles.torture]\n\
     creation = ['CREATE ROLE {{name}} LOGIN PASSWORD {{password}} VALID UNTIL {{expiration}}']\n";

const CONFIG: &str = "broker.toml";
/// Longer than any run between two comparisons: what ends, the broker ends.
const STORE_TTL: Duration = Duration::from_secs(3 * 3600);
const READY: Duration = Duration::from_secs(30);
const DEATH: Duration = Duration::from_secs(120);
const SETTLED: Duration = Duration::from_secs(180);
/// SIGKILL.
const KILL: i32 = 9;
