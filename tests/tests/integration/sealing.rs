//! The seal key: replaced while the data stays, and kept by a store that wraps it.

use std::fs;

use anyhow::{Context, Result, ensure};
use bursar_tests::{Broker, Canary, EVERYTHING, Moto, OpenBao, scan};
use data_encoding::BASE64;
use serde_json::{Value, json};

use super::local_site::LocalSite;

#[test]
fn the_seal_key_is_replaced_and_everything_opens_by_the_new_one() -> Result<()> {
    let mut site = LocalSite::start("")?;
    let (key, path) = (Canary::known("the first key", &key_of(&site)?)?, |name| place(&site, name));
    let (first, second) = (path("seal.key"), path("second.key"));
    site.broker.process().stop()?;

    rewrite(&site, |config| config.replace(&first, &second))?;
    let missing = refused(&site)?;
    ensure!(missing.contains("second.key"), "{missing}");
    made(&site)?;
    let foreign = refused(&site)?;
    ensure!(foreign.contains("seal.previous"), "{foreign}");

    rewrite(&site, |config| format!("{config}\n[seal.previous]\nkey = {{ file = '{first}' }}\n"))?;
    for _ in 0..2 {
        site.broker.start_again()?;
        ensure!(read(&site)? == site.key.value(), "another value");
        let records = site.done(&["audit", "query", "--action", "rewrap"])?;
        ensure!(records.matches(" seal").count() == 1, "{records}");
        site.broker.process().stop()?;
    }

    rewrite(&site, |config| {
        config.replace("[seal.previous]", "").replace(&format!("key = {{ file = '{first}' }}"), "")
    })?;
    fs::remove_file(&first)?;
    site.broker.start_again()?;
    ensure!(read(&site)? == site.key.value(), "another value");
    let verified = site.broker.command(&["verify"])?;
    ensure!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
    let found = scan(site.broker.directory(), &[&key])?;
    ensure!(found.is_empty(), "the first key is in {found:?}");
    Ok(())
}

#[test]
fn systemd_hands_the_seal_key_over() -> Result<()> {
    let credentials = tempfile::tempdir()?;
    let directory = credentials.path().display().to_string();
    let mut broker = Broker::start_with("", &[("CREDENTIALS_DIRECTORY", &directory)])?;
    let file = broker.directory().join("seal.key");
    let named = format!("key = {{ file = '{}' }}", file.display());
    broker.process().stop()?;
    fs::rename(&file, credentials.path().join("bursar-seal"))?;
    let config = fs::read_to_string(broker.config())?;
    fs::write(broker.config(), config.replace(&named, "key = { credential = 'bursar-seal' }"))?;
    broker.start_again()?;
    let made = broker.command(&["seal-key"])?;
    ensure!(String::from_utf8_lossy(&made.stdout).contains("is no file"), "a credential was made");
    Ok(())
}

#[test]
fn kms_keeps_the_seal_key() -> Result<()> {
    let moto = Moto::start()?;
    let key = moto.user("broker", EVERYTHING)?;
    let id = moto.kms("CreateKey", &json!({}))?;
    let id = id.pointer("/KeyMetadata/KeyId").and_then(Value::as_str).context("no id")?.to_owned();
    moto.kms("CreateAlias", &json!({ "AliasName": "alias/bursar", "TargetKeyId": id }))?;
    let mut site = LocalSite::start(&moto.backend("aws", &key, "")?)?;
    let wrapped = wrap(&mut site, "aws/alias/bursar")?;
    let opened = moto.kms(
        "Decrypt",
        &json!({ "CiphertextBlob": wrapped, "EncryptionContext": { "bursar": "bursar.dev/example.org/broker" } }),
    )?;
    nowhere(&site, opened.pointer("/Plaintext").and_then(Value::as_str).context("no plaintext")?)?;

    site.broker.process().stop()?;
    moto.allow("broker", NO_KEYS)?;
    moto.enforce(true)?;
    let said = refused(&site)?;
    ensure!(said.contains("aws/alias/bursar") && said.contains("denied the broker"), "{said}");
    moto.enforce(false)?;
    fs::write(place(&site, "wrapped.key"), BASE64.encode(b"something else"))?;
    let said = refused(&site)?;
    ensure!(said.contains("aws/alias/bursar"), "{said}");
    fs::write(place(&site, "wrapped.key"), wrapped)?;
    site.broker.start_again()?;
    ensure!(read(&site)? == site.key.value(), "another value");
    Ok(())
}

