//! What is mounted inside the server: secrets engines and ways to log in.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{LIMIT, OpenBao};
use crate::canary::Canary;
use crate::postgres::Postgres;
use crate::wait::wait_until;

/// A login for a machine, bound to one policy.
#[derive(Debug)]
pub struct AppRole {
    /// The public half.
    pub role_id: String,
    /// The secret half; usable any number of times.
    pub secret_id: Canary,
}

impl OpenBao {
    /// Mounts a KV engine, version 2, at `mount` (in a namespace, `NAMESPACE/MOUNT`), and waits until it serves.
    ///
    /// # Errors
    /// OpenBao refuses: `mount` is taken.
    pub fn enable_kv(&self, mount: &str) -> Result<()> {
        self.enable(mount, &json!({ "type": "kv", "options": { "version": "2" } }))?;
        // It answers 400 for a moment, while it lays out its storage.
        let config = format!("{mount}/config");
        wait_until(LIMIT, "the KV engine", || self.api("GET", &config, &Value::Null).is_ok())
    }

    /// Mounts a database engine at `mount` (or `NAMESPACE/MOUNT`) with one connection, to `postgres` as its superuser.
    ///
    /// # Errors
    /// OpenBao refuses, or cannot log in there.
    pub fn enable_database(&self, mount: &str, postgres: &Postgres) -> Result<()> {
        self.enable(mount, &json!({ "type": "database" }))?;
        let url = format!(
            "postgresql://{{{{username}}}}:{{{{password}}}}@{}/{}?sslmode=disable",
            postgres.address(),
            Postgres::DATABASE
        );
        let connection = json!({
            "plugin_name": "postgresql-database-plugin",
            "connection_url": url,
            "username": Postgres::SUPERUSER,
            "password": postgres.password().value(),
            "allowed_roles": "*",
        });
        self.api("POST", &format!("{mount}/config/{CONNECTION}"), &connection).map(drop)
    }

    /// Adds a role to the engine at `mount`: each read of `MOUNT/creds/ROLE` makes a PostgreSQL role that may log in
    /// and read every table of the schema `public` that is there by then. Its lease lasts `ttl`, whole seconds, and
    /// can be renewed up to ten times as long.
    ///
    /// # Errors
    /// OpenBao refuses.
    pub fn database_role(&self, mount: &str, role: &str, ttl: Duration) -> Result<()> {
        let definition = json!({
            "db_name": CONNECTION,
            "creation_statements": [
                r#"CREATE ROLE "{{name}}" WITH LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}'"#,
                r#"GRANT SELECT ON ALL TABLES IN SCHEMA public TO "{{name}}""#,
            ],
            "default_ttl": ttl.as_secs(),
            "max_ttl": ttl.as_secs() * 10,
        });
        self.api("POST", &format!("{mount}/roles/{role}"), &definition).map(drop)
    }

    /// Makes the AppRole `name`, whose tokens have the rights of `policy` (HCL) and no other.
    ///
    /// # Errors
    /// OpenBao refuses: the policy is malformed.
    pub fn approle(&self, name: &str, policy: &str) -> Result<AppRole> {
        self.approle_in("", name, policy)
    }

    /// The same in a namespace, which is written with a `/` at its end.
    ///
    /// # Errors
    /// As [`approle`](Self::approle), or there is no such namespace.
    pub fn approle_in(&self, namespace: &str, name: &str, policy: &str) -> Result<AppRole> {
        let methods = format!("{namespace}sys/auth");
        if self.api("GET", &methods, &Value::Null)?.pointer("/data/approle~1").is_none() {
            self.api("POST", &format!("{methods}/approle"), &json!({ "type": "approle" }))?;
        }
        let policies = format!("{namespace}sys/policies/acl/{name}");
        self.api("PUT", &policies, &json!({ "policy": policy }))?;
        let role = format!("{namespace}auth/approle/role/{name}");
        self.api("POST", &role, &json!({ "token_policies": [name] }))?;
        let role_id = self.api("GET", &format!("{role}/role-id"), &Value::Null)?;
        let secret_id = self.api("POST", &format!("{role}/secret-id"), &Value::Null)?;
        let field = |answer: &Value, pointer: &str| {
            let value = answer.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
            value.with_context(|| format!("OpenBao's answer has no `{pointer}`"))
        };
        Ok(AppRole {
            role_id: field(&role_id, "/data/role_id")?,
            secret_id: Canary::known(
                &format!("secret id of {name}"),
                &field(&secret_id, "/data/secret_id")?,
            )?,
        })
    }

    /// What a broker's configuration says of this store: the table `[backends.NAME]`, with a login of its own whose
    /// rights are `policy` (HCL). `mounts` is the inline table of what is mounted where.
    ///
    /// # Errors
    /// OpenBao refuses, or the secret id cannot be written.
    pub fn backend(&self, name: &str, policy: &str, mounts: &str) -> Result<String> {
        let login = self.approle(name, policy)?;
        let secret_id = self.directory().join(format!("{name}.secret-id"));
        std::fs::write(&secret_id, login.secret_id.value())?;
        std::fs::set_permissions(&secret_id, PermissionsExt::from_mode(0o600))?;
        Ok(format!(
            "[backends.{name}]\nkind = 'vault'\naddress = '{}'\nca_file = '{}'\n\
             auth = {{ method = 'approle', role_id = '{}', secret_id = {{ file = '{}' }} }}\nmounts = {mounts}\n",
            self.tls_url(),
            self.authority().display(),
            login.role_id,
            secret_id.display(),
        ))
    }

    fn enable(&self, mount: &str, engine: &Value) -> Result<()> {
        let path = match mount.rsplit_once('/') {
            Some((namespace, mount)) => format!("{namespace}/sys/mounts/{mount}"),
            None => format!("sys/mounts/{mount}"),
        };
        self.api("POST", &path, engine).map(drop)
    }
}

/// Name of the one connection of a database engine.
const CONNECTION: &str = "postgres";
