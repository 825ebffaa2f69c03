//! Secrets go through every path there is, and are then searched for wherever they must not be: logs at their most
//! verbose, data and temporary files, metrics, health, exports, what people are told, arguments and environments of
//! processes, core dumps (promise 3).

mod aws_clients;
mod discovering;
mod keeping;
mod mounting;
mod processes;
mod units;

use std::cell::RefCell;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bursar_tests::{
    Agent, Broker, Canary, Cli, Drongo, EVERYTHING, Finding, GoogleDoor, IssuerDoor, Moto, OddStore, OpenBao,
    PROJECT, Postgres, Process, Said, Signal, TokenIssuer, free_port, scan, scan_bytes, wait_until,
};
use serde_json::json;
use tempfile::TempDir;

use aws_clients::NAMES;
use processes::{Seen, dumps_are_allowed};

#[test]
fn no_secret_turns_up_where_it_must_not() -> Result<()> {
    dumps_are_allowed()?;
    let mut site = Site::start()?;
    site.go_every_way()?;
    let leased = site.leased()?;
    let [running, broker, agent] = site.look_at_processes()?;
    let values = Rc::clone(&site.values);
    let every: Vec<&Canary> = values.all().into_iter().chain(&leased).collect();

    // What the running processes show to others. The program that was started has its secrets, and nobody else's.
    let mut found = Vec::new();
    for (place, bytes) in running.arguments.iter().chain(&broker.everything()).chain(&agent.everything()) {
        found.extend(scan_bytes(place, bytes, &every)?);
    }
    for path in ["/metrics", "/readyz", "/livez"] {
        found.extend(scan_bytes(path, &site.broker.http(path)?.body, &every)?);
        found.extend(scan_bytes(path, &site.agent.http(path)?.body, &every)?);
    }
    let export = site.admin.run(&["audit", "export"])?;
    ensure!(export.code == Some(0), "{}", export.stderr);
    found.extend(scan_bytes("an export", &export.stdout, &every)?);
    found.extend(scan_bytes("what the commands said", site.said.borrow().as_bytes(), &every)?);

    // Then they die, as badly as a program can.
    for process in [site.broker.process(), site.agent.process()] {
        process.signal(Signal::ABORT)?;
        let status = process.wait(LIMIT)?;
        ensure!(status.signal() == Some(6) && !status.core_dumped(), "it ended with {status}");
    }
    found.extend(site.in_files(&every)?);
    ensure!(found.is_empty(), "secrets leaked: {}", list(&found));
    Ok(())
}

#[test]
fn the_command_line_leaves_no_dump_and_the_program_that_it_becomes_may() -> Result<()> {
    dumps_are_allowed()?;
    let store = OddStore::start("unused")?;
    let token = tempfile::NamedTempFile::new()?;
    fs::write(token.path(), "a token")?;
    let broker = Broker::start(&format!(
        "[backends.odd]\nkind = 'vault'\naddress = '{}'\nallow_plaintext = true\ntimeout = '9s'\n\
         auth = {{ method = 'token', token = {{ file = '{}' }} }}\nmounts = {{ kv = 'kv-v2' }}\n",
        store.url(),
        token.path().display()
    ))?;
    let admin = Cli::administering(&broker)?;
    admin.apply_policies(POLICIES, "")?;
    let key = Canary::known("administrator's key", &fs::read_to_string(broker.bootstrap("admin.key"))?)?;

    // While it waits for an answer it holds its credential.
    let mut command = admin.command()?;
    command.args(["get", "odd/kv/silent"]);
    let mut get = Process::start("get", command, &admin.path(""))?;
    wait_until(LIMIT, "the store to be asked", || store.calls(bursar_tests::Oddity::Silent) > 0)?;
    get.signal(Signal::ABORT)?;
    let status = get.wait(LIMIT)?;
    ensure!(status.signal() == Some(6) && !status.core_dumped(), "`bursar get` ended with {status}");
    let found = scan(&admin.path(""), &[&key])?;
    ensure!(found.is_empty(), "{}", list(&found));

    admin.write("empty.toml", "[environment.\"empty\".vars]\nA = \"b\"\n")?;
    admin.done(&["env", "apply", "empty.toml"])?;
    let limit = admin.done(&["run", "--env", "empty", "--", "sh", "-c", "ulimit -c"])?;
    ensure!(limit.trim() == "unlimited", "the program's limit on dumps is {limit}");
    Ok(())
}