#[test]
fn a_transit_engine_keeps_the_seal_key() -> Result<()> {
    let bao = OpenBao::start()?;
    bao.api("POST", "sys/mounts/transit", &json!({ "type": "transit" }))?;
    bao.api("POST", "transit/keys/bursar", &Value::Null)?;
    let policy = "path \"transit/encrypt/bursar\" { capabilities = [\"update\"] }\n\
                  path \"transit/decrypt/bursar\" { capabilities = [\"update\"] }";
    let mut site = LocalSite::start(&bao.backend("vault", policy, "{}")?)?;
    let wrapped = wrap(&mut site, "vault/transit/bursar")?;
    ensure!(wrapped.starts_with("vault:v1:"), "{wrapped}");
    let context = BASE64.encode(b"bursar.dev/example.org/broker");
    let opened = bao.api(
        "POST",
        "transit/decrypt/bursar",
        &json!({ "ciphertext": wrapped, "associated_data": context }),
    )?;
    nowhere(&site, opened.pointer("/data/plaintext").and_then(Value::as_str).context("no plaintext")?)?;

    // What the engine does by itself asks nothing of the broker.
    bao.api("POST", "transit/keys/bursar/rotate", &Value::Null)?;
    site.broker.process().stop()?;
    bao.seal()?;
    let said = refused(&site)?;
    ensure!(said.contains("vault/transit/bursar") && said.contains("is sealed"), "{said}");
    bao.unseal()?;
    site.broker.start_again()?;
    ensure!(read(&site)? == site.key.value(), "another value");
    Ok(())
}

/// Lets `place` keep a new seal key; answers how it is wrapped.
fn wrap(site: &mut LocalSite, place_of_key: &str) -> Result<String> {
    let (first, wrapped) = (place(site, "seal.key"), place(site, "wrapped.key"));
    rewrite(site, |config| {
        let config = config.replace(
            &format!("key = {{ file = '{first}' }}"),
            &format!("key = {{ file = '{wrapped}' }}\nwrapped_by = '{place_of_key}'"),
        );
        format!("{config}\n[seal.previous]\nkey = {{ file = '{first}' }}\n")
    })?;
    // The broker serves meanwhile, by the key before.
    made(site)?;
    ensure!(read(site)? == site.key.value(), "another value");
    site.broker.process().stop()?;
    site.broker.start_again()?;
    ensure!(read(site)? == site.key.value(), "another value");
    site.broker.process().stop()?;
    let previous = format!("\n[seal.previous]\nkey = {{ file = '{first}' }}\n");
    rewrite(site, |config| config.replace(&previous, ""))?;
    fs::remove_file(&first)?;
    site.broker.start_again()?;
    ensure!(read(site)? == site.key.value(), "another value");
    Ok(fs::read_to_string(wrapped)?.trim().to_owned())
}

/// The key in clear, which a store answered in base64, is in no file of the broker's.
fn nowhere(site: &LocalSite, plain: &str) -> Result<()> {
    let key = String::from_utf8(BASE64.decode(plain.as_bytes())?)?;
    let found = scan(site.broker.directory(), &[&Canary::known("the seal key", &key)?])?;
    ensure!(found.is_empty(), "the seal key is in {found:?}");
    Ok(())
}

fn made(site: &LocalSite) -> Result<()> {
    let made = site.broker.command(&["seal-key"])?;
    ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let again = site.broker.command(&["seal-key"])?;
    let said = String::from_utf8_lossy(&again.stdout).into_owned();
    ensure!(again.status.success() && said.contains("nothing was made"), "{said}");
    Ok(())
}

fn read(site: &LocalSite) -> Result<String> {
    site.done(&["get", "local/app/key"])
}

fn refused(site: &LocalSite) -> Result<String> {
    let (code, said) = site.broker.refuse_to_start()?;
    ensure!(code == Some(1), "it ended with {code:?}: {said}");
    Ok(said)
}

fn rewrite(site: &LocalSite, change: impl FnOnce(String) -> String) -> Result<()> {
    let path = site.broker.config();
    Ok(fs::write(&path, change(fs::read_to_string(&path)?))?)
}

fn place(site: &LocalSite, name: &str) -> String {
    site.broker.directory().join(name).display().to_string()
}

fn key_of(site: &LocalSite) -> Result<String> {
    Ok(fs::read_to_string(place(site, "seal.key"))?.trim().to_owned())
}

const NO_KEYS: &str =
    r#"{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"kms:*","Resource":"*"}]}"#;
