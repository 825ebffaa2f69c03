//! A broker or an agent that cannot start says which thing is wrong and what to do, and leaves everything as it was.

use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use anyhow::{Context, Result, ensure};
use bursar_tests::{Agent, Broker, Cli};

#[test]
fn every_fault_of_a_configuration_is_named_at_once() -> Result<()> {
    let mut broker = Broker::start("")?;
    broker.process().stop()?;
    let good = fs::read_to_string(broker.config())?;
    let bad =
        good.replace("trust_domain = 'example.org'", "trust_domain = 'Example Org'\ntrust_domian = 'x'");
    let bad = format!(
        "{bad}\n[leases]\ndefault_ttl = 'soon'\n[limit]\nstreams = 1\n[backends.vault]\nkind = 'volt'\n\
         [backends.other]\nkind = 'vault'\naddress = 'http://127.0.0.1:1'\n"
    );
    fs::write(broker.config(), bad)?;
    let named = [
        broker.config().display().to_string(),
        "trust_domain".to_owned(),
        "trust_domian".to_owned(),
        "leases.default_ttl".to_owned(),
        "limit".to_owned(),
        "there is no kind of backend `volt`; there are `aws`, `azure`, `gcp`, `local`, `postgres` and `vault`"
            .to_owned(),
        "backends.other.address".to_owned(),
        "backends.other.auth.method".to_owned(),
    ];
    refused(&broker, 64, &named)?;

    fs::write(broker.config(), good)?;
    broker.start_again()
}

#[test]
fn a_port_in_use_is_named() -> Result<()> {
    let mut broker = Broker::start("")?;
    broker.process().stop()?;
    let taken = TcpListener::bind(broker.address().trim_start_matches("https://"))?;
    let named = [format!("cannot listen on {}", taken.local_addr()?), "is another process there?".to_owned()];
    refused(&broker, 1, &named)?;
    drop(taken);
    broker.start_again()
}

#[test]
fn a_seal_key_that_is_missing_open_malformed_or_anothers_is_told_apart() -> Result<()> {
    let (mut broker, other) = (Broker::start("")?, Broker::start("")?);
    broker.process().stop()?;
    let (key, path) = (broker.directory().join("seal.key"), "seal.key".to_owned());
    let own = fs::read(&key)?;

    fs::remove_file(&key)?;
    let named = [path.clone(), "check that it exists and that this user may read it".to_owned()];
    refused(&broker, 1, &named)?;
    fs::write(&key, &own)?;
    fs::set_permissions(&key, Permissions::from_mode(0o644))?;
    refused(&broker, 1, &[path, "chmod 600".to_owned()])?;
    fs::set_permissions(&key, Permissions::from_mode(0o600))?;
    fs::write(&key, "a key of another form")?;
    refused(&broker, 1, &["32 bytes in base64".to_owned(), "bursar-broker seal-key".to_owned()])?;
    fs::write(&key, fs::read(other.directory().join("seal.key"))?)?;
    refused(&broker, 1, &["does not open".to_owned(), "it is the key of another broker".to_owned()])?;

    // None of it changed anything.
    fs::write(&key, &own)?;
    broker.start_again()?;
    Cli::administering(&broker)?.done(&["audit", "verify"]).map(drop)
}

#[test]
fn a_ledger_of_another_broker_in_use_or_cut_off_is_told_apart() -> Result<()> {
    let mut broker = Broker::start("")?;
    refused(&broker, 1, &["ledger.db".to_owned(), "stop the other one".to_owned()])?;
    broker.process().stop()?;

    let config = fs::read_to_string(broker.config())?;
    fs::write(broker.config(), format!("name = 'second'\n{config}"))?;
    refused(
        &broker,
        1,
        &[
            "bursar.dev/example.org/second".to_owned(),
            "check `data_dir`, `trust_domain` and `name`".to_owned(),
        ],
    )?;
    fs::write(broker.config(), config)?;

    let ledger = fs::read(broker.ledger())?;
    fs::write(broker.ledger(), ledger.get(..ledger.len() / 2).context("an empty ledger")?)?;
    refused(&broker, 1, &["ledger.db".to_owned(), "restore it from a backup".to_owned()])?;
    fs::write(broker.ledger(), "not a database at all, but some text")?;
    refused(&broker, 1, &["ledger.db".to_owned(), "check the configured path".to_owned()])?;
    fs::remove_file(broker.ledger())?;
    refused(&broker, 1, &["bursar-broker init".to_owned()])?;
    fs::write(broker.ledger(), ledger)?;
    broker.start_again()
}

#[test]
fn an_agent_names_what_keeps_it_from_starting() -> Result<()> {
    let broker = Broker::start("")?;
    let mut agent = Agent::launch(&broker, "web-1", "no token", None)?;
    agent.process().stop()?;
    let path = agent.directory().join("agent.toml");
    let good = fs::read_to_string(&path)?;
    fs::write(&path, good.replace("node = 'web-1'", "node = 'web 1'\nnod = 'x'"))?;
    agent_refused(&agent, 64, &["agent.toml", "2 faults", "node: ", "nod: "])?;
    fs::write(&path, good.replace("ca.pem", "nowhere.pem"))?;
    agent_refused(&agent, 1, &["nowhere.pem", "copy the broker's root certificate there"])?;
    let tokenless: Vec<_> = good.lines().filter(|line| !line.starts_with("join_token")).collect();
    fs::write(&path, tokenless.join("\n"))?;
    agent_refused(
        &agent,
        1,
        &["node `web-1` has not joined yet", "nothing is configured that lets it in", "`join_token`"],
    )
}

/// The broker ends with this exit code and names each of `parts`.
fn refused(broker: &Broker, code: i32, parts: &[String]) -> Result<()> {
    let (ended, said) = broker.refuse_to_start()?;
    ensure!(ended == Some(code), "exit code {ended:?} instead of {code}: {said}");
    for part in parts {
        ensure!(said.contains(part), "`{part}` is not in what it said: {said}");
    }
    Ok(())
}

fn agent_refused(agent: &Agent, code: i32, parts: &[&str]) -> Result<()> {
    let (ended, said) = agent.refuse_to_start()?;
    ensure!(ended == Some(code), "exit code {ended:?} instead of {code}: {said}");
    for part in parts {
        ensure!(said.contains(part), "`{part}` is not in what it said: {said}");
    }
    Ok(())
}
