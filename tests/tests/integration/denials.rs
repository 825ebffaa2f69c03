//! What is refused, how it is said, and that the ledger knows.

use anyhow::{Context, Result, ensure};
use bursar_sdk::{Address, Client, Identity, ReadOptions, Reference, Secret, Tls};
use bursar_tests::Broker;

#[test]
fn a_caller_without_a_certificate_is_told_to_bring_one() -> Result<()> {
    let broker = Broker::start(LOCAL)?;
    let error = read(&broker, false, "local/a")?.context("an unknown caller read a secret")?;
    ensure!(error.contains("client certificate"), "{error}");
    Ok(())
}

#[test]
fn a_denied_read_says_nothing_of_whether_the_secret_is_there() -> Result<()> {
    let broker = Broker::start(LOCAL)?;
    let absent = read(&broker, true, "local/absent")?.context("the administrator read a secret")?;
    let elsewhere = read(&broker, true, "nowhere/absent")?.context("the administrator read a secret")?;
    let hide =
        |error: &str| error.rsplit_once(" (request").map_or(error.to_owned(), |(text, _)| text.to_owned());
    ensure!(hide(&absent) == hide(&elsewhere), "{absent} / {elsewhere}");
    ensure!(absent.contains("policy does not allow"), "{absent}");
    Ok(())
}

#[test]
fn the_wrong_seal_key_and_a_missing_one_are_named() -> Result<()> {
    let mut broker = Broker::start(LOCAL)?;
    broker.process().stop()?;
    let seal = broker.directory().join("seal.key");
    std::fs::write(&seal, data_encoding::BASE64.encode(&[7; 32]))?;
    let error = broker.start_again().err().context("started with another key")?.to_string();
    ensure!(error.contains("does not open"), "{error}");
    std::fs::remove_file(&seal)?;
    let error = broker.start_again().err().context("started without a key")?.to_string();
    ensure!(error.contains("seal.key"), "{error}");
    Ok(())
}

/// The error of reading `reference`, none when it was read.
fn read(broker: &Broker, known: bool, reference: &str) -> Result<Option<String>> {
    let file = |name| std::fs::read(broker.bootstrap(name));
    let identity = match known {
        true => Some(Identity { cert_pem: file("admin.crt")?, key_pem: Secret::new(file("admin.key")?) }),
        false => None,
    };
    let tls = Tls { ca_pem: file("ca.pem")?, identity, server_name: None };
    let address: Address = broker.address().parse()?;
    let reference: Reference = reference.parse()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let client = Client::connect(&address, Some(&tls)).await?;
        Ok(client.read(&reference, &ReadOptions::default()).await.err().map(|error| error.to_string()))
    })
}

const LOCAL: &str = "[backends.local]\nkind = 'local'\n";
