use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::process::{Command, Stdio};

use bursar_core::tasks::Tasks;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::*;
use crate::files::board::Board;
use crate::testing::eventually;

const LONG: Duration = Duration::from_secs(20);

fn shell(script: &str) -> HookAction {
    HookAction::Command { program: "/bin/sh".into(), arguments: vec!["-c".into(), script.into()] }
}

fn runner(action: HookAction, timeout: Duration, every: Duration) -> (Bell, Runner, Board) {
    let mut board = Board::default();
    let set = FileSet {
        name: "web".to_owned(),
        directory: "/run/web".into(),
        on_disk: false,
        environment: "shop".to_owned(),
        owner: None,
        group: None,
        outputs: Vec::new(),
        hook: Some(Hook { action, timeout, every }),
    };
    let (bell, runner) = of(&set, &Metrics::default(), &board.place());
    (bell, runner.expect("a hook"), board)
}

async fn once(action: HookAction, timeout: Duration) -> Result<(), String> {
    let (_bell, runner, _) = runner(action, timeout, LONG);
    runner.once(Event::Removed).await.map_err(|error| error.to_string())
}

/// A hook that runs, as long as this lives.
struct Running(Bell, Board, JoinHandle<()>);

impl Running {
    fn start(action: HookAction, every: Duration) -> Self {
        let (bell, runner, board) = runner(action, LONG, every);
        Self(bell, board, Tasks::new().finish(runner.run()))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.2.abort();
    }
}

fn lines(folder: &TempDir) -> usize {
    fs::read_to_string(folder.path().join("ran")).map_or(0, |text| text.lines().count())
}

#[tokio::test]
async fn a_command_knows_what_happened_and_nothing_else_of_the_agent() {
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("ran");
    once(shell(&format!("env >'{}'", file.display())), LONG).await.expect("done");
    let seen = fs::read_to_string(file).expect("written");
    let mut names: Vec<_> = seen.lines().filter_map(|line| line.split('=').next()).collect();
    names.sort_unstable();
    names.retain(|name| !matches!(*name, "PWD" | "SHLVL" | "_" | "OLDPWD"));
    assert_eq!(names, ["BURSAR_FILES_DIRECTORY", "BURSAR_FILES_EVENT", "BURSAR_FILES_SET", "PATH"]);
    assert!(seen.contains("BURSAR_FILES_SET=web\n") && seen.contains("BURSAR_FILES_EVENT=removed\n"));
}

#[tokio::test]
async fn a_command_that_fails_or_is_not_there_says_so_and_not_what_it_wrote() {
    let failed = once(shell("echo canary; echo canary >&2; exit 3"), LONG).await.expect_err("failed");
    assert_eq!(failed, "`/bin/sh` ended with exit status: 3");
    let missing = HookAction::Command { program: "/no/such".into(), arguments: Vec::new() };
    assert_eq!(once(missing, LONG).await.expect_err("missing"), "`/no/such` cannot be started");
}

#[tokio::test]
async fn a_command_that_hangs_is_ended_with_all_that_it_started() {
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("ran");
    let script = format!("sleep 600 & echo $! >'{}'; sleep 600", file.display());
    let late = once(shell(&script), Duration::from_millis(500)).await.expect_err("late");
    assert_eq!(late, "it was not done after 500ms, and was ended");
    let started = fs::read_to_string(&file).expect("written");
    eventually("what it started to be gone", || is_gone(started.trim())).await;
}

#[tokio::test]
async fn what_a_command_leaves_behind_is_ended_when_it_ends() {
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("ran");
    let script = format!("sleep 600 & echo $! >'{}'", file.display());
    once(shell(&script), LONG).await.expect("done");
    let started = fs::read_to_string(&file).expect("written");
    eventually("what it started to be gone", || is_gone(started.trim())).await;
}

#[tokio::test]
async fn what_leaves_the_group_of_its_command_is_not_waited_for() {
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("ran");
    let script = format!("setsid sh -c 'echo $$ >\"$1\"; exec sleep 600' sh '{}' &", file.display());
    once(shell(&script), LONG).await.expect("done, and not waited for");
    // It may have been ended before it had left.
    let left = fs::read_to_string(&file).ok().and_then(|pid| pid.trim().parse().ok()).and_then(Pid::from_raw);
    if let Some(left) = left {
        kill_process(left, Signal::KILL).unwrap_or_default();
    }
}

/// Nobody may have waited for it yet.
fn is_gone(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_none_or(|(_, fields)| fields.trim_start().starts_with(['Z', 'X']))
}

#[tokio::test]
async fn what_rings_often_runs_once_at_a_time_and_as_seldom_as_is_configured() {
    let folder = tempfile::tempdir().expect("folder");
    let script = format!("echo >>'{}'", folder.path().join("ran").display());
    let every = Duration::from_millis(400);
    let running = Running::start(shell(&script), every);
    let begun = Instant::now();
    eventually("four runs", || {
        running.0.ring(Event::Delivered);
        lines(&folder) >= 4
    })
    .await;
    assert!(begun.elapsed() >= 3 * every, "they came within {:?}", begun.elapsed());
}

