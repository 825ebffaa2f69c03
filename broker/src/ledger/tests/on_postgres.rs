//! The same on a PostgreSQL, and what is its own.
#![expect(clippy::duplicate_mod, reason = "one suite for every engine")]

#[path = "commits_postgres.rs"]
mod commits;
#[path = "grants.rs"]
mod grants;
#[path = "lists.rs"]
mod lists;
#[path = "log.rs"]
mod log;
#[path = "objects.rs"]
mod objects;
#[path = "opening_postgres.rs"]
mod opening;
#[path = "pruning.rs"]
mod pruning;
#[path = "quotas.rs"]
mod quotas;
#[path = "relay_postgres.rs"]
mod relay;
#[path = "revocation.rs"]
mod revocation;
#[path = "transitions.rs"]
mod transitions;

use std::sync::Weak;

use bursar_core::settings::SecretSource;
use bursar_postgres::Transport;
use bursar_tests::Postgres;

use super::*;

/// A ledger in a database of its own.
pub(super) type Fixture = FixtureOn<Database>;

/// A database of a server that all tests of the process share.
pub(super) struct Database {
    server: Arc<Postgres>,
    name: String,
    /// The broker's data directory.
    folder: TempDir,
}

impl Site for Database {
    fn new() -> Self {
        Self::on(server())
    }

    fn place(&self) -> LedgerPlace {
        self.place_as(ORIGIN, "example.org").expect("place")
    }
}

impl Database {
    fn on(server: Arc<Postgres>) -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let name = format!("t{}", new_id(Timestamp::UNIX_EPOCH).to_string().to_lowercase());
        server.psql(&format!("CREATE DATABASE {name}")).expect("database");
        let database = Self { server, name, folder };
        let (user, password) = (Postgres::SUPERUSER, database.server.password().value().to_owned());
        database.write_url(&database.url(user, &password));
        database
    }

    fn url(&self, user: &str, password: &str) -> String {
        let address = self.server.address();
        format!("postgres://{user}:{password}@{address}/{}", self.name)
    }

    fn write_url(&self, url: &str) {
        let path = self.folder.path().join("url");
        std::fs::write(&path, url).expect("file");
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(path, private).expect("mode");
    }

    fn access(&self) -> PostgresAccess {
        PostgresAccess {
            url: SecretSource::File(self.folder.path().join("url")),
            password: None,
            transport: Transport::Tls { ca_file: Some(self.server.authority().to_owned()) },
            client: None,
            timeout: Duration::from_secs(5),
        }
    }

    fn place_as(&self, origin: &str, domain: &str) -> Result<LedgerPlace, UrlFault> {
        let folder = self.folder.path().to_owned();
        LedgerPlace::postgres(self.access(), origin.to_owned(), domain.to_owned(), folder)
    }

    fn place_trusting(&self, ca_file: &Path) -> LedgerPlace {
        let transport = Transport::Tls { ca_file: Some(ca_file.to_owned()) };
        let access = PostgresAccess { transport, ..self.access() };
        let folder = self.folder.path().to_owned();
        LedgerPlace::postgres(access, ORIGIN.to_owned(), "example.org".to_owned(), folder).expect("place")
    }

    /// Runs `sql` in the database as its superuser.
    fn sql(&self, sql: &str) -> String {
        self.server.psql(&format!("\\connect {}\n{sql}", self.name)).expect("sql")
    }
}

/// Started by whoever comes first, ended when nobody has it any more.
fn server() -> Arc<Postgres> {
    static SERVER: Mutex<Weak<Postgres>> = Mutex::new(Weak::new());
    let mut shared = SERVER.lock().unwrap_or_else(PoisonError::into_inner);
    shared.upgrade().unwrap_or_else(|| {
        // What is durable is what these tests are about.
        let settings = ["fsync=on", "max_connections=500"];
        let server = Arc::new(Postgres::start_with(&settings).expect("PostgreSQL"));
        *shared = Arc::downgrade(&server);
        server
    })
}
