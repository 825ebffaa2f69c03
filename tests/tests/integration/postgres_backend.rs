//! Roles of a real PostgreSQL through a real broker: used, cut and dropped, found after a crash, told of where they
//! cannot be made, and their passwords nowhere.

mod site;

use std::fs;

use anyhow::{Context, Result, ensure};
use bursar_tests::{Canary, Cli, Postgres, Process, Release, Signal, scan, wait_until};
use serde_json::Value;

use site::{LIMIT, Site, USER};

#[test]
fn a_credential_opens_until_it_is_revoked_and_what_it_opened_is_cut() -> Result<()> {
    opens_until_it_is_revoked(&Site::start(&[])?)
}

/// From 16 on whoever makes roles may give memberships only where he has the right to, and is no member of what he made.
#[test]
fn newer_servers_do_the_same_where_the_brokers_user_may_give_memberships() -> Result<()> {
    for release in [Release::Sixteen, Release::Eighteen] {
        let site = Site::start_on(Postgres::start_release(release, &[])?, "3s")?;
        opens_until_it_is_revoked(&site).with_context(|| format!("{release:?}"))?;
        site.postgres.psql(&format!("REVOKE readers FROM {USER}"))?;
        let refused = site.admin.run(&["get", "--new-lease", "pg/creds/app"])?;
        refused.refused(1, &["denied", "hint: "])?;
        ensure!(site.roles()? == "0", "a role that was refused its group is there");
    }
    Ok(())
}

fn opens_until_it_is_revoked(site: &Site) -> Result<()> {
    let credential = site.credential("app")?;
    ensure!(credential.says(site, "SELECT current_user")? == credential.user);
    ensure!(credential.says(site, "SELECT name FROM payments")? == "first");
    // A name that says which lease it is of, and an end of its own.
    let lease = site.admin.json(&["lease", "list"])?;
    let lease = lease.pointer("/0/id").and_then(Value::as_str).context("no lease")?.to_lowercase();
    ensure!(
        credential.user.starts_with("bursar_app_") && credential.user.ends_with(&lease),
        "{}",
        credential.user
    );
    let ends = format!(
        "SELECT rolvaliduntil BETWEEN now() AND now() + '10 min' FROM pg_roles WHERE rolname = '{}'",
        credential.user
    );
    ensure!(site.postgres.psql(&ends)? == "t", "it does not end by itself in time");
    credential.says(site, "CREATE TABLE kept (x int)")?;

    let mut open = credential.session(site)?;
    site.revoke("pg/creds/app")?;
    let status = open.wait(LIMIT)?;
    ensure!(!status.success(), "a session outlived its credential");
    ensure!(credential.says(site, "SELECT 1").is_err(), "it logs in after the revocation");
    ensure!(site.roles()? == "0", "the role is still there");
    // What it made is not lost.
    let owner = site.postgres.psql("SELECT tableowner FROM pg_tables WHERE tablename = 'kept'")?;
    ensure!(owner == USER, "the table is owned by `{owner}`");
    Ok(())
}

#[test]
fn what_an_interrupted_issuance_left_behind_is_found_by_its_name_and_dropped() -> Result<()> {
    let mut site = Site::start(&[])?;
    site.credential("app")?;
    site.revoke("pg/creds/app")?;
    // While this is held no role can be made, and the broker waits.
    let held = "BEGIN; LOCK TABLE pg_catalog.pg_authid IN SHARE MODE; SELECT pg_sleep(600)";
    let mut lock = site.session(Postgres::SUPERUSER, site.postgres.password().value(), held)?;
    let sleeps =
        "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(600)' AND wait_event = 'PgSleep'";
    wait_until(LIMIT, "the lock", || site.postgres.psql(sleeps).is_ok_and(|count| count == "1"))?;
    let mut get = site.admin.command()?;
    get.args(["get", "pg/creds/app"]);
    let mut get = Process::start("get", get, &site.admin.path(""))?;
    site.wait_for_broker("CREATE ROLE")?;
    site.broker.process().kill()?;
    get.wait(LIMIT)?;
    // Now the server makes it, for nobody.
    lock.kill()?;
    site.postgres
        .psql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'")?;
    wait_until(LIMIT, "the role of nobody", || site.roles().is_ok_and(|count| count == "1"))?;

    site.broker.start_again()?;
    wait_until(LIMIT, "the role to be gone", || site.roles().is_ok_and(|count| count == "0"))?;
    // Another's is none of its business.
    site.postgres.psql("CREATE ROLE bursar_app_aaaaaaaa_01arz3ndektsv4rrffq69g5fav")?;
    site.admin = Cli::administering(&site.broker)?;
    site.credential("app")?;
    site.revoke("pg/creds/app")?;
    ensure!(site.roles()? == "1", "a role of another broker was dropped");
    Ok(())
}