/// What is searched for.
struct Values {
    local: Canary,
    replaced: Canary,
    kv: Canary,
    odd: Canary,
    aws: Canary,
    aws_key: Canary,
    gcp: Canary,
    gcp_key: Canary,
    gcp_token: Canary,
    pod_token: Canary,
}

impl Values {
    fn all(&self) -> Vec<&Canary> {
        let gcp = [&self.gcp, &self.gcp_key, &self.gcp_token, &self.pod_token];
        let others = [&self.local, &self.replaced, &self.kv, &self.odd, &self.aws, &self.aws_key];
        [&others[..], &gcp].concat()
    }
}

/// Stores, broker, agent and command line, with a secret in each store.
struct Site {
    broker: Broker,
    agent: Agent,
    admin: Cli,
    workload: Cli,
    bao: OpenBao,
    moto: Moto,
    drongo: Drongo,
    door: GoogleDoor,
    /// Where the agent speaks to programs made for AWS.
    port: SocketAddr,
    /// Where the agent puts files, in memory.
    delivered: TempDir,
    _postgres: Postgres,
    values: Rc<Values>,
    /// What commands wrote to standard error, and to standard output where that is no secret.
    said: RefCell<String>,
    _odd: OddStore,
    _token: tempfile::NamedTempFile,
    _account_key: tempfile::NamedTempFile,
    _cluster: IssuerDoor,
}

impl Site {
    fn start() -> Result<Self> {
        let canary = Canary::random;
        let (local, replaced, kv) = (canary("local value"), canary("replaced value"), canary("KV value"));
        let odd = Canary::alphanumeric("what the odd store says");
        let (postgres, bao, store) = (Postgres::start()?, OpenBao::start()?, OddStore::start(odd.value())?);
        bao.enable_kv("secret")?;
        bao.api("POST", "secret/data/api", &json!({ "data": { "key": kv.value() } }))?;
        bao.enable_database("database", &postgres)?;
        bao.database_role("database", "app", Duration::from_secs(600))?;
        let token = tempfile::NamedTempFile::new()?;
        fs::write(token.path(), odd.value())?;
        let vault = bao.backend("vault", BAO_POLICY, "{ secret = 'kv-v2', database = 'leased' }")?;
        let (moto, aws) = (Moto::start()?, canary("AWS value"));
        let key = moto.user("broker", EVERYTHING)?;
        moto.put_secret("app", &json!({ "p": aws.value() }).to_string())?;
        let account = moto.backend("aws", &key, "")?;
        let (drongo, gcp) = (Drongo::start()?, canary("GCP value"));
        drongo.put_secret("app", json!({ "p": gcp.value() }).to_string().as_bytes())?;
        let (door, account_key) = (GoogleDoor::before(drongo.address())?, tempfile::NamedTempFile::new()?);
        door.write_key(account_key.path())?;
        let project = format!(
            "[backends.gcp]\nkind = 'gcp'\nproject = '{PROJECT}'\nendpoint = '{}'\nallow_plaintext = true\n\
             credentials = {{ json = {{ file = '{}' }} }}\n",
            door.url(),
            account_key.path().display()
        );
        let (cluster, issuer) = (IssuerDoor::start()?, TokenIssuer::new()?);
        cluster.publish(&[&issuer]);
        let pods = mounting::issuer(&cluster);
        let pod_token = Canary::known("the pod's token", &mounting::token(&cluster, &issuer)?)?;
        let broker = Broker::start(&format!(
            "{pods}[backends.local]\nkind = 'local'\n{vault}{account}{project}[backends.odd]\nkind = 'vault'\naddress = '{}'\n\
             allow_plaintext = true\ntimeout = '1s'\nauth = {{ method = 'token', token = {{ file = '{}' }} }}\n\
             mounts = {{ kv = 'kv-v2' }}\n",
            store.url(),
            token.path().display(),
        ))?;
        let admin = Cli::administering(&broker)?;
        let uid = rustix::process::getuid().as_raw();
        let registrations = REGISTRATIONS.replace("UID", &uid.to_string()) + &units::registrations();
        admin.apply_policies(POLICIES, &registrations)?;
        admin.write("environments.toml", ENVIRONMENTS)?;
        admin.done(&["env", "apply", "environments.toml"])?;
        let join = admin.done(&["node", "token", "web-1"])?;
        let (delivered, port) = (delivered()?, free_port()?);
        let more = format!(
            "[state]\n{}{}[aws]\nlisten = '{port}'\nmount = 'local'\n{NAMES}",
            sets(&delivered),
            discovering::section(delivered.path())
        );
        let agent = Agent::start_with(&broker, "web-1", join.trim(), &more)?;
        let workload = Cli::through(&agent.socket())?;
        let (gcp_key, gcp_token) = (GoogleDoor::key_line()?, door.token());
        let values =
            Values { local, replaced, kv, odd, aws, aws_key: key.secret, gcp, gcp_key, gcp_token, pod_token };
        let (values, said) = (Rc::new(values), RefCell::default());
        let (_odd, _token, _account_key, _cluster) = (store, token, account_key, cluster);
        Ok(Self {
            broker,
            agent,
            admin,
            workload,
            bao,
            moto,
            drongo,
            door,
            port,
            delivered,
            _postgres: postgres,
            values,
            said,
            _odd,
            _token,
            _account_key,
            _cluster,
        })
    }

