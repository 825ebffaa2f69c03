//! A PostgreSQL, and a broker that makes roles there.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use bursar_tests::{Broker, Canary, Cli, Postgres, Process, wait_until};
use serde_json::Value;
use tempfile::TempDir;

/// A PostgreSQL, a broker that may make roles there, and a store of its own beside it.
pub(super) struct Site {
    pub(super) broker: Broker,
    pub(super) admin: Cli,
    pub(super) postgres: Postgres,
    /// Of the broker's own login.
    pub(super) password: Canary,
    _secrets: TempDir,
}

impl Site {
    /// `settings` are the server's.
    pub(super) fn start(settings: &[&str]) -> Result<Self> {
        Self::start_within("3s", settings)
    }

    /// Each call to the server may take `timeout`.
    pub(super) fn start_within(timeout: &str, settings: &[&str]) -> Result<Self> {
        Self::start_on(Postgres::start_with(settings)?, timeout)
    }

    pub(super) fn start_on(postgres: Postgres, timeout: &str) -> Result<Self> {
        let password = postgres.role_maker(USER)?;
        postgres.psql(DATABASE)?;
        let secrets = tempfile::tempdir()?;
        let file = secrets.path().join("root");
        fs::write(&file, password.value())?;
        fs::set_permissions(&file, PermissionsExt::from_mode(0o600))?;
        let backend = postgres.backend("pg", USER, &format!("{{ file = '{}' }}", file.display()));
        let inside = postgres.backend("inside", USER, "{ from = 'local/pg/root#password' }");
        // As few iterations as there can be: what is issued and rotated there is to open all the same.
        let inside = format!("{inside}scram_iterations = 1\n");
        let backends = [backend, inside].map(|backend| format!("{backend}timeout = '{timeout}'\n"));
        let roles = [ROLES.to_owned(), ROLES.replace("backends.pg", "backends.inside")];
        let broker = Broker::start(&format!(
            "[backends.local]\nkind = 'local'\n{}{}{}{}",
            backends[0], roles[0], backends[1], roles[1]
        ))?;
        let admin = Cli::administering(&broker)?;
        admin.apply_policies(POLICIES, "")?;
        admin.done_with(&["secret", "put", "local/a"], b"value")?;
        let put = ["secret", "put", "local/pg/root", "--field", "password"];
        admin.done_with(&put, password.value().as_bytes())?;
        Ok(Self { broker, admin, postgres, password, _secrets: secrets })
    }

    pub(super) fn credential(&self, role: &str) -> Result<Credential> {
        self.credential_of(&format!("pg/creds/{role}"))
    }

    pub(super) fn credential_of(&self, path: &str) -> Result<Credential> {
        let read = self.admin.done(&["get", path])?;
        let read: Value = serde_json::from_str(&read)?;
        let field =
            |name: &str| read.get(name).and_then(Value::as_str).map(str::to_owned).context("no field");
        Ok(Credential { user: field("username")?, password: field("password")? })
    }

    pub(super) fn revoke(&self, path: &str) -> Result<()> {
        let revoke = ["lease", "revoke-many", "--path", path, "--reason", "test", "--yes"];
        self.admin.done(&revoke).map(drop)
    }

    /// How many roles there are that a broker made.
    pub(super) fn roles(&self) -> Result<String> {
        self.postgres.psql("SELECT count(*) FROM pg_roles WHERE starts_with(rolname, 'bursar_')")
    }

    /// Until it is unlocked no role can be made or changed, and whoever tries waits.
    pub(super) fn lock_roles(&self) -> Result<Process> {
        let held = "BEGIN; LOCK TABLE pg_catalog.pg_authid IN SHARE MODE; SELECT pg_sleep(600)";
        let lock = self.session(Postgres::SUPERUSER, self.postgres.password().value(), held)?;
        let sleeps = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
        wait_until(LIMIT, "the lock", || self.postgres.psql(sleeps).is_ok_and(|count| count == "1"))?;
        Ok(lock)
    }

