//! `bursar dev`: what it prints can be typed, and nothing of it is left behind.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Result, ensure};
use bursar_tests::{Process, Signal, binary};

#[test]
fn a_program_runs_on_the_starter_environment_and_an_interrupt_ends_everything() -> Result<()> {
    let place = tempfile::Builder::new().prefix("bursar-dev-test-").tempdir()?;
    let directory = place.path().join("dev");
    let mut dev = start(place.path(), &directory)?;

    let socket = format!("unix://{}", directory.join("agent.sock").display());
    let program = "echo \"$LOG_LEVEL, ${#API_KEY} characters\"";
    let run = bursar(&["--address", &socket, "run", "--env", "dev/app", "--", "sh", "-c", program])?;
    ensure!(run.trim() == "debug, 48 characters", "the program saw another environment: {run}");

    dev.signal(Signal::INT)?;
    let status = dev.wait(LIMIT)?;
    ensure!(status.success(), "an interrupt ended it with {status}: {}", dev.stderr()?);
    let left = bursar(&["--address", &socket, "doctor"]).is_ok();
    ensure!(!left, "an agent still answers");
    Ok(())
}

#[test]
fn a_kept_directory_keeps_what_was_changed_in_it() -> Result<()> {
    let place = tempfile::Builder::new().prefix("bursar-dev-test-").tempdir()?;
    let directory = place.path().join("dev");
    let mut dev = start(place.path(), &directory)?;
    as_administrator(&directory, "env delete dev/app --yes")?;
    dev.signal(Signal::TERM)?;
    dev.wait(LIMIT)?;

    let _again = start(place.path(), &directory)?;
    let environments = as_administrator(&directory, "env list --output json")?;
    ensure!(environments.trim() == "[]", "the starter environment came back: {environments}");
    Ok(())
}

/// Starts it, and waits for the last line of what it prints.
fn start(logs: &Path, directory: &Path) -> Result<Process> {
    let mut command = Command::new(binary("bursar")?);
    command.env_clear().arg("dev").arg("--dir").arg(directory);
    let mut dev = Process::start("dev", command, logs)?;
    dev.wait_for_line(LIMIT, "bursar audit verify --key-file")?;
    Ok(dev)
}

/// Types a command in a shell that has sourced what `dev` left for the administrator.
fn as_administrator(directory: &Path, command: &str) -> Result<String> {
    let script = format!(". '{}'; exec \"$0\" {command}", directory.join("administrator.env").display());
    let mut shell = Command::new("sh");
    shell.env_clear().arg("-c").arg(script).arg(binary("bursar")?);
    said(shell)
}

fn bursar(arguments: &[&str]) -> Result<String> {
    let mut command = Command::new(binary("bursar")?);
    command.env_clear().env("PATH", "/usr/bin:/bin").args(arguments);
    said(command)
}

fn said(mut command: Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output()?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "it ended with {}: {stderr}", output.status);
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

const LIMIT: Duration = Duration::from_secs(90);
