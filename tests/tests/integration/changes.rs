//! A secret that changes at its store reaches who holds it, without anybody asking for it again.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bursar_proto::v1;
use bursar_proto::v1::secrets_watch_response::Event;
use bursar_tests::{Agent, Broker, Canary, Cli, Drongo, GoogleDoor, OpenBao, PROJECT, wait_until};
use prost::Message;
use serde_json::json;
use tonic::Code;

use super::vault_backend::answers;
use crate::raw::Caller;

#[test]
fn a_change_at_the_store_reaches_a_node_and_costs_one_read() -> Result<()> {
    let bao = OpenBao::start()?;
    bao.enable_kv("kv")?;
    bao.api("POST", "sys/mounts/kv1", &json!({ "type": "kv", "options": { "version": "1" } }))?;
    let backend = bao.backend("vault", POLICY, "{ kv = 'kv-v2', kv1 = 'kv-v1' }")?;
    // Whoever waited for a value to grow old would wait for an hour.
    let site = Site::start(&format!("{backend}max_stale = '1h'\npoll = '1s'\n"), "vault")?;
    for (path, reference) in [("kv/data/a", "vault/kv/a#p"), ("kv1/a", "vault/kv1/a#p")] {
        let put = |value: &Canary| match path.starts_with("kv1") {
            true => bao.api("POST", path, &json!({ "p": value.value() })),
            false => bao.api("POST", path, &json!({ "data": { "p": value.value() } })),
        };
        let (first, second) = (Canary::random("first value"), Canary::random("second value"));
        put(&first)?;
        ensure!(site.get(reference)? == first.value(), "`{reference}` is another value");
        put(&second)?;
        wait_until(LIMIT, "the second value", || {
            site.get(reference).is_ok_and(|value| value == second.value())
        })?;
    }
    // An environment may be stricter than its backend. Nobody listens for this one.
    let (first, second) = (Canary::random("first value"), Canary::random("second value"));
    let put = |value: &Canary| bao.api("POST", "kv/data/b", &json!({ "data": { "p": value.value() } }));
    put(&first)?;
    let get = || site.administrator.done(&["get", "vault/kv/b#p"]);
    ensure!(get()? == first.value(), "another value was read");
    put(&second)?;
    site.administrator.write("strict.toml", STRICT)?;
    site.administrator.done(&["env", "apply", "strict.toml"])?;
    ensure!(get()? == first.value(), "the cache was not asked");
    let run = ["run", "--env", "strict", "--", "sh", "-c", "printf %s \"$P\""];
    wait_until(LIMIT, "the second value", || {
        site.administrator.done(&run).is_ok_and(|value| value == second.value())
    })?;
    // Its metadata was looked at each second, and it was read when there was something to read.
    let audit = bao.audit_file();
    ensure!(answers(&audit, "kv/metadata/a") > 0, "its versions were not looked at");
    let reads = answers(&audit, "kv/data/a") - 2;
    ensure!(reads == 2, "it was read {reads} times");
    Ok(())
}

#[test]
fn a_change_at_google_reaches_a_node_and_its_payload_is_accessed_once() -> Result<()> {
    let drongo = Drongo::start()?;
    let (door, key) = (GoogleDoor::before(drongo.address())?, tempfile::NamedTempFile::new()?);
    door.write_key(key.path())?;
    let site = Site::start(
        &format!(
            "[backends.gcp]\nkind = 'gcp'\nproject = '{PROJECT}'\nendpoint = '{}'\nallow_plaintext = true\n\
             credentials = {{ json = {{ file = '{}' }} }}\nmax_stale = '1h'\npoll = '1s'\n",
            door.url(),
            key.path().display()
        ),
        "gcp",
    )?;
    let (first, second) = (Canary::random("first value"), Canary::random("second value"));
    for value in [&first, &second] {
        drongo.put_secret("a", value.value().as_bytes())?;
        wait_until(LIMIT, "the value that was put", || {
            site.get("gcp/a").is_ok_and(|got| got == value.value())
        })?;
    }
    ensure!(door.asked("/secrets/a/versions/latest") > 0, "its versions were not looked at");
    let accesses = door.asked("/secrets/a/versions/latest:access");
    ensure!(accesses == 2, "it was accessed {accesses} times");
    Ok(())
}

#[test]
fn a_write_through_bursar_is_heard_of_at_once() -> Result<()> {
    let site = Site::start("[backends.local]\nkind = 'local'\nmax_stale = '1h'\npoll = '1h'\n", "local")?;
    let (first, second) = (Canary::random("first value"), Canary::random("second value"));
    site.put("local/a", &first)?;
    ensure!(site.get("local/a#p")? == first.value(), "another value was read");
    site.put("local/a", &second)?;
    wait_until(LIMIT, "the second value", || {
        site.get("local/a#p").is_ok_and(|value| value == second.value())
    })?;
    let metrics = String::from_utf8_lossy(&site.broker.http("/metrics")?.body).into_owned();
    ensure!(metrics.contains("bursar_changes_total{backend=\"local\"} 1"), "the change was not counted");
    ensure!(metrics.contains("bursar_watched_secrets 1"), "what is watched is not shown");
    Ok(())
}

