//! The broker is killed while many clients read: whatever one of them was given is in the ledger afterwards, with its
//! lease and its record (promise 1).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bursar_proto::v1;
use bursar_tests::{Broker, Canary, Cli, OpenBao, Postgres, text, wait_until};
use prost::Message;
use serde_json::json;
use tonic::Code;

use crate::raw::Caller;

#[test]
fn whatever_a_client_was_given_before_a_kill_has_its_record_and_its_lease() -> Result<()> {
    let mut site = Site::start()?;
    let mut given = BTreeMap::new();
    for round in 1..=ROUNDS {
        let more = site.read_until_killed(round)?;
        let leased = more.values().filter(|given| given.leased).count();
        ensure!(more.len() > leased && leased > 0, "{leased} of {} reads were leased", more.len());
        given.extend(more);
        site.broker.start_again()?;
        site.admin.done(&["audit", "verify"])?;
        // Also what was given in the rounds before.
        site.everything_is_accounted_for(&given).with_context(|| format!("after kill {round}"))?;
    }
    let found = bursar_tests::scan(site.broker.directory(), &[&site.value])?;
    ensure!(found.is_empty(), "a kill left secrets behind: {found:?}");
    Ok(())
}

/// What a client was given, by its request.
struct Given {
    lease: String,
    leased: bool,
}

/// A broker with a static secret in OpenBao and leased ones in PostgreSQL behind that.
struct Site {
    broker: Broker,
    admin: Cli,
    value: Canary,
    _bao: OpenBao,
    _postgres: Postgres,
}

impl Site {
    fn start() -> Result<Self> {
        let (postgres, bao) = (Postgres::start()?, OpenBao::start()?);
        let value = Canary::random("static value");
        bao.enable_kv("secret")?;
        bao.api("POST", "secret/data/a", &json!({ "data": { "p": value.value() } }))?;
        bao.enable_database("database", &postgres)?;
        bao.database_role("database", "app", Duration::from_secs(600))?;
        let mounts = "{ secret = 'kv-v2', database = 'leased' }";
        let broker = Broker::start(&bao.backend("vault", BAO_POLICY, mounts)?)?;
        let admin = Cli::administering(&broker)?;
        admin.apply_policies(POLICIES, "")?;
        Ok(Self { broker, admin, value, _bao: bao, _postgres: postgres })
    }

    /// Reads with many clients at once, kills the broker under them, and answers all that they were given.
    fn read_until_killed(&mut self, round: usize) -> Result<BTreeMap<String, Given>> {
        let leased_so_far = AtomicUsize::new(0);
        let clients =
            (0..CLIENTS).map(|_| Caller::administrator(&self.broker)).collect::<Result<Vec<_>>>()?;
        std::thread::scope(|scope| {
            let threads: Vec<_> = clients
                .iter()
                .enumerate()
                .map(|(client, caller)| {
                    let leased_so_far = &leased_so_far;
                    scope.spawn(move || {
                        read(caller, &format!("{round}-{client}"), client % 2 == 0, leased_so_far)
                    })
                })
                .collect();
            let enough = || leased_so_far.load(Ordering::Relaxed) >= LEASED_BEFORE_KILL;
            wait_until(LIMIT, "enough reads", enough)?;
            self.broker.process().kill()?;
            let mut given = BTreeMap::new();
            for thread in threads {
                given.extend(thread.join().map_err(|_| anyhow::anyhow!("a client panicked"))??);
            }
            Ok(given)
        })
    }

    fn everything_is_accounted_for(&self, given: &BTreeMap<String, Given>) -> Result<()> {
        let records = self.admin.audit(&["--action", "read", "--outcome", "ok"])?;
        let recorded: BTreeSet<_> =
            records.iter().map(|record| (text(record, "/request_id"), text(record, "/lease_id"))).collect();
        let leases = self.admin.json(&["lease", "list", "--limit", "100000"])?;
        let leases: BTreeSet<_> =
            leases.as_array().into_iter().flatten().map(|lease| text(lease, "/id")).collect();
        for (request, Given { lease, .. }) in given {
            ensure!(recorded.contains(&(request.clone(), lease.clone())), "read `{request}` has no record");
            ensure!(leases.contains(lease), "lease {lease} of read `{request}` was lost");
        }
        Ok(())
    }
}

/// Reads until the broker is gone.
fn read(
    caller: &Caller,
    instance: &str,
    leased: bool,
    leased_so_far: &AtomicUsize,
) -> Result<BTreeMap<String, Given>> {
    let reference = if leased { "vault/database/creds/app" } else { "vault/secret/a#p" };
    let mut given = BTreeMap::new();
    loop {
        let instance = format!("{instance}-{}", given.len());
        let request =
            v1::SecretsReadRequest { reference: reference.to_owned(), instance, ..Default::default() };
        let ended = caller.call("/bursar.v1.Secrets/Read", request.encode_to_vec())?;
        if ended.code != Code::Ok {
            ensure!(ended.reason.is_none(), "the broker refused: {ended:?}");
            return Ok(given);
        }
        let mut read = v1::SecretsReadResponse::decode(ended.answer.as_slice())?;
        let lease = read.lease.take().context("no lease")?.id;
        given.insert(ended.request_id, Given { lease, leased });
        if leased {
            leased_so_far.fetch_add(1, Ordering::Relaxed);
        }
    }
}

const ROUNDS: usize = 3;
const CLIENTS: usize = 8;
const LEASED_BEFORE_KILL: usize = 12;
const LIMIT: Duration = Duration::from_secs(60);

const BAO_POLICY: &str = r#"
path "secret/data/*" { capabilities = ["read"] }
path "database/creds/app" { capabilities = ["read"] }
path "sys/leases/renew" { capabilities = ["update"] }
path "sys/leases/revoke" { capabilities = ["update"] }
path "sys/leases/lookup" { capabilities = ["update"] }
path "sys/leases/lookup/database/*" { capabilities = ["list", "sudo"] }
"#;

const POLICIES: &str = r#"
@id("everything")
permit (principal == Bursar::Principal::"spiffe://example.org/user/admin", action, resource);
"#;
