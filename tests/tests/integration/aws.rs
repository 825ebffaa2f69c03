//! AWS behind a real broker, and what moto alone can show of the backend: that its requests are signed as AWS checks it.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bursar_tests::{AwsKey, Broker, Canary, Cli, EVERYTHING, Gate, Moto, scan, wait_for};
use serde_json::{Value, json};

#[test]
fn a_field_is_read_and_a_rotation_is_another_version() -> Result<()> {
    let site = Site::start()?;
    let (old, new) = (Canary::random("old"), Canary::random("new"));
    let first = site.put("app/db", &old)?;
    ensure!(site.admin.done(&["get", "aws/app/db#password"])? == old.value(), "another value was read");
    ensure!(site.references()? == [format!("aws/app/db@{first}")], "the lease is of another version");

    let second = site.put("app/db", &new)?;
    let fresh = ["get", "aws/app/db#password", "--max-age", "0s"];
    ensure!(site.admin.done(&fresh)? == new.value(), "the rotation was not seen");
    for version in [first.as_str(), "AWSPREVIOUS"] {
        let reference = format!("aws/app/db#password@{version}");
        ensure!(site.admin.done(&["get", &reference])? == old.value(), "`{version}` is another value");
    }
    let history = site.admin.json(&["secret", "history", "aws/app/db"])?;
    let names = history.as_array().into_iter().flatten().filter_map(|one| one.get("version")?.as_str());
    ensure!(names.eq([second.as_str(), first.as_str()]), "{history}");
    let told = site.admin.json(&["get", "aws/app/db#user"])?;
    ensure!(
        told.get("version").is_some_and(|version| *version == json!(second)),
        "{:?}",
        told.get("version")
    );
    let found = scan(site.broker.directory(), &[&old, &new, &site.key.secret])?;
    ensure!(found.is_empty(), "{found:?}");
    Ok(())
}

#[test]
fn what_is_scheduled_for_deletion_is_not_found_and_bytes_are_one_value() -> Result<()> {
    let site = Site::start()?;
    site.put("app/gone", &Canary::random("gone"))?;
    site.moto.secrets_manager("DeleteSecret", &json!({ "SecretId": "prod/app/gone" }))?;
    site.admin.run(&["get", "aws/app/gone#password"])?.refused(1, &["aws/app/gone", "hint: "])?;
    let bytes = json!({ "Name": "prod/app/bytes", "SecretBinary": "AAEC/f7/" });
    site.moto.secrets_manager("CreateSecret", &bytes)?;
    let said = site.admin.run(&["get", "aws/app/bytes"])?;
    ensure!(said.stdout == [0, 1, 2, 0xfd, 0xfe, 0xff], "other bytes were read: {}", said.stderr);
    Ok(())
}

#[test]
fn tags_are_labels() -> Result<()> {
    let site = Site::start()?;
    site.put("app/db", &Canary::random("value"))?;
    let tags = json!([{ "Key": "owner", "Value": "payments" }, { "Key": "empty", "Value": "" }]);
    site.moto.secrets_manager("TagResource", &json!({ "SecretId": "prod/app/db", "Tags": tags }))?;
    let told = site.admin.json(&["secret", "get-metadata", "aws/app/db"])?;
    ensure!(told.get("labels") == Some(&json!({ "owner": "payments", "empty": "" })), "{told}");
    Ok(())
}

#[test]
fn secrets_are_listed_below_the_prefix_with_the_folder_of_the_roles() -> Result<()> {
    let site = Site::start()?;
    for name in ["app/db", "app/api", "top"] {
        site.put(name, &Canary::random("value"))?;
    }
    site.moto.put_secret("other/hidden", "value")?;
    for (folder, entries) in [
        ("aws", ["app/", "sts/", "top"].as_slice()),
        ("aws/app", &["api", "db"]),
        ("aws/sts", &["app"]),
        ("aws/none", &[]),
    ] {
        let listed = site.admin.json(&["secret", "list", folder])?;
        let names = listed.as_array().into_iter().flatten().filter_map(|one| one.get("name")?.as_str());
        ensure!(names.eq(entries.iter().copied()), "{folder}: {listed}");
    }
    Ok(())
}

