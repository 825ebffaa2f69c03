//! Ten thousand connections, of callers who say nothing or half of something, on every socket of an agent: a few of them
//! have a place for a while, the rest are turned away, and whoever else calls is served.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bursar_tests::{Agent, Broker, Cli, free_port, http, wait_until};
use serde_json::json;
use tempfile::TempDir;
use tokio::time::Instant;
use tonic::Code;

use crate::csi::Driver;

#[test]
fn ten_thousand_who_say_nothing_or_half_of_it_keep_nobody_else_from_any_socket_of_the_agent() -> Result<()> {
    let mut site = Site::start("")?;
    let before = site.agent.process().resident()?;
    for (name, first) in
        [("agent.sock", PREFACE), ("sds.sock", HALF), ("csi.sock", HALF), ("systemd.sock", b"")]
    {
        let crowd = site.crowd(name, first)?;
        let resident = site.agent.process().resident()?;
        ensure!(resident < before + MEMORY, "{resident} KiB with a crowd at `{name}`, {before} before");
        site.is_served().with_context(|| format!("with a crowd at `{name}`"))?;
        drop(crowd);
    }
    let mut crowd = Vec::new();
    for number in 0..CROWD {
        let mut stream = TcpStream::connect(site.aws)?;
        if number % 2 == 0 {
            drop(stream.write_all(b"GET /ping HTTP/1.1\r\nHost: loc"));
        }
        if crowd.len() < PLACES {
            crowd.push(stream);
        }
    }
    site.is_served().context("with a crowd at the port for programs made for AWS")?;
    drop(crowd);

    // The places come back, on each.
    wait_until(LIMIT, "all places to be free", || site.counted("bursar_agent_open_connections") == 0)?;
    wait_until(LIMIT, "the crowd's own user to be served", || {
        site.own.run(&READ).is_ok_and(|said| said.code == Some(0))
    })?;
    wait_until(LIMIT, "the driver to be answered", || site.driver_is_answered())?;
    wait_until(LIMIT, "the port for AWS", || {
        http::request(site.aws, "GET", "/ping", &[], &[]).is_ok_and(|reply| reply.body == b"healthy")
    })?;
    ensure!(
        site.counted("bursar_agent_connections_total{outcome=\"full\"}") > CROWD as u64,
        "few were turned away"
    );
    Ok(())
}

#[test]
fn ten_thousand_that_are_let_in_cost_little_each_and_leave_the_agent_files_to_open() -> Result<()> {
    let places = format!("[limits]\nconnections = {CROWD}\nconnections_per_user = {}\n", CROWD - CROWD / 10);
    let mut site = Site::start(&places)?;
    let (before, files) = (site.agent.process().resident()?, site.agent.process().open_files()?);
    let (mut crowd, mut most) = (Vec::new(), 0);
    for number in 1..=CROWD {
        let mut stream = UnixStream::connect(site.socket("agent.sock"))?;
        stream.set_read_timeout(Some(LIMIT))?;
        // The first words and half a frame. The server has said its own first words, and waits for the rest.
        drop(stream.write_all(&[PREFACE, HALF_A_FRAME].concat()));
        if matches!(stream.read(&mut [0; 64]), Ok(1..)) {
            crowd.push(stream);
        }
        // Again and again, since the first lose their places after a while.
        if number % (CROWD / 20) == 0 {
            let open = site.counted("bursar_agent_open_connections");
            let resident = site.agent.process().resident()?;
            most = open.max(most);
            ensure!(
                resident < before + (most + 64) * EACH,
                "{resident} KiB for {open} of {most}, {before} before"
            );
        }
    }
    site.is_served()?;
    ensure!(most > 100, "only {most} connections were served at a time");
    drop(crowd);
    wait_until(LIMIT, "all places to be free", || site.counted("bursar_agent_open_connections") == 0)?;
    wait_until(LIMIT, "the crowd's own user to be served", || {
        site.own.run(&READ).is_ok_and(|said| said.code == Some(0))
    })?;
    let left = site.agent.process().open_files()?;
    ensure!(left < files + 64, "{left} files are open, {files} before");
    Ok(())
}

#[test]
fn an_agent_without_files_to_open_waits_for_some_and_goes_on() -> Result<()> {
    let mut site = Site::start("")?;
    site.agent.process().limit_files(1)?;
    let mut crowd = Vec::new();
    for name in ["agent.sock", "sds.sock", "csi.sock", "systemd.sock"] {
        crowd.push(UnixStream::connect(site.socket(name))?);
    }
    let _waits = TcpStream::connect(site.aws)?;
    let begun = Instant::now();
    wait_until(LIMIT, "each socket to be without a file for its next connection", || site.complaints() > 20)?;
    // Each looks again ten times a second, and no more often.
    let (complaints, most) = (site.complaints(), 5 * (begun.elapsed().as_millis() / 100 + 2));
    ensure!(u128::from(complaints) <= most, "{complaints} complaints within {:?}", begun.elapsed());
    site.agent.process().limit_files(MANY)?;
    wait_until(LIMIT, "callers to be served again", || site.is_served().is_ok())?;
    wait_until(LIMIT, "the driver to be answered", || site.driver_is_answered())?;
    wait_until(LIMIT, "the port for AWS", || {
        http::request(site.aws, "GET", "/ping", &[], &[]).is_ok_and(|reply| reply.body == b"healthy")
    })
}

