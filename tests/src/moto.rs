//! A moto server of its own: AWS as far as tests need it, in memory.
//!
//! It believes every signature until it is told to check them and the policies of who signed. What the harness does here
//! is therefore not signed, and nothing can be set up while policies are enforced.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::canary::Canary;
use crate::port::free_port;
use crate::process::Process;
use crate::{http, place};

/// A running server. Stopped, and everything forgotten, on drop.
#[derive(Debug)]
pub struct Moto {
    // Dropped first, so that the server ends before its directory goes.
    process: Process,
    directory: TempDir,
    address: SocketAddr,
}

/// The key of an IAM user.
#[derive(Debug)]
pub struct AwsKey {
    pub user: String,
    pub id: String,
    pub secret: Canary,
}

impl Moto {
    /// Starts a server.
    ///
    /// # Errors
    /// There is no `moto_server`, or it does not come up; with the last lines it wrote.
    pub fn start() -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("bursar-moto-").tempdir()?;
        let address = free_port()?;
        let mut command = Command::new(place::venv("moto_server")?);
        command
            .env_clear()
            .env("HOME", directory.path())
            .env("TMPDIR", directory.path())
            .current_dir(directory.path())
            .args(["-H", &address.ip().to_string(), "-p", &address.port().to_string()]);
        let mut process = Process::start("moto", command, directory.path())?;
        process.wait_for(START, "moto to answer", |_| {
            let answer = http::request(address, "GET", "/moto-api/", &[], &[]).ok();
            Ok(answer.filter(|answer| answer.status == 200).map(drop))
        })?;
        Ok(Self { process, directory, address })
    }

    /// Where it listens, in plain text.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Base URL, in plain text.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The process id of the server.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// The directory of everything that it writes.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Calls Secrets Manager in [`REGION`].
    ///
    /// # Errors
    /// It refuses.
    pub fn secrets_manager(&self, action: &str, body: &Value) -> Result<Value> {
        let target = format!("secretsmanager.{action}");
        let headers = [("X-Amz-Target", target.as_str()), ("Content-Type", "application/x-amz-json-1.1")];
        let answer = self.call("secretsmanager", NOBODY, &headers, body.to_string().as_bytes())?;
        Ok(serde_json::from_slice(&answer)?)
    }

    /// Calls KMS in [`REGION`].
    ///
    /// # Errors
    /// It refuses.
    pub fn kms(&self, action: &str, body: &Value) -> Result<Value> {
        let target = format!("TrentService.{action}");
        let headers = [("X-Amz-Target", target.as_str()), ("Content-Type", "application/x-amz-json-1.1")];
        let answer = self.call("kms", NOBODY, &headers, body.to_string().as_bytes())?;
        Ok(serde_json::from_slice(&answer)?)
    }

    /// Makes a secret, or another version of it; answers the version's id. As AWS, and not as moto, it refuses what is
    /// longer than [`LONGEST_SECRET`].
    ///
    /// # Errors
    /// It refuses.
    pub fn put_secret(&self, name: &str, text: &str) -> Result<String> {
        ensure!(text.len() <= LONGEST_SECRET, "AWS takes {LONGEST_SECRET} bytes and no more");
        let made = json!({ "Name": name, "SecretString": text });
        let put = json!({ "SecretId": name, "SecretString": text });
        let answer = self
            .secrets_manager("PutSecretValue", &put)
            .or_else(|_| self.secrets_manager("CreateSecret", &made))?;
        let version = answer.get("VersionId").and_then(Value::as_str);
        Ok(version.context("a secret without a version")?.to_owned())
    }

    /// Makes an IAM user that may do what `policy` says, with a key.
    ///
    /// # Errors
    /// It refuses.
    pub fn user(&self, user: &str, policy: &str) -> Result<AwsKey> {
        self.query("iam", &[("Action", "CreateUser"), ("UserName", user)])?;
        self.allow(user, policy)?;
        self.another_key(user)
    }

    /// Makes a further key of a user.
    ///
    /// # Errors
    /// It refuses.
    pub fn another_key(&self, user: &str) -> Result<AwsKey> {
        let made = self.query("iam", &[("Action", "CreateAccessKey"), ("UserName", user)])?;
        let secret = Canary::known("AWS secret access key", element(&made, "SecretAccessKey")?)?;
        Ok(AwsKey { user: user.to_owned(), id: element(&made, "AccessKeyId")?.to_owned(), secret })
    }

    /// The section of a broker's configuration in which this account is the backend `name`, called with `key`, with the
    /// role `app`. `more` are further keys.
    ///
    /// # Errors
    /// The key cannot be written down.
    pub fn backend(&self, name: &str, key: &AwsKey, more: &str) -> Result<String> {
        let file = self.key_file(key);
        fs::write(&file, key.secret.value())?;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
        let (url, id, file) = (self.url(), &key.id, file.display());
        Ok(format!(
            "[backends.{name}]\nkind = 'aws'\nregion = '{REGION}'\nendpoint = '{url}'\nsts_endpoint = '{url}'\nkms_endpoint = '{url}'\n\
             iam_endpoint = '{url}'\n\
             allow_plaintext = true\n{more}\n\
             credentials = {{ access_key_id = '{id}', secret_access_key = {{ file = '{file}' }} }}\n\
             [backends.{name}.roles.app]\narn = 'arn:aws:iam::123456789012:role/app'\nttl = '20m'\n"
        ))
    }

    /// Where the broker reads the secret half of a key.
    pub fn key_file(&self, key: &AwsKey) -> PathBuf {
        self.directory.path().join(&key.id)
    }

    /// Takes a key away from its user.
    ///
    /// # Errors
    /// It refuses.
    pub fn remove_key(&self, key: &AwsKey) -> Result<()> {
        let remove = [("Action", "DeleteAccessKey"), ("UserName", &key.user), ("AccessKeyId", &key.id)];
        self.query("iam", &remove).map(drop)
    }

    /// Replaces what a user may do.
    ///
    /// # Errors
    /// It refuses.
    pub fn allow(&self, user: &str, policy: &str) -> Result<()> {
        let put = [("Action", "PutUserPolicy"), ("PolicyName", "p"), ("UserName", user)];
        self.query("iam", &[&put[..], &[("PolicyDocument", policy)]].concat()).map(drop)
    }

    /// Makes a role that anybody may take on.
    ///
    /// # Errors
    /// It refuses.
    pub fn role(&self, name: &str) -> Result<()> {
        let make = [("Action", "CreateRole"), ("RoleName", name), ("AssumeRolePolicyDocument", TRUST)];
        self.query("iam", &make).map(drop)
    }

    /// Whether a policy of a role denies everything to the session of that ARN, as AWS would read it: moto reads no
    /// conditions.
    ///
    /// # Errors
    /// It refuses.
    pub fn is_denied(&self, role: &str, session: &str) -> Result<bool> {
        let name = session.rsplit('/').next().context("no session")?;
        let listed = self.query("iam", &[("Action", "ListRolePolicies"), ("RoleName", role)])?;
        for policy in listed.split("<member>").skip(1).filter_map(|rest| rest.split("</member>").next()) {
            let read = [("Action", "GetRolePolicy"), ("RoleName", role), ("PolicyName", policy)];
            let document = self.query("iam", &read)?;
            let document = percent_decode_str(element(&document, "PolicyDocument")?).decode_utf8()?;
            let document: Value = serde_json::from_str(&document)?;
            let denies = |statement: &Value| {
                let is = |key, value| statement.get(key).is_some_and(|found| found == value);
                let all = is("Effect", "Deny") && is("Action", "*") && is("Resource", "*");
                let ids = statement.pointer("/Condition/StringLike/aws:userid").and_then(Value::as_array);
                all && ids.into_iter().flatten().any(|id| *id == format!("*:{name}"))
            };
            if document.get("Statement").and_then(Value::as_array).into_iter().flatten().any(denies) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Makes moto check signatures and policies, or believe everybody again.
    ///
    /// # Errors
    /// It refuses.
    pub fn enforce(&self, enforced: bool) -> Result<()> {
        let after = if enforced { "0" } else { "inf" };
        let reply = http::request(self.address, "POST", "/moto-api/reset-auth", &[], after.as_bytes())?;
        ensure!(reply.status == 200, "moto answered {} to `reset-auth`", reply.status);
        Ok(())
    }

    /// Writes down every call from now on.
    ///
    /// # Errors
    /// It refuses.
    pub fn record(&self) -> Result<()> {
        let reply = http::request(self.address, "POST", "/moto-api/recorder/start-recording", &[], b"")?;
        ensure!(reply.status == 200, "moto answered {} to `start-recording`", reply.status);
        Ok(())
    }

    /// How many calls of an action of Secrets Manager were written down.
    ///
    /// # Errors
    /// Nothing was written down.
    pub fn recorded(&self, action: &str) -> Result<usize> {
        let calls = fs::read_to_string(self.directory.path().join("moto_recording"))?;
        Ok(calls.matches(&format!("\"secretsmanager.{action}\"")).count())
    }

    /// As whom AWS knows the holder of a key.
    ///
    /// # Errors
    /// It refuses.
    pub fn identity(&self, key_id: &str) -> Result<String> {
        let answer = self.call("sts", key_id, FORM, &form(&[("Action", "GetCallerIdentity")]))?;
        Ok(element(&String::from_utf8(answer)?, "Arn")?.to_owned())
    }

    fn query(&self, service: &str, parameters: &[(&str, &str)]) -> Result<String> {
        Ok(String::from_utf8(self.call(service, NOBODY, FORM, &form(parameters))?)?)
    }

    fn call(&self, service: &str, key: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<Vec<u8>> {
        // It takes the service and the region from here.
        let scope = format!("{key}/20260101/{REGION}/{service}/aws4_request");
        let signature =
            format!("AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host;x-amz-date, Signature=0");
        let headers = [headers, &[("Authorization", signature.as_str())]].concat();
        let reply = http::request(self.address, "POST", "/", &headers, body)?;
        let excerpt: String = String::from_utf8_lossy(&reply.body).chars().take(200).collect();
        ensure!(reply.status == 200, "moto answered {} to a call of {service}: {excerpt}", reply.status);
        Ok(reply.body)
    }
}

fn form(parameters: &[(&str, &str)]) -> Vec<u8> {
    let encoded = |text: &str| -> String {
        let byte = |byte: u8| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'_' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        };
        text.bytes().map(byte).collect()
    };
    let pair = |(name, value): &(&str, &str)| format!("{name}={}", encoded(value));
    parameters.iter().map(pair).collect::<Vec<_>>().join("&").into_bytes()
}

fn element<'xml>(xml: &'xml str, name: &str) -> Result<&'xml str> {
    let rest = xml.split_once(&format!("<{name}>")).map(|(_, rest)| rest);
    let content = rest.and_then(|rest| rest.split_once(&format!("</{name}>")));
    content.map(|(content, _)| content).with_context(|| format!("an answer without `{name}`"))
}

/// A policy that allows everything.
pub const EVERYTHING: &str =
    r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}"#;
const TRUST: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"*"},"Action":"sts:AssumeRole"}]}"#;
/// The region that everything is in.
pub const REGION: &str = "eu-central-1";
/// The longest secret in bytes.
pub const LONGEST_SECRET: usize = 65_536;

const NOBODY: &str = "AKIAHARNESS";
const FORM: &[(&str, &str)] = &[("Content-Type", "application/x-www-form-urlencoded")];
const START: Duration = Duration::from_secs(60);
