//! `[ledger]`: which engine keeps the ledger.

#[cfg(feature = "postgres")]
use std::time::Duration;

use bursar_core::settings::Section;
#[cfg(feature = "postgres")]
use bursar_postgres::{ClientFiles, Transport};

#[cfg(feature = "postgres")]
use crate::ledger::PostgresAccess;

/// What keeps the ledger.
#[derive(Debug)]
pub enum LedgerSettings {
    /// `ledger.db` in the data directory.
    Sqlite,
    /// A database of a PostgreSQL.
    #[cfg(feature = "postgres")]
    Postgres(Box<PostgresAccess>),
}

impl LedgerSettings {
    /// Whether it is among the files of the data directory.
    pub fn is_a_file(&self) -> bool {
        match self {
            Self::Sqlite => true,
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => false,
        }
    }
}

pub(super) fn ledger(section: &mut Section<'_>) -> Option<LedgerSettings> {
    match section.text("engine").as_deref() {
        None | Some("sqlite") => Some(LedgerSettings::Sqlite),
        #[cfg(feature = "postgres")]
        Some("postgres") => postgres(section),
        Some(_) => section.fault("engine", "is `sqlite` or `postgres`".to_owned()),
    }
}

#[cfg(feature = "postgres")]
fn postgres(section: &mut Section<'_>) -> Option<LedgerSettings> {
    let url = section.secret_source("url");
    let url = section.required("url", url);
    let password = section.secret_source("password");
    let transport = super::postgres::transport(section);
    let client = match (section.path("client_certificate"), section.path("client_key")) {
        (Some(certificate), Some(key)) => Some(ClientFiles { certificate, key }),
        (None, None) => None,
        (Some(_), None) => section.fault("client_key", "is missing beside `client_certificate`".to_owned()),
        (None, Some(_)) => section.fault("client_certificate", "is missing beside `client_key`".to_owned()),
    };
    if client.is_some() && transport == Transport::Plaintext {
        let message = "means nothing with `allow_plaintext`; leave one of them out".to_owned();
        section.fault::<()>("client_certificate", message);
    }
    let timeout = section.duration("timeout").unwrap_or(TIMEOUT);
    if !(Duration::from_millis(500)..=Duration::from_secs(10)).contains(&timeout) {
        section.fault::<()>("timeout", "is 500ms to 10s".to_owned());
    }
    Some(LedgerSettings::Postgres(Box::new(PostgresAccess {
        url: url?,
        password,
        transport,
        client,
        timeout,
    })))
}

/// Shorter than another process may hold the log after its last transaction, and than a request's deadline.
#[cfg(feature = "postgres")]
const TIMEOUT: Duration = Duration::from_secs(5);

#[cfg(all(test, feature = "postgres"))]
mod tests {
    use super::*;
    use crate::config::Config;

    fn parse(section: &str) -> Result<Config, Vec<String>> {
        let text = format!(
            "trust_domain = 'example.org'\ndata_dir = '/data'\n[seal]\nkey = {{ file = '/key' }}\n[ledger]\n{section}"
        );
        let told = |faults: Vec<_>| faults.iter().map(ToString::to_string).collect();
        Config::parse(&text).map_err(told)
    }

    #[test]
    fn a_url_by_reference_is_all_that_it_takes() {
        let config = parse("engine = 'postgres'\nurl = { env = 'LEDGER_URL' }").expect("good");
        let LedgerSettings::Postgres(access) = config.ledger else { panic!("another engine") };
        assert_eq!(access.transport, Transport::Tls { ca_file: None });
        assert_eq!((access.password, access.client, access.timeout), (None, None, TIMEOUT));
        assert!(matches!(parse("").expect("good").ledger, LedgerSettings::Sqlite));
    }

    #[test]
    fn every_fault_is_named_at_once() {
        let faults = parse(
            "engine = 'postgres'\nclient_key = '/k'\nallow_plaintext = true\nca_file = '/ca'\ntimeout = '1m'\nuri = 'x'",
        );
        let faults = faults.expect_err("faulty").join("\n");
        for named in
            ["ledger.url", "ledger.client_certificate", "ledger.ca_file", "ledger.timeout", "ledger.uri"]
        {
            assert!(faults.contains(named), "`{named}` is not among:\n{faults}");
        }
        let other = parse("engine = 'mysql'").expect_err("faulty").join("\n");
        assert!(other.contains("is `sqlite` or `postgres`"), "{other}");
        let stray = parse("url = { env = 'LEDGER_URL' }").expect_err("faulty").join("\n");
        assert!(stray.contains("ledger.url"), "{stray}");
    }
}
