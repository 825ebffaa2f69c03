//! Files of secrets, brought into the broker's own store.

use anyhow::{Result, ensure};
use bursar_tests::{Broker, Canary, Cli, scan};

#[test]
fn the_secrets_of_files_are_written_and_said_nowhere() -> Result<()> {
    let broker = Broker::start("[backends.local]\nkind = 'local'\n")?;
    let admin = Cli::administering(&broker)?;
    admin.apply_policies(POLICIES, "")?;
    let value = |name: &str| Canary::alphanumeric(name);
    let (stripe, password, token, old) = (value("stripe"), value("password"), value("token"), value("old"));

    admin.write(".env", format!("# ours\nexport STRIPE='{}'\nLEVEL=info\n", stripe.value()))?;
    let env = admin.path(".env").display().to_string();
    let planned = admin.done(&["secret", "import", &env, "local/app", "--dry-run"])?;
    ensure!(planned.contains("LEVEL,STRIPE"), "{planned}");
    ensure!(admin.done(&["get", "local/app#STRIPE"]).is_err(), "a dry run wrote something");
    let written = admin.done(&["secret", "import", &env, "local/app"])?;
    ensure!(admin.done(&["get", "local/app#STRIPE"])? == stripe.value(), "another value was written");

    let yaml = format!("db:\n  user: app\n  password: {}\ntoken: {}\n", password.value(), token.value());
    admin.write("prod.yaml", &yaml)?;
    let yaml = admin.path("prod.yaml").display().to_string();
    let each = ["secret", "import", &yaml, "local/prod", "--each", "--only-new", "--output", "json"];
    let written = [written, admin.done(&each)?].concat();
    ensure!(admin.done(&["get", "local/prod/db#password"])? == password.value(), "another password");
    ensure!(admin.done(&["get", "local/prod/token"])? == token.value(), "another token");

    // What is there stays, and what was written before is told.
    admin.write("more.json", format!(r#"{{"a":"{}","db":{{"password":"{0}"}}}}"#, old.value()))?;
    let json = admin.path("more.json").display().to_string();
    let said = admin.run(&["secret", "import", &json, "local/prod", "--each", "--only-new"])?;
    let told = String::from_utf8(said.stdout.clone())?;
    ensure!(said.code == Some(1) && told.contains("local/prod/a") && !told.contains("db"), "{}", said.stderr);
    ensure!(admin.done(&["get", "local/prod/a"])? == old.value(), "the first was not written");
    ensure!(admin.done(&["get", "local/prod/db#password"])? == password.value(), "a secret was written over");

    admin.write("bad.env", format!("A=1\n{}\n", stripe.value()))?;
    let bad = admin.path("bad.env").display().to_string();
    let refused = admin.run(&["secret", "import", &bad, "local/bad"])?;
    refused.refused(1, &["line 2", "is not NAME=VALUE", "nothing was written"])?;

    let said = [written, planned, said.stderr, refused.stderr].concat();
    let values = [&stripe, &password, &token, &old];
    ensure!(values.iter().all(|value| !said.contains(value.value())), "a value was said");
    let found = scan(broker.directory(), &values)?;
    ensure!(found.is_empty(), "secrets leaked: {found:?}");
    Ok(())
}

const POLICIES: &str = r#"
@id("all")
permit (principal == Bursar::Principal::"spiffe://example.org/user/admin", action, resource);
"#;
