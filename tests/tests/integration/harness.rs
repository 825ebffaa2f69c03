//! The harness itself: its servers are the real ones, and what it finds it finds.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use bursar_tests::{Canary, OpenBao, Postgres, Process, Signal, binary, http, scan, wait_until};
use serde_json::{Value, json};

#[test]
fn openbao_keeps_what_is_written_through_seal_and_restart() -> Result<()> {
    let mut bao = OpenBao::start()?;
    let canary = Canary::random("kv value");
    bao.enable_kv("kv")?;
    bao.api("POST", "kv/data/payments/db", &json!({ "data": { "password": canary.value() } }))?;
    let unchanged = |bao: &OpenBao| -> Result<bool> {
        let answer = bao.api("GET", "kv/data/payments/db", &Value::Null)?;
        Ok(answer.pointer("/data/data/password").and_then(Value::as_str) == Some(canary.value()))
    };
    assert!(unchanged(&bao)?, "OpenBao gave back another value than was written");

    bao.seal()?;
    let refusal = unchanged(&bao).unwrap_err().to_string();
    assert!(refusal.contains("503"), "a sealed OpenBao answered: {refusal}");
    bao.unseal()?;
    assert!(unchanged(&bao)?, "the value changed while OpenBao was sealed");

    bao.stop()?;
    assert!(unchanged(&bao).is_err(), "OpenBao answers although it was stopped");
    bao.start_again()?;
    assert!(unchanged(&bao)?, "the value changed while OpenBao was stopped");
    Ok(())
}

#[test]
fn openbao_audits_without_the_value() -> Result<()> {
    let bao = OpenBao::start()?;
    let canary = Canary::random("kv value");
    bao.enable_kv("kv")?;
    bao.api("POST", "kv/data/audited", &json!({ "data": { "password": canary.value() } }))?;
    let audit = fs::read_to_string(bao.audit_file())?;
    assert!(audit.contains("kv/data/audited"), "the audit file does not name the path");
    // Its storage is encrypted, its audit keyed: nothing under its directory may hold the value or a token.
    assert_eq!(scan(bao.directory(), &[&canary, bao.root_token()])?, []);
    Ok(())
}