    /// Every way that a secret can take, and every way in which it can fail to.
    fn go_every_way(&self) -> Result<()> {
        let put = ["secret", "put", "local/a", "--field", "p"];
        for value in [&self.values.replaced, &self.values.local] {
            let value = value.value().as_bytes().to_vec();
            let said = self.admin.run_with(&put, &value)?;
            self.told(said, Some(0))?;
        }
        let secrets = [
            "local/a#p",
            "local/a#p@1",
            "local/a",
            "vault/secret/api#key",
            "vault/database/creds/app",
            "aws/app#p",
            "aws/sts/app",
            "gcp/app#p",
        ];
        for reference in secrets {
            for cli in [&self.admin, &self.workload] {
                // Twice: the second answer of the agent is out of its cache.
                for _ in 0..2 {
                    ensure!(!cli.done(&["get", reference])?.is_empty(), "`{reference}` is empty");
                }
            }
            self.workload.done(&["get", reference, "--output", "json"])?;
        }
        ensure!(
            self.workload.done(&["get", "local/a#p"])? == self.values.local.value(),
            "another value was read"
        );
        for command in [["run", "--env", "app", "--", "true"], ["run", "--env", "broken", "--", "true"]] {
            let said = self.workload.run(&command)?;
            self.told(said, None)?;
            let said = self.admin.run(&command)?;
            self.told(said, None)?;
        }
        self.speak_to_aws_clients()?;
        self.deliver()?;
        self.discover()?;
        self.mount()?;
        self.load()?;
        self.keep()?;
        let leases = self.admin.json(&["lease", "list"])?;
        for lease in leases.as_array().into_iter().flatten().filter_map(|lease| lease.get("id")?.as_str()) {
            let said = self.admin.run(&["lease", "renew", lease])?;
            self.told(said, None)?;
            let said = self.admin.run(&["lease", "show", lease])?;
            self.told(said, Some(0))?;
        }
        let refusals: [&[&str]; 11] = [
            &["get", "local/absent"],
            &["get", "local/a#absent"],
            &["get", "local/a#p@9"],
            &["get", "nowhere/a"],
            &["get", "vault/secret/absent"],
            &["get", "vault/database/creds/absent"],
            &["get", "odd/kv/garbage#p"],
            &["get", "odd/kv/page#p"],
            &["get", "odd/kv/huge#p"],
            &["get", "odd/kv/fails#p"],
            &["get", "odd/kv/drips#p"],
        ];
        for arguments in refusals {
            let said = self.admin.run(arguments)?;
            ensure!(said.code != Some(0), "`bursar {}` was not refused", arguments.join(" "));
            self.told(said, None)?;
        }
        self.refused_by_aws()?;
        self.refused_by_google()?;
        self.delete_and_revoke()?;
        self.bao.seal()?;
        let said = self.admin.run(&["get", "vault/secret/api#key", "--max-age", "0s"])?;
        self.told(said, Some(1))?;
        self.bao.unseal()
    }

