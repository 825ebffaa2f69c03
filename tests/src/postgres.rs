//! A PostgreSQL server of its own, made by `initdb` for one test.
//!
//! Every login is by password (SCRAM), as in production: `trust` would let a test pass with a wrong one. PostgreSQL
//! refuses to run as root; then it and its directory belong to an ordinary user of the system.

mod release;

use std::fs::{self, Permissions};
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::canary::Canary;
use crate::certificate::ServerFiles;
use crate::place;
use crate::port::free_port;
use crate::process::{Process, wait_stopped};

pub use release::Release;

/// A running server. Stopped, and its data removed, on drop.
#[derive(Debug)]
pub struct Postgres {
    // Dropped first: the server ends before its directory goes.
    process: Process,
    directory: TempDir,
    address: SocketAddr,
    files: ServerFiles,
    settings: Vec<String>,
    password: Canary,
    programs: PathBuf,
    release: Release,
}

impl Postgres {
    /// Name of the superuser.
    pub const SUPERUSER: &str = "postgres";
    /// The one database.
    pub const DATABASE: &str = "postgres";

    /// Makes a cluster, starts it and waits until it answers.
    ///
    /// # Errors
    /// There is no PostgreSQL, or it does not come up; with the last lines it wrote.
    pub fn start() -> Result<Self> {
        Self::start_with(&[])
    }

