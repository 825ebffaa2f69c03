//! OpenBao's database engine over a PostgreSQL.

use std::time::Duration;

use anyhow::{Result, ensure};
use bursar_tests::{OpenBao, Postgres};
use serde_json::json;

use super::connection::Connection;
use super::{Setting, connect, start};
use crate::load::Caller;

/// A running OpenBao that makes users of a PostgreSQL. Stopped, and its data removed, on drop.
pub(crate) struct Database {
    bao: OpenBao,
}

impl Database {
    /// Starts OpenBao before `postgres`.
    ///
    /// # Errors
    /// There is no `bao`, or it cannot log in there.
    pub(crate) fn start(postgres: &Postgres) -> Result<Self> {
        let (bao, _) = start(Setting::AsItComes)?;
        bao.enable_database(MOUNT, postgres)?;
        let definition = json!({
            "db_name": "postgres",
            "creation_statements": [
                r#"CREATE ROLE "{{name}}" WITH LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}'"#,
            ],
            "revocation_statements": [r#"DROP ROLE "{{name}}""#],
            "default_ttl": "1h",
            "max_ttl": "24h",
        });
        bao.api("POST", &format!("{MOUNT}/roles/bench"), &definition)?;
        Ok(Self { bao })
    }

    /// Connections that are kept, each of which asks for one user after the other.
    ///
    /// # Errors
    /// OpenBao cannot be reached.
    pub(crate) async fn issuers(&self, count: usize) -> Result<Vec<Issuer>> {
        let mut issuers = Vec::new();
        for _ in 0..count {
            let token = self.bao.root_token().value().to_owned();
            issuers.push(Issuer { connection: connect(&self.bao).await?, token });
        }
        Ok(issuers)
    }

    /// Revokes every user by one order. Answers how long it took until none was left.
    ///
    /// # Errors
    /// OpenBao refuses.
    pub(crate) fn revoke_all(&self) -> Result<Duration> {
        super::revoke_all(&self.bao, &format!("{MOUNT}/creds/bench"))
    }
}

/// Has one user made after the other.
pub(crate) struct Issuer {
    connection: Connection,
    token: String,
}

impl Caller for Issuer {
    async fn call(&mut self) -> Result<()> {
        let path = format!("/v1/{MOUNT}/creds/bench");
        let status = self.connection.get(&path, ("X-Vault-Token", &self.token)).await?;
        ensure!(status == 200, "OpenBao answered {status} to the reading of `{path}`");
        Ok(())
    }
}

const MOUNT: &str = "database";