#[test]
fn an_approle_has_the_rights_of_its_policy_and_no_other() -> Result<()> {
    let bao = OpenBao::start()?;
    bao.enable_kv("kv")?;
    bao.api("POST", "kv/data/mine", &json!({ "data": { "a": "b" } }))?;
    bao.api("POST", "kv/data/other", &json!({ "data": { "a": "b" } }))?;
    let role = bao.approle("payments", r#"path "kv/data/mine" { capabilities = ["read"] }"#)?;
    let login = json!({ "role_id": role.role_id, "secret_id": role.secret_id.value() });
    let login = bao.api("POST", "auth/approle/login", &login)?;
    let token =
        login.pointer("/auth/client_token").and_then(Value::as_str).context("the login gave no token")?;
    bao.api_as(token, "GET", "kv/data/mine", &Value::Null)?;
    let refusal = bao.api_as(token, "GET", "kv/data/other", &Value::Null).unwrap_err().to_string();
    assert!(refusal.starts_with("OpenBao answered 403"), "{refusal}");
    // A second one finds the login method there already.
    bao.approle("shop", r#"path "kv/data/other" { capabilities = ["read"] }"#)?;
    Ok(())
}

#[test]
fn openbao_serves_by_tls_under_its_own_authority() -> Result<()> {
    let bao = OpenBao::start()?;
    let trusting = bao.client()?.arg("status").output()?.status;
    assert!(trusting.success(), "the certificate is not trusted by its own authority: {trusting}");
    let trusting = bao.client()?.env_remove("BAO_CACERT").arg("status").output()?.status;
    assert!(!trusting.success(), "the certificate is trusted without its authority");
    Ok(())
}

#[test]
fn a_database_lease_is_a_role_that_logs_in_until_it_is_revoked() -> Result<()> {
    let postgres = Postgres::start()?;
    postgres.psql("CREATE TABLE orders (id int); INSERT INTO orders VALUES (7)")?;
    let bao = OpenBao::start()?;
    bao.enable_database("database", &postgres)?;
    bao.database_role("database", "app", Duration::from_secs(600))?;

    let lease = bao.api("GET", "database/creds/app", &Value::Null)?;
    let field = |pointer: &str| {
        lease
            .pointer(pointer)
            .and_then(Value::as_str)
            .with_context(|| format!("the lease has no `{pointer}`"))
    };
    let (user, password) = (field("/data/username")?, field("/data/password")?);
    assert_eq!(lease.get("lease_duration"), Some(&json!(600)));
    assert_eq!(postgres.psql_as(user, password, "SELECT id FROM orders")?, "7");
    assert_eq!(roles(&postgres, user)?, "1");

    bao.api("PUT", "sys/leases/revoke", &json!({ "lease_id": field("/lease_id")?, "sync": true }))?;
    assert_eq!(roles(&postgres, user)?, "0");
    postgres.psql_as(user, password, "SELECT id FROM orders").unwrap_err();
    Ok(())
}

fn roles(postgres: &Postgres, name: &str) -> Result<String> {
    postgres.psql(&format!("SELECT count(*) FROM pg_roles WHERE rolname = '{name}'"))
}

#[test]
fn postgres_refuses_a_wrong_password() -> Result<()> {
    let postgres = Postgres::start()?;
    let error = postgres.psql_as(Postgres::SUPERUSER, "guessed", "SELECT 1").unwrap_err().to_string();
    assert!(error.contains("password authentication failed"), "{error}");
    Ok(())
}

#[test]
fn a_failing_statement_stays_out_of_the_log_of_postgres() -> Result<()> {
    let postgres = Postgres::start()?;
    let canary = Canary::alphanumeric("role password");
    postgres.psql(&format!("ALTER ROLE nobody_here PASSWORD '{}'", canary.value())).unwrap_err();
    assert_eq!(scan(postgres.directory(), &[&canary])?, []);
    Ok(())
}

#[test]
fn servers_end_with_their_values() -> Result<()> {
    let (bao, postgres) = (OpenBao::start()?, Postgres::start()?);
    let (url, address) = (bao.url(), postgres.address());
    let bao_address = url.trim_start_matches("http://").parse()?;
    drop((bao, postgres));
    assert!(http::request(bao_address, "GET", "/v1/sys/health", &[], &[]).is_err(), "OpenBao still listens");
    assert!(std::net::TcpStream::connect(address).is_err(), "PostgreSQL still listens");
    Ok(())
}

#[test]
fn a_process_is_known_by_what_it_prints_and_how_it_ends() -> Result<()> {
    let logs = tempfile::tempdir()?;
    let mut process =
        Process::start("greeter", shell("echo hello, world; exec tail -f /dev/null"), logs.path())?;
    assert_eq!(process.wait_for_line(LIMIT, "hello")?, "hello, world");
    // Not SIGHUP or SIGINT: a process started by `nohup` or in the background ignores them, and so do its children.
    process.signal(Signal::USR1)?;
    assert_eq!(process.wait(LIMIT)?.signal(), Some(10));
    let error = process.signal(Signal::TERM).unwrap_err().to_string();
    assert!(error.contains("it has ended"), "{error}");
    Ok(())
}

#[test]
fn a_process_that_ends_too_soon_is_reported_with_its_last_words() -> Result<()> {
    let logs = tempfile::tempdir()?;
    let mut process = Process::start("broken", shell("echo no such key >&2; exit 64"), logs.path())?;
    let error = format!("{:#}", process.wait_for_line(LIMIT, "listening").unwrap_err());
    assert!(error.contains("exit status: 64") && error.contains("no such key"), "{error}");
    Ok(())
}

#[test]
fn a_process_that_ignores_sigterm_can_be_killed() -> Result<()> {
    let logs = tempfile::tempdir()?;
    let mut process =
        Process::start("deaf", shell("trap '' TERM; echo up; exec tail -f /dev/null"), logs.path())?;
    process.wait_for_line(LIMIT, "up")?;
    assert_eq!(process.kill()?.signal(), Some(9));
    Ok(())
}

#[test]
fn a_process_started_again_keeps_its_earlier_logs() -> Result<()> {
    let logs = tempfile::tempdir()?;
    for word in ["one", "two"] {
        let mut process = Process::start("again", shell(&format!("echo {word}")), logs.path())?;
        process.wait(LIMIT)?;
        assert_eq!(process.stdout()?, format!("{word}\n"));
    }
    assert_eq!(fs::read_to_string(logs.path().join("again.stdout"))?, "one\n");
    assert_eq!(fs::read_to_string(logs.path().join("again-2.stdout"))?, "two\n");
    Ok(())
}

#[test]
fn a_dropped_process_is_gone() -> Result<()> {
    let logs = tempfile::tempdir()?;
    let process = Process::start("sleeper", shell("exec tail -f /dev/null"), logs.path())?;
    let entry = std::path::PathBuf::from(format!("/proc/{}", process.pid()));
    assert!(entry.exists());
    drop(process);
    wait_until(LIMIT, "the process to be gone", || !entry.exists())
}

#[test]
fn a_program_that_was_not_built_is_named_with_what_to_do() -> Result<()> {
    assert!(binary("bursar-broker")?.is_file());
    let error = binary("bursar-nothing").unwrap_err().to_string();
    assert!(error.contains("bursar-nothing` is not there: run `cargo xtask test`"), "{error}");
    Ok(())
}

fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}

const LIMIT: Duration = Duration::from_secs(30);