#[test]
fn a_stream_that_broke_goes_on_where_it_was_unless_the_broker_is_another() -> Result<()> {
    let mut site = Site::start("[backends.local]\nkind = 'local'\nmax_stale = '1h'\npoll = '1h'\n", "local")?;
    let (first, second) = (Canary::random("first value"), Canary::random("second value"));
    site.put("local/a", &first)?;
    let listener = Caller::administrator(&site.broker)?;
    let begun = next(&listener, None)?;
    ensure!(matches!(begun.event, Some(Event::Resync(_))), "{begun:?}");
    // Its stream is gone, and it is noted all the same.
    let read = v1::SecretsReadRequest { reference: "local/a#p".to_owned(), ..Default::default() };
    ensure!(listener.call(READ, read.encode_to_vec())?.code == Code::Ok, "the secret cannot be read");
    site.put("local/a", &second)?;
    let missed = next(&listener, begun.position.clone())?;
    ensure!(
        matches!(&missed.event, Some(Event::VersionChanged(changed)) if changed.reference == "local/a"),
        "{missed:?}"
    );
    let sequence = |told: &v1::SecretsWatchResponse| told.position.as_ref().map(|position| position.sequence);
    ensure!(sequence(&missed) > sequence(&begun), "{begun:?} and then {missed:?}");

    site.broker.process().stop()?;
    site.broker.start_again()?;
    let anew = next(&Caller::administrator(&site.broker)?, missed.position.clone())?;
    ensure!(matches!(anew.event, Some(Event::Resync(_))), "{anew:?}");
    ensure!(sequence(&anew) > sequence(&missed), "{missed:?} and then {anew:?}");
    Ok(())
}

/// The first event of a stream after `position`.
fn next(listener: &Caller, position: Option<v1::WatchPosition>) -> Result<v1::SecretsWatchResponse> {
    let request = v1::SecretsWatchRequest { after: position };
    let listening = listener.listen("/bursar.v1.Secrets/Watch", request.encode_to_vec())?;
    Ok(v1::SecretsWatchResponse::decode(listening.first.as_slice())?)
}

/// A broker, and a node on which a user reads through the agent.
struct Site {
    administrator: Cli,
    shop: Cli,
    // Held for its drop.
    _agent: Agent,
    broker: Broker,
}

impl Site {
    fn start(backends: &str, backend: &str) -> Result<Self> {
        let broker = Broker::start(backends)?;
        let administrator = Cli::administering(&broker)?;
        let policies = format!(
            "{POLICIES}\n@id(\"use\")\npermit (principal in Bursar::Group::\"shop\", \
             action in Bursar::Action::\"use\", resource in Bursar::Backend::\"{backend}\");\n\
             @id(\"admin\")\npermit (principal == Bursar::Principal::\"spiffe://example.org/user/admin\", \
             action in Bursar::Action::\"use\", resource);\n\
             @id(\"write\")\npermit (principal == Bursar::Principal::\"spiffe://example.org/user/admin\", \
             action == Bursar::Action::\"write\", resource in Bursar::Backend::\"{backend}\");\n"
        );
        administrator.apply_policies(&policies, REGISTRATION)?;
        let token = administrator.done(&["node", "token", "web-1"])?;
        let agent = Agent::start(&broker, "web-1", token.trim())?;
        let shop = Cli::through(&agent.socket())?.as_user(SHOP).context("the tests are to run as root")?;
        Ok(Self { administrator, shop, _agent: agent, broker })
    }

    fn put(&self, reference: &str, value: &Canary) -> Result<()> {
        let put = ["secret", "put", reference, "--field", "p"];
        self.administrator.done_with(&put, value.value().as_bytes()).map(drop)
    }

    fn get(&self, reference: &str) -> Result<String> {
        self.shop.done(&["get", reference])
    }
}

const READ: &str = "/bursar.v1.Secrets/Read";
const LIMIT: Duration = Duration::from_secs(60);
/// A number that no account has.
const SHOP: u32 = 61_002;

const REGISTRATION: &str = r#"
[[registration]]
principal = "spiffe://example.org/workload/shop"
node = "web-1"
groups = ["shop"]
selectors = ["unix:uid:61002"]
"#;

const POLICIES: &str = r#"
@id("administration")
permit (principal == Bursar::Principal::"spiffe://example.org/user/admin",
        action in Bursar::Action::"administer", resource);
@id("watch")
permit (principal, action == Bursar::Action::"watch", resource == Bursar::System::"broker");
"#;

const STRICT: &str = "[environment.strict]\nvars.P = { from = 'vault/kv/b#p', max_stale = '1s' }\n";

const POLICY: &str = r#"
path "kv/data/*" { capabilities = ["read"] }
path "kv/metadata/*" { capabilities = ["read"] }
path "kv1/*" { capabilities = ["read"] }
"#;