    /// Files have the values by design, in memory; that is why their directory is not searched with the others. What the
    /// agent says of them, of a template that fails on a value and of a hook or a program that prints one, is. What it keeps of them
    /// through a restart, sealed, is too.
    fn deliver(&self) -> Result<()> {
        wait_until(LIMIT, "files with the values, without which nothing would be looked at", || {
            let found = scan(&self.delivered.path().join("app"), &[&self.values.kv, &self.values.local]);
            found.is_ok_and(|found| !found.is_empty())
        })?;
        for outcome in [
            "bursar_agent_file_hooks_total{outcome=\"failed\"}",
            "bursar_agent_files_total{outcome=\"failed\"}",
            "bursar_agent_state_writes_total{outcome=\"written\"}",
            "bursar_agent_runs_total{outcome=\"failed\"}",
        ] {
            wait_until(LIMIT, outcome, || {
                let metrics = self.agent.http("/metrics").map(|answer| answer.body).unwrap_or_default();
                String::from_utf8_lossy(&metrics).contains(outcome)
            })?;
        }
        Ok(())
    }

    /// AWS denies what the broker's user may not do.
    fn refused_by_aws(&self) -> Result<()> {
        self.moto.allow("broker", NO_SECRETS)?;
        self.moto.enforce(true)?;
        let refusals: [&[&str]; 4] = [
            &["get", "aws/app#p", "--max-age", "0s"],
            &["get", "aws/app#p@AWSPREVIOUS"],
            &["get", "aws/sts/app", "--new-lease"],
            &["secret", "list", "aws"],
        ];
        for arguments in refusals {
            let said = self.admin.run(arguments)?;
            ensure!(said.code != Some(0), "`bursar {}` was not refused", arguments.join(" "));
            self.told(said, None)?;
        }
        self.moto.enforce(false)?;
        self.moto.allow("broker", EVERYTHING)
    }

    /// Google takes no token any more, gives none, and has disabled what was there.
    fn refused_by_google(&self) -> Result<()> {
        self.drongo.change("app", "1", "disable")?;
        let read = ["get", "gcp/app#p", "--max-age", "0s"];
        let disabled = self.admin.run(&read)?;
        self.told(disabled, Some(1))?;
        self.door.refuse(true);
        self.door.end_token();
        let refusals: [&[&str]; 3] = [&read, &["secret", "list", "gcp"], &["secret", "history", "gcp/app"]];
        for arguments in refusals {
            let said = self.admin.run(arguments)?;
            ensure!(said.code != Some(0), "`bursar {}` was not refused", arguments.join(" "));
            self.told(said, None)?;
        }
        self.door.refuse(false);
        self.drongo.change("app", "1", "enable")
    }

