//! An agent that is not root, with exactly the capabilities that each of its features needs, and without them.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bursar_tests::{Agent, Broker, Canary, Cli, wait_until};
use tempfile::TempDir;

use crate::policies::for_workloads;

#[test]
fn the_executable_of_another_user_is_seen_with_sys_ptrace_and_not_without() -> Result<()> {
    let site = Site::start()?;
    let (open, closed) = (0o755, 0o711);
    for (capabilities, mode, path, hash) in [
        (&["sys_ptrace"][..], open, true, true),
        (&[], open, false, false),
        (&["sys_ptrace"], closed, true, false),
        (&["sys_ptrace", "dac_read_search"], closed, true, true),
    ] {
        let agent = site.agent(capabilities, "")?;
        let caller = Cli::through(&agent.socket())?.as_user(OTHER)?;
        fs::set_permissions(caller.path("bursar"), fs::Permissions::from_mode(mode))?;
        caller.done(&["get", "local/shop/db#password"])?;
        let records = site.administrator.audit(&["--action", "read", "--outcome", "ok"])?;
        let record = records.first().context("no record")?.to_string();
        ensure!(record.contains(&format!("unix:uid:{OTHER}")), "{record}");
        for (selector, sees) in [("\"unix:exe:/", path), ("\"unix:exe-sha256:", hash)] {
            ensure!(record.contains(selector) == sees, "{capabilities:?} {mode:o}: {record}");
        }
    }
    Ok(())
}

#[test]
fn files_are_given_to_another_user_with_chown_and_dac_read_search() -> Result<()> {
    let site = Site::start()?;
    let set = |name: &str| {
        format!(
            "[files.web]\ndirectory = '{}/{name}'\nenvironment = 'shop'\nowner = '{OTHER}'\ngroup = '{OTHER}'\n\
             [files.web.output.'app.env']\nformat = 'env'\n",
            site.memory.path().display()
        )
    };
    let agent = site.agent(&["chown", "dac_read_search"], &set("good"))?;
    let file = site.memory.path().join("good/..data/app.env");
    wait_until(LIMIT, "the file", || file.exists())?;
    // Others may not write there, root may: the agent sees it and puts the right one there.
    fs::remove_file(&file)?;
    fs::write(&file, "PASSWORD=other\n")?;
    wait_until(LIMIT, "the file to be repaired", || {
        fs::read_to_string(&file).is_ok_and(|text| text.contains(site.password.value()))
    })?;
    drop(agent);

    // What it cannot look at it writes anew.
    let agent = site.agent(&["chown"], &set("blind"))?;
    wait_until(LIMIT, "the files to be written anew", || {
        agent.counted("bursar_agent_files_total{outcome=\"repaired\"}") > 0
    })?;
    drop(agent);

    let mut agent = site.agent(&["dac_read_search"], &set("bad"))?;
    agent.process().wait_for_line(LIMIT, "it needs the capability CAP_CHOWN")?;
    ensure!(!site.memory.path().join("bad/..data").exists(), "something was delivered");
    Ok(())
}

#[test]
fn a_process_of_another_user_is_signalled_with_kill() -> Result<()> {
    let site = Site::start()?;
    let mut sleeper = Sleeper::start()?;
    let pid_file = site.memory.path().join("pid");
    fs::write(&pid_file, sleeper.0.id().to_string())?;
    let set = |name: &str| {
        format!(
            "[files.web]\ndirectory = '{0}/{name}'\nenvironment = 'shop'\n\
             [files.web.output.'app.env']\nformat = 'env'\n\
             [files.web.hook]\nsignal = 'TERM'\npid_file = '{1}'\nevery = '1s'\n",
            site.memory.path().display(),
            pid_file.display()
        )
    };
    let mut agent = site.agent(&[], &set("bad"))?;
    agent.process().wait_for_line(LIMIT, "it needs the capability CAP_KILL")?;
    ensure!(sleeper.0.try_wait()?.is_none(), "it was signalled all the same");
    drop(agent);
    let _agent = site.agent(&["kill"], &set("good"))?;
    wait_until(LIMIT, "the signal", || sleeper.0.try_wait().is_ok_and(|ended| ended.is_some()))
}

