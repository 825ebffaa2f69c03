//! The files themselves: whose they are, what opens them, and what becomes of one that is not as it was made.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use bursar_tests::{Cli, scan};
use serde_json::Value;

use super::site::{self, Site, text};

#[test]
fn identities_that_age_itself_makes_keep_copies_and_ours_are_some_to_age() -> Result<()> {
    let site = Site::start()?;
    let mut ada = site.cli(site::ADA)?;
    let key = ada.path("mine.txt").display().to_string();
    age("age-keygen", &["-o", &key])?;
    fs::set_permissions(&key, Permissions::from_mode(0o600))?;
    ada.set("BURSAR_OFFLINE_IDENTITY", &key);
    ada.done(&["offline", "keep", "shop/dev"])?;
    ensure!(runs(&ada)?, "the copy does not open");
    let found = scan(&ada.path("cache"), &[&site.key])?;
    ensure!(found.is_empty(), "{found:?}");

    let ours = ada.path("ours/offline.key").display().to_string();
    ada.set("BURSAR_OFFLINE_IDENTITY", &ours);
    ensure!(text(&ada.json(&["offline", "init"])?, "/file") == ours, "it is elsewhere");
    ensure!(age("age-keygen", &["-y", &ours])?.starts_with(b"age1"), "it is no identity to `age`");
    ensure!(fs::metadata(&ours)?.permissions().mode() & 0o777 == 0o600, "others may read it");
    ada.run(&["offline", "init"])?.refused(78, &["there is an identity", "already", "hint: "])?;
    ada.run(&RUN)?.refused(78, &["is for another identity", "hint: "])
}