    pub(super) fn unlock(&self, lock: &mut Process) -> Result<()> {
        lock.kill()?;
        let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
        self.postgres.psql(end).map(drop)
    }

    /// Waits until the broker waits for the lock with a statement that has `part`.
    pub(super) fn wait_for_broker(&self, part: &str) -> Result<()> {
        let waits = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'bursar' AND wait_event_type = 'Lock' \
             AND query LIKE '%{part}%'"
        );
        wait_until(LIMIT, "the broker to wait", || self.postgres.psql(&waits).is_ok_and(|count| count == "1"))
    }

    /// Ends the broker's sessions, so that it has to log in again.
    pub(super) fn cut_off(&self) -> Result<()> {
        let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'bursar'";
        self.postgres.psql(end).map(drop)
    }

    /// What the broker has logged.
    pub(super) fn log(&self) -> Result<String> {
        let mut log = String::new();
        for entry in fs::read_dir(self.broker.directory())? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "stderr") {
                log.push_str(&fs::read_to_string(path)?);
            }
        }
        Ok(log)
    }

    /// A session that runs `sql`.
    pub(super) fn session(&self, user: &str, password: &str, sql: &str) -> Result<Process> {
        let address = self.postgres.address();
        let mut psql = Command::new(self.postgres.client()?);
        psql.args([
            "--no-psqlrc",
            "--host",
            &address.ip().to_string(),
            "--port",
            &address.port().to_string(),
        ]);
        psql.args(["--username", user, "--command", sql, Postgres::DATABASE]);
        psql.env("PGPASSWORD", password).env("PGSSLMODE", "disable");
        Process::start("psql", psql, &self.admin.path(""))
    }
}

pub(super) struct Credential {
    pub(super) user: String,
    pub(super) password: String,
}

impl Credential {
    pub(super) fn says(&self, site: &Site, sql: &str) -> Result<String> {
        site.postgres.psql_as(&self.user, &self.password, sql)
    }

    /// A session that does not end by itself, and has begun.
    pub(super) fn session(&self, site: &Site) -> Result<Process> {
        let session = site.session(&self.user, &self.password, "SELECT pg_sleep(600)")?;
        let there = format!("SELECT count(*) FROM pg_stat_activity WHERE usename = '{}'", self.user);
        wait_until(LIMIT, "the session", || site.postgres.psql(&there).is_ok_and(|count| count == "1"))?;
        Ok(session)
    }
}

pub(super) const USER: &str = "bursar";
pub(super) const LIMIT: Duration = Duration::from_secs(60);

const DATABASE: &str = "
CREATE TABLE payments (name text); INSERT INTO payments VALUES ('first');
CREATE ROLE readers NOLOGIN; GRANT SELECT ON payments TO readers; GRANT CREATE ON SCHEMA public TO readers;
GRANT SELECT ON payments TO bursar WITH GRANT OPTION; GRANT readers TO bursar WITH ADMIN OPTION;
";

const ROLES: &str = "
[backends.pg.roles.app]
creation = ['CREATE ROLE {{name}} LOGIN PASSWORD {{password}} VALID UNTIL {{expiration}} IN ROLE readers']
ttl = '10m'
[backends.pg.roles.granted]
creation = [
    'CREATE ROLE {{name}} LOGIN PASSWORD {{password}} VALID UNTIL {{expiration}}',
    'GRANT SELECT ON payments TO {{name}}',
]
[backends.pg.roles.faulty]
creation = [
    'CREATE ROLE {{name}} LOGIN PASSWORD {{password}} VALID UNTIL {{expiration}}',
    'GRANT nobody TO {{name}}',
]
";

const POLICIES: &str = r#"
@id("everything")
permit (principal == Bursar::Principal::"spiffe://example.org/user/admin", action, resource);
"#;