    /// The same, with more settings, each as `NAME=VALUE`.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_with(settings: &[&str]) -> Result<Self> {
        Self::start_release(Release::System, settings)
    }

    /// The same of another release.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_release(release: Release, settings: &[&str]) -> Result<Self> {
        let owner = Owner::of_servers()?;
        let directory = tempfile::Builder::new().prefix("bursar-pg-").tempdir()?;
        if let Some(owner) = &owner {
            owner.take(directory.path())?;
        }
        let password = Canary::alphanumeric("PostgreSQL superuser password");
        let here = directory.path();
        let programs = release.programs(here)?;
        initdb(&programs, here, owner.as_ref(), &password)?;
        let address = free_port()?;
        let files = ServerFiles::make(here)?;
        // The server refuses a key that others may read.
        fs::set_permissions(&files.key, Permissions::from_mode(0o600))?;
        if let Some(owner) = &owner {
            [&files.certificate, &files.key].into_iter().try_for_each(|file| owner.take(file))?;
        }
        let tls = format!("ssl={}", if release.has_tls() { "on" } else { "off" });
        let settings = settings.iter().map(ToString::to_string).chain([tls]).collect::<Vec<_>>();
        let process = launch(&programs, here, owner.as_ref(), address, &files, &settings)?;
        Ok(Self { process, directory, address, files, settings, password, programs, release })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// PEM file of the authority that vouches for its certificate, which is for 127.0.0.1.
    pub fn authority(&self) -> &Path {
        &self.files.authority
    }

    /// Makes a role that may log in and make roles, and nothing else, as a broker should have; answers its password.
    ///
    /// # Errors
    /// What the server answered.
    pub fn role_maker(&self, name: &str) -> Result<Canary> {
        let password = Canary::alphanumeric("PostgreSQL password of the broker");
        // A log of statements would have the password, and look as if the broker had put it there.
        let quietly = "SET log_statement TO none; SET log_min_error_statement TO panic";
        let create = format!("CREATE ROLE {name} LOGIN CREATEROLE PASSWORD '{}'", password.value());
        self.psql(&format!("{quietly}; {create}"))?;
        Ok(password)
    }

    /// What a broker's configuration says of this server: the table `[backends.NAME]`, without its roles. The broker
    /// logs in as `user`, whose password is where `password`, a TOML value, says.
    pub fn backend(&self, name: &str, user: &str, password: &str) -> String {
        let transport = self.transport();
        format!(
            "[backends.{name}]\nkind = 'postgres'\nhost = '{}'\nport = {}\ndatabase = '{}'\nuser = '{user}'\n\
             password = {password}\n{transport}\n",
            self.address.ip(),
            self.address.port(),
            Self::DATABASE,
        )
    }

    /// What a broker's configuration says of a ledger in `database` of this server: the table `[ledger]`, with the URL in
    /// a file in `directory`. Another database than [`DATABASE`](Self::DATABASE) is made.
    ///
    /// # Errors
    /// What the server answered, or the file cannot be written.
    pub fn ledger(&self, database: &str, directory: &Path) -> Result<String> {
        if database != Self::DATABASE {
            self.psql(&format!("CREATE DATABASE {database}"))?;
        }
        let (user, password) = (Self::SUPERUSER, self.password.value());
        let path = directory.join("ledger.url");
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        write!(file, "postgres://{user}:{password}@{}/{database}", self.address)?;
        let transport = self.transport();
        Ok(format!("[ledger]\nengine = 'postgres'\nurl = {{ file = '{}' }}\n{transport}\n", path.display()))
    }

    /// Stops the server; its data stays.
    ///
    /// # Errors
    /// It did not end by itself.
    pub fn stop(&mut self) -> Result<()> {
        self.process.stop().map(drop)
    }

    /// Starts it after [`stop`](Self::stop), at the same address.
    ///
    /// # Errors
    /// It does not come up; with the last lines it wrote.
    pub fn start_again(&mut self) -> Result<()> {
        let owner = Owner::of_servers()?;
        let here = self.directory.path();
        let (programs, files) = (&self.programs, &self.files);
        self.process = launch(programs, here, owner.as_ref(), self.address, files, &self.settings)?;
        Ok(())
    }

    /// How a configuration says that this server is reached.
    fn transport(&self) -> String {
        match self.release.has_tls() {
            true => format!("ca_file = '{}'", self.authority().display()),
            false => "allow_plaintext = true".to_owned(),
        }
    }

    /// Sends a signal to the server and to every process of its.
    ///
    /// # Errors
    /// The system refuses.
    pub fn signal_all(&mut self, signal: Signal) -> Result<()> {
        let pid = self.process.pid();
        // First, so that it makes no further ones meanwhile.
        self.process.signal(signal)?;
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
        for child in
            children.split_whitespace().filter_map(|child| child.parse().ok().and_then(Pid::from_raw))
        {
            match kill_process(child, signal) {
                // It has ended.
                Err(Errno::SRCH) => continue,
                sent => sent?,
            }
            if signal == Signal::STOP {
                wait_stopped(u32::try_from(child.as_raw_nonzero().get())?)?;
            }
        }
        if signal == Signal::STOP {
            wait_stopped(pid)?;
        }
        Ok(())
    }

    /// The password of [`SUPERUSER`](Self::SUPERUSER).
    pub fn password(&self) -> &Canary {
        &self.password
    }

    /// The directory of everything it writes: data and logs.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Path of its client program, `psql`.
    ///
    /// # Errors
    /// There is no PostgreSQL.
    pub fn client(&self) -> Result<PathBuf> {
        Ok(place::postgres()?.join("psql"))
    }

    /// Runs `sql` as superuser and returns its rows, one a line, columns parted by `|`.
    ///
    /// # Errors
    /// What the server answered.
    pub fn psql(&self, sql: &str) -> Result<String> {
        self.psql_as(Self::SUPERUSER, self.password.value(), sql)
    }

    /// As [`psql`](Self::psql), logged in as `user`.
    ///
    /// # Errors
    /// The login is refused, or what the server answered.
    pub fn psql_as(&self, user: &str, password: &str, sql: &str) -> Result<String> {
        let mut psql = command(&self.client()?, self.directory.path(), None);
        psql.args(["--no-psqlrc", "--quiet", "--no-align", "--tuples-only", "--set=ON_ERROR_STOP=1"]);
        psql.args(["--no-password", "--host", &self.address.ip().to_string()]);
        psql.args(["--port", &self.address.port().to_string(), "--username", user, Self::DATABASE]);
        psql.env("PGSSLMODE", "disable").env("PGPASSWORD", password).env("PGCONNECT_TIMEOUT", "10");
        psql.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = psql.spawn().context("`psql` cannot be started")?;
        // Not as an argument: statements hold passwords, and arguments are there for every process to read.
        let written = child.stdin.take().context("`psql` has no standard input")?.write_all(sql.as_bytes());
        let output = child.wait_with_output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "PostgreSQL refused `{user}`: {}", said.trim());
        // After what it said: one that cannot log in ends without reading, and that is not the error to report.
        written.context("`psql` did not read the whole of its input")?;
        Ok(String::from_utf8(output.stdout)?.trim_end().to_owned())
    }
}

