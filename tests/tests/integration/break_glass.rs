//! The way in when policies lock everybody out, or nobody can say who people are.

use anyhow::{Context, Result, ensure};
use bursar_tests::{Broker, Cli};
use serde_json::Value;

#[test]
fn it_gets_past_policies_that_lock_everybody_out_and_says_so_first() -> Result<()> {
    let broker = Broker::start(ON)?;
    let admin = Cli::administering(&broker)?;
    admin.done_with(&["secret", "put", "local/db"], b"value")?;
    admin.apply_policies(NOBODY, "")?;
    admin.run(&["policy", "get"])?.refused(77, &["hint: "])?;

    let folder = broker.directory().join("glass");
    let folder = folder.to_str().context("UTF-8")?;
    let made = broker.command(&["break-glass", "--reason", REASON, "--to", folder])?;
    let said = String::from_utf8(made.stdout)?;
    ensure!(made.status.success() && said.contains("export BURSAR_CERT="), "{said}");
    let glass = holding(&broker, folder)?;
    // What it is for is to put things in order, not to read what is kept.
    glass.run(&["get", "local/db"])?.refused(77, &["policy does not allow this"])?;
    glass.apply_policies(ADMINISTRATOR, "")?;
    admin.done(&["policy", "get"])?;

    let mut records = admin.audit(&["--principal", "spiffe://example.org/user/break-glass"])?;
    // Newest first, as they come.
    records.reverse();
    let told = |record: &Value| {
        let text = |name: &str| record[name].as_str().unwrap_or_default().to_owned();
        (text("action"), text("decision"), text("reason"))
    };
    let actions: Vec<_> = records.iter().map(told).map(|(action, ..)| action).collect();
    ensure!(records.iter().all(|record| record["actor"]["method"] == "break-glass"), "{records:?}");
    // The CLI makes a connection for each command; each is told before what is done over it.
    for (at, action) in actions.iter().enumerate() {
        let before = at.checked_sub(1).and_then(|at| actions.get(at)).map(String::as_str);
        ensure!(action == "break-glass" || before == Some("break-glass"), "{actions:?}");
    }
    ensure!(actions.iter().any(|action| action == "apply-policy"), "{actions:?}");
    let first = records.first().map(told);
    ensure!(first == Some(("break-glass".to_owned(), "allow".to_owned(), REASON.to_owned())), "{first:?}");
    ensure!(records.iter().any(|record| told(record).0 == "read" && told(record).1 == "deny"), "{records:?}");
    let metrics = String::from_utf8(broker.http("/metrics")?.body)?;
    ensure!(metrics.contains("bursar_authentications_total{method=\"break-glass\",outcome=\"ok\"}"));
    Ok(())
}

#[test]
fn it_is_off_until_the_configuration_has_it_and_ends_when_it_has_it_no_more() -> Result<()> {
    let mut broker = Broker::start("[backends.local]\nkind = 'local'\n")?;
    let folder = broker.directory().join("glass");
    let folder = folder.to_str().context("UTF-8")?.to_owned();
    let order = ["break-glass", "--reason", REASON, "--to", &folder];
    let refused = broker.command(&order)?;
    let said = String::from_utf8(refused.stderr)?;
    ensure!(!refused.status.success() && said.contains("`[identity.break_glass]`"), "{said}");
    ensure!(!broker.directory().join("glass").exists());

    broker.restart_with("[backends.local]", "[identity.break_glass]\nlife = '5m'\n[backends.local]")?;
    let long = "x".repeat(600);
    for reason in ["", " \t", "two\nlines", &long] {
        let refused = broker.command(&["break-glass", "--reason", reason, "--to", &folder])?;
        let said = String::from_utf8(refused.stderr)?;
        ensure!(!refused.status.success() && said.contains("`--reason` has to say why"), "{said}");
    }
    ensure!(broker.command(&order)?.status.success());
    holding(&broker, &folder)?.done(&["node", "list"])?;

    broker.restart_with("[identity.break_glass]\nlife = '5m'\n", "")?;
    let refused = holding(&broker, &folder)?.run(&["node", "list"])?;
    refused.refused(77, &["`[identity.break_glass]`", "no such table"])
}

fn holding(broker: &Broker, folder: &str) -> Result<Cli> {
    let mut cli = Cli::administering(broker)?;
    cli.set("BURSAR_CERT", &format!("{folder}/break-glass.crt"));
    cli.set("BURSAR_KEY", &format!("{folder}/break-glass.key"));
    cli.set("BURSAR_CA", &format!("{folder}/ca.pem"));
    Ok(cli)
}

const ON: &str = "[identity.break_glass]\n[backends.local]\nkind = 'local'\n";
const REASON: &str = "everybody is locked out, incident 7";
const NOBODY: &str = "@id(\"nobody\")\nforbid (principal, action, resource);\n";
const ADMINISTRATOR: &str = r#"
@id("administrator")
permit (principal == Bursar::Principal::"spiffe://example.org/user/admin", action, resource);
"#;
