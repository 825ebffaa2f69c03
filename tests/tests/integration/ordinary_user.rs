//! Agent and command line as ordinary users, without any privilege: joins, attests others, serves by who they are.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use bursar_tests::{Agent, Broker, Canary, Cli, scan, text};
use serde_json::Value;

#[test]
fn an_agent_without_privileges_serves_the_user_that_is_registered_and_no_other() -> Result<()> {
    let value = Canary::random("value");
    let broker = Broker::start("[backends.local]\nkind = 'local'\n")?;
    let admin = Cli::administering(&broker)?;
    admin.apply_policies(POLICIES, &format!("{REGISTRATION}selectors = [\"unix:uid:{SHOP}\"]\n"))?;
    admin.done_with(&["secret", "put", "local/shop/db", "--field", "password"], value.value().as_bytes())?;
    admin.write("shop.toml", ENVIRONMENT)?;
    admin.done(&["env", "apply", "shop.toml"])?;
    let token = admin.done(&["node", "token", "web-1"])?;
    let mut agent = Agent::start_as(AGENT, &broker, "web-1", token.trim())?;

    // A program of the registered user gets its environment and leaves nothing behind.
    let shop = Cli::through(&agent.socket())?.as_user(SHOP)?;
    let program = "test \"$(id -u)\" = \"$1\" && printf %s \"${#PASSWORD}\"";
    let run = ["run", "--env", "shop", "--reason", "a test", "--", "sh", "-c", program, "sh", "61002"];
    ensure!(shop.done(&run)? == value.value().len().to_string(), "the program saw another environment");
    ensure!(shop.done(&["get", "local/shop/db#password"])? == value.value(), "another value was read");

    // Whoever is not registered is refused, whoever he is: the agent's own user, root, somebody else.
    for (user, name) in [(AGENT, "the agent's own user"), (OTHER, "somebody else")] {
        let said = Cli::through(&agent.socket())?.as_user(user)?.run(&run)?;
        let parts =
            ["`sh` was not started", "registration", "hint: see to the registrations", "request id: "];
        said.refused(77, &parts).context(name)?;
        let records = admin.audit(&["--request", said.request_id().context("no request id")?])?;
        let record = records.first().with_context(|| format!("{name} left no record"))?;
        ensure!(text(record, "/error_kind") == "registration_missing", "{record}");
        ensure!(text(record, "/actor/principal") == "spiffe://example.org/node/web-1", "{record}");
    }
    let root = Cli::through(&agent.socket())?.run(&["get", "local/shop/db#password"])?;
    root.refused(77, &["registration"])?;

    // The ledger says who it was, and what the agent saw.
    let records = admin.audit(&["--action", "resolve", "--outcome", "ok"])?;
    let record = records.first().context("no record of the environment")?;
    ensure!(text(record, "/actor/principal") == "spiffe://example.org/workload/shop", "{record}");
    ensure!(text(record, "/actor/node") == "spiffe://example.org/node/web-1", "{record}");
    let selectors = record.pointer("/actor/selectors").and_then(Value::as_array).context("no selectors")?;
    for selector in [format!("unix:uid:{SHOP}"), format!("unix:gid:{SHOP}")] {
        ensure!(
            selectors.iter().any(|seen| *seen == selector.as_str()),
            "`{selector}` was not seen: {record}"
        );
    }

    // What the agent wrote is its own, and the socket is for everybody.
    is_owned(&agent.directory().join("data"), AGENT, 0o700)?;
    for entry in std::fs::read_dir(agent.directory().join("data"))? {
        is_owned(&entry?.path(), AGENT, 0o600)?;
    }
    is_owned(&agent.socket(), AGENT, 0o666)?;
    is_owned(agent.socket().parent().context("no folder")?, AGENT, 0o755)?;
    agent.process().stop()?;
    ensure!(!agent.socket().exists(), "the socket outlived its agent");
    for directory in [agent.directory(), broker.directory(), &shop.path("")] {
        let found = scan(directory, &[&value])?;
        ensure!(found.is_empty(), "the value is on disk: {found:?}");
    }
    Ok(())
}

fn is_owned(path: &Path, user: u32, mode: u32) -> Result<()> {
    let about = std::fs::symlink_metadata(path)?;
    let found = (about.uid(), about.permissions().mode() & 0o7777);
    ensure!(found == (user, mode), "`{}` has user {} and mode {:o}", path.display(), found.0, found.1);
    Ok(())
}

/// Numbers that no account has.
const AGENT: u32 = 61_001;
const SHOP: u32 = 61_002;
const OTHER: u32 = 61_003;

const POLICIES: &str = r#"
@id("administration")
permit (principal == Bursar::Principal::"spiffe://example.org/user/admin",
        action in Bursar::Action::"administer", resource);
@id("shop")
permit (principal == Bursar::Principal::"spiffe://example.org/workload/shop",
        action in Bursar::Action::"use", resource in Bursar::Folder::"local/shop");
@id("shop-resolves")
permit (principal == Bursar::Principal::"spiffe://example.org/workload/shop",
        action == Bursar::Action::"resolve", resource == Bursar::Environment::"shop");
"#;

const REGISTRATION: &str = r#"
[[registration]]
principal = "spiffe://example.org/workload/shop"
node = "web-1"
"#;

const ENVIRONMENT: &str = r#"
[environment."shop".vars]
PASSWORD = { from = "local/shop/db#password" }
"#;
