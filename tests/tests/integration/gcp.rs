//! Google Secret Manager behind a real broker, and the ways to its token: by the key of a service account, and by what a
//! machine offers.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bursar_tests::{Broker, Canary, Cli, Drongo, Gate, GoogleDoor, PROJECT, scan, wait_for};
use serde_json::{Value, json};
use tempfile::TempDir;

#[test]
fn a_field_is_read_and_a_rotation_is_another_version() -> Result<()> {
    let site = Site::start()?;
    let (old, new) = (Canary::random("old"), Canary::random("new"));
    ensure!(site.put("stripe", &old)? == "1" && site.admin.done(&["get", "gcp/stripe#key"])? == old.value());
    ensure!(site.references()? == ["gcp/stripe@1"], "the lease is of another version");

    ensure!(site.put("stripe", &new)? == "2", "another version was made");
    let fresh = ["get", "gcp/stripe#key", "--max-age", "0s"];
    ensure!(site.admin.done(&fresh)? == new.value(), "the rotation was not seen");
    ensure!(site.admin.done(&["get", "gcp/stripe#key@1"])? == old.value(), "version 1 is another value");
    let history = site.admin.json(&["secret", "history", "gcp/stripe"])?;
    let names = history.as_array().into_iter().flatten().filter_map(|one| one.get("version")?.as_u64());
    ensure!(names.eq([2, 1]), "{history}");
    let told = site.admin.json(&["get", "gcp/stripe#user"])?;
    ensure!(told.get("version").is_some_and(|version| *version == json!("2")), "{:?}", told.get("version"));
    ensure!(site.door.given() == 1, "{} tokens were given", site.door.given());
    site.said_nowhere(&[&old, &new, &site.door.token()])
}

#[test]
fn what_is_disabled_or_destroyed_is_not_found_and_bytes_are_one_value() -> Result<()> {
    let site = Site::start()?;
    for verb in ["disable", "destroy"] {
        site.put("gone", &Canary::random("gone"))?;
        let version = site.put("gone", &Canary::random("gone"))?;
        site.drongo.change("prod-gone", &version, verb)?;
        let reference = format!("gcp/gone#key@{version}");
        site.admin.run(&["get", &reference])?.refused(1, &["gcp/gone", "hint: "])?;
    }
    let history = site.admin.json(&["secret", "history", "gcp/gone"])?;
    let deleted = history.as_array().into_iter().flatten().filter_map(|one| one.get("deleted")?.as_bool());
    ensure!(deleted.eq([true, false, true, false]), "{history}");
    site.drongo.put_secret("prod-bytes", &[0, 1, 2, 0xfd, 0xfe, 0xff])?;
    let said = site.admin.run(&["get", "gcp/bytes"])?;
    ensure!(said.stdout == [0, 1, 2, 0xfd, 0xfe, 0xff], "other bytes were read: {}", said.stderr);
    Ok(())
}

#[test]
fn a_separator_makes_folders_that_are_listed_below_the_prefix() -> Result<()> {
    let site = Site::start()?;
    for id in ["prod-app--db", "prod-app--api", "prod-top", "other-hidden", "prod-odd----name"] {
        site.drongo.put_secret(id, b"value")?;
    }
    for (folder, entries) in
        [("gcp", ["app/", "top"].as_slice()), ("gcp/app", &["api", "db"]), ("gcp/none", &[])]
    {
        let listed = site.admin.json(&["secret", "list", folder])?;
        let names = listed.as_array().into_iter().flatten().filter_map(|one| one.get("name")?.as_str());
        ensure!(names.eq(entries.iter().copied()), "{folder}: {listed}");
    }
    ensure!(site.admin.done(&["get", "gcp/app/db"])? == "value", "another value was read");
    site.admin.run(&["get", "gcp/app--db"])?.refused(1, &["gcp/app--db", "hint: "])
}

#[test]
fn a_token_that_ends_is_replaced_and_a_key_that_was_taken_away_is_denied() -> Result<()> {
    let site = Site::start()?;
    let value = Canary::random("value");
    site.put("app", &value)?;
    let read = ["get", "gcp/app#key", "--max-age", "0s"];
    ensure!(site.admin.done(&read)? == value.value(), "another value was read");
    let ended = site.door.end_token();
    ensure!(site.admin.done(&read)? == value.value(), "another value was read");
    ensure!(site.door.given() == 2, "{} tokens were given", site.door.given());

    site.door.refuse(true);
    let again = site.door.end_token();
    site.admin.run(&read)?.refused(1, &["`gcp`", "denied", "hint: "])?;
    site.said_nowhere(&[&value, &ended, &again])?;
    site.door.refuse(false);
    wait_for(LIMIT, "the next login", || {
        let read = site.admin.run(&read)?;
        Ok((read.stdout == value.value().as_bytes()).then_some(()))
    })
}

