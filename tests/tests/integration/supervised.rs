//! The agent keeps programs running: with their secrets, as their user, for as long as it runs itself and no longer.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bursar_tests::{Agent, Broker, Canary, Cli, scan, wait_until};
use serde_json::Value;
use tempfile::TempDir;

use crate::policies::for_workloads;

#[test]
fn it_has_its_secret_as_its_user_and_nobody_else_of_that_user_passes_for_it() -> Result<()> {
    let site = Site::start(61_011)?;
    let program = Cli::nobody(&site.broker)?.as_user(61_011)?;
    let script = "{ id -u; id -G; umask; } >who
        printf %s \"$PASSWORD\" >got
        env >seen
        until test -e ask; do sleep 0.1; done
        ./bursar --address \"$(cat ask)\" get local/shop/db#password 2>refused
        echo $? >code; exec sleep 600";
    let agent = site.agent(0, &[], &site.run("web", script, "umask = '0027'"))?;
    site.until("seen", |text| text.contains("PASSWORD="))?;
    ensure!(site.read("who")? == "61011\n61011\n0027\n", "it runs as {}", site.read("who")?);
    ensure!(site.read("got")? == site.password.value(), "it got another value");
    let seen = site.read("seen")?;
    let mut names: Vec<_> = seen.lines().filter_map(|line| line.split('=').next()).collect();
    names.retain(|name| !matches!(*name, "PWD" | "OLDPWD" | "SHLVL" | "_"));
    names.sort_unstable();
    ensure!(names == ["PASSWORD", "PATH"], "it sees {names:?}");

    // The ledger says who asked.
    let records = site.administrator.audit(&["--action", "resolve", "--outcome", "ok"])?;
    let record = records.first().context("no record")?;
    let selectors = record.pointer("/actor/selectors").and_then(Value::as_array).context("no selectors")?;
    for selector in ["run:name:web", "unix:uid:61011"] {
        ensure!(selectors.iter().any(|seen| seen == selector), "`{selector}` is not there: {record}");
    }
    let principal = record.pointer("/actor/principal").and_then(Value::as_str);
    ensure!(principal == Some("spiffe://example.org/workload/web"), "{record}");

    // A program of the same user is somebody else, and so is what the program itself starts.
    let refused = Cli::through(&agent.socket())?.as_user(61_011)?.run(&["get", "local/shop/db#password"])?;
    refused.refused(77, &["registration"])?;
    fs::copy(program.path("bursar"), site.path("bursar"))?;
    fs::set_permissions(site.path("bursar"), fs::Permissions::from_mode(0o755))?;
    fs::write(site.path("asking"), format!("unix://{}", agent.socket().display()))?;
    fs::rename(site.path("asking"), site.path("ask"))?;
    site.until("code", |text| text.ends_with('\n'))?;
    ensure!(site.read("code")? == "77\n", "{} {}", site.read("code")?, site.read("refused")?);
    Ok(())
}

#[test]
fn a_change_starts_it_again_and_it_ends_in_order_with_the_agent() -> Result<()> {
    let site = Site::start(61_012)?;
    let polite = "trap 'echo ended >>polite; exit 0' TERM
        echo $$ >>pids; printf '%s\\n' \"$PASSWORD\" >>polite; while :; do sleep 1 & wait $!; done";
    let stubborn = "trap '' TERM; echo $$ >>pids; echo up >stubborn; while :; do sleep 1; done";
    let runs = [
        site.run("web", polite, "stop_timeout = '30s'"),
        site.run("api", stubborn, "stop_timeout = '1s'\non_change = 'none'"),
    ];
    let mut agent = site.agent(0, &[], &runs.concat())?;
    site.until("polite", |text| text.contains(site.password.value()))?;
    site.until("stubborn", |text| text.contains("up"))?;
    let second = Canary::alphanumeric("second value");
    site.put(&second)?;
    site.until("polite", |text| text.contains(second.value()))?;
    let lines: Vec<_> = site.read("polite")?.lines().map(str::to_owned).collect();
    ensure!(lines == [site.password.value(), "ended", second.value()], "it had {} lines", lines.len());
    for name in ["bursar_agent_runs_running", "bursar_agent_runs_total{outcome=\"started\"}"] {
        ensure!(agent.counted(name) == 2, "`{name}` is {}", agent.counted(name));
    }

    let status = agent.process().stop()?;
    ensure!(status.success(), "the agent ended with {status}");
    ensure!(site.read("polite")?.ends_with("ended\n"), "it was not asked to end");
    // The agent waited for both, so nothing is left to wait for.
    ensure!(site.running()?.is_empty(), "{:?} run on", site.running()?);
    let log = agent.process().stderr()?;
    ensure!(log.matches("a program was stopped").count() == 2, "{log}");
    ensure!(!log.contains("\"in_order\":false"), "`bursar` itself had to be killed: {log}");
    Ok(())
}

#[test]
fn nothing_of_a_killed_agent_runs_on_and_no_secret_stays() -> Result<()> {
    let site = Site::start(61_013)?;
    let polite = "echo $$ >>pids; test -s \"$PASSWORD_FILE\" && echo \"$PASSWORD_FILE\" >where
        while :; do sleep 1 & wait $!; done";
    let stubborn = "trap '' TERM; echo $$ >>pids; echo up >stubborn; while :; do sleep 1; done";
    let runs = [
        site.run("web", polite, "as = 'files'"),
        site.run("api", stubborn, "as = 'files'\nstop_timeout = '1s'"),
    ];
    let mut agent = site.agent(0, &[], &runs.concat())?;
    site.until("where", |text| text.ends_with('\n'))?;
    site.until("stubborn", |text| text.contains("up"))?;
    let file = PathBuf::from(site.read("where")?.trim_end());
    ensure!(fs::read_to_string(&file)? == site.password.value(), "the value is not where it is looked for");
    let memory = file.ancestors().nth(3).context("no folder")?.to_owned();
    agent.process().kill()?;
    wait_until(LIMIT, "the programs to end", || site.running().is_ok_and(|left| left.is_empty()))?;
    wait_until(LIMIT, "the files to be gone", || {
        fs::read_dir(&memory).map_or(true, |mut left| left.next().is_none())
    })?;
    let found = scan(agent.directory(), &[&site.password])?;
    ensure!(found.is_empty(), "the value is on disk: {found:?}");

    // The next agent begins anew.
    fs::remove_file(site.path("where"))?;
    agent.kill_and_restart()?;
    site.until("where", |text| text.ends_with('\n'))
}

