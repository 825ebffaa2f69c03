//! `bursar offline` and `bursar run --offline`: what may be kept, by whom and how long, and that a copy opens for its
//! owner, in time and as it was made, and for nobody else.

mod copies;
mod site;

use anyhow::{Context, Result, ensure};
use bursar_tests::{Cli, wait_for};
use serde_json::Value;

use site::{LIMIT, PEM, Site, text};

#[test]
fn a_program_runs_on_a_copy_when_there_is_no_broker_and_says_so() -> Result<()> {
    let mut site = Site::start()?;
    let ada = site.ada()?;
    let kept = ada.json(&["offline", "keep", "shop/dev", "--reason", "on the train"])?;
    ensure!(text(&kept, "/principal") == site::ADA && text(&kept, "/environment") == "shop/dev", "{kept}");
    ensure!(text(&kept, "/broker") == site.broker.address(), "{kept}");
    site.broker.process().kill()?;

    let script = "printf '%s %s ' \"$KEY\" \"$LEVEL\"; cat \"$BURSAR_FILES/tls/key.pem\"";
    let run = ["run", "--env", "shop/dev", "--offline", "--", "sh", "-c", script];
    let said = ada.run(&run)?;
    ensure!(said.code == Some(0), "{}", said.stderr);
    ensure!(
        said.stdout == format!("{} info {}", site.key.value(), PEM.trim_end()).as_bytes(),
        "it got something else"
    );
    for part in ["offline: `sh` runs on a copy of environment `shop/dev`", site::ADA] {
        ensure!(said.stderr.contains(part), "`{part}` is not in what it said: {}", said.stderr);
    }
    let until = site::time(&kept, "/usable_until")?.round(jiff::Unit::Second)?;
    ensure!(said.stderr.contains(&format!("usable until {until} (in ")), "{}", said.stderr);

    // As without it: masked, and outside of the environment.
    let masked = ada.run(&["run", "--env", "shop/dev", "--offline", "--mask", "--", "sh", "-c", script])?;
    let shown = String::from_utf8_lossy(&masked.stdout).into_owned();
    ensure!(shown == "[masked:KEY] info [masked:tls/key.pem]", "{shown}{}", masked.stderr);
    for way in ["files", "fd"] {
        let script = "test -z \"$KEY\" && cat \"$KEY_FILE\"; exit 7";
        let said =
            ada.run(&["run", "--env", "shop/dev", "--offline", "--as", way, "--", "sh", "-c", script])?;
        ensure!(said.code == Some(7) && said.stdout == site.key.value().as_bytes(), "{way}: {}", said.stderr);
    }
    Ok(())
}

#[test]
fn keeping_is_allowed_by_policy_and_environment_together_and_denied_without_either() -> Result<()> {
    let site = Site::start()?;
    let (ada, bob) = (site.ada()?, site.cli(site::BOB)?);
    bob.done(&["offline", "init"])?;
    bob.done(&["run", "--env", "shop/dev", "--", "true"])?;
    bob.run(&["offline", "keep", "shop/dev"])?.refused(77, &["policy does not allow this"])?;
    let denied = site.newest("keep")?;
    ensure!(
        text(&denied, "/outcome") == "denied" && text(&denied, "/actor/principal") == site::BOB,
        "{denied}"
    );
    ensure!(text(&denied, "/resource") == "shop/dev" && denied.get("kept_until").is_none(), "{denied}");

    // What its base allows, an environment has to say itself.
    for name in ["shop/prod", "shop/base"] {
        let words = format!("environment `{name}` does not say `offline` itself");
        ada.run(&["offline", "keep", name])?.refused(1, &[&words, "hint: "])?;
        ada.done(&["run", "--env", name, "--", "true"])?;
    }
    let refused = site.newest("keep")?;
    ensure!(text(&refused, "/error_kind") == "environment_not_kept", "{refused}");
    ada.run(&["offline", "keep", "shop/absent"])?.refused(1, &["there is no environment `shop/absent`"])
}

#[test]
fn what_a_store_makes_for_each_lease_is_named_and_not_asked_for() -> Result<()> {
    let site = Site::start()?;
    let said = site.ada()?.run(&["offline", "keep", "shop/leased"])?;
    said.refused(
        1,
        &[
            "stores make 3 of its entries for each lease",
            "variable `URL`",
            "variable `USER`",
            "file `pgpass`",
        ],
    )?;
    ensure!(!said.stderr.contains("`KEY`"), "what could be kept is named: {}", said.stderr);
    let metrics = String::from_utf8_lossy(&site.broker.http("/metrics")?.body).into_owned();
    ensure!(!metrics.contains("operation=\"issue\""), "the store was asked: {metrics}");
    ensure!(site.admin.json(&["lease", "list"])? == Value::Array(Vec::new()), "something was leased");
    Ok(())
}

