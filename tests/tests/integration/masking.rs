//! `bursar run --mask`: what a program prints goes without its secrets, and everything else is as if nobody stood
//! before it: bytes, terminals, signals, exit codes.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bursar_tests::{Broker, Canary, Cli, Process, Said, Signal, scan_bytes, wait_until};

#[test]
fn what_a_program_prints_of_its_secrets_is_their_names() -> Result<()> {
    let site = Site::start()?;
    let script = r#"
        printf 'key=%s\n' "$KEY"; printf 'Basic %s\n' "$(printf 'app:%s' "$KEY" | base64 -w0)"
        printf '%s' "$PEM"; printf '%s' "$PEM" | base64; printf '%s' "$PEM" | while read -r line; do echo "log: $line"; done
        printf '%s %s' "$KEY" "$LEVEL" >&2"#;
    let said = site.run(&["sh", "-c", script])?;
    ensure!(said.code == Some(0), "{}", said.stderr);
    ensure!(said.stderr == "[masked:KEY] info", "on standard error: {}", said.stderr);
    let shown = String::from_utf8_lossy(&said.stdout).into_owned();
    ensure!(shown.starts_with("key=[masked:KEY]\nBasic "), "{shown}");
    ensure!(shown.contains("[masked:PEM]\n") && shown.contains("log: [masked:PEM]\n"), "{shown}");
    site.is_clean(&said)?;
    let last = PEM.lines().rev().nth(1).context("no last line")?;
    ensure!(!shown.contains(last), "a line of the key is shown: {shown}");
    Ok(())
}

#[test]
fn a_prompt_shows_soon_and_a_value_in_pieces_does_not() -> Result<()> {
    let site = Site::start()?;
    let script = r#"
        printf 'Password %.2s' "$KEY"; read answer
        rest="${KEY#??}"; printf '%.9s' "$rest"; printf '%s\n' "${rest#?????????}""#;
    let mut command = site.command(&["sh", "-c", script])?;
    let mut running = Piped::start(&mut command)?;
    // The first two bytes may begin a value; somebody has to see them to answer.
    let prompt = format!("Password {}", site.key.value().get(..2).context("short")?);
    running.read_until(&prompt)?;
    running.stdin.write_all(b"\n")?;
    let shown = running.read_to_end()?;
    ensure!(shown == "[masked:KEY]\n", "after the prompt came {shown}");
    Ok(())
}

#[test]
fn eight_mebibytes_of_anything_come_through_as_they_are() -> Result<()> {
    let site = Site::start()?;
    let mut bytes = vec![0; 8 << 20];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    site.cli.write("picture", &bytes)?;
    let said = site.run(&["cat", "picture"])?;
    ensure!(
        said.code == Some(0) && said.stdout == bytes,
        "of {} bytes came {}",
        bytes.len(),
        said.stdout.len()
    );
    Ok(())
}

#[test]
fn the_end_of_the_program_is_the_end_of_the_command() -> Result<()> {
    let site = Site::start()?;
    for (script, code) in [("exit 41", 41), ("kill -KILL $$", 137), ("kill -SEGV $$", 139)] {
        let said = site.run(&["sh", "-c", script])?;
        ensure!(said.code == Some(code), "`{script}` gave {:?}: {}", said.code, said.stderr);
    }
    site.run(&["no-such-program"])?.refused(127, &["cannot execute `no-such-program`", "hint: "])?;
    site.run(&["/etc/passwd"])?.refused(126, &["cannot execute `/etc/passwd`"])?;

    // A reader that goes away ends the program, as it does without masking.
    let mut command = site.command(&["sh", "-c", "yes; kill -PIPE $$"])?;
    let mut running = Piped::start(&mut command)?;
    running.read_until("y\n")?;
    let (mut child, stdout) = (running.child, running.stdout);
    drop(stdout);
    ensure!(child.wait()?.code() == Some(141), "the program outlived its reader");
    Ok(())
}

#[test]
fn what_is_left_running_does_not_keep_the_command() -> Result<()> {
    let site = Site::start()?;
    let said = site.run(&["sh", "-c", "sleep 1000 & echo $!"])?;
    let pid: i32 = String::from_utf8_lossy(&said.stdout).trim().parse()?;
    let pid = rustix::process::Pid::from_raw(pid).context("no process")?;
    rustix::process::kill_process(pid, Signal::KILL).context("it was to be left running")?;
    ensure!(said.code == Some(0), "{}", said.stderr);
    Ok(())
}