    fn delete_and_revoke(&self) -> Result<()> {
        let done: [(&[&str], i32); 8] = [
            (&["secret", "delete", "local/a", "--reason", "a test"], 0),
            (&["get", "local/a#p"], 1),
            (&["secret", "undelete", "local/a", "--version", "2", "--reason", "a test"], 0),
            (&["env", "explain", "app"], 0),
            (&["secret", "label", "local/a", "owner=tests"], 0),
            (&["secret", "destroy", "local/a", "--version", "1", "--reason", "a test", "--yes"], 0),
            (&["lease", "revoke-many", "--path", "vault", "--reason", "a test", "--yes"], 0),
            (&["status"], 0),
        ];
        for (arguments, code) in done {
            let said = self.admin.run(arguments)?;
            self.told(said, Some(code)).with_context(|| arguments.join(" "))?;
        }
        Ok(())
    }

    /// Keeps what a command said, for the search; it ended with `code`, where that is known.
    fn told(&self, said: Said, code: Option<i32>) -> Result<()> {
        ensure!(code.is_none() || said.code == code, "exit code {:?}: {}", said.code, said.stderr);
        let mut all = self.said.borrow_mut();
        all.push_str(&said.stderr);
        all.push_str(&String::from_utf8_lossy(&said.stdout));
        Ok(())
    }

    /// The password of a database user that was leased, as a value to search for.
    fn leased(&self) -> Result<Vec<Canary>> {
        let get = ["get", "vault/database/creds/app#password"];
        let (read, admins) = (self.workload.done(&get)?, self.admin.done(&get)?);
        // It is kept, so it is on the disk in some form, and in a backup.
        ensure!(self.admin.done(&get)? == admins, "another credential was made for a repeated read");
        let backup = self.broker.directory().join("backup");
        let taken = self.broker.command(&["backup", "--to", &backup.to_string_lossy()])?;
        ensure!(taken.status.success(), "{}", String::from_utf8_lossy(&taken.stderr));
        let mut leased =
            vec![Canary::known("leased password", &read)?, Canary::known("kept password", &admins)?];
        for field in ["secret_access_key", "session_token"] {
            let value = self.admin.done(&["get", &format!("aws/sts/app#{field}")])?;
            leased.push(Canary::known(field, &value)?);
        }
        Ok(leased)
    }

    /// A program that was started with secrets, the broker, and the agent, as other processes see them.
    fn look_at_processes(&mut self) -> Result<[Seen; 3]> {
        let mut command = self.workload.command()?;
        command.args(["run", "--env", "app", "--", "sh", "-c", "echo up; exec tail -f /dev/null"]);
        let mut program = Process::start("program", command, &self.workload.path(""))?;
        program.wait_for_line(LIMIT, "up")?;
        // While one program becomes another there is none to see.
        wait_until(
            LIMIT,
            "the program to show its secret, without which nothing would be looked at",
            || {
                let environment = fs::read(format!("/proc/{}/environ", program.pid())).unwrap_or_default();
                let mine = scan_bytes("its environment", &environment, &[&self.values.kv]);
                mine.is_ok_and(|found| !found.is_empty())
            },
        )?;
        Ok([
            Seen::of(program.pid())?,
            Seen::undumpable(self.broker.process().pid())?,
            Seen::undumpable(self.agent.process().pid())?,
        ])
    }

    fn in_files(&self, every: &[&Canary]) -> Result<Vec<Finding>> {
        let mut found = Vec::new();
        let workload = self.workload.path("");
        for directory in [self.broker.directory(), self.agent.directory(), &self.admin.path(""), &workload] {
            found.extend(scan(directory, every)?);
        }
        Ok(found)
    }
}

/// A directory in memory, with a template that fails on a value.
fn delivered() -> Result<TempDir> {
    let memory = tempfile::Builder::new().prefix("bursar-files-").tempdir_in("/dev/shm");
    let memory = memory.context("`/dev/shm` has to be a tmpfs that the tests may write")?;
    fs::write(memory.path().join("broken.j2"), "{{ LEVEL }}\n{{ KEY }} {{ (KEY ~ LOCAL) | int }}\n")?;
    fs::write(memory.path().join("good.j2"), "{{ KEY | tojson }} {{ URL | shell }} {{ AWS | base64 }}\n")?;
    Ok(memory)
}

