use std::fs;
use std::os::unix::fs::PermissionsExt;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::*;
use crate::config::Config;
use crate::testing::eventually;

/// A `bursar` that writes down how it was called, and then does what it is told to.
struct Site {
    folder: TempDir,
    tasks: Tasks,
    metrics: Metrics,
}

impl Site {
    fn new(script: &str) -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let site = Self { folder, tasks: Tasks::new(), metrics: Metrics::default() };
        let text =
            format!("#!/bin/sh\ncd '{}'\necho \"$$\" >>pids\n{script}\n", site.folder.path().display());
        fs::write(site.path("bursar"), text).expect("written");
        fs::set_permissions(site.path("bursar"), fs::Permissions::from_mode(0o755)).expect("mode");
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn prepare(&self, more: &str) -> Result<Runs, RunsError> {
        let text = format!(
            "broker = 'https://b'\nca_file = 'ca'\nnode = 'n'\ndata_dir = 'd'\n\
             [run.web]\ncommand = ['/bin/web', '--port', '80 80']\nenvironment = 'shop/prod'\n{more}"
        );
        let config = Config::parse(&text).expect("good");
        let attestor = Arc::new(Attestor::new().expect("attestor"));
        let (cli, socket) = (self.path("bursar"), Path::new("/run/b.sock"));
        Runs::prepare(&config.runs, Some(&cli), socket, &attestor, &self.metrics)
    }

    /// Starts, as when the agent is ready.
    fn start(&self, more: &str) -> Arc<Board> {
        let runs = self.prepare(more).expect("prepared");
        let (board, tasks) = (Arc::clone(&runs.board), self.tasks.clone());
        let (ready, findings) = watch::channel(Findings { not_ready: None, fault: None });
        self.tasks.run("runs", async move {
            runs.keep(findings, &tasks).await;
            drop(ready);
        });
        board
    }

    fn lines(&self, name: &str) -> Vec<String> {
        fs::read_to_string(self.path(name)).unwrap_or_default().lines().map(str::to_owned).collect()
    }

    async fn lives(&self, number: usize) {
        eventually("it to be started", || self.lines("pids").len() >= number).await;
    }

    async fn stop(&self) {
        assert!(self.tasks.drain(Duration::from_secs(60)).await, "the programs did not end");
    }
}

/// Ends when its input does, as `bursar run --tied` does.
const TIED: &str = "cat >/dev/null";

#[tokio::test]
async fn a_program_is_run_by_bursar_with_nothing_of_the_agents() {
    let site = Site::new(&format!("env >seen; printf '%s\\n' \"$@\" >calling; mv calling called; {TIED}"));
    site.start(
        "stop_timeout = '3s'\nmask = true\nas = 'fd'\nsignal = 'SIGUSR1'\nhook = ['/bin/reload', '-a']",
    );
    eventually("it to be called", || !site.lines("called").is_empty()).await;
    let called = site.lines("called");
    let expected = "run --tied --env=shop/prod --umask=0022 --as=fd --on-change=restart --stop-timeout=3000ms \
                    --splay=0ms --mask --signal=USR1 -- /bin/web --port";
    let missing: Vec<_> = expected.split(' ').filter(|word| !called.iter().any(|had| had == word)).collect();
    assert!(missing.is_empty(), "{missing:?} of {called:?}");
    for whole in ["--reason=kept running as web", "--hook=/bin/reload -a", "80 80"] {
        assert!(called.iter().any(|had| had == whole), "{called:?}");
    }
    let seen = site.lines("seen");
    let mut names: Vec<_> = seen.iter().filter_map(|line| line.split('=').next()).collect();
    names.sort_unstable();
    names.retain(|name| !matches!(*name, "PWD" | "SHLVL" | "_" | "OLDPWD" | "HOME" | "USER" | "LOGNAME"));
    assert_eq!(names, ["BURSAR_ADDRESS", "PATH", "XDG_CONFIG_HOME"]);
    assert!(seen.contains(&"BURSAR_ADDRESS=unix:///run/b.sock".to_owned()), "{seen:?}");
    site.stop().await;
}

#[tokio::test]
async fn it_starts_once_the_agent_is_ready_and_ends_in_order_with_it() {
    let site = Site::new(&format!("{TIED}; echo ended >ended"));
    let runs = site.prepare("").expect("prepared");
    let (ready, findings) = watch::channel(Findings::default());
    let tasks = site.tasks.clone();
    site.tasks.run("runs", async move { runs.keep(findings, &tasks).await });
    tokio::task::yield_now().await;
    assert!(site.lines("pids").is_empty(), "it was started before there was anything to start it with");
    ready.send_replace(Findings { not_ready: None, fault: None });
    site.lives(1).await;
    eventually("it to be counted", || site.metrics.runs_running.get() == 1).await;
    site.stop().await;
    assert_eq!(site.lines("ended"), ["ended"]);
    assert_eq!((site.lines("pids").len(), site.metrics.runs_running.get()), (1, 0));
}

#[tokio::test]
async fn it_is_started_again_when_it_was_killed_and_that_shows() {
    let site = Site::new(TIED);
    let board = site.start("");
    for life in 1..=2 {
        site.lives(life).await;
        assert_eq!(board.count(), (1, life - 1));
        let pid: i32 = site.lines("pids").last().expect("a number").parse().expect("a number");
        kill_process(Pid::from_raw(pid).expect("a process"), Signal::KILL).expect("killed");
        eventually("it to show", || board.count() == (1, 1)).await;
    }
    site.lives(3).await;
    assert!(board.fault().is_some_and(|fault| fault.starts_with("1 of 1 programs")));
    site.stop().await;
}

#[tokio::test]
async fn what_fails_at_once_is_started_again_less_and_less_often() {
    let site = Site::new("exit 3");
    let began = tokio::time::Instant::now();
    site.start("");
    site.lives(4).await;
    // At least a quarter of a second, a half, and one.
    assert!(began.elapsed() >= Duration::from_millis(1750), "{:?}", began.elapsed());
    site.stop().await;
}

#[tokio::test]
async fn whether_it_is_started_again_is_configured() {
    for (restart, code, good) in [("never", 3, false), ("never", 0, true), ("on-failure", 0, true)] {
        let site = Site::new(&format!("exit {code}"));
        let runs = site.prepare(&format!("restart = '{restart}'")).expect("prepared");
        let keep = runs.all[0].keep(&site.tasks);
        tokio::time::timeout(Duration::from_secs(30), keep).await.expect("it ends");
        assert_eq!(site.lines("pids").len(), 1, "{restart} {code}");
        assert_eq!(runs.board.fault().is_none(), good, "{restart} {code}");
    }
    let site = Site::new("exit 3");
    site.start("restart = 'on-failure'");
    site.lives(2).await;
    site.stop().await;
}

#[tokio::test]
async fn a_bursar_that_is_not_there_keeps_the_agent_from_starting_and_a_directory_is_waited_for() {
    let site = Site::new("");
    fs::remove_file(site.path("bursar")).expect("removed");
    let missing = site.prepare("").expect_err("missing").to_string();
    assert!(missing.ends_with("which keeps others running; say by `cli` where `bursar` is"), "{missing}");
    let site = Site::new(TIED);
    let nobody = site.prepare("user = 'no-such'").expect_err("nobody").to_string();
    assert_eq!(nobody, "the user of the program `web` is not known");

    let board = site.start(&format!("directory = '{}'", site.path("later").display()));
    eventually("it to show", || board.count() == (1, 1)).await;
    fs::create_dir(site.path("later")).expect("made");
    site.lives(1).await;
    site.stop().await;
}