#[test]
fn the_record_says_that_a_copy_was_kept_and_until_when_and_so_do_the_leases() -> Result<()> {
    let site = Site::start()?;
    let ada = site.ada()?;
    let kept = ada.json(&["offline", "keep", "shop/dev", "--reason", "ticket 7", "--ttl", "2h"])?;
    let (given, until) = (site::time(&kept, "/given_at")?, site::time(&kept, "/usable_until")?);
    ensure!(until.as_second() - given.as_second() == 7_200, "{kept}");
    let record = site.newest("keep")?;
    ensure!(site::time(&record, "/kept_until")? == until, "{record}");
    ensure!(text(&record, "/outcome") == "ok" && text(&record, "/reason") == "ticket 7", "{record}");
    ensure!(record.pointer("/policies/0").and_then(Value::as_str) == Some("ada-keeps"), "{record}");
    let resolved = site.newest("resolve")?;
    ensure!(text(&resolved, "/outcome") == "ok" && resolved.get("kept_until").is_none(), "{resolved}");

    // Whoever asks who holds what sees it for as long as the copy may be used.
    let leases = site.admin.json(&["lease", "list"])?;
    let leases = leases.as_array().context("no list")?;
    ensure!(leases.len() == 2, "{leases:?}");
    for lease in leases {
        ensure!(
            site::time(lease, "/expires_at")? >= until && text(lease, "/environment") == "shop/dev",
            "{lease}"
        );
    }
    site.admin.done(&["audit", "verify"])?;
    let metrics = String::from_utf8_lossy(&site.broker.http("/metrics")?.body).into_owned();
    ensure!(metrics.contains("bursar_offline_copies_total 1"), "{metrics}");

    // No longer than the environment says, whatever is asked for.
    let longer = ada.json(&["offline", "keep", "shop/dev", "--ttl", "100h"])?;
    let (given, until) = (site::time(&longer, "/given_at")?, site::time(&longer, "/usable_until")?);
    ensure!(until.as_second() - given.as_second() == 8 * 3_600, "{longer}");
    // Nor than a value in it may be old.
    let fresh = ada.json(&["offline", "keep", "shop/fresh"])?;
    let (given, until) = (site::time(&fresh, "/given_at")?, site::time(&fresh, "/usable_until")?);
    ensure!((540..=600).contains(&(until.as_second() - given.as_second())), "{fresh}");
    Ok(())
}

#[test]
fn a_copy_outlasts_the_token_by_which_it_was_got_and_a_lease_of_other_kinds_does_not() -> Result<()> {
    let site = Site::start()?;
    let person = site.bearing_a_token(600)?;
    person.done(&["offline", "init"])?;
    let kept = person.json(&["offline", "keep", "shop/dev"])?;
    ensure!(site::time(&kept, "/usable_until")?.as_second() > site::now() + 7 * 3_600, "{kept}");
    let read = person.json(&["get", "local/shop#key"])?;
    ensure!(site::time(&read, "/expires_at")?.as_second() <= site::now() + 660, "a lease outlives its token");
    Ok(())
}

#[test]
fn a_refusal_to_keep_forgets_what_was_kept_before() -> Result<()> {
    let site = Site::start()?;
    let ada = site.ada()?;
    ada.done(&["offline", "keep", "shop/dev"])?;
    site.admin.apply_policies(&site::POLICIES.replace("Action::\"keep\"", "Action::\"watch\""), "")?;
    let said = ada.run(&["offline", "keep", "shop/dev"])?;
    said.refused(77, &["policy does not allow this", "the copy of `shop/dev` that was kept is removed"])?;
    ada.run(&["run", "--env", "shop/dev", "--offline", "--", "true"])?
        .refused(78, &["no copy of environment `shop/dev`", "hint: "])?;
    // An outage forgets nothing.
    site.admin.apply_policies(site::POLICIES, "")?;
    ada.done(&["offline", "keep", "shop/dev"])?;
    let unreached = ["--address", "https://127.0.0.1:1", "offline", "keep", "shop/dev"];
    ada.run(&unreached)?.refused(69, &["cannot connect"])?;
    ada.done(&["run", "--env", "shop/dev", "--offline", "--", "true"])?;
    Ok(())
}

#[test]
fn an_agent_gives_out_no_copies() -> Result<()> {
    let site = Site::start()?;
    let (agent, uid) = (site.agent()?, rustix::process::getuid().as_raw());
    site.admin.apply_policies(site::POLICIES, &site::registration(uid))?;
    let workload = Cli::through(&agent.socket())?;
    workload.done(&["offline", "init"])?;
    workload.done(&["run", "--env", "shop/dev", "--", "true"])?;
    workload
        .run(&["offline", "keep", "shop/dev"])?
        .refused(1, &["an agent gives out no copies to be kept", "ask the broker itself"])?;
    ensure!(site.admin.audit(&["--action", "keep"])?.is_empty(), "the broker was asked");
    Ok(())
}

#[test]
fn a_copy_ends_by_itself_and_is_removed_where_it_is_met() -> Result<()> {
    let site = Site::start()?;
    let ada = site.ada()?;
    let run = ["run", "--env", "shop/dev", "--offline", "--", "echo", "started"];
    ada.done(&["offline", "keep", "shop/dev", "--ttl", "1s"])?;
    let over =
        wait_for(LIMIT, "the copy to end", || Ok(Some(ada.run(&run)?).filter(|said| said.code != Some(0))))?;
    over.refused(78, &["the copy of environment `shop/dev` could be used until", "is removed", "hint: "])?;
    ada.run(&run)?.refused(78, &["no copy of environment `shop/dev`"])?;

    ada.done(&["offline", "keep", "shop/dev", "--ttl", "1s"])?;
    wait_for(LIMIT, "the list to drop the copy", || {
        Ok(ada.run(&["offline", "list"])?.stderr.contains("no copy is kept here").then_some(()))
    })?;
    ensure!(site::files(&ada)?.is_empty(), "it is still there");
    Ok(())
}

#[test]
fn what_needs_a_broker_is_refused_together_with_offline() -> Result<()> {
    let site = Site::start()?;
    let ada = site.ada()?;
    for with in [
        &["--on-change", "restart"][..],
        &["--on-change", "none", "--tied"],
        &["--new-lease"],
        &["--ttl", "1h"],
        &["--reason", "x"],
    ] {
        let said = ada.run(&[&["run", "--env", "shop/dev", "--offline"], with, &["--", "true"]].concat())?;
        said.refused(2, &["--offline", "cannot be used with", with.first().copied().unwrap_or_default()])?;
    }
    Ok(())
}