#[tokio::test]
async fn one_that_fails_runs_again_until_it_succeeds_and_shows_meanwhile() {
    let folder = tempfile::tempdir().expect("folder");
    let (ran, good) = (folder.path().join("ran"), folder.path().join("good"));
    let script = format!("echo >>'{}'; test -e '{}'", ran.display(), good.display());
    let running = Running::start(shell(&script), Duration::from_millis(1));
    running.0.ring(Event::Delivered);
    eventually("a second attempt", || lines(&folder) >= 2).await;
    assert_eq!(running.1.count(), (1, 1));
    fs::write(&good, "").expect("written");
    let before = lines(&folder);
    eventually("success", || lines(&folder) > before).await;
}

#[tokio::test]
async fn a_process_gets_its_signal_by_a_file_that_nobody_else_writes() {
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("pid");
    let mut child = Command::new("/bin/cat").stdin(Stdio::piped()).spawn().expect("child");
    let hook = || HookAction::Signal { signal: Signal::TERM, pid_file: file.clone() };
    let refused = async |text: &str, mode: u32| {
        fs::write(&file, text).expect("written");
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).expect("mode");
        let error = once(hook(), LONG).await.expect_err("refused");
        error.replace(&file.display().to_string(), "pid")
    };
    assert_eq!(
        once(hook(), LONG).await.expect_err("missing"),
        format!("`{}` cannot be read", file.display())
    );
    for text in ["", "1", "0", "-1", "-5", "x", "99999999999"] {
        assert_eq!(refused(text, 0o644).await, "`pid` has no number of a process greater than 1", "{text}");
    }
    let number = child.id().to_string();
    assert!(refused(&number, 0o666).await.contains("others may write to it"));
    fs::rename(&file, folder.path().join("other")).expect("renamed");
    symlink(folder.path().join("other"), &file).expect("link");
    assert!(once(hook(), LONG).await.expect_err("a link").contains("is a link"));
    fs::remove_file(&file).expect("removed");
    if rustix::process::geteuid().is_root() {
        fs::write(&file, &number).expect("written");
        chown(&file, Some(61_002), None).expect("given away");
        assert!(refused(&number, 0o644).await.contains("belongs to user 61002, and process"));
        fs::remove_file(&file).expect("removed");
    }
    fs::write(&file, format!("{number}\n")).expect("written");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("mode");
    once(hook(), LONG).await.expect("sent");
    assert!(!child.wait().expect("ended").success());
    assert!(once(hook(), LONG).await.expect_err("gone").contains("does not run"));
}

/// A server that answers once, with this.
async fn server(answer: &'static str) -> (SocketAddr, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("address");
    let served = Tasks::new().finish(async move {
        let (mut stream, _) = listener.accept().await.expect("accepted");
        let mut asked = Vec::new();
        while !asked.ends_with(b"\r\n\r\n") {
            asked.push(stream.read_u8().await.expect("a request"));
        }
        stream.write_all(answer.as_bytes()).await.expect("answered");
        if answer.is_empty() {
            std::future::pending::<()>().await;
        }
        String::from_utf8(asked).expect("text")
    });
    (address, served)
}

#[tokio::test]
async fn a_server_gets_a_post_and_says_by_its_status_whether_it_is_done() {
    let hook = |address: SocketAddr| HookAction::Http {
        address,
        uri: format!("http://{address}/reload?a=b").parse().expect("a URL"),
    };
    let (address, served) = server("HTTP/1.1 204 No Content\r\n\r\n").await;
    once(hook(address), LONG).await.expect("done");
    let asked = served.await.expect("served").to_lowercase();
    assert!(asked.starts_with("post /reload?a=b http/1.1\r\n"), "{asked}");
    assert!(
        asked.contains(&format!("host: {address}\r\n")) && asked.contains("content-length: 0"),
        "{asked}"
    );
    let (address, _served) = server("HTTP/1.1 503 Busy\r\nContent-Length: 6\r\n\r\ncanary").await;
    let refused = once(hook(address), LONG).await.expect_err("refused");
    assert_eq!(refused, "the server answered 503 Service Unavailable");
    let (address, _served) = server("canary\r\n\r\n").await;
    let odd = once(hook(address), LONG).await.expect_err("no HTTP");
    assert_eq!(odd, format!("the server at {address} cannot be reached, or does not speak HTTP"));
    let (address, served) = server("").await;
    let late = once(hook(address), Duration::from_millis(300)).await.expect_err("late");
    assert!(late.starts_with("it was not done after 300ms"), "{late}");
    served.abort();
}