#[test]
fn what_google_does_wrong_is_told_by_name_and_the_other_stores_go_on() -> Result<()> {
    let drongo = Drongo::start()?;
    let (door, key) = (GoogleDoor::before(drongo.address())?, tempfile::NamedTempFile::new()?);
    door.write_key(key.path())?;
    let mut gate = Gate::before(door.address())?;
    let broker = Broker::start(&format!(
        "[backends.local]\nkind = 'local'\n[backends.gcp]\nkind = 'gcp'\nproject = '{PROJECT}'\nendpoint = '{}'\n\
         allow_plaintext = true\ntimeout = '2s'\ncredentials = {{ json = {{ file = '{}' }} }}\n",
        gate.url(),
        key.path().display()
    ))?;
    let admin = administer(&broker)?;
    admin.done_with(&["secret", "put", "local/a"], b"value")?;
    drongo.put_secret("plain", b"no JSON")?;
    let said = Canary::alphanumeric("what Google says");
    let code = |code: &str| json!({ "error": { "status": code, "message": said.value() } }).to_string();
    let page = format!("<html>log in, {}</html>", said.value());
    let other = json!({ "name": "projects/1/secrets/other/versions/1", "payload": { "data": "YQ==" } });
    let damaged = json!({
        "name": "projects/1/secrets/plain/versions/1", "payload": { "data": "YQ==", "dataCrc32c": "1" },
    });
    let cases = [
        (200, page.clone(), 1, "malformed"),
        (200, other.to_string(), 1, "malformed"),
        (200, damaged.to_string(), 69, "unavailable"),
        (403, page, 1, "denied"),
        (403, code("PERMISSION_DENIED"), 1, "denied"),
        (401, code("UNAUTHENTICATED"), 1, "denied"),
        (400, code("FAILED_PRECONDITION"), 1, "not_found"),
        (429, code("RESOURCE_EXHAUSTED"), 69, "throttled"),
        (500, code("INTERNAL"), 69, "unavailable"),
        (400, code(said.value()), 1, "misconfigured"),
    ];
    for (status, body, exit, kind) in cases {
        gate.answer(status, &body);
        let refused = admin.run(&["get", "gcp/plain", "--max-age", "0s"])?;
        let about = || format!("an answer of {status} that is {kind}: {}", refused.stderr);
        refused.refused(exit, &["gcp", "hint: "]).with_context(about)?;
        let records = admin.audit(&["--request", refused.request_id().context("no request id")?])?;
        let kept = records.first().and_then(|record| record.get("error_kind")?.as_str());
        ensure!(kept == Some(kind), "{}, and kept as {kept:?}", about());
        admin.done(&["get", "local/a"])?;
    }
    gate.stand_aside();
    gate.close();
    admin.run(&["get", "gcp/plain", "--max-age", "0s"])?.refused(69, &["`gcp`", "hint: "])?;
    gate.open()?;
    wait_for(LIMIT, "Google to be noticed again", || {
        let read = admin.run(&["get", "gcp/plain", "--max-age", "0s"])?;
        Ok((read.stdout == b"no JSON").then_some(()))
    })?;
    admin.run(&["get", "gcp/plain#key"])?.refused(1, &["key", "hint: "])?;
    let found = scan(broker.directory(), &[&said])?;
    ensure!(found.is_empty(), "{found:?}");
    Ok(())
}