#[test]
fn roles_that_share_a_table_are_made_and_dropped_side_by_side() -> Result<()> {
    let site = Site::start(&[])?;
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| site.admin.done(&["get", "--new-lease", "pg/creds/granted#username"])))
            .collect();
        readers.into_iter().try_for_each(|reader| reader.join().expect("a thread").map(drop))
    })?;
    ensure!(site.roles()? == "8", "{} roles", site.roles()?);
    site.revoke("pg/creds/granted")?;
    ensure!(site.roles()? == "0", "roles are left");
    Ok(())
}

#[test]
fn a_statement_that_is_refused_leaves_nothing_and_is_found_in_the_log() -> Result<()> {
    let site = Site::start(&[])?;
    let said = site.admin.run(&["get", "pg/creds/faulty"])?;
    said.refused(1, &["`pg`", "hint: "])?;
    ensure!(site.roles()? == "0", "a role was left");
    let log = site.log()?;
    let line = log.lines().find(|line| line.contains("statement not done")).context("not in the log")?;
    for part in ["42704", "faulty", "\"statement\":2", "\"operation\":\"issue\""] {
        ensure!(line.contains(part), "`{part}` is not in {line}");
    }
    let said = site.admin.run(&["get", "pg/creds/unknown"])?;
    said.refused(1, &["pg/creds/unknown"])?;
    let folder = site.admin.done(&["secret", "list", "pg/creds"])?;
    ensure!(["app", "faulty", "granted"].iter().all(|role| folder.contains(role)), "{folder}");
    Ok(())
}

#[test]
fn a_login_that_is_refused_harms_nobody_else_and_works_again_once_it_is_mended() -> Result<()> {
    let site = Site::start(&[])?;
    site.credential("app")?;
    for (break_it, mend_it) in [
        ("VALID UNTIL '2020-01-01'", "VALID UNTIL 'infinity'"),
        ("NOLOGIN", "LOGIN"),
        ("NOCREATEROLE", "CREATEROLE"),
    ] {
        site.postgres.psql(&format!("ALTER ROLE {USER} {break_it}"))?;
        // Sessions that are open know nothing of it.
        site.postgres.psql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'bursar'",
        )?;
        let said = site.admin.run(&["get", "--new-lease", "pg/creds/app"])?;
        said.refused(1, &["`pg`", "denied", "hint: "]).context(break_it)?;
        site.admin.done(&["get", "local/a"])?;
        site.postgres.psql(&format!("ALTER ROLE {USER} {mend_it}"))?;
        wait_until(LIMIT, "the login to work", || {
            site.admin.done(&["get", "--new-lease", "pg/creds/app"]).is_ok()
        })?;
    }
    Ok(())
}

#[test]
fn a_server_that_hangs_keeps_nobody_waiting_for_another_store() -> Result<()> {
    let mut site = Site::start(&[])?;
    site.credential("app")?;
    site.postgres.signal_all(Signal::STOP)?;
    let said = site.admin.run(&["get", "--new-lease", "pg/creds/app"])?;
    site.admin.done(&["get", "local/a", "--max-age", "0s"])?;
    site.postgres.signal_all(Signal::CONT)?;
    said.refused(69, &["`pg`", "in time", "hint: "])?;
    // What the server did of it all the same is found, and gone.
    wait_until(LIMIT, "the store to be used again", || {
        site.admin.done(&["get", "--new-lease", "pg/creds/app"]).is_ok()
    })
}

