//! Where a real broker finds its credentials for AWS when the configuration says nothing of them: what AWS's own tools
//! read. And what it does not read.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};

use anyhow::{Context, Result, ensure};
use bursar_tests::{AwsKey, Broker, Canary, Cli, EVERYTHING, Gate, Moto, REGION, scan};
use serde_json::{Value, json};
use tempfile::TempDir;

#[test]
fn a_web_identity_in_the_environment() -> Result<()> {
    let site = Site::start()?;
    let token = Canary::alphanumeric("web identity token");
    let file = site.home.path().join("token");
    fs::write(&file, token.value())?;
    let broker = site.broker(&[
        ("AWS_WEB_IDENTITY_TOKEN_FILE", &file.to_string_lossy()),
        ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/broker"),
        ("AWS_ENDPOINT_URL_STS", &site.moto.url()),
        // What must not be heeded.
        ("LOG_SENSITIVE_BODIES", "true"),
        ("AWS_ENDPOINT_URL_SECRETS_MANAGER", "http://127.0.0.1:1"),
        ("AWS_REGION", "us-east-1"),
        ("HTTP_PROXY", "http://127.0.0.1:1"),
    ])?;
    site.reads(&broker)?;
    site.said_nowhere(&broker, &[&token])
}

#[test]
fn the_service_of_a_container() -> Result<()> {
    let site = Site::start()?;
    let (key, service) = (site.moto.user("task", EVERYTHING)?, Gate::before(site.moto.address())?);
    let token = Canary::alphanumeric("session token");
    let given = json!({
        "AccessKeyId": key.id, "SecretAccessKey": key.secret.value(), "Token": token.value(),
        "Expiration": "2099-01-01T00:00:00Z",
    });
    service.answer(200, &given.to_string());
    let at = format!("{}/credentials", service.url());
    let broker = site.broker(&[("AWS_CONTAINER_CREDENTIALS_FULL_URI", &at)])?;
    site.reads(&broker)?;
    site.said_nowhere(&broker, &[&key.secret, &token])
}

#[test]
fn the_service_of_an_instance() -> Result<()> {
    let site = Site::start()?;
    let key = site.moto.user("instance", EVERYTHING)?;
    let token = Canary::alphanumeric("session token");
    let given = json!({
        "Code": "Success", "Type": "AWS-HMAC", "LastUpdated": "2026-01-01T00:00:00Z",
        "AccessKeyId": key.id, "SecretAccessKey": key.secret.value(), "Token": token.value(),
        "Expiration": "2099-01-01T00:00:00Z",
    });
    let session = Canary::alphanumeric("session of the metadata service");
    let service = metadata_service(session.value().to_owned(), given.to_string())?;
    let broker = site.broker_on(&[("AWS_EC2_METADATA_SERVICE_ENDPOINT", &service)])?;
    site.reads(&broker)?;
    site.said_nowhere(&broker, &[&key.secret, &token, &session])
}

#[test]
fn the_shared_files_and_a_key_that_is_rotated_in_them() -> Result<()> {
    let site = Site::start()?;
    let old = site.moto.user("broker", EVERYTHING)?;
    let new = site.moto.another_key("broker")?;
    site.share(&old)?;
    let broker = site.broker(&[("HOME", &site.home.path().to_string_lossy())])?;
    site.moto.enforce(true)?;
    site.reads(&broker)?;
    site.moto.enforce(false)?;
    site.moto.remove_key(&old)?;
    site.share(&new)?;
    site.moto.enforce(true)?;
    site.reads(&broker)?;
    site.said_nowhere(&broker, &[&old.secret, &new.secret])
}

#[test]
fn a_shared_file_that_cannot_be_read_is_a_fault_of_the_configuration_and_is_not_quoted() -> Result<()> {
    let site = Site::start()?;
    let key = site.moto.user("broker", EVERYTHING)?;
    fs::create_dir_all(site.home.path().join(".aws"))?;
    fs::write(site.home.path().join(".aws/credentials"), format!("[default]\n{}\n", key.secret.value()))?;
    let broker = site.broker(&[("HOME", &site.home.path().to_string_lossy())])?;
    let said = site.administer(&broker)?.run(&["get", "aws/app#password"])?;
    said.refused(1, &["`aws`", "not configured", "login", "hint: "])?;
    site.said_nowhere(&broker, &[&key.secret])
}

