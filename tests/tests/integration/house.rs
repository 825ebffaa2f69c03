//! The rules of the house that no lint knows: which crate may know which, where secrets are opened, how long files are.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// What each crate may depend on among our own. Dependencies point one way; agent and broker never see each other, and
/// core sees nobody.
const HOUSE: &[(&str, &[&str])] = &[
    ("bursar-core", &[]),
    ("bursar-proto", &["bursar-core"]),
    ("bursar-backend-http", &["bursar-core"]),
    ("bursar-backend-aws", &["bursar-backend-http", "bursar-core"]),
    ("bursar-backend-azure", &["bursar-backend-http", "bursar-core"]),
    ("bursar-backend-gcp", &["bursar-backend-http", "bursar-core"]),
    ("bursar-backend-local", &["bursar-core"]),
    ("bursar-postgres", &["bursar-core"]),
    ("bursar-backend-postgres", &["bursar-core", "bursar-postgres"]),
    ("bursar-backend-vault", &["bursar-backend-http", "bursar-core"]),
    (
        "bursar-broker",
        &[
            "bursar-core",
            "bursar-proto",
            "bursar-backend-aws",
            "bursar-backend-azure",
            "bursar-backend-gcp",
            "bursar-backend-http",
            "bursar-backend-local",
            "bursar-backend-postgres",
            "bursar-backend-vault",
            "bursar-postgres",
        ],
    ),
    ("bursar-exec", &["bursar-core"]),
    ("bursar-sdk", &["bursar-core", "bursar-proto"]),
    ("bursar-agent", &["bursar-core", "bursar-proto", "bursar-sdk"]),
    ("bursar", &["bursar-core", "bursar-exec", "bursar-proto", "bursar-sdk"]),
    ("bursar-tests", &["bursar-core"]),
    (
        "bursar-bench",
        &["bursar-agent", "bursar-broker", "bursar-core", "bursar-proto", "bursar-sdk", "bursar-tests"],
    ),
    ("bursar-fuzz", &["bursar-agent", "bursar-broker", "bursar-core", "bursar-proto", "bursar-tests"]),
    ("bursar-pod", &[]),
    ("bursar-torture", &["bursar-core", "bursar-proto", "bursar-sdk", "bursar-tests"]),
    ("xtask", &["bursar-tests"]),
];

/// The files that open a secret. A new one belongs here only after somebody has asked why it has to.
const OPENERS: &[&str] = &[
    "agent/src/attest/bearer.rs",
    "agent/src/aws/body.rs",
    "agent/src/csi/asked.rs",
    "agent/src/files/directory/compare.rs",
    "agent/src/files/directory/write.rs",
    "agent/src/files/render/formats.rs",
    "agent/src/files/render/template.rs",
    "agent/src/node/credential.rs",
    "agent/src/node/keep.rs",
    "agent/src/sds/content.rs",
    "agent/src/systemd/give.rs",
    "agent/src/state/key.rs",
    "agent/src/state/seal.rs",
    "agent/src/webhook/certificate.rs",
    "agent/src/webhook/certificate/files.rs",
    "agent/src/webhook/certificate/kept.rs",
    "agent/src/webhook/certificate/made.rs",
    "broker/backends/aws/src/access.rs",
    "broker/backends/aws/src/value.rs",
    "broker/backends/aws/src/wrapping.rs",
    "broker/backends/azure/src/access.rs",
    "broker/backends/azure/src/value.rs",
    "broker/backends/gcp/src/login/grant.rs",
    "broker/backends/gcp/src/login/key.rs",
    "broker/backends/gcp/src/login/subject.rs",
    "broker/backends/gcp/src/payload.rs",
    "broker/backends/http/src/assertion.rs",
    "broker/backends/http/src/credential.rs",
    "broker/backends/local/src/keys.rs",
    "broker/backends/postgres/src/scram.rs",
    "broker/backends/vault/src/token.rs",
    "broker/backends/vault/src/transit.rs",
    "broker/backends/vault/src/trust.rs",
    "broker/backends/vault/src/wrapping.rs",
    "broker/postgres/src/session.rs",
    "broker/src/environment/render.rs",
    "broker/src/https/reply.rs",
    "broker/src/identity/authority.rs",
    "broker/src/init.rs",
    "broker/src/keys.rs",
    "broker/src/lease/again.rs",
    "broker/src/ledger/engine/postgres/access.rs",
    "broker/src/identity/token/mod.rs",
    "broker/src/membership/join.rs",
    "broker/src/seal.rs",
    "broker/src/sealing.rs",
    "cli/src/disclose.rs",
    "cli/src/offline/seal.rs",
    "core/src/secret.rs",
    "core/src/secret/bytes.rs",
    "exec/src/folder.rs",
    "exec/src/mask/patterns.rs",
    "exec/src/mask/pieces.rs",
    "exec/src/sealed.rs",
    "proto/src/convert/secret.rs",
    "sdk/rust/src/connect/tls.rs",
    "sdk/rust/src/handle.rs",
    "sdk/rust/src/token/claims.rs",
];

