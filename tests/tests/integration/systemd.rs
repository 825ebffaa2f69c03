//! Credentials of units: asked for as systemd asks, by a process in the unit's control group, at an agent beside a real
//! broker.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bursar_tests::{Agent, Broker, Canary, Cli, text, wait_until};
use tempfile::TempDir;

#[test]
fn a_unit_gets_its_credentials_and_the_ledger_says_whose_they_are() -> Result<()> {
    let site = Site::start()?;
    let mut agent = site.agent("")?;
    let unit = site.group("web.service")?;
    ensure!(
        site.load(&unit, "PASSWORD")? == Loaded::Credential(site.password.value().to_owned()),
        "no variable"
    );
    ensure!(site.load(&unit, "site.pem")? == Loaded::Credential(site.password.value().to_owned()), "no file");
    wait_until(LIMIT, "an answer of the cache's own", || {
        site.load(&unit, "PASSWORD").is_ok_and(|loaded| matches!(loaded, Loaded::Credential(_)))
            && agent.counted("bursar_agent_reads_total{outcome=\"fresh\"}") > 0
    })?;
    // Each instance of a template is a unit of its own, and registered by what they are instances of.
    let instance = site.group("worker@7.service")?;
    ensure!(matches!(site.load(&instance, "PASSWORD")?, Loaded::Credential(_)), "an instance got none");
    ensure!(counted(&agent, "given") >= 4, "they were not counted");
    agent.process().stop()?;
    let records = site.admin.audit(&["--principal", WEB])?;
    let of = |action: &str| records.iter().find(|record| text(record, "/action") == action);
    for action in ["resolve", "local-read"] {
        let record = of(action).with_context(|| format!("no record of `{action}`"))?;
        ensure!(text(record, "/actor/selectors/0") == format!("systemd:unit:{}", unit.unit()), "{record}");
    }
    Ok(())
}

#[test]
fn a_unit_that_may_not_have_its_credential_cannot_start_with_an_empty_one() -> Result<()> {
    let mut site = Site::start()?;
    let agent = site.agent("")?;
    let unit = site.group("web.service")?;
    // No such credential; a unit that is configured and registered as nobody; one that is not configured.
    ensure!(site.load(&unit, "ABSENT")? == Loaded::TooLong, "it would have started without it");
    ensure!(site.load(&site.group("stranger.service")?, "PASSWORD")? == Loaded::TooLong, "a stranger");
    ensure!(site.load(&site.group("other.service")?, "PASSWORD")? == Loaded::TooLong, "another unit");
    // A name is easily made up, by root too; the control group is not.
    let name = format!("adf9d86b6eda275e/unit/{}/PASSWORD", unit.unit());
    ensure!(site.connect(&site.group("other.service")?, &name, 0)? == Loaded::TooLong, "a forged name");
    // A broker that is away, before it ever answered for this unit.
    site.broker.process().kill()?;
    let never = site.group("worker@8.service")?;
    ensure!(
        site.load(&never, "PASSWORD")? == Loaded::TooLong,
        "nothing was given, and it would have started"
    );
    ensure!(counted(&agent, "refused") >= 4 && counted(&agent, "failed") >= 1, "they were not counted");
    let log = fs::read_to_string(agent.directory().join("agent.stderr"))?;
    for words in [
        "has no variable `ABSENT`",
        "is not among `systemd.units`",
        "is not in the control group of the unit",
        "a unit is kept from starting without its credential",
    ] {
        ensure!(log.contains(words), "the log does not say `{words}`");
    }
    ensure!(!log.contains(site.password.value()), "the log has the value");
    Ok(())
}

#[test]
fn who_is_not_systemd_is_told_nothing() -> Result<()> {
    let site = Site::start()?;
    let agent = site.agent("")?;
    let unit = site.group("web.service")?;
    // For all that the file of the socket is open to him.
    fs::set_permissions(site.socket(), fs::Permissions::from_mode(0o666))?;
    let name = format!("adf9d86b6eda275e/unit/{}/PASSWORD", unit.unit());
    ensure!(
        site.connect(&unit, &name, OTHER)? == Loaded::Credential(String::new()),
        "another user was answered"
    );
    for name in ["", "x", "adf9/user/web.service/PASSWORD"] {
        ensure!(site.connect(&unit, name, 0)? == Loaded::Credential(String::new()), "`{name}` was answered");
    }
    let not_allowed = agent.counted("bursar_agent_connections_total{outcome=\"not_allowed\"}");
    ensure!(not_allowed == 1, "it was counted {not_allowed} times");
    Ok(())
}

#[test]
fn a_service_that_is_started_again_in_an_outage_gets_what_it_had() -> Result<()> {
    let mut site = Site::start()?;
    let agent = site.agent("")?;
    let unit = site.group("web.service")?;
    wait_until(LIMIT, "the agent to hear the broker's events", || {
        agent.counted("bursar_agent_listening") == 1
    })?;
    site.load(&unit, "PASSWORD")?;
    site.broker.process().kill()?;
    let again = site.load(&unit, "PASSWORD")?;
    ensure!(again == Loaded::Credential(site.password.value().to_owned()), "{again:?}");
    Ok(())
}

/// What systemd makes of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Loaded {
    Credential(String),
    /// The unit does not start.
    TooLong,
}

/// A broker with an environment, and an agent that answers systemd.
struct Site {
    broker: Broker,
    admin: Cli,
    password: Canary,
    folder: TempDir,
    /// Before the names of its units.
    prefix: String,
}