/// Sets of files of every form, with a hook that prints what it finds and fails, and a program that does the same, masked,
/// into the agent's own log.
fn sets(memory: &TempDir) -> String {
    let (place, units) = (memory.path().display(), units::configuration(memory.path()));
    format!(
        "[files.app]\ndirectory = '{place}/app'\nenvironment = 'app'\n\
         [files.app.output.'app.env']\nformat = 'env'\n[files.app.output.'app.json']\nformat = 'json'\n\
         [files.app.output.'app.conf']\ntemplate = '{place}/good.j2'\n\
         [files.app.hook]\ncommand = ['/bin/sh', '-c', 'cat {place}/app/* | tee /dev/stderr; exit 1']\n\
         [files.broken]\ndirectory = '{place}/broken'\nenvironment = 'app'\n\
         [files.broken.output.'x']\ntemplate = '{place}/broken.j2'\n\
         [run.app]\ncommand = ['/bin/sh', '-c', 'cat $KEY_FILE $LOCAL_FILE $URL_FILE | tee /dev/stderr; exit 1']\n\
         environment = 'app'\nas = 'files'\nmask = true\n\
         [csi]\nsocket = '{place}/bursar.sock'\n{units}"
    )
}

fn list(found: &[Finding]) -> String {
    found.iter().map(|finding| format!("\n  {finding}")).collect()
}

const LIMIT: Duration = Duration::from_secs(30);

const BAO_POLICY: &str = r#"
path "secret/data/*" { capabilities = ["read"] }
path "secret/metadata/*" { capabilities = ["read"] }
path "database/creds/*" { capabilities = ["read"] }
path "sys/leases/renew" { capabilities = ["update"] }
path "sys/leases/revoke" { capabilities = ["update"] }
path "sys/leases/lookup" { capabilities = ["update"] }
path "sys/leases/lookup/database/*" { capabilities = ["list", "sudo"] }
"#;

const POLICIES: &str = r#"
@id("everything")
permit (principal == Bursar::Principal::"spiffe://example.org/user/admin", action, resource);
@id("workload")
permit (principal == Bursar::Principal::"spiffe://example.org/workload/app",
        action in Bursar::Action::"use", resource);
@id("pods")
permit (principal in Bursar::Group::"spiffe://example.org/ns/shop", action in Bursar::Action::"use", resource);
@id("watch")
permit (principal, action == Bursar::Action::"watch", resource);
"#;

/// Of an IAM user who may read nothing.
const NO_SECRETS: &str =
    r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:GetObject","Resource":"*"}]}"#;

const REGISTRATIONS: &str = r#"
[[registration]]
principal = "spiffe://example.org/workload/app"
node = "web-1"
selectors = ["unix:uid:UID"]
[[registration]]
principal = "spiffe://example.org/workload/app"
node = "web-1"
selectors = ["files:set:app"]
[[registration]]
principal = "spiffe://example.org/workload/app"
node = "web-1"
selectors = ["files:set:broken"]
[[registration]]
principal = "spiffe://example.org/workload/app"
node = "web-1"
selectors = ["run:name:app"]
"#;

const ENVIRONMENTS: &str = r#"
[environment."app".vars]
LEVEL = "info"
KEY = { from = "vault/secret/api#key" }
AWS = { from = "aws/app#p" }
LOCAL = { from = "local/a#p" }
URL = { compose = "postgres://${vault/database/creds/app#username}:${vault/database/creds/app#password}@db/app" }
[environment."kept"]
offline = "1h"
[environment."kept".vars]
KEY = { from = "vault/secret/api#key" }
LOCAL = { compose = "x://${KEY}:${local/a#p}" }
[environment."kept".files]
"aws" = { from = "aws/app#p" }
[environment."broken".vars]
KEY = { from = "vault/secret/api#key" }
URL = { compose = "x://${KEY}:${local/a#p}:${odd/kv/fails#p}" }
"#;