#[test]
fn without_a_credential_the_broker_takes_what_the_machine_offers() -> Result<()> {
    let home = tempfile::tempdir()?;
    let left = home.path().join(".config/gcloud");
    fs::create_dir_all(&left)?;
    let named = home.path().join("named.json");
    for way in ["named", "left", "metadata"] {
        let (drongo, value) = (Drongo::start()?, Canary::random("value"));
        let door = GoogleDoor::before(drongo.address())?;
        drongo.put_secret("app", value.value().as_bytes())?;
        let (home_path, named_path, host) =
            (home.path().to_string_lossy(), named.to_string_lossy(), door.address().to_string());
        let environment = match way {
            "named" => {
                door.write_key(&named)?;
                vec![("GOOGLE_APPLICATION_CREDENTIALS", named_path.as_ref())]
            }
            "left" => {
                door.write_key(&left.join("application_default_credentials.json"))?;
                vec![("HOME", home_path.as_ref())]
            }
            _ => vec![("GCE_METADATA_HOST", host.as_str())],
        };
        // What must not be heeded.
        let hostile = [("HTTP_PROXY", "http://127.0.0.1:1"), ("GOOGLE_CLOUD_PROJECT", "another")];
        let config = format!(
            "[backends.gcp]\nkind = 'gcp'\nproject = '{PROJECT}'\nendpoint = '{}'\nallow_plaintext = true\n",
            door.url()
        );
        let broker = Broker::start_with(&config, &[environment.as_slice(), &hostile].concat())?;
        let read = administer(&broker)?.done(&["get", "gcp/app"]).context(way)?;
        ensure!(read == value.value() && door.given() == 1, "{way}: another value was read");
        let found = scan(broker.directory(), &[&value, &door.token(), &GoogleDoor::key_line()?])?;
        ensure!(found.is_empty(), "{way}: {found:?}");
    }
    Ok(())
}

#[test]
fn without_any_the_broker_says_so_and_is_well() -> Result<()> {
    let drongo = Drongo::start()?;
    let config = format!(
        "[backends.gcp]\nkind = 'gcp'\nproject = '{PROJECT}'\nendpoint = 'http://{}'\nallow_plaintext = true\n",
        drongo.address()
    );
    let broker = Broker::start_with(&config, &[("GCE_METADATA_HOST", "127.0.0.1:1")])?;
    let admin = administer(&broker)?;
    let said = admin.run(&["get", "gcp/app"])?;
    said.refused(69, &["`gcp`", "login", "hint: "])?;
    ensure!(broker.http("/readyz")?.status == 200, "a store without a login makes the broker unready");
    Ok(())
}

/// A broker before a project, with the key of a service account.
struct Site {
    // Dropped first: it calls the server.
    broker: Broker,
    admin: Cli,
    door: GoogleDoor,
    drongo: Drongo,
    _key: TempDir,
}

impl Site {
    fn start() -> Result<Self> {
        let drongo = Drongo::start()?;
        let (door, key) = (GoogleDoor::before(drongo.address())?, tempfile::tempdir()?);
        let file = key.path().join("key.json");
        door.write_key(&file)?;
        let broker = Broker::start(&format!(
            "[backends.gcp]\nkind = 'gcp'\nproject = '{PROJECT}'\nendpoint = '{}'\nallow_plaintext = true\n\
             prefix = 'prod-'\nseparator = '--'\ncredentials = {{ json = {{ file = '{}' }} }}\n",
            door.url(),
            file.display()
        ))?;
        let admin = administer(&broker)?;
        Ok(Self { broker, admin, door, drongo, _key: key })
    }

    /// Writes a secret with the field `key`; answers the version.
    fn put(&self, name: &str, value: &Canary) -> Result<String> {
        let text = json!({ "user": "ada", "key": value.value() }).to_string();
        self.drongo.put_secret(&format!("prod-{name}"), text.as_bytes())
    }

    fn references(&self) -> Result<Vec<String>> {
        let leases = self.admin.json(&["lease", "list", "--path", "gcp"])?;
        let reference = |lease: &Value| lease.get("reference").and_then(Value::as_str).map(str::to_owned);
        Ok(leases.as_array().into_iter().flatten().filter_map(reference).collect())
    }

    /// Neither these nor the key are in anything that the broker wrote.
    fn said_nowhere(&self, canaries: &[&Canary]) -> Result<()> {
        let key = GoogleDoor::key_line()?;
        let found = scan(self.broker.directory(), &[canaries, &[&key]].concat())?;
        ensure!(found.is_empty(), "{found:?}");
        Ok(())
    }
}

fn administer(broker: &Broker) -> Result<Cli> {
    let admin = Cli::administering(broker)?;
    admin.apply_policies(POLICIES, "")?;
    Ok(admin)
}

const LIMIT: Duration = Duration::from_secs(60);

const POLICIES: &str = r#"
@id("everything")
permit (principal == Bursar::Principal::"spiffe://example.org/user/admin", action, resource);
"#;