#[test]
fn a_program_runs_as_another_user_with_setuid_and_setgid_and_has_none_of_the_agents_rights() -> Result<()> {
    let site = Site::start()?;
    let run = |name: &str| {
        format!(
            "[run.web]\ncommand = ['/bin/sh', '-c', 'grep -E \"^(Cap[IPEA]|Groups)\" /proc/self/status >seen; \
             mv seen {name}; exec sleep 600']\n\
             environment = 'shop'\nuser = '{OTHER}'\ngroup = '{OTHER}'\ndirectory = '{}'\n",
            site.place.path().display()
        )
    };
    for lacking in [&[][..], &["setuid", "kill"], &["setgid"]] {
        let mut agent = site.agent(lacking, &run("bad"))?;
        agent.process().wait_for_line(LIMIT, "give it CAP_SETUID and CAP_SETGID")?;
    }
    ensure!(!site.place.path().join("bad").exists(), "it was started all the same");

    let rights = ["setuid", "setgid", "dac_read_search", "chown", "sys_ptrace"];
    let mut agent = site.agent(&rights, &run("good"))?;
    let seen = site.place.path().join("good");
    wait_until(LIMIT, "the program", || seen.exists())?;
    let seen = fs::read_to_string(seen)?;
    let none = ["CapInh", "CapPrm", "CapEff", "CapAmb"].map(|set| format!("{set}:\t0000000000000000\n"));
    ensure!(none.iter().all(|line| seen.contains(line)), "{seen}");
    ensure!(seen.contains("Groups:\t \n"), "{seen}");
    // It ends with the agent although that may signal nobody.
    let status = agent.process().stop()?;
    ensure!(status.success() && agent.process().stderr()?.contains("\"in_order\":true"), "{status}");
    Ok(())
}

#[test]
fn memory_is_locked_with_ipc_lock_and_the_log_says_when_it_is_not() -> Result<()> {
    let site = Site::start()?;
    for (capabilities, locked) in [(&["ipc_lock"][..], true), (&[], false)] {
        let mut agent = site.agent(capabilities, "")?;
        let status = fs::read_to_string(format!("/proc/{}/status", agent.process().pid()))?;
        let line = status.lines().find(|line| line.starts_with("VmLck:")).context("no line")?;
        ensure!(line.contains(" 0 kB") != locked, "{capabilities:?}: {line}");
        let log = agent.process().stderr()?;
        ensure!(log.contains("by LimitMEMLOCK=infinity or CAP_IPC_LOCK") != locked, "{log}");
    }
    Ok(())
}

/// A process of another user, which is ended with this.
struct Sleeper(Child);

impl Sleeper {
    fn start() -> Result<Self> {
        let mut command = Command::new("sleep");
        command.arg("600").uid(OTHER).gid(OTHER).stdin(Stdio::null()).stdout(Stdio::null());
        Ok(Self(command.spawn()?))
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        drop((self.0.kill(), self.0.wait()));
    }
}

/// A broker with one environment, for everybody.
struct Site {
    administrator: Cli,
    broker: Broker,
    password: Canary,
    /// Of the agent.
    memory: TempDir,
    /// Of the other user.
    place: TempDir,
}

impl Site {
    fn start() -> Result<Self> {
        let broker = Broker::start("[backends.local]\nkind = 'local'\n")?;
        let administrator = Cli::administering(&broker)?;
        let registrations = [
            "files:set:web".to_owned(),
            "run:name:web".to_owned(),
            format!("unix:uid:{OTHER}"),
        ]
        .map(|selector| {
            format!(
                "[[registration]]\nprincipal = \"spiffe://example.org/workload/web\"\nnode = \"web-1\"\n\
                     selectors = [\"{selector}\"]\n"
            )
        });
        administrator.apply_policies(&for_workloads(), &registrations.concat())?;
        let password = Canary::alphanumeric("password");
        let put = ["secret", "put", "local/shop/db", "--field", "password"];
        administrator.done_with(&put, password.value().as_bytes())?;
        administrator.write(
            "shop.toml",
            "[environment.shop]\nvars.PASSWORD = { from = \"local/shop/db#password\" }\n",
        )?;
        administrator.done(&["env", "apply", "shop.toml"])?;
        let memory = tempfile::Builder::new().prefix("bursar-files-").tempdir_in("/dev/shm")?;
        chown(memory.path(), Some(AGENT), Some(AGENT)).context("run the tests as root")?;
        let place = tempfile::Builder::new().prefix("bursar-run-").tempdir()?;
        chown(place.path(), Some(OTHER), Some(OTHER))?;
        Ok(Self { administrator, broker, password, memory, place })
    }

    fn agent(&self, capabilities: &[&str], more: &str) -> Result<Agent> {
        let token = self.administrator.done(&["node", "token", "web-1"])?;
        Agent::start_privileged(AGENT, capabilities, &self.broker, token.trim(), more)
    }
}

const LIMIT: Duration = Duration::from_secs(90);
/// Numbers that no account has.
const AGENT: u32 = 61_031;
const OTHER: u32 = 61_032;