#[test]
fn no_password_is_in_a_log_of_statements_or_anywhere_else() -> Result<()> {
    let mut site =
        Site::start(&["log_statement=all", "log_min_error_statement=error", "log_min_messages=debug1"])?;
    let credential = site.credential("app")?;
    let password = Canary::known("leased password", &credential.password)?;
    credential.says(&site, "SELECT 1")?;
    let lease = site.admin.json(&["lease", "list"])?;
    let lease = lease.pointer("/0/id").and_then(Value::as_str).context("no lease")?.to_owned();
    site.admin.done(&["lease", "renew", &lease])?;
    let refused = site.admin.run(&["get", "pg/creds/faulty"])?;
    site.postgres.signal_all(Signal::STOP)?;
    let hung = site.admin.run(&["get", "--new-lease", "pg/creds/app"])?;
    site.postgres.signal_all(Signal::CONT)?;
    let backup = site.broker.directory().join("backup");
    let taken = site.broker.command(&["backup", "--to", &backup.to_string_lossy()])?;
    ensure!(taken.status.success(), "{}", String::from_utf8_lossy(&taken.stderr));

    let every = [&password, &site.password];
    let mut found = scan(site.broker.directory(), &every)?;
    found.extend(scan(site.postgres.directory(), &every)?);
    found.extend(bursar_tests::scan_bytes(
        "what was said",
        format!("{refused:?}{hung:?}").as_bytes(),
        &every,
    )?);
    let metrics = site.broker.http("/metrics")?;
    found.extend(bursar_tests::scan_bytes("metrics", &metrics.body, &every)?);
    ensure!(found.is_empty(), "secrets leaked: {found:?}");
    let log = fs::read_to_string(site.postgres.directory().join("postgres.stderr"))?;
    ensure!(log.contains("CREATE ROLE \"bursar_app_"), "the server logs no statements, so nothing was shown");
    Ok(())
}

#[test]
fn a_password_that_another_backend_keeps_is_changed_there_and_at_the_server() -> Result<()> {
    let site = Site::start(&[])?;
    ensure!(site.credential_of("inside/creds/app")?.says(&site, "SELECT 1")? == "1");
    let rotate = ["backend", "rotate-root", "inside", "--reason", "a test"];
    let said = site.admin.json(&rotate)?;
    ensure!(said.get("kept").and_then(Value::as_str) == Some("local/pg/root#password@2"), "{said}");
    ensure!(
        site.postgres.psql_as(USER, site.password.value(), "SELECT 1").is_err(),
        "the old password is still good"
    );
    let new = site.admin.done(&["get", "local/pg/root#password"])?;
    ensure!(site.postgres.psql_as(USER, &new, "SELECT current_user")? == USER);
    site.cut_off()?;
    site.admin.done(&["get", "--new-lease", "inside/creds/app"])?;
    let records = site.admin.audit(&["--action", "rotate-root"])?;
    let text =
        |record: &Value, name: &str| record.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let told: Vec<_> = records
        .iter()
        .map(|record| [text(record, "outcome"), text(record, "version"), text(record, "reason")])
        .collect();
    ensure!(told == [["ok", "2", "a test"], ["asked", "", "a test"]], "{told:?}");

    for (backend, part) in [("pg", "is not Bursar's to change"), ("local", "is not Bursar's to change")] {
        let said = site.admin.run(&["backend", "rotate-root", backend])?;
        said.refused(1, &[&format!("`{backend}`"), part, "hint: "])?;
    }
    let said = site.admin.run(&["backend", "rotate-root", "nowhere"])?;
    said.refused(1, &["no backend is called `nowhere`"])?;

    let every = [&site.password, &Canary::known("new password", &new)?];
    let mut found = scan(site.broker.directory(), &every)?;
    found.extend(scan(site.postgres.directory(), &every)?);
    ensure!(found.is_empty(), "secrets leaked: {found:?}");
    Ok(())
}

#[test]
fn a_rotation_that_was_broken_off_leaves_a_login_that_works_and_is_finished_by_the_next() -> Result<()> {
    let mut site = Site::start_within("25s", &[])?;
    site.admin.done(&["get", "inside/creds/app"])?;
    let mut lock = site.lock_roles()?;
    let mut rotate = site.admin.command()?;
    rotate.args(["backend", "rotate-root", "inside"]);
    let mut rotate = Process::start("rotate", rotate, &site.admin.path(""))?;
    site.wait_for_broker("ALTER ROLE CURRENT_USER")?;
    // The new one is kept, and the server never has it.
    site.broker.process().kill()?;
    rotate.wait(LIMIT)?;
    site.cut_off()?;
    site.unlock(&mut lock)?;

    site.broker.start_again()?;
    site.admin = Cli::administering(&site.broker)?;
    let kept = site.admin.done(&["get", "local/pg/root#password"])?;
    ensure!(kept != site.password.value(), "nothing was kept, so nothing was shown");
    ensure!(site.postgres.psql_as(USER, &kept, "SELECT 1").is_err(), "the server has it already");
    site.admin.done(&["get", "--new-lease", "inside/creds/app"])?;

    let said = site.admin.json(&["backend", "rotate-root", "inside"])?;
    ensure!(said.get("kept").and_then(Value::as_str) == Some("local/pg/root#password@2"), "{said}");
    ensure!(site.postgres.psql_as(USER, &kept, "SELECT current_user")? == USER, "it was not finished");
    site.cut_off()?;
    site.admin.done(&["get", "--new-lease", "inside/creds/app"])?;
    let said = site.admin.json(&["backend", "rotate-root", "inside"])?;
    ensure!(said.get("kept").and_then(Value::as_str) == Some("local/pg/root#password@3"), "{said}");
    Ok(())
}