impl Site {
    fn start() -> Result<Self> {
        let broker = Broker::start("[backends.local]\nkind = 'local'\n")?;
        let (admin, password) = (Cli::administering(&broker)?, Canary::alphanumeric("password"));
        let prefix = prefix();
        let registrations = REGISTRATIONS.replace("PREFIX", &prefix);
        admin.apply_policies(POLICIES, &registrations)?;
        let put = ["secret", "put", "local/db", "--field", "password"];
        admin.done_with(&put, password.value().as_bytes())?;
        admin.write("shop.toml", ENVIRONMENT)?;
        admin.done(&["env", "apply", "shop.toml"])?;
        let folder = tempfile::tempdir()?;
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
        Ok(Self { broker, admin, password, folder, prefix })
    }

    /// The control group of a unit of this test.
    fn group(&self, unit: &str) -> Result<Group> {
        Group::of_unit(&format!("{}{unit}", self.prefix))
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("systemd.sock")
    }

    fn agent(&self, more: &str) -> Result<Agent> {
        let token = self.admin.done(&["node", "token", "web-1"])?;
        let units = UNITS.replace("PREFIX", &self.prefix);
        let systemd = format!("{more}[systemd]\nsocket = '{}'\n{units}", self.socket().display());
        Agent::start_with(&self.broker, "web-1", token.trim(), &systemd)
    }

    /// Loads a credential of the unit of `group`.
    fn load(&self, group: &Group, id: &str) -> Result<Loaded> {
        load(&self.socket(), group, id)
    }

    fn connect(&self, group: &Group, name: &str, uid: u32) -> Result<Loaded> {
        connect(&self.socket(), group, name, uid)
    }
}

/// Loads a credential of the unit of `group` at `socket`, as systemd does.
pub(crate) fn load(socket: &Path, group: &Group, id: &str) -> Result<Loaded> {
    connect(socket, group, &format!("{:x}/unit/{}/{id}", fastrand::u64(..), group.unit()), 0)
}

/// Connects from `group` under the abstract name `name`, reads to the end, and takes what comes as systemd would.
fn connect(socket: &Path, group: &Group, name: &str, uid: u32) -> Result<Loaded> {
    let mut client = Command::new("python3");
    client.args(["-c", CLIENT, name]).arg(socket).arg(group.path.join("cgroup.procs")).arg(uid.to_string());
    let output = client.output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    match output.status.code() {
        Some(0) => Ok(Loaded::Credential(String::from_utf8(output.stdout)?)),
        Some(7) => Ok(Loaded::TooLong),
        code => anyhow::bail!("the client ended with {code:?}: {said}"),
    }
}

/// The control group of a unit, made as systemd makes it. It is removed on drop.
pub(crate) struct Group {
    path: PathBuf,
}

impl Group {
    /// Of the unit `name`.
    pub(crate) fn of_unit(name: &str) -> Result<Self> {
        let roots = ["/sys/fs/cgroup/systemd", "/sys/fs/cgroup"].map(Path::new);
        let root = roots.into_iter().find(|root| root.join("cgroup.procs").exists());
        let path = root.context("no control groups are mounted")?.join(name);
        fs::create_dir(&path)
            .with_context(|| format!("`{}` cannot be made: run the tests as root", path.display()))?;
        Ok(Self { path })
    }

    pub(crate) fn unit(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Whoever was in it has ended.
        drop(fs::remove_dir(&self.path));
    }
}

/// Before the names of a test's units: no two tests, and no two runs, meet in a control group.
pub(crate) fn prefix() -> String {
    format!("bursar{:x}-", fastrand::u64(..))
}

fn counted(agent: &Agent, outcome: &str) -> u64 {
    agent.counted(&format!("bursar_agent_systemd_credentials_total{{outcome=\"{outcome}\"}}"))
}

const LIMIT: Duration = Duration::from_secs(90);
/// A number that no account has.
const OTHER: u32 = 61_004;
const WEB: &str = "spiffe://example.org/workload/web";

/// In the unit's group first; then a bound name, a connection that it will not write to, and all that comes.
const CLIENT: &str = r"
import os, socket, sys
name, path, group, uid = sys.argv[1:]
with open(group, 'w') as file: file.write(str(os.getpid()))
if int(uid): os.setgid(int(uid)); os.setuid(int(uid))
end = socket.socket(socket.AF_UNIX)
if name: end.bind('\0' + name)
end.connect(path)
end.shutdown(socket.SHUT_WR)
read = b''
while len(read) <= 1 << 20:
    piece = end.recv(65536)
    if not piece: break
    read += piece
if len(read) > 1 << 20: sys.exit(7)
os.write(1, read)
";

const UNITS: &str = "
[systemd.units]
'PREFIXweb.service' = { environment = 'shop' }
'PREFIXstranger.service' = { environment = 'shop' }
'PREFIXworker@.service' = { environment = 'shop' }
";

const REGISTRATIONS: &str = r#"
[[registration]]
principal = "spiffe://example.org/workload/web"
node = "web-1"
selectors = ["systemd:unit:PREFIXweb.service"]
[[registration]]
principal = "spiffe://example.org/workload/worker"
node = "web-1"
selectors = ["systemd:template:PREFIXworker@.service"]
"#;

const POLICIES: &str = r#"
@id("everything")
permit (principal == Bursar::Principal::"spiffe://example.org/user/admin", action, resource);
@id("units")
permit (principal in Bursar::Group::"spiffe://example.org/workload", action in Bursar::Action::"use", resource);
@id("watch")
permit (principal, action == Bursar::Action::"watch", resource);
"#;

const ENVIRONMENT: &str = r#"
[environment.shop]
vars.LEVEL = "info"
vars.PASSWORD = { from = "local/db#password" }
files."site.pem" = { from = "local/db#password" }
"#;