#[test]
fn one_that_is_not_there_is_told_and_tried_again_less_and_less_often() -> Result<()> {
    let site = Site::start(61_014)?;
    let program = site.path("later");
    let run = format!(
        "[run.web]\ncommand = ['{}']\nenvironment = 'shop'\nuser = '61014'\ngroup = '61014'\ndirectory = '{}'\n",
        program.display(),
        site.directory.path().display()
    );
    let mut agent = site.agent(0, &[], &run)?;
    wait_until(LIMIT, "some attempts", || agent.counted("bursar_agent_runs_total{outcome=\"failed\"}") >= 3)?;
    wait_until(LIMIT, "it to show", || {
        let ready = agent.http("/readyz").map(|ready| ready.body).unwrap_or_default();
        String::from_utf8_lossy(&ready).contains("1 of 1 programs cannot be kept running")
    })?;
    ensure!(agent.counted("bursar_agent_runs_failing") == 1, "no alert could be made of it");
    let log = agent.process().stderr()?;
    ensure!(log.contains(&format!("cannot execute `{}`", program.display())), "{log}");
    ensure!(log.contains("a program ended with a failure") && log.contains("exit status: 127"), "{log}");
    // Each of them got the same lease.
    let leases = site.administrator.json(&["lease", "list"])?;
    let leases = leases.pointer("/leases").unwrap_or(&leases).as_array().map_or(0, Vec::len);
    ensure!(leases == 1, "there are {leases} leases");

    let text = format!("#!/bin/sh\necho up >{}; exec sleep 600\n", site.path("up").display());
    let staged = site.path("staged");
    fs::write(&staged, text)?;
    fs::set_permissions(&staged, fs::Permissions::from_mode(0o755))?;
    fs::rename(staged, program)?;
    site.until("up", |text| text.contains("up"))
}

/// A broker with one environment, and a place for programs to write to.
struct Site {
    administrator: Cli,
    broker: Broker,
    password: Canary,
    directory: TempDir,
    user: u32,
}

impl Site {
    fn start(user: u32) -> Result<Self> {
        let broker = Broker::start("[backends.local]\nkind = 'local'\n")?;
        let administrator = Cli::administering(&broker)?;
        administrator.apply_policies(&for_workloads(), REGISTRATIONS)?;
        let directory = tempfile::Builder::new().prefix("bursar-run-").tempdir()?;
        chown(directory.path(), Some(user), Some(user)).context("run the tests as root")?;
        let password = Canary::alphanumeric("password");
        let site = Self { administrator, broker, password, directory, user };
        site.put(&site.password)?;
        site.administrator.write("shop.toml", ENVIRONMENT)?;
        site.administrator.done(&["env", "apply", "shop.toml"])?;
        Ok(site)
    }

    fn put(&self, value: &Canary) -> Result<()> {
        let put = ["secret", "put", "local/shop/db", "--field", "password"];
        self.administrator.done_with(&put, value.value().as_bytes()).map(drop)
    }

    /// An agent of `user` with these capabilities alone.
    fn agent(&self, user: u32, capabilities: &[&str], runs: &str) -> Result<Agent> {
        let token = self.administrator.done(&["node", "token", "web-1"])?;
        Agent::start_privileged(user, capabilities, &self.broker, token.trim(), runs)
    }

    /// The lines that have a script run as the site's user, in its directory.
    fn run(&self, name: &str, script: &str, more: &str) -> String {
        let (user, directory) = (self.user, self.directory.path().display());
        format!(
            "[run.{name}]\ncommand = ['/bin/sh', '-c', '''{script}''']\nenvironment = 'shop'\nuser = '{user}'\n\
             group = '{user}'\ndirectory = '{directory}'\n{more}\n"
        )
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn read(&self, name: &str) -> Result<String> {
        fs::read_to_string(self.path(name)).with_context(|| format!("`{name}` cannot be read"))
    }

    fn until(&self, name: &str, fits: impl Fn(&str) -> bool) -> Result<()> {
        wait_until(LIMIT, &format!("`{name}` to be written"), || {
            self.read(name).is_ok_and(|text| fits(&text))
        })
    }

    /// Those of the programs, by their own words, that still run.
    fn running(&self) -> Result<Vec<String>> {
        let pids = self.read("pids")?;
        Ok(pids.lines().filter(|pid| Path::new("/proc").join(pid).exists()).map(str::to_owned).collect())
    }
}

const LIMIT: Duration = Duration::from_secs(90);

const REGISTRATIONS: &str = r#"
[[registration]]
principal = "spiffe://example.org/workload/web"
node = "web-1"
selectors = ["run:name:web"]
[[registration]]
principal = "spiffe://example.org/workload/api"
node = "web-1"
selectors = ["run:name:api"]
"#;

const ENVIRONMENT: &str = r#"
[environment.shop]
vars.PASSWORD = { from = "local/shop/db#password" }
"#;