#[test]
fn an_identity_that_is_encrypted_is_handed_over_by_age_and_on_no_disk() -> Result<()> {
    let site = Site::start()?;
    let ada = site.ada()?;
    ada.done(&["offline", "keep", "shop/dev"])?;
    let plain = ada.path("config/bursar/offline.key");
    let (key, encrypted) =
        (ada.path("key.txt").display().to_string(), ada.path("me.age").display().to_string());
    age("age-keygen", &["-o", &key])?;
    let recipient = String::from_utf8(age("age-keygen", &["-y", &key])?)?;
    age("age", &["-r", recipient.trim(), "-o", &encrypted, &plain.display().to_string()])?;
    fs::remove_file(&plain)?;
    fs::set_permissions(&encrypted, Permissions::from_mode(0o600))?;
    let by_itself = ["run", "--env", "shop/dev", "--offline", "--offline-identity", &encrypted, "--", "true"];
    ada.run(&by_itself)?.refused(78, &["it is encrypted", "age -d"])?;

    let (bursar, given) = (bursar_tests::binary("bursar")?, ada.command()?);
    let mut shell = Command::new("bash");
    shell.env_clear().envs(given.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let run = format!("'{}' run --env shop/dev --offline", bursar.display());
    let opened = format!("<(age -d -i '{key}' '{encrypted}')");
    let output =
        shell.args(["-c", &format!("{run} --offline-identity {opened} -- echo started")]).output()?;
    ensure!(output.stdout == b"started\n", "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

#[test]
fn a_copy_is_listed_without_its_identity_and_forgotten() -> Result<()> {
    let site = Site::start()?;
    let ada = site.ada()?;
    ensure!(ada.json(&["offline", "list"])? == Value::Array(Vec::new()), "something is kept");
    for name in ["shop/dev", "shop/fresh"] {
        ada.done(&["offline", "keep", name])?;
    }
    fs::remove_file(ada.path("config/bursar/offline.key"))?;
    let listed = ada.json(&["offline", "list"])?;
    let names: Vec<_> =
        listed.as_array().into_iter().flatten().map(|copy| text(copy, "/environment")).collect();
    ensure!(names.len() == 2 && names.contains(&"shop/dev".to_owned()), "{listed}");
    ensure!(listed.pointer("/0/usable") == Some(&Value::Bool(true)), "{listed}");
    let table = ada.done(&["offline", "list"])?;
    ensure!(table.contains("shop/fresh") && table.contains(site::ADA) && table.contains("in 9m"), "{table}");
    ada.run(&RUN)?.refused(78, &["there is no identity", "bursar offline init"])?;

    ensure!(ada.json(&["offline", "forget", "shop/dev"])? == serde_json::json!({ "copies": 1 }), "not one");
    ensure!(ada.json(&["offline", "forget", "shop/dev"])? == serde_json::json!({ "copies": 0 }), "one more");
    ada.run(&RUN)?.refused(78, &["no copy of environment `shop/dev`"])?;
    ada.run(&["offline", "forget"])?.refused(2, &["--all"])?;
    ensure!(ada.json(&["offline", "forget", "--all"])? == serde_json::json!({ "copies": 1 }), "not one");
    ensure!(site::files(&ada)?.is_empty(), "something is left");
    Ok(())
}

#[test]
fn a_copy_that_is_not_as_it_was_made_starts_nothing() -> Result<()> {
    let site = Site::start()?;
    let ada = site.ada()?;
    ada.done(&["offline", "keep", "shop/dev"])?;
    let path = only(&ada)?;
    let good = fs::read(&path)?;
    let with = |content: &[u8]| -> Result<()> { Ok(fs::write(&path, content)?) };

    let mut changed = good.clone();
    let last = changed.last_mut().context("it is empty")?;
    *last ^= 1;
    with(&changed)?;
    ada.run(&RUN)?.refused(78, &["was changed, or was not made with this identity", "hint: "])?;
    with(good.get(..good.len() - 1).unwrap_or_default())?;
    ada.run(&RUN)?.refused(78, &["was changed"])?;
    with(b"")?;
    ada.run(&RUN)?.refused(78, &["is no copy"])?;
    // Later times in the clear are not believed.
    let head = String::from_utf8_lossy(good.get(..200).unwrap_or_default()).into_owned();
    let year = head.split("\"given_at\":\"").nth(1).and_then(|rest| rest.get(..4)).context("no year")?;
    let moved = replaced(&good, &format!("\"usable_until\":\"{year}"), "\"usable_until\":\"2999")?;
    with(&moved)?;
    ada.run(&RUN)?.refused(78, &["was changed"])?;

    with(&good)?;
    ensure!(runs(&ada)?, "the good one does not open");
    fs::set_permissions(&path, Permissions::from_mode(0o644))?;
    ada.run(&RUN)?.refused(78, &["is not yours alone", "others may read or write it", "hint: "])?;
    fs::set_permissions(&path, Permissions::from_mode(0o600))?;
    let elsewhere = ada.path("elsewhere");
    fs::rename(&path, &elsewhere)?;
    symlink(&elsewhere, &path)?;
    ada.run(&RUN)?.refused(78, &["is not yours alone", "it is a link"])
}

#[test]
fn a_copy_of_one_broker_is_none_of_another_and_none_of_another_environment() -> Result<()> {
    let site = Site::start()?;
    let mut ada = site.ada()?;
    ada.done(&["offline", "keep", "shop/dev"])?;
    let dev = only(&ada)?;
    ada.done(&["offline", "keep", "shop/fresh"])?;
    let fresh = site::files(&ada)?.into_iter().find(|path| *path != dev).context("one copy")?;
    fs::rename(&fresh, &dev)?;
    ada.run(&RUN)?.refused(78, &["is a copy of something else", "`shop/fresh`"])?;

    ada.done(&["offline", "keep", "shop/dev"])?;
    ada.set("BURSAR_ADDRESS", "https://elsewhere:8443");
    ada.run(&RUN)?.refused(78, &["no copy of environment `shop/dev` of `https://elsewhere:8443`"])
}

#[test]
fn identities_that_are_no_good_are_told_before_anything_is_leased() -> Result<()> {
    let site = Site::start()?;
    let mut ada = site.ada()?;
    let keep = ["offline", "keep", "shop/dev"];
    fs::set_permissions(ada.path("config/bursar/offline.key"), Permissions::from_mode(0o640))?;
    ada.run(&keep)?.refused(78, &["can be read by others (mode 640)", "chmod 600"])?;
    ada.write("bad.key", "hunter2\n")?;
    fs::set_permissions(ada.path("bad.key"), Permissions::from_mode(0o600))?;
    ada.set("BURSAR_OFFLINE_IDENTITY", &ada.path("bad.key").display().to_string());
    let said = ada.run(&keep)?;
    said.refused(78, &["is no age identity", "age-keygen"])?;
    ensure!(!said.stderr.contains("hunter2"), "what is in it is shown: {}", said.stderr);
    ensure!(site.admin.audit(&["--action", "keep"])?.is_empty(), "the broker was asked");
    Ok(())
}

const RUN: [&str; 7] = ["run", "--env", "shop/dev", "--offline", "--", "echo", "started"];

fn runs(cli: &Cli) -> Result<bool> {
    Ok(cli.run(&RUN)?.stdout == b"started\n")
}

/// The one file among the copies.
fn only(cli: &Cli) -> Result<PathBuf> {
    match <[PathBuf; 1]>::try_from(site::files(cli)?) {
        Ok([path]) => Ok(path),
        Err(paths) => anyhow::bail!("not one copy: {paths:?}"),
    }
}

fn replaced(bytes: &[u8], from: &str, to: &str) -> Result<Vec<u8>> {
    let at = bytes.windows(from.len()).position(|part| part == from.as_bytes()).context("it is not there")?;
    let (before, rest) = bytes.split_at(at);
    Ok([before, to.as_bytes(), rest.get(from.len()..).unwrap_or_default()].concat())
}

/// What a program of age itself writes.
fn age(program: &str, arguments: &[&str]) -> Result<Vec<u8>> {
    let output = Command::new(program).args(arguments).output().with_context(|| {
        format!("`{program}` is missing: `cargo xtask test` installs the Debian package `age`")
    })?;
    ensure!(output.status.success(), "`{program}`: {}", String::from_utf8_lossy(&output.stderr));
    Ok(output.stdout)
}
