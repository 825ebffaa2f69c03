//! `[backends.NAME]` with `kind = "postgres"`.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use bursar_backend_postgres::{PostgresConfig, Purpose, Role, RoleName, Statements, Transport};
use bursar_core::settings::{KeptSecret, Section};
use bursar_core::{FieldName, Reference, SecretPath};

use super::{BackendConfig, BackendKind, size};

/// How a PostgreSQL is reached, and which roles are made there.
#[derive(Debug)]
pub struct PostgresSettings {
    pub host: String,
    pub port: u16,
    pub database: String,
    pub user: String,
    pub password: KeptSecret,
    pub transport: Transport,
    pub connections: usize,
    pub timeout: Duration,
    pub scram_iterations: NonZeroU32,
    pub roles: BTreeMap<RoleName, Role>,
    pub standing: BTreeMap<RoleName, StandingSettings>,
}

/// A role that is there anyway, whose password Bursar changes.
#[derive(Debug)]
pub struct StandingSettings {
    pub user: String,
    pub rotation: Duration,
    /// Where its password is kept that is in force, and the one that is to come.
    pub current: Reference,
    pub next: Reference,
}

pub(super) fn postgres(section: &mut Section<'_>) -> Option<PostgresSettings> {
    let host = section.parsed("host", word);
    let host = section.required("host", host);
    let port = section.number("port", 1..=65535).and_then(|port| u16::try_from(port).ok());
    let database = section.parsed("database", word);
    let database = section.required("database", database);
    let user = section.parsed("user", word);
    let user = section.required("user", user);
    let password = section.kept_secret("password");
    let password = section.required("password", password);
    let transport = transport(section);
    let connections = size(section.number("connections", 1..=64), PostgresConfig::DEFAULT_CONNECTIONS);
    let timeout = section.duration("timeout").unwrap_or(PostgresConfig::DEFAULT_TIMEOUT);
    if !(Duration::from_millis(100)..=Duration::from_secs(60)).contains(&timeout) {
        section.fault::<()>("timeout", "is 100ms to 1m".to_owned());
    }
    let iterations = section.number("scram_iterations", 1..=1_000_000);
    let iterations = iterations.and_then(|number| u32::try_from(number).ok()).and_then(NonZeroU32::new);
    let roles = section.each("roles", role).into_iter().collect();
    let keep_in = section.parsed("keep_in", folder);
    let standing = section.each("static", |name, section| standing(name, section, keep_in.as_ref()));
    if let Some(own) = standing.iter().find(|(_, standing)| Some(&standing.user) == user.as_ref()) {
        let message = "is the broker's own role; change its password by `bursar backend rotate-root`";
        section.fault::<()>(&format!("static.{}.user", own.0), message.to_owned());
    }
    Some(PostgresSettings {
        host: host?,
        port: port.unwrap_or(PostgresConfig::DEFAULT_PORT),
        database: database?,
        user: user?,
        password: password?,
        transport,
        connections,
        timeout,
        scram_iterations: iterations.unwrap_or(PostgresConfig::DEFAULT_SCRAM_ITERATIONS),
        roles,
        standing: standing.into_iter().collect(),
    })
}

/// What a `postgres` needs of the rest of the file. `named` are also the backends that have faults of their own.
pub(super) fn check(
    root: &mut Section<'_>,
    named: &[String],
    backends: &[BackendConfig],
    settle_after: Duration,
) {
    for backend in backends {
        let BackendKind::Postgres(settings) = &backend.kind else { continue };
        check_times(root, backend, settings, settle_after);
        check_password(root, named, backends, backend, settings);
        check_keeping(root, named, backends, backend, settings);
    }
}

/// A server goes on with what it was sent, one `timeout` for each statement at most, whoever is gone meanwhile; and an
/// interrupted issuance is looked for once more after `settle_after`, and then no more.
fn check_times(
    root: &mut Section<'_>,
    backend: &BackendConfig,
    settings: &PostgresSettings,
    settle_after: Duration,
) {
    for (name, role) in &settings.roles {
        let longest = settings.timeout.saturating_mul(role.creation.most_calls());
        if longest > settle_after {
            let message = format!(
                "a creation may go on for {longest:?} after the broker is gone, longer than `leases.settle_after`; lower \
                 `timeout` or raise that"
            );
            root.fault::<()>(&format!("backends.{}.roles.{name}.creation", backend.name), message);
        }
    }
}

/// A broker that reads one backend's password from another must have that, and be able to read it.
fn check_password(
    root: &mut Section<'_>,
    named: &[String],
    backends: &[BackendConfig],
    backend: &BackendConfig,
    settings: &PostgresSettings,
) {
    let KeptSecret::Backend(reference) = &settings.password else { return };
    let mut fault = |message: String| {
        root.fault::<()>(&format!("backends.{}.password", backend.name), message);
    };
    if reference.version.is_some() {
        fault("must not name a version; the newest is tried first, and then the one before".to_owned());
    }
    match backends.iter().find(|other| other.name == reference.backend).map(|other| &other.kind) {
        None if named.iter().any(|name| name == reference.backend.as_str()) => {}
        None => fault(format!("there is no backend `{}`", reference.backend)),
        Some(BackendKind::Postgres(_)) => {
            fault(format!("`{}` makes credentials and keeps none; name another backend", reference.backend));
        }
        Some(BackendKind::Local { max_versions }) if max_versions.get() < 2 => fault(format!(
            "`{}` keeps one version of a secret, and a rotation needs the one before; set its `max_versions` to 2 or \
             more",
            reference.backend
        )),
        Some(_) => {}
    }
}

