//! The units for systemd: that systemd reads them as they are meant, and that they allow what the programs do.
//!
//! Nothing here boots systemd. What it would enforce is compared with what the programs call, by `strace`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use bursar_tests::{Agent, Broker, Canary, Cli, binary, wait_until};
use tempfile::TempDir;

use crate::policies::for_workloads;

#[test]
fn systemd_reads_the_units_without_a_word_and_finds_them_closed() -> Result<()> {
    for (unit, with_features, exposure) in
        [("bursar-agent", false, 25), ("bursar-agent", true, 30), ("bursar-broker", false, 20)]
    {
        let place = Units::copy(unit, with_features)?;
        let said = analyze(&["verify", &place.path(unit)])?;
        ensure!(said.trim().is_empty(), "{unit}: {said}");
        analyze(&["security", "--offline=true", &format!("--threshold={exposure}"), &place.path(unit)])?;
    }
    Ok(())
}

#[test]
fn the_agent_alone_has_one_capability_and_each_feature_adds_its_own() -> Result<()> {
    let agent = fs::read_to_string(directory().join("bursar-agent.service"))?;
    ensure!(capabilities(&agent)? == ["CAP_SYS_PTRACE"], "{agent}");
    for (feature, needed) in [
        ("files", &["CAP_CHOWN", "CAP_DAC_READ_SEARCH"][..]),
        ("hooks", &["CAP_KILL"]),
        ("aws", &["CAP_DAC_READ_SEARCH"]),
        ("run", &["CAP_SETUID", "CAP_SETGID", "CAP_KILL"]),
    ] {
        let path = directory().join(format!("bursar-agent.service.d/{feature}.conf"));
        ensure!(capabilities(&fs::read_to_string(path)?)? == needed, "{feature} has others");
    }
    Ok(())
}

#[test]
fn what_the_agent_calls_is_what_its_unit_allows() -> Result<()> {
    let broker = Broker::start("[backends.local]\nkind = 'local'\n")?;
    let admin = Cli::administering(&broker)?;
    admin.apply_policies(&for_workloads(), REGISTRATIONS)?;
    let password = Canary::alphanumeric("password");
    let put = ["secret", "put", "local/shop/db", "--field", "password"];
    admin.done_with(&put, password.value().as_bytes())?;
    admin
        .write("shop.toml", "[environment.shop]\nvars.PASSWORD = { from = \"local/shop/db#password\" }\n")?;
    admin.done(&["env", "apply", "shop.toml"])?;
    let memory = tempfile::Builder::new().prefix("bursar-files-").tempdir_in("/dev/shm")?;
    let more = format!(
        "[files.web]\ndirectory = '{0}/web'\nenvironment = 'shop'\nowner = '{USER}'\ngroup = '{USER}'\n\
         [files.web.output.'app.env']\nformat = 'env'\n[files.web.hook]\ncommand = ['/bin/true']\n\
         [run.web]\ncommand = ['/bin/sh', '-c', 'echo up >>/dev/null; exec sleep 600']\nenvironment = 'shop'\n\
         user = '{USER}'\ngroup = '{USER}'\nstop_timeout = '5s'\n",
        memory.path().display()
    );
    let token = admin.done(&["node", "token", "web-1"])?;
    let mut agent = Agent::start_traced(&broker, token.trim(), &more)?;
    wait_until(LIMIT, "the files and the program", || {
        [
            "bursar_agent_runs_total{outcome=\"started\"}",
            "bursar_agent_files_total{outcome=\"delivered\"}",
            "bursar_agent_file_hooks_total{outcome=\"done\"}",
        ]
        .iter()
        .all(|name| agent.counted(name) > 0)
    })?;
    let refused = Cli::through(&agent.socket())?.run(&["get", "local/shop/db#password"])?;
    refused.refused(77, &["registration"])?;
    agent.process().stop()?;

    let allowed = allowed("bursar-agent")?;
    let calls = agent.traced()?;
    ensure!(calls.len() > 40, "only {} calls were seen", calls.len());
    let refused: Vec<_> = calls.iter().filter(|call| !allowed.contains(*call)).collect();
    ensure!(refused.is_empty(), "the unit refuses {refused:?}");
    Ok(())
}