/// An agent with every socket that it can have, the registered user, and whoever makes up the crowd.
struct Site {
    agent: Agent,
    other: Cli,
    own: Cli,
    aws: SocketAddr,
    folder: TempDir,
    _broker: Broker,
}

impl Site {
    /// `more` is what the agent's configuration says first.
    fn start(more: &str) -> Result<Self> {
        let broker = Broker::start("[backends.local]\nkind = 'local'\n")?;
        let admin = Cli::administering(&broker)?;
        let own = rustix::process::geteuid().as_raw();
        let entry = |user: u32| REGISTRATION.replace("USER", &user.to_string());
        admin.apply_policies(POLICIES, &[own, OTHER].map(entry).concat())?;
        admin.done_with(&["secret", "put", "local/shop/db", "--field", "p"], b"value")?;
        let (folder, aws) = (tempfile::tempdir()?, free_port()?);
        let here = folder.path().display();
        let sockets = format!(
            "[csi]\nsocket = '{here}/csi.sock'\n[sds]\nsocket = '{here}/sds.sock'\n\
             [systemd]\nsocket = '{here}/systemd.sock'\n[systemd.units.'web.service']\nenvironment = 'shop'\n\
             [aws]\nlisten = '{aws}'\nmount = 'local'\n"
        );
        let token = admin.done(&["node", "token", "web-1"])?;
        let agent = Agent::start_with(&broker, "web-1", token.trim(), &format!("{more}{sockets}"))?;
        // Another user has to reach the socket.
        std::fs::set_permissions(agent.directory(), std::fs::Permissions::from_mode(0o755))?;
        let (own, other) = (Cli::through(&agent.socket())?, Cli::through(&agent.socket())?.as_user(OTHER)?);
        let site = Self { agent, other, own, aws, folder, _broker: broker };
        site.is_served()?;
        Ok(site)
    }

    fn socket(&self, name: &str) -> PathBuf {
        if name == "agent.sock" { self.agent.socket() } else { self.folder.path().join(name) }
    }

    /// Ten thousand at a socket, one after the other, who say this first; those that stay until they are dropped.
    fn crowd(&self, name: &str, first: &[u8]) -> Result<Vec<UnixStream>> {
        let (path, mut crowd) = (self.socket(name), Vec::new());
        for number in 0..CROWD {
            let mut stream = UnixStream::connect(&path).with_context(|| format!("`{name}` is not served"))?;
            if number % 2 == 0 {
                // Whoever got no place is closed already.
                drop(stream.write_all(first));
            }
            if crowd.len() < PLACES {
                crowd.push(stream);
            }
        }
        Ok(crowd)
    }

    /// That another user than the crowd's gets a secret.
    fn is_served(&self) -> Result<()> {
        self.other.done(&READ).map(drop)
    }

    /// Whether what the driver asks is answered, if only by what is wrong with it.
    fn driver_is_answered(&self) -> bool {
        let driver = Driver::at(self.socket("csi.sock"));
        let mount = driver.and_then(|driver| driver.mount("shop", "", &json!({})));
        mount.is_ok_and(|answer| answer.is_err_and(|status| status.code() == Code::FailedPrecondition))
    }

    /// How often the agent said that it could not take a connection.
    fn complaints(&mut self) -> u64 {
        let said = self.agent.process().stdout().unwrap_or_default()
            + &self.agent.process().stderr().unwrap_or_default();
        u64::try_from(said.matches("a connection could not be accepted").count()).unwrap_or(u64::MAX)
    }

    /// What a counter or gauge of the agent stands at.
    fn counted(&self, name: &str) -> u64 {
        let metrics = self.agent.http("/metrics").map(|answer| answer.body).unwrap_or_default();
        let metrics = String::from_utf8_lossy(&metrics).into_owned();
        let line = metrics.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|value| value.trim().parse().ok()).unwrap_or_default()
    }
}

const CROWD: usize = 10_000;
/// Of one user, unless something else is configured.
const PLACES: usize = 256;
const READ: [&str; 2] = ["get", "local/shop/db#p"];
const LIMIT: Duration = Duration::from_secs(90);
/// For all that a crowd can make the agent hold. In KiB.
const MEMORY: u64 = 64 * 1024;
/// For each connection that is served. In KiB.
const EACH: u64 = 64;
/// Enough for an agent that does nothing else.
const MANY: u64 = 1024;
/// A number that no account has.
const OTHER: u32 = 61_006;
/// RFC 9113, section 3.4, and half of it.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HALF: &[u8] = b"PRI * HTTP/2.";
/// Settings, none; and the beginning of headers that are announced with 64 bytes.
const HALF_A_FRAME: &[u8] = b"\0\0\0\x04\0\0\0\0\0\0\0\x40\x01\x04\0\0\0\x01\x82";

const REGISTRATION: &str = "
[[registration]]
principal = 'spiffe://example.org/workload/shop'
node = 'web-1'
selectors = ['unix:uid:USER']
";

const POLICIES: &str = r#"
@id("administrator")
permit (principal == Bursar::Principal::"spiffe://example.org/user/admin", action, resource);
@id("watch")
permit (principal, action == Bursar::Action::"watch", resource);
@id("shop")
permit (principal in Bursar::Group::"spiffe://example.org/workload", action in Bursar::Action::"use", resource);
"#;