#[test]
fn without_any_the_broker_says_so_and_is_well() -> Result<()> {
    let site = Site::start()?;
    let broker = site.broker(&[])?;
    let admin = site.administer(&broker)?;
    let said = admin.run(&["get", "aws/app#password"])?;
    said.refused(69, &["`aws`", "login", "hint: "])?;
    let records = admin.audit(&["--request", said.request_id().context("no request id")?])?;
    let kept = records.first().and_then(|record| record.get("error_kind")).and_then(Value::as_str);
    ensure!(kept == Some("unavailable"), "{kept:?}");
    ensure!(broker.http("/readyz")?.status == 200, "a store without a login makes the broker unready");
    Ok(())
}

/// An account with a secret, and a home for the broker's user.
struct Site {
    moto: Moto,
    home: TempDir,
    value: Canary,
}

impl Site {
    fn start() -> Result<Self> {
        let (moto, value) = (Moto::start()?, Canary::random("value"));
        moto.put_secret("app", &json!({ "password": value.value() }).to_string())?;
        Ok(Self { moto, home: tempfile::tempdir()?, value })
    }

    /// A broker with these variables, that is on no instance of EC2.
    fn broker(&self, environment: &[(&str, &str)]) -> Result<Broker> {
        self.broker_on(&[environment, &[("AWS_EC2_METADATA_DISABLED", "true")]].concat())
    }

    fn broker_on(&self, environment: &[(&str, &str)]) -> Result<Broker> {
        let config = format!(
            "[backends.aws]\nkind = 'aws'\nregion = '{REGION}'\nendpoint = '{}'\nallow_plaintext = true\n",
            self.moto.url()
        );
        Broker::start_with(&config, environment)
    }

    fn administer(&self, broker: &Broker) -> Result<Cli> {
        let admin = Cli::administering(broker)?;
        admin.apply_policies(POLICIES, "")?;
        Ok(admin)
    }

    /// Reads the secret, not out of the cache.
    fn reads(&self, broker: &Broker) -> Result<()> {
        let read = self.administer(broker)?.done(&["get", "aws/app#password", "--max-age", "0s"])?;
        ensure!(read == self.value.value(), "another value was read");
        Ok(())
    }

    /// Writes a key where AWS's tools look for one.
    fn share(&self, key: &AwsKey) -> Result<()> {
        let folder = self.home.path().join(".aws");
        fs::create_dir_all(&folder)?;
        let (id, secret) = (&key.id, key.secret.value());
        let text = format!("[default]\naws_access_key_id = {id}\naws_secret_access_key = {secret}\n");
        // The SDK warns of such a line, and quotes it.
        let text = format!("{text}my {secret} = 1\n");
        Ok(fs::write(folder.join("credentials"), text)?)
    }

    fn said_nowhere(&self, broker: &Broker, credentials: &[&Canary]) -> Result<()> {
        let found = scan(broker.directory(), &[credentials, &[&self.value]].concat())?;
        ensure!(found.is_empty(), "{found:?}");
        Ok(())
    }
}

/// What an instance of EC2 has at 169.254.169.254: a role with these credentials, for whoever has begun a session
/// (IMDSv2). Answers where it is; it ends with the tests.
fn metadata_service(session: String, credentials: String) -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = format!("http://{}", listener.local_addr()?);
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            drop(answer(&stream, &session, &credentials));
        }
    });
    Ok(address)
}

fn answer(stream: &TcpStream, session: &str, credentials: &str) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next().transpose()?.unwrap_or_default();
    let mut knows = false;
    for line in lines.map_while(Result::ok).take_while(|line| !line.is_empty()) {
        knows |= line.to_lowercase().starts_with("x-aws-ec2-metadata-token:") && line.ends_with(session);
    }
    let roles = "/latest/meta-data/iam/security-credentials/";
    let (status, body) = match first.split(' ').collect::<Vec<_>>().as_slice() {
        ["PUT", "/latest/api/token", _] => (200, session),
        ["GET", ..] if !knows => (401, ""),
        ["GET", path, _] if *path == roles => (200, "broker"),
        ["GET", path, _] if path.strip_prefix(roles) == Some("broker") => (200, credentials),
        _ => (404, ""),
    };
    let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close", body.len());
    write!(&mut &*stream, "{head}\r\nx-aws-ec2-metadata-token-ttl-seconds: 21600\r\n\r\n{body}")
}

const POLICIES: &str = r#"
@id("everything")
permit (principal == Bursar::Principal::"spiffe://example.org/user/admin", action, resource);
"#;