fn launch(
    programs: &Path,
    directory: &Path,
    owner: Option<&Owner>,
    address: SocketAddr,
    files: &ServerFiles,
    settings: &[String],
) -> Result<Process> {
    let mut server = command(&programs.join("postgres"), directory, owner);
    server.arg("-D").arg(directory.join("data"));
    server.arg("-c").arg(format!("port={}", address.port()));
    server.arg("-c").arg(format!("unix_socket_directories={}", directory.display()));
    server.arg("-c").arg(format!("ssl_cert_file={}", files.certificate.display()));
    server.arg("-c").arg(format!("ssl_key_file={}", files.key.display()));
    for setting in SETTINGS.into_iter().chain(settings.iter().map(String::as_str)) {
        server.args(["-c", setting]);
    }
    // SIGINT ends its sessions; SIGTERM would wait for them.
    let mut process = Process::start("postgres", server, directory)?.stopped_by(Signal::INT);
    process.wait_for_line(LIMIT, "ready to accept connections")?;
    Ok(process)
}

/// Makes the data directory. The superuser's password passes by a file that is gone afterwards.
fn initdb(programs: &Path, directory: &Path, owner: Option<&Owner>, password: &Canary) -> Result<()> {
    let file = directory.join("password");
    fs::write(&file, password.value())?;
    if let Some(owner) = owner {
        owner.take(&file)?;
    }
    let mut initdb = command(&programs.join("initdb"), directory, owner);
    initdb.arg("-D").arg(directory.join("data")).arg("--pwfile").arg(&file);
    initdb.args(["--auth=scram-sha-256", "--no-sync", "--encoding=UTF8", "--locale=C"]);
    initdb.args(["--username", Postgres::SUPERUSER]);
    let mut process = Process::start("initdb", initdb, directory)?;
    let status = process.wait(LIMIT)?;
    ensure!(
        status.success(),
        "`initdb` failed ({status}) in `{}`; if it may not enter there, set TMPDIR to a directory that every user may \
         enter:\n{}",
        directory.display(),
        process.stderr()?
    );
    fs::remove_file(&file)?;
    Ok(())
}

/// A command of PostgreSQL's in a clean environment, run by `owner`.
fn command(program: &Path, directory: &Path, owner: Option<&Owner>) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("LC_ALL", "C").env("TZ", "UTC").current_dir(directory);
    if let Some(owner) = owner {
        command.uid(owner.uid).gid(owner.gid);
    }
    command
}

/// The ordinary user that PostgreSQL runs as when the tests run as root.
struct Owner {
    uid: u32,
    gid: u32,
}

impl Owner {
    /// `None` when the tests do not run as root: then the server runs as they do.
    fn of_servers() -> Result<Option<Self>> {
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        let users = fs::read_to_string(USERS).with_context(|| format!("`{USERS}` cannot be read"))?;
        let owner = ORDINARY.iter().find_map(|name| Self::named(&users, name));
        let owner = owner.with_context(|| {
            format!("PostgreSQL does not run as root, and `{USERS}` has none of {ORDINARY:?}: add one by `useradd`")
        })?;
        Ok(Some(owner))
    }

    /// Finds a user in the text of a file as passwd(5) describes it.
    fn named(users: &str, name: &str) -> Option<Self> {
        let mut fields = users
            .lines()
            .map(|line| line.split(':'))
            .find_map(|mut fields| (fields.next()? == name).then_some(fields))?;
        fields.next()?;
        Some(Self { uid: fields.next()?.parse().ok()?, gid: fields.next()?.parse().ok()? })
    }

    fn take(&self, path: &Path) -> Result<()> {
        chown(path, Some(self.uid), Some(self.gid))
            .with_context(|| format!("`{}` cannot be given to user {}", path.display(), self.uid))
    }
}

const LIMIT: Duration = Duration::from_secs(60);
const USERS: &str = "/etc/passwd";
const ORDINARY: [&str; 2] = ["postgres", "nobody"];
const SETTINGS: [&str; 5] = [
    "listen_addresses=127.0.0.1",
    // Its data ends with the test.
    "fsync=off",
    "full_page_writes=off",
    // A statement that fails stays out of the log: it may hold the password of a role.
    "log_min_error_statement=panic",
    "max_connections=50",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_the_whole_name() {
        let users = "postgresql:x:7:7::/:/bin/sh\npostgres:x:101:104:,,,:/var/lib:/bin/sh\n";
        let owner = Owner::named(users, "postgres").unwrap();
        assert_eq!((owner.uid, owner.gid), (101, 104));
    }

    #[test]
    fn a_broken_line_names_no_user() {
        assert!(Owner::named("postgres:x:one:two\n", "postgres").is_none());
    }
}