#[test]
fn dependencies_point_one_way() -> Result<()> {
    let output =
        Command::new(env!("CARGO")).args(["metadata", "--no-deps", "--format-version=1"]).output()?;
    ensure!(output.status.success(), "`cargo metadata` failed");
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let packages = metadata.get("packages").and_then(Value::as_array).context("no packages")?;
    let name = |value: &Value| value.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    let ours: BTreeSet<String> = packages.iter().map(name).collect();
    let allowed: BTreeMap<&str, &[&str]> = HOUSE.iter().copied().collect();
    for package in packages {
        let this = name(package);
        let may =
            allowed.get(this.as_str()).with_context(|| format!("`{this}` is not in HOUSE; put it there"))?;
        let needs = package.get("dependencies").and_then(Value::as_array).context("no dependencies")?;
        for need in needs.iter().filter(|need| need.get("kind").is_none_or(Value::is_null)) {
            let other = name(need);
            ensure!(
                !ours.contains(&other) || may.contains(&other.as_str()),
                "`{this}` may not depend on `{other}`: see ARCHITECTURE.md for who may know whom"
            );
        }
    }
    Ok(())
}

#[test]
fn secrets_are_opened_in_few_known_files() -> Result<()> {
    let mut found = BTreeSet::new();
    for (path, text) in sources()? {
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        let is_test = path.contains("tests") || path.contains("/testing") || path.ends_with("fake.rs");
        if !is_test && (code.contains(".expose()") || code.contains("Secret::expose")) {
            found.insert(path);
        }
    }
    let known: BTreeSet<String> = OPENERS.iter().map(ToString::to_string).collect();
    let new: Vec<_> = found.difference(&known).collect();
    let gone: Vec<_> = known.difference(&found).collect();
    ensure!(new.is_empty(), "these files open a secret: {new:?}; if they must, put them into OPENERS");
    ensure!(gone.is_empty(), "these files open no secret any more: {gone:?}; take them out of OPENERS");
    Ok(())
}

#[test]
fn no_file_is_longer_than_800_lines() -> Result<()> {
    let long: Vec<_> = sources()?.into_iter().filter(|(_, text)| text.lines().count() > 800).collect();
    let names: Vec<_> = long.iter().map(|(path, _)| path).collect();
    ensure!(long.is_empty(), "split these by what they do: {names:?}");
    Ok(())
}

#[test]
fn every_test_that_the_threat_model_names_is_there() -> Result<()> {
    let page = std::fs::read_to_string(root()?.join("docs/threat-model.md"))?;
    let sources: BTreeMap<String, String> = sources()?.into_iter().collect();
    let named: Vec<_> = page.split('`').filter_map(|quoted| quoted.split_once(".rs::")).collect();
    ensure!(named.len() > 50, "the page names {} tests; is their form another?", named.len());
    let missing = named.iter().filter(|(file, test)| {
        let source = sources.get(&format!("{file}.rs"));
        source.is_none_or(|source| !source.contains(&format!("fn {test}(")))
    });
    let missing: Vec<_> = missing.map(|(file, test)| format!("{file}.rs::{test}")).collect();
    ensure!(missing.is_empty(), "docs/threat-model.md names tests that are not there: {missing:#?}");
    Ok(())
}

#[test]
fn one_tls_stack_and_no_other() -> Result<()> {
    let lock = std::fs::read_to_string(root()?.join("Cargo.lock"))?;
    for refused in ["aws-lc-sys", "aws-lc-rs", "openssl-sys", "native-tls"] {
        ensure!(
            !lock.contains(&format!("name = \"{refused}\"")),
            "`{refused}` is in Cargo.lock; find who brings it by `cargo tree -i {refused}`"
        );
    }
    Ok(())
}

/// Every source file of ours under version control or about to be, by its path from the root.
fn sources() -> Result<Vec<(String, String)>> {
    let root = root()?;
    let mut left = vec![root.clone()];
    let mut sources = Vec::new();
    while let Some(directory) = left.pop() {
        for entry in std::fs::read_dir(&directory)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() {
                if name != "target" && !name.starts_with('.') {
                    left.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let from_root = path.strip_prefix(&root)?.to_string_lossy().into_owned();
                sources.push((from_root, std::fs::read_to_string(&path)?));
            }
        }
    }
    Ok(sources)
}

fn root() -> Result<PathBuf> {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    Ok(tests.parent().context("the tests have no workspace above them")?.to_owned())
}