/// The units in a directory of their own, with the programs where they were built.
struct Units(TempDir);

impl Units {
    fn copy(unit: &str, with_features: bool) -> Result<Self> {
        let place = tempfile::tempdir()?;
        let text = fs::read_to_string(directory().join(format!("{unit}.service")))?;
        let installed = format!("/usr/bin/{unit}");
        ensure!(text.contains(&installed), "`{unit}` is started from elsewhere");
        let built = text.replace(&installed, &binary(unit)?.display().to_string());
        fs::write(place.path().join(format!("{unit}.service")), built)?;
        let features = directory().join(format!("{unit}.service.d"));
        if with_features && features.is_dir() {
            let folder = place.path().join(format!("{unit}.service.d"));
            fs::create_dir(&folder)?;
            for feature in fs::read_dir(features)? {
                let feature = feature?;
                fs::copy(feature.path(), folder.join(feature.file_name()))?;
            }
        }
        Ok(Self(place))
    }

    fn path(&self, unit: &str) -> String {
        self.0.path().join(format!("{unit}.service")).display().to_string()
    }
}

fn analyze(arguments: &[&str]) -> Result<String> {
    let answer = Command::new("systemd-analyze").args(arguments).env("SYSTEMD_COLORS", "0").output();
    let answer = answer.context("`systemd-analyze` is missing: `cargo xtask test` installs it")?;
    let said =
        format!("{}{}", String::from_utf8_lossy(&answer.stdout), String::from_utf8_lossy(&answer.stderr));
    ensure!(answer.status.success(), "`systemd-analyze {}`: {said}", arguments.join(" "));
    Ok(said)
}

/// The capabilities that a unit gives, which have to be those that it leaves.
fn capabilities(unit: &str) -> Result<Vec<&str>> {
    let of = |key: &str| {
        let line = unit.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        line.map(|line| line.split_whitespace().collect::<Vec<_>>())
    };
    let given = of("AmbientCapabilities").context("it gives none")?;
    ensure!(of("CapabilityBoundingSet").as_ref() == Some(&given), "it leaves others than it gives");
    Ok(given)
}

/// The system calls that a unit allows.
fn allowed(unit: &str) -> Result<BTreeSet<String>> {
    let text = fs::read_to_string(directory().join(format!("{unit}.service")))?;
    let mut allowed = BTreeSet::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("SystemCallFilter=")) {
        let (forbids, words) = line.strip_prefix('~').map_or((false, line), |words| (true, words));
        for word in words.split_whitespace() {
            for call in members(word)? {
                match forbids {
                    true => drop(allowed.remove(&call)),
                    false => drop(allowed.insert(call)),
                }
            }
        }
    }
    Ok(allowed)
}

/// A system call, or those of a group of them and of the groups in it.
fn members(word: &str) -> Result<Vec<String>> {
    if !word.starts_with('@') {
        return Ok(vec![word.to_owned()]);
    }
    let said = analyze(&["syscall-filter", "--no-pager", word])?;
    let lines = said.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut all = Vec::new();
    for member in lines.filter(|line| *line != word) {
        all.extend(members(member)?);
    }
    Ok(all)
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/systemd")
}

const LIMIT: std::time::Duration = std::time::Duration::from_secs(90);
/// A number that no account has.
const USER: u32 = 61_041;

const REGISTRATIONS: &str = r#"
[[registration]]
principal = "spiffe://example.org/workload/web"
node = "web-1"
selectors = ["run:name:web"]
[[registration]]
principal = "spiffe://example.org/workload/files"
node = "web-1"
selectors = ["files:set:web"]
"#;