#[test]
fn signals_reach_the_program() -> Result<()> {
    let site = Site::start()?;
    let script =
        "trap 'echo usr1' USR1; trap 'echo term; exit 9' TERM; echo ready; while :; do sleep 1 & wait; done";
    let command = site.command(&["sh", "-c", script])?;
    let mut process = Process::start("signals", command, &site.cli.path(""))?;
    process.wait_for_line(LIMIT, "ready")?;
    process.signal(Signal::USR1)?;
    process.wait_for_line(LIMIT, "usr1")?;
    process.signal(Signal::TERM)?;
    ensure!(process.wait(LIMIT)?.code() == Some(9), "{}", process.report());

    // What was to be ignored stays so, for the program too.
    let script = "kill -HUP $PPID; kill -HUP $$; echo survived";
    let run = site.command(&["sh", "-c", script])?;
    let output = through(&["sh", "-c", "trap '' HUP; exec \"$@\"", "sh"], &run)?.output()?;
    ensure!(output.stdout == b"survived\n", "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

#[test]
fn a_program_does_not_outlive_whoever_stands_before_it() -> Result<()> {
    let site = Site::start()?;
    let command = site.command(&["sh", "-c", "echo pid $$; exec sleep 1000"])?;
    let mut process = Process::start("orphan", command, &site.cli.path(""))?;
    let line = process.wait_for_line(LIMIT, "pid ")?;
    let program = format!("/proc/{}/stat", line.trim_start_matches("pid "));
    process.kill()?;
    wait_until(LIMIT, "the program to be killed", || {
        std::fs::read_to_string(&program).map_or(true, |stat| stat.contains(") Z "))
    })
}

#[test]
fn a_value_that_everything_has_is_not_masked_and_that_is_said() -> Result<()> {
    let site = Site::start()?;
    let said = site.run(&["printenv", "SHORT"])?;
    ensure!(said.stdout == b"on\n", "{}", said.stderr);
    let mut command = site.cli.command()?;
    let output = command.args(["run", "--env", "short", "--mask", "--", "printenv", "PIN"]).output()?;
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.stdout == b"123\n" && told.contains("not masked") && told.contains("PIN"), "{told}");
    Ok(())
}

/// The command, started by another program that takes it as its last arguments.
pub(crate) fn through(program: &[&str], command: &Command) -> Result<Command> {
    let (name, arguments) = program.split_first().context("no program")?;
    let mut outer = Command::new(name);
    outer.args(arguments).arg(command.get_program()).args(command.get_args()).env_clear();
    outer.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    outer.env("PATH", "/usr/bin:/bin");
    if let Some(directory) = command.get_current_dir() {
        outer.current_dir(directory);
    }
    Ok(outer)
}

/// A broker with an environment, and whoever may resolve it.
pub(crate) struct Site {
    pub(crate) broker: Broker,
    pub(crate) cli: Cli,
    pub(crate) key: Canary,
}

impl Site {
    pub(crate) fn start() -> Result<Self> {
        let broker = Broker::start("[backends.local]\nkind = 'local'\n")?;
        let cli = Cli::administering(&broker)?;
        cli.apply_policies(POLICIES, "")?;
        let key = Canary::random("api key");
        cli.done_with(&["secret", "put", "local/app/key", "--field", "key"], key.value().as_bytes())?;
        cli.done_with(&["secret", "put", "local/app/tls", "--field", "pem"], PEM.as_bytes())?;
        cli.done_with(&["secret", "put", "local/app/pin", "--field", "pin"], b"123")?;
        cli.write("app.toml", ENVIRONMENTS)?;
        cli.done(&["env", "apply", "app.toml"])?;
        Ok(Self { broker, cli, key })
    }

    /// The command that runs `program` with its output masked.
    pub(crate) fn command(&self, program: &[&str]) -> Result<Command> {
        let mut command = self.cli.command()?;
        command.args(["run", "--env", "app", "--mask", "--"]).args(program);
        Ok(command)
    }

    fn run(&self, program: &[&str]) -> Result<Said> {
        self.cli.run(&[&["run", "--env", "app", "--mask", "--"], program].concat())
    }

    /// Nothing that was said holds a value.
    fn is_clean(&self, said: &Said) -> Result<()> {
        let pem = Canary::known("key in PEM", PEM.trim())?;
        for (place, bytes) in
            [("standard output", said.stdout.as_slice()), ("standard error", said.stderr.as_bytes())]
        {
            let found = scan_bytes(place, bytes, &[&self.key, &pem])?;
            ensure!(found.is_empty(), "{found:?}");
        }
        Ok(())
    }
}

/// A command whose input and output are pipes.
struct Piped {
    child: Child,
    stdin: ChildStdin,
    stdout: std::process::ChildStdout,
}

impl Piped {
    fn start(command: &mut Command) -> Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn()?;
        let stdin = child.stdin.take().context("no input")?;
        let stdout = child.stdout.take().context("no output")?;
        Ok(Self { child, stdin, stdout })
    }

    /// Reads exactly `text`.
    fn read_until(&mut self, text: &str) -> Result<()> {
        let mut read = vec![0; text.len()];
        self.stdout.read_exact(&mut read)?;
        ensure!(read == text.as_bytes(), "it printed {:?}", String::from_utf8_lossy(&read));
        Ok(())
    }

    fn read_to_end(mut self) -> Result<String> {
        let mut read = String::new();
        self.stdout.read_to_string(&mut read)?;
        self.child.wait()?;
        Ok(read)
    }
}

pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// No key at all, in the shape of one.
pub(crate) const PEM: &str = "-----BEGIN PRIVATE KEY-----\n\
    MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQDBjXZcL0bQk1yW\n\
    nLrB5oYz0Vq8dQ3uR7sT2xP4kM6aJ9hF1eC5gN8wI0lK7vS3oX2tU6pZ4yD9bE1f\n\
    G8jH5mA2cQ7rW0iL3nV6sO9kY4zT1xP8uB5dF2gJ7hE0aC3lM6qR9wN4vS1oX8tI\n\
    U5pZ2yD7bG0fK3j=\n\
    -----END PRIVATE KEY-----\n";

const POLICIES: &str = r#"
@id("administration")
permit (principal == Bursar::Principal::"spiffe://example.org/user/admin", action, resource);
"#;

const ENVIRONMENTS: &str = r#"
[environment."app".vars]
KEY = { from = "local/app/key#key" }
PEM = { from = "local/app/tls#pem" }
LEVEL = "info"
SHORT = "on"

[environment."short".vars]
PIN = { from = "local/app/pin#pin" }

[environment."files".files]
"tls/key.pem" = { from = "local/app/tls#pem" }
"app.conf" = { content = "level = info\n", mode = "0640" }

[environment."clash".vars]
KEY = { from = "local/app/key#key" }
KEY_FILE = "/somewhere"
"#;
