//! Users of a PostgreSQL, made one by one by eight clients, and then revoked together: by Bursar, and by OpenBao's
//! database engine, with the same statements. Each side and round has a PostgreSQL of its own that nobody used before,
//! since what thousands of dropped roles leave behind slows every later one.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use anyhow::{Result, ensure};
use bursar_tests::Postgres;
use tokio::runtime::Runtime;

use super::figure;
use crate::bursar::{Bursar, Issuer, Programs, revoke};
use crate::load::{Plan, complete, median};
use crate::openbao::Database;
use crate::report::Figure;

/// How long things took.
struct Taken {
    issued: Duration,
    revoked: Duration,
}

#[expect(clippy::print_stderr, reason = "whoever waits is told what for")]
pub(super) fn measure(runtime: &Runtime, programs: &Programs, plan: &Plan) -> Result<Vec<Figure>> {
    let (mut openbao, mut bursar, mut light) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=plan.repeats {
        eprintln!("bench: {}: users of a PostgreSQL, round {round} of {}", super::GROUP, plan.repeats);
        openbao.push(of_openbao(runtime, plan)?);
        bursar.push(of_bursar(runtime, programs, plan, "")?);
        light.push(of_bursar(runtime, programs, plan, "scram_iterations = 1\n")?);
    }
    let rate = |taken: &[Taken], of: fn(&Taken) -> Duration| {
        median(taken.iter().map(|taken| plan.users as f64 / of(taken).as_secs_f64()).collect())
    };
    let (issued, revoked) = (|taken: &Taken| taken.issued, |taken: &Taken| taken.revoked);
    let note = format!("{} users by {CLIENTS} clients, each a connection", plan.users);
    Ok(vec![
        figure("pg_issue.rps", "users/s", rate(&bursar, issued))
            .beside_openbao(rate(&openbao, issued))
            .noted(&note),
        figure("pg_issue.light.rps", "users/s", rate(&light, issued))
            .beside_openbao(rate(&openbao, issued))
            .noted("with `scram_iterations = 1`; OpenBao has the server's 4,096"),
        figure("pg_revoke.rps", "users/s", rate(&bursar, revoked))
            .beside_openbao(rate(&openbao, revoked))
            .noted("one order by prefix, until the last is gone; `DROP ROLE` on both sides"),
    ])
}

/// `more` is what the backend's configuration says besides.
fn of_bursar(runtime: &Runtime, programs: &Programs, plan: &Plan, more: &str) -> Result<Taken> {
    let postgres = server()?;
    let secrets = tempfile::tempdir()?;
    let file = secrets.path().join("password");
    fs::write(&file, postgres.password().value())?;
    fs::set_permissions(&file, PermissionsExt::from_mode(0o600))?;
    let password = format!("{{ file = '{}' }}", file.display());
    // As fast as it can: by default a broker spares its stores.
    let limits = "revocation = { concurrency = 8, per_second = 10000 }\n";
    let backend = postgres.backend(BACKEND, Postgres::SUPERUSER, &password);
    let bursar = Bursar::start_with(programs, &format!("{backend}{more}{limits}{ROLE}"))?;
    runtime.block_on(bursar.admit_to(BACKEND))?;
    let path = format!("{BACKEND}/creds/bench");
    let clients = runtime.block_on(async {
        let mut clients = Vec::new();
        for _ in 0..CLIENTS {
            clients.push(bursar.connect().await?);
        }
        anyhow::Ok(clients)
    })?;
    let callers = clients.iter().enumerate().map(|(number, client)| Issuer::new(client, &path, number));
    let issued = runtime.block_on(complete(callers.collect(), plan.users))?;
    check(&postgres, plan.users)?;
    let revoked = runtime.block_on(revoke(&clients, &path, plan.users))?;
    check(&postgres, 0)?;
    Ok(Taken { issued, revoked })
}

fn of_openbao(runtime: &Runtime, plan: &Plan) -> Result<Taken> {
    let postgres = server()?;
    let database = Database::start(&postgres)?;
    let callers = runtime.block_on(database.issuers(CLIENTS))?;
    let issued = runtime.block_on(complete(callers, plan.users))?;
    check(&postgres, plan.users)?;
    let revoked = database.revoke_all()?;
    check(&postgres, 0)?;
    Ok(Taken { issued, revoked })
}

/// A PostgreSQL that syncs what it commits, as it does by default.
fn server() -> Result<Postgres> {
    Postgres::start_with(&["fsync=on", "full_page_writes=on"])
}

/// Fails unless there are `count` users that were made.
fn check(postgres: &Postgres, count: usize) -> Result<()> {
    let there = postgres.psql("SELECT count(*) FROM pg_roles WHERE rolcanlogin AND NOT rolsuper")?;
    ensure!(there == count.to_string(), "there are {there} users where {count} are due");
    Ok(())
}

const CLIENTS: usize = 8;
const BACKEND: &str = "pg";
/// The same statements as OpenBao's role has.
const ROLE: &str = "[backends.pg.roles.bench]\n\
     creation = ['CREATE ROLE {{name}} LOGIN PASSWORD {{password}} VALID UNTIL {{expiration}}']\n\
     revocation = ['DROP ROLE {{name}}']\n";