#[test]
fn a_standing_role_gets_another_password_on_schedule_and_what_was_broken_off_is_finished() -> Result<()> {
    let mut site = Site::start(&["log_statement=all"])?;
    site.postgres.psql("CREATE ROLE legacy LOGIN")?;
    let standing =
        |rotation: &str| format!("[backends.pg.static.legacy]\nuser = 'legacy'\nrotation = '{rotation}'\n");
    let config = fs::read_to_string(site.broker.config())?;
    let config = config.replace("kind = 'postgres'", "kind = 'postgres'\nkeep_in = 'local/standing'");
    let with = |rotation: &str| format!("{config}{}", standing(rotation));
    let restart = |site: &mut Site, config: String| {
        site.broker.process().stop()?;
        fs::write(site.broker.config(), config)?;
        site.broker.start_again()?;
        site.admin = Cli::administering(&site.broker)?;
        anyhow::Ok(())
    };

    // The first as soon as it is configured.
    restart(&mut site, with("1h"))?;
    wait_until(LIMIT, "the first password", || site.admin.done(&["get", "pg/static/legacy"]).is_ok())?;
    let read: Value = serde_json::from_str(&site.admin.done(&["get", "pg/static/legacy"])?)?;
    let password = |read: &Value| read.get("password").and_then(Value::as_str).map(str::to_owned);
    let first = password(&read).context("no password")?;
    ensure!(read.get("username").and_then(Value::as_str) == Some("legacy"), "another user");
    ensure!(site.postgres.psql_as("legacy", &first, "SELECT current_user")? == "legacy");
    ensure!(site.admin.done(&["secret", "list", "pg/static"])?.contains("legacy"));
    let said = site.admin.run(&["get", "pg/static/legacy@7"])?;
    said.refused(1, &["hint: "])?;

    // One that was kept as what is to come, and did not get to the server.
    site.broker.process().stop()?;
    site.broker.start_again()?;
    site.admin = Cli::administering(&site.broker)?;
    let next = Canary::alphanumeric("password to come");
    let put = ["secret", "put", "local/standing/legacy/next", "--field", "password"];
    site.admin.done_with(&put, next.value().as_bytes())?;
    restart(&mut site, with("1h"))?;
    wait_until(LIMIT, "the rotation to be finished", || {
        site.admin
            .done(&["get", "pg/static/legacy#password", "--max-age", "0s"])
            .is_ok_and(|now| now == next.value())
    })?;
    ensure!(site.postgres.psql_as("legacy", next.value(), "SELECT current_user")? == "legacy");

    // And when it is due. What is cached is not served any more.
    restart(&mut site, with("2s"))?;
    wait_until(LIMIT, "another password", || {
        site.admin.done(&["get", "pg/static/legacy#password"]).is_ok_and(|now| now != next.value())
    })?;
    let records = site.admin.audit(&["--action", "rotate"])?;
    ensure!(records.len() >= 3, "{records:?}");
    let oldest = records.last().context("no record")?;
    let text = |name: &str| oldest.pointer(name).and_then(Value::as_str).unwrap_or_default();
    ensure!(text("/resource") == "pg/static/legacy" && text("/version") == "1", "{oldest}");
    ensure!(text("/actor/principal").contains("/broker/"), "{oldest}");

    let metrics = String::from_utf8_lossy(&site.broker.http("/metrics")?.body).into_owned();
    let counted = "bursar_backend_calls_total{backend=\"pg\",operation=\"rotate\",outcome=\"ok\"}";
    ensure!(metrics.contains(counted), "rotations are not counted");

    let every = [&Canary::known("first password", &first)?, &next];
    let mut found = scan(site.broker.directory(), &every)?;
    found.extend(scan(site.postgres.directory(), &every)?);
    ensure!(found.is_empty(), "secrets leaked: {found:?}");
    Ok(())
}
