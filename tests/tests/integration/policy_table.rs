//! Sets of policies: tried against a table of what is expected, and put in force again.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::local_site::LocalSite;

#[test]
fn a_table_of_decisions_is_put_to_policies_before_they_are_applied() -> Result<()> {
    let site = LocalSite::start("")?;
    let path = |name: &str| site.broker.directory().join(name).display().to_string();
    let policies = [SHOP, BY_NIGHT].concat();
    fs::write(path("new.cedar"), &policies)?;
    fs::write(path("expected.toml"), EXPECTED)?;
    let (table, new) = (path("expected.toml"), path("new.cedar"));

    let tested = site.bursar(&["policy", "test", &table, &new])?;
    let said = String::from_utf8_lossy(&tested.stderr).into_owned();
    ensure!(tested.status.success() && said.contains("4 decisions as expected"), "{said}");

    // Of those in force nobody has heard of the shop.
    let tested = site.bursar(&["policy", "test", &table, "--output", "json"])?;
    let said = String::from_utf8_lossy(&tested.stderr).into_owned();
    ensure!(tested.status.code() == Some(1) && said.contains("2 of 4 decisions not as expected"), "{said}");
    let outcomes: Value = serde_json::from_slice(&tested.stdout)?;
    let first = |pointer: &str| outcomes.pointer(&format!("/0{pointer}")).cloned();
    ensure!(first("/as_expected") == Some(Value::Bool(false)), "{outcomes}");
    ensure!(first("/decided/decision") == Some("deny".into()), "{outcomes}");

    fs::write(path("new.cedar"), policies.replace("context.reason", "context.raeson"))?;
    let refused = site.bursar(&["policy", "test", &table, &new])?;
    let faults = String::from_utf8_lossy(&refused.stdout).into_owned();
    ensure!(!refused.status.success() && faults.contains("new.cedar:"), "{faults}");
    let records = site.done(&["audit", "query", "--action", "check-policy"])?;
    ensure!(records.matches("check-policy").count() == 3, "{records}");
    Ok(())
}

#[test]
fn policies_that_were_in_force_are_put_in_force_again_and_what_they_replace_is_kept() -> Result<()> {
    let site = LocalSite::start("")?;
    let set = |revision: Option<u64>| -> Result<Value> {
        let revision = revision.map(|revision| format!("--revision={revision}"));
        let arguments: Vec<_> =
            ["policy", "get", "--output=json"].into_iter().chain(revision.as_deref()).collect();
        Ok(serde_json::from_str(&site.done(&arguments)?)?)
    };
    let said = |arguments: &[&str]| -> Result<(Option<i32>, String)> {
        let output = site.bursar(arguments)?;
        Ok((output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned()))
    };
    let first = set(None)?;
    let revision = first.get("revision").and_then(Value::as_u64).context("a revision")?;
    let directory = site.broker.directory().join("policies");
    let path = directory.display().to_string();
    site.done(&["policy", "get", "--out", &path])?;
    fs::write(directory.join("new.cedar"), SHOP)?;
    site.done(&["policy", "apply", &path])?;
    let second = set(None)?;
    ensure!(second.get("files") != first.get("files"), "{second}");

    let (code, words) = said(&["policy", "rollback"])?;
    let promised = format!("revision {} is in force, with the policies of revision {revision}", revision + 2);
    ensure!(code == Some(0) && words.contains(&promised), "{words}");
    let third = set(None)?;
    ensure!(third.get("files") == first.get("files"), "{third}");
    ensure!(third.get("revision") == Some(&(revision + 2).into()), "{third}");
    ensure!(
        set(Some(revision + 1))?.get("files") == second.get("files"),
        "the set that was replaced is gone"
    );

    for (which, why) in
        [("0", "no policies were"), (&*(revision + 2).to_string(), "is the one in force"), ("99", "99")]
    {
        let (code, words) = said(&["policy", "rollback", which])?;
        ensure!(code != Some(0) && words.contains(why), "{which}: {words}");
    }
    ensure!(set(None)?.get("revision") == Some(&(revision + 2).into()), "what was refused changed something");
    let history: Vec<Value> = serde_json::from_str(&site.done(&["policy", "history", "--output=json"])?)?;
    let newest = |place: usize, key: &str| history.get(place).and_then(|set| set.get(key));
    ensure!(newest(0, "revision") == Some(&(revision + 2).into()), "{history:?}");
    ensure!(newest(0, "applied_by") == Some(&"spiffe://example.org/user/admin".into()), "{history:?}");
    ensure!(newest(0, "changed") == Some(&vec!["new.cedar"].into()), "what was taken out again: {history:?}");
    ensure!(newest(1, "changed") == Some(&vec!["new.cedar"].into()), "what was put in: {history:?}");
    ensure!(history.len() as u64 == revision + 2, "{history:?}");
    // Page by page it is the same.
    let few: Vec<Value> =
        serde_json::from_str(&site.done(&["policy", "history", "--limit=1", "--output=json"])?)?;
    ensure!(few.first() == history.first() && few.len() == 1, "{few:?}");
    let records = site.done(&["audit", "query", "--action", "apply-policy"])?;
    ensure!(records.matches("apply-policy").count() >= 2, "{records}");
    Ok(())
}

/// Whatever the time is.
const SHOP: &str = r#"
@id("shop")
permit (principal in Bursar::Group::"shop", action == Bursar::Action::"read", resource in Bursar::Folder::"local/shop")
when { context has reason && context.reason like "ticket *" };
"#;

const BY_NIGHT: &str = r#"
@id("by-night")
forbid (principal, action, resource) when { context.time.toTime() < duration("6h") };
"#;

const EXPECTED: &str = r#"
[[decision]]
principal = "spiffe://example.org/workload/web"
action = "read"
resource = "local/shop/db"
context = { groups = "shop", node = "spiffe://example.org/node/web-1", method = "node", reason = "ticket 1", time = "2026-01-31T12:00:00Z" }
expect = "allow"
policies = ["shop"]
[[decision]]
principal = "spiffe://example.org/workload/web"
action = "read"
resource = "local/shop/db"
context = { groups = "shop", reason = "ticket 1", time = "2026-01-31T03:00:00Z" }
expect = "deny"
policies = ["by-night"]
[[decision]]
principal = "spiffe://example.org/workload/web"
action = "read"
resource = "local/shop/db"
context = { groups = "shop", time = "2026-01-31T12:00:00Z" }
expect = "deny"
[[decision]]
principal = "spiffe://example.org/workload/web"
action = "destroy"
resource = "local/shop/db"
expect = "deny"
"#;