/// Passwords of standing roles are kept where Bursar can write.
fn check_keeping(
    root: &mut Section<'_>,
    named: &[String],
    backends: &[BackendConfig],
    backend: &BackendConfig,
    settings: &PostgresSettings,
) {
    let Some(standing) = settings.standing.values().next() else { return };
    let keeper = &standing.current.backend;
    let message = match backends.iter().find(|other| other.name == *keeper).map(|other| &other.kind) {
        Some(BackendKind::Local { .. }) => return,
        None if named.iter().any(|name| name == keeper.as_str()) => return,
        None => format!("there is no backend `{keeper}`"),
        Some(_) => format!("Bursar does not write `{keeper}`; name a `local` backend"),
    };
    root.fault::<()>(&format!("backends.{}.keep_in", backend.name), message);
}

pub(super) fn transport(section: &mut Section<'_>) -> Transport {
    let ca_file = section.path("ca_file");
    match section.flag("allow_plaintext").unwrap_or(false) {
        false => Transport::Tls { ca_file },
        true => {
            if ca_file.is_some() {
                let message = "means nothing with `allow_plaintext`; leave one of them out".to_owned();
                section.fault::<()>("ca_file", message);
            }
            Transport::Plaintext
        }
    }
}

fn role(name: &str, section: &mut Section<'_>) -> Option<(RoleName, Role)> {
    let name = match RoleName::parse(name) {
        Ok(name) => Some(name),
        Err(error) => section.fault("", error.to_string()),
    };
    let creation = statements(section, "creation", Purpose::Creation);
    let creation = section.required("creation", creation);
    let renewal = statements(section, "renewal", Purpose::Renewal);
    let revocation = statements(section, "revocation", Purpose::Revocation);
    let max_ttl = section.duration("max_ttl");
    let ttl = section.duration("ttl");
    let most = max_ttl.unwrap_or(PostgresConfig::DEFAULT_MAX_TTL);
    let ttl = ttl.unwrap_or(PostgresConfig::DEFAULT_TTL.min(most));
    if ttl < Duration::from_secs(1) {
        section.fault::<()>("ttl", "must be `1s` or longer".to_owned());
    }
    if ttl > most {
        section.fault::<()>("ttl", "must not be longer than `max_ttl`".to_owned());
    }
    Some((
        name?,
        Role { creation: creation?, renewal: renewal?, revocation: revocation?, ttl, max_ttl: most },
    ))
}

fn standing(
    name: &str,
    section: &mut Section<'_>,
    keep_in: Option<&Reference>,
) -> Option<(RoleName, StandingSettings)> {
    let name = match RoleName::parse(name) {
        Ok(name) => Some(name),
        Err(error) => section.fault("", error.to_string()),
    };
    let user = section.parsed("user", word);
    let user = section.required("user", user);
    let rotation = section.duration("rotation");
    let rotation = section.required("rotation", rotation);
    if rotation.is_some_and(|rotation| rotation < Duration::from_secs(1)) {
        section.fault::<()>("rotation", "must be `1s` or longer".to_owned());
    }
    let (name, field) = (name?, FieldName::parse("password").ok());
    let below = |folder: &Reference, name: &str| {
        let path = SecretPath::from_store(&format!("{}/{name}", folder.path.as_str())).ok()?;
        Some(Reference { path, field: field.clone(), ..folder.clone() })
    };
    let (current, next) = match keep_in {
        Some(folder) => (below(folder, name.as_str())?, below(folder, &format!("{name}/next"))?),
        None => {
            let message = "needs `keep_in` of its backend, which says where its password is kept";
            return section.fault("", message.to_owned());
        }
    };
    Some((name, StandingSettings { user: user?, rotation: rotation?, current, next }))
}

/// What is written, or what there is by default.
fn statements(section: &mut Section<'_>, key: &'static str, purpose: Purpose) -> Option<Statements> {
    let texts = section.texts(key);
    if texts.is_empty() {
        return Statements::default_for(purpose);
    }
    match Statements::parse(&texts, purpose) {
        Ok(statements) => Some(statements),
        Err(faults) => {
            for fault in faults {
                section.fault::<()>(key, fault.to_string());
            }
            None
        }
    }
}

/// Where passwords are kept.
fn folder(text: &str) -> Result<Reference, String> {
    let reference = Reference::parse(text).map_err(|error| error.to_string())?;
    match (&reference.field, &reference.version) {
        (None, None) => Ok(reference),
        _ => Err("must be a folder of a backend, such as `local/pg`".to_owned()),
    }
}

/// A name of the server's world: not empty, and nothing that its protocol ends a text with.
fn word(text: &str) -> Result<String, String> {
    match text.is_empty() || text.contains('\0') {
        true => Err("must not be empty".to_owned()),
        false => Ok(text.to_owned()),
    }
}