#[test]
fn what_aws_does_wrong_is_told_by_name_and_the_other_stores_go_on() -> Result<()> {
    let moto = Moto::start()?;
    let key = moto.user("broker", EVERYTHING)?;
    let mut gate = Gate::before(moto.address())?;
    let account = moto.backend("aws", &key, "timeout = '2s'")?.replace(&moto.url(), &gate.url());
    let broker = Broker::start(&format!("[backends.local]\nkind = 'local'\n{account}"))?;
    let admin = Cli::administering(&broker)?;
    admin.apply_policies(POLICIES, "")?;
    admin.done_with(&["secret", "put", "local/a"], b"value")?;
    moto.put_secret("plain", "no JSON")?;
    let said = Canary::alphanumeric("what AWS says");
    let code = |code: &str| format!(r#"{{"__type":"{code}","Message":"{}"}}"#, said.value());
    let page = format!("<html>log in, {}</html>", said.value());
    let cases = [
        (200, page.clone(), 1, "malformed"),
        (403, page, 1, "denied"),
        (400, code("AccessDeniedException"), 1, "denied"),
        (400, code("UnrecognizedClientException"), 1, "denied"),
        (400, code("DecryptionFailure"), 1, "denied"),
        (400, code("ThrottlingException"), 69, "throttled"),
        (500, code("InternalServiceError"), 69, "unavailable"),
        (400, code(said.value()), 1, "misconfigured"),
    ];
    for (status, body, exit, kind) in cases {
        gate.answer(status, &body);
        let refused = admin.run(&["get", "aws/plain", "--max-age", "0s"])?;
        let about = || format!("an answer of {status} that is {kind}: {}", refused.stderr);
        refused.refused(exit, &["`aws`", "hint: "]).with_context(about)?;
        let records = admin.audit(&["--request", refused.request_id().context("no request id")?])?;
        let kept = records.first().and_then(|record| record.get("error_kind")?.as_str());
        ensure!(kept == Some(kind), "{}, and kept as {kept:?}", about());
        admin.done(&["get", "local/a"])?;
    }
    gate.stand_aside();
    gate.close();
    admin.run(&["get", "aws/plain", "--max-age", "0s"])?.refused(69, &["`aws`", "hint: "])?;
    gate.open()?;
    wait_for(LIMIT, "AWS to be noticed again", || {
        let read = admin.run(&["get", "aws/plain", "--max-age", "0s"])?;
        Ok((read.stdout == b"no JSON").then_some(()))
    })?;
    admin.run(&["get", "aws/plain#password"])?.refused(1, &["password", "hint: "])?;
    let found = scan(broker.directory(), &[&said, &key.secret])?;
    ensure!(found.is_empty(), "{found:?}");
    Ok(())
}

#[test]
fn the_secrets_of_an_environment_are_read_by_one_call() -> Result<()> {
    let site = Site::start()?;
    let values: Vec<_> = ["one", "two", "three"].map(Canary::alphanumeric).into();
    for value in &values {
        site.put(value.name(), value)?;
    }
    let vars = ["one", "two", "three"].map(|name| format!("{name} = {{ from = \"aws/{name}#password\" }}\n"));
    site.admin.write("app.toml", format!("[environment.\"app\".vars]\n{}", vars.concat()))?;
    site.admin.done(&["env", "apply", "app.toml"])?;
    site.moto.record()?;
    let program = "printf %s \"$one $two $three\"";
    let got = site.admin.done(&["run", "--env", "app", "--", "sh", "-c", program])?;
    ensure!(got.split(' ').eq(values.iter().map(Canary::value)), "other values came");
    let calls = [site.moto.recorded("BatchGetSecretValue")?, site.moto.recorded("GetSecretValue")?];
    ensure!(calls == [1, 0], "{calls:?} calls");
    Ok(())
}

#[test]
fn a_session_of_a_role_is_leased_and_is_revoking_until_it_ends() -> Result<()> {
    let site = Site::start()?;
    let session = site.admin.json(&["get", "aws/sts/app#access_key_id"])?;
    let key = session.get("value").and_then(Value::as_str).context("no key")?;
    let leases = site.leases("aws/sts/app")?;
    let [lease] = leases.as_slice() else { anyhow::bail!("{} leases", leases.len()) };
    let id = lease.get("id").and_then(Value::as_str).context("a lease without an id")?;
    let identity = site.moto.identity(key)?;
    let name = format!(":assumed-role/app/bursar-{}", id.to_ascii_lowercase());
    ensure!(identity.ends_with(&name), "the session is `{identity}`");
    // Handed out again, and not made again.
    let again = site.admin.json(&["get", "aws/sts/app#access_key_id"])?;
    ensure!(again.get("value").and_then(Value::as_str) == Some(key), "another session was made");

    site.admin.done(&["lease", "revoke", id, "--reason", "test"])?;
    let revoking = wait_for(LIMIT, "the store to be asked", || {
        let shown = site.admin.json(&["lease", "show", id])?;
        Ok(shown
            .get("attempts")
            .and_then(Value::as_u64)
            .is_some_and(|attempts| attempts > 0)
            .then_some(shown))
    })?;
    ensure!(revoking.get("state").is_some_and(|state| state == "revoking"), "{revoking}");
    ensure!(revoking.get("last_error_kind").is_none_or(Value::is_null), "it is no failure: {revoking}");
    site.admin.run(&["lease", "renew", id])?.refused(1, &["hint: "])?;
    let other = site.admin.json(&["get", "aws/sts/app#access_key_id"])?;
    ensure!(other.get("value").and_then(Value::as_str) != Some(key), "a revoked session was handed out");
    site.admin.run(&["get", "aws/sts/other"])?.refused(1, &["aws/sts/other", "hint: "])?;
    Ok(())
}

#[test]
fn a_session_that_is_revoked_is_denied_by_its_role_and_gone_and_the_others_go_on() -> Result<()> {
    let site = Site::start_with("revoke = 'deny'")?;
    site.moto.role("app")?;
    let (revoked, lease) = site.session()?;
    site.admin.done(&["lease", "revoke", &lease, "--reason", "test"])?;
    let (other, other_lease) = site.session()?;
    site.until(&lease, "state", "gone")?;
    ensure!(site.moto.is_denied("app", &revoked)?, "`{revoked}` is not denied");
    ensure!(!site.moto.is_denied("app", &other)?, "`{other}` is denied");

    // A broker that may not: said by name, the lease is kept, and taken back as soon as it may.
    site.moto.allow(&site.key.user, NO_IAM)?;
    site.moto.enforce(true)?;
    site.admin.done(&["lease", "revoke", &other_lease, "--reason", "test"])?;
    site.until(&other_lease, "last_error_kind", "denied")?;
    site.moto.enforce(false)?;
    ensure!(!site.moto.is_denied("app", &other)?, "`{other}` is denied without a right to");
    site.until(&other_lease, "state", "gone")?;
    ensure!(site.moto.is_denied("app", &other)?, "`{other}` is not denied");
    Ok(())
}

#[test]
fn requests_are_signed_as_aws_checks_and_a_wrong_key_is_denied() -> Result<()> {
    let site = Site::start()?;
    let value = Canary::random("value");
    site.put("app/x+=.@-", &value)?;
    site.moto.enforce(true)?;
    ensure!(site.admin.done(&["get", "aws/app/x+=.%40-#password"])? == value.value(), "another value");
    site.admin.done(&["get", "aws/sts/app#session_token"])?;

    fs::write(site.moto.key_file(&site.key), "another-secret-key-than-aws-knows")?;
    let mut broker = site.broker;
    broker.process().stop()?;
    broker.start_again()?;
    let said = site.admin.run(&["get", "aws/app/x+=.%40-#password"])?;
    said.refused(1, &["`aws`", "denied", "hint: "])?;
    Ok(())
}

/// A broker before an account of AWS, with a key of a user who may do everything.
struct Site {
    // Dropped first: it calls the server.
    broker: Broker,
    admin: Cli,
    moto: Moto,
    key: AwsKey,
}

impl Site {
    fn start() -> Result<Self> {
        Self::start_with("")
    }

    /// `more` are further keys of the role `app`.
    fn start_with(more: &str) -> Result<Self> {
        let moto = Moto::start()?;
        let key = moto.user("broker", EVERYTHING)?;
        let broker = Broker::start(&[&moto.backend("aws", &key, "prefix = 'prod/'")?, more].concat())?;
        let admin = Cli::administering(&broker)?;
        admin.apply_policies(POLICIES, "")?;
        Ok(Self { broker, admin, moto, key })
    }

    /// Writes a secret with the field `password`; answers the version's id.
    fn put(&self, name: &str, value: &Canary) -> Result<String> {
        let text = json!({ "user": "ada", "password": value.value() }).to_string();
        self.moto.put_secret(&format!("prod/{name}"), &text)
    }

    fn leases(&self, path: &str) -> Result<Vec<Value>> {
        let listed = self.admin.json(&["lease", "list", "--path", path])?;
        Ok(listed.as_array().cloned().unwrap_or_default())
    }

    /// The ARN of a new session of the role `app`, and the lease on it.
    fn session(&self) -> Result<(String, String)> {
        let got = self.admin.json(&["get", "aws/sts/app#access_key_id"])?;
        let key = got.get("value").and_then(Value::as_str).context("no key")?;
        let leases = self.leases("aws/sts/app")?;
        let is_active = |lease: &&Value| lease.get("state").is_some_and(|state| state == "active");
        let lease = leases.iter().find(is_active).and_then(|lease| lease.get("id")?.as_str());
        Ok((self.moto.identity(key)?, lease.context("no lease")?.to_owned()))
    }

    /// Waits until a lease shows `value` under `key`.
    fn until(&self, lease: &str, key: &str, value: &str) -> Result<()> {
        wait_for(LIMIT, &format!("lease {lease} to show {key} {value}"), || {
            let shown = self.admin.json(&["lease", "show", lease])?;
            Ok(shown.get(key).is_some_and(|found| found == value).then_some(()))
        })
    }

    fn references(&self) -> Result<Vec<String>> {
        let reference = |lease: Value| lease.get("reference").and_then(Value::as_str).map(str::to_owned);
        Ok(self.leases("aws")?.into_iter().filter_map(reference).collect())
    }
}

const LIMIT: Duration = Duration::from_secs(60);

const NO_IAM: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["sts:*","secretsmanager:*"],"Resource":"*"}]}"#;

const POLICIES: &str = r#"
@id("everything")
permit (principal == Bursar::Principal::"spiffe://example.org/user/admin", action, resource);
"#;
