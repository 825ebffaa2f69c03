use std::os::unix::fs::MetadataExt;
use std::process::{Child, Command, Stdio};

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

use super::*;

fn own_peer() -> Peer {
    let own = std::fs::metadata("/proc/self").expect("proc");
    Peer { pid: std::process::id(), uid: own.uid(), gid: own.gid() }
}

fn selector_values(workload: &Workload, kind: &str) -> Vec<String> {
    let prefix = format!("{kind}:");
    let of_kind = workload.context().selectors.iter().filter_map(|selector| selector.strip_prefix(&prefix));
    of_kind.map(str::to_owned).collect()
}

/// A child that waits for its standard input to close.
struct Waiting(Child);

impl Waiting {
    fn start(program: &Path) -> Self {
        let mut command = Command::new(program);
        Self(command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("child"))
    }

    fn peer(&self) -> Peer {
        Peer { pid: self.0.id(), ..own_peer() }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        self.0.wait().expect("child ended");
    }
}

/// The child is `cat` from the moment that its `/proc/PID/exe` says so.
fn until_executing(child: &Waiting, program: &Path) {
    let link = format!("/proc/{}/exe", child.0.id());
    let wanted = std::fs::canonicalize(program).expect("path");
    for _ in 0..100_000 {
        if std::fs::read_link(&link).is_ok_and(|found| found == wanted) {
            return;
        }
        std::thread::yield_now();
    }
    panic!("the child does not execute {}", program.display());
}

#[test]
fn the_own_process_is_attested_with_user_group_executable_and_hash() {
    let workload = Attestor::new().expect("attestor").attest(own_peer()).expect("attested");
    let exe = std::env::current_exe().expect("exe");
    let hash = HEXLOWER.encode(&Sha256::digest(std::fs::read(&exe).expect("read")));
    assert_eq!(selector_values(&workload, "unix:uid"), [own_peer().uid.to_string()]);
    assert_eq!(selector_values(&workload, "unix:gid"), [own_peer().gid.to_string()]);
    assert_eq!(selector_values(&workload, "unix:exe"), [exe.display().to_string()]);
    assert_eq!(selector_values(&workload, "unix:exe-sha256"), [hash]);
}

#[test]
fn a_child_is_another_workload_than_its_parent() {
    let child = Waiting::start(Path::new("/bin/cat"));
    until_executing(&child, Path::new("/bin/cat"));
    let attestor = Attestor::new().expect("attestor");
    let (own, other) = (attestor.attest(own_peer()), attestor.attest(child.peer()));
    let (own, other) = (own.expect("own"), other.expect("child"));
    assert_ne!(own.identity(), other.identity());
    assert_ne!(own.instance(), other.instance());
}

#[test]
fn two_processes_of_one_program_are_one_workload_and_two_instances() {
    let cat = Path::new("/bin/cat");
    let (one, two) = (Waiting::start(cat), Waiting::start(cat));
    until_executing(&one, cat);
    until_executing(&two, cat);
    let attestor = Attestor::new().expect("attestor");
    let (one, two) = (attestor.attest(one.peer()).expect("one"), attestor.attest(two.peer()).expect("two"));
    assert_eq!(one.identity(), two.identity());
    assert_ne!(one.instance(), two.instance());
}

#[test]
fn a_process_that_ended_is_noticed() {
    let child = Waiting::start(Path::new("/bin/cat"));
    let peer = child.peer();
    let attestor = Attestor::new().expect("attestor");
    let workload = attestor.attest(peer).expect("attested");
    assert!(workload.is_alive());
    drop(child);
    assert!(!workload.is_alive());
    assert!(matches!(attestor.attest(peer), Err(AttestError::Gone { .. })));
}

#[test]
fn a_process_of_another_user_than_connected_is_refused() {
    let peer = Peer { uid: own_peer().uid + 1, ..own_peer() };
    let refused = Attestor::new().expect("attestor").attest(peer);
    assert!(matches!(refused, Err(AttestError::Changed { .. })));
}

#[test]
fn a_path_that_means_another_file_to_the_agent_is_not_attested() {
    let folder = tempfile::tempdir().expect("folder");
    let program = folder.path().join("cat");
    std::fs::copy("/bin/cat", &program).expect("copied");
    let child = Waiting::start(&program);
    until_executing(&child, &program);
    // The same path, another file: what a mount namespace of the process's own would do without leaving a trace.
    std::fs::remove_file(&program).expect("removed");
    std::fs::copy("/bin/true", &program).expect("copied");
    let workload = Attestor::new().expect("attestor").attest(child.peer()).expect("attested");
    assert_eq!(selector_values(&workload, "unix:exe"), Vec::<String>::new());
    let cat = HEXLOWER.encode(&Sha256::digest(std::fs::read("/bin/cat").expect("read")));
    assert_eq!(selector_values(&workload, "unix:exe-sha256"), [cat]);
}

/// A `/proc` with one process in it, whose start time can be changed.
struct FakeProc(tempfile::TempDir);

impl FakeProc {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("folder");
        std::fs::create_dir_all(folder.path().join("42")).expect("created");
        let proc = Self(folder);
        proc.start(1000);
        proc
    }

    fn start(&self, time: u64) {
        let stat = format!("42 (app) S 1 42 42 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 {time} 0 0");
        std::fs::write(self.0.path().join("42/stat"), stat).expect("written");
    }
}

#[test]
fn a_process_id_that_went_to_another_process_is_noticed_by_its_start_time() {
    let proc = FakeProc::new();
    let process = Process::open(proc.0.path(), 42).expect("open");
    assert!(process.confirm().is_ok());
    proc.start(2000);
    assert!(matches!(process.confirm(), Err(AttestError::Changed { pid: 42 })));
}

#[test]
fn an_instance_is_named_by_process_start_and_boot() {
    let proc = FakeProc::new();
    let process = Process::open(proc.0.path(), 42).expect("open");
    assert_eq!(process.instance("b1d76ce7"), "42:1000@b1d76ce7");
}

#[test]
fn a_process_that_is_not_there_is_gone() {
    let proc = FakeProc::new();
    assert!(matches!(Process::open(proc.0.path(), 43), Err(AttestError::Gone { pid: 43 })));
}

#[test]
fn a_folder_without_what_the_kernel_writes_is_refused() {
    let proc = FakeProc::new();
    std::fs::write(proc.0.path().join("42/stat"), "nonsense").expect("written");
    assert!(matches!(Process::open(proc.0.path(), 42), Err(AttestError::Malformed { .. })));
}

#[test]
fn a_set_of_files_is_known_by_its_name_alone_and_by_the_same_after_a_restart() {
    let attestor = Attestor::new().expect("attestor");
    let (set, again) = (attestor.delivery("web"), Attestor::new().expect("attestor").delivery("web"));
    assert_eq!(set.context().selectors, ["files:set:web"]);
    assert!(set.instance().starts_with("files:web@") && set.instance() == again.instance());
    assert!(set.identity() == again.identity() && set.identity() != attestor.delivery("api").identity());
    assert!(set.is_alive() && set.context().pid == 0);
}

#[test]
fn a_process_is_what_the_agent_started_it_as_until_its_end_and_no_other_is() {
    let attestor = Attestor::new().expect("attestor");
    let start = || Command::new("/bin/cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn();
    let (child, mark) = attestor.start("web", start).expect("started");
    let (started, other) = (Waiting(child), Waiting::start(Path::new("/bin/cat")));
    let workload = attestor.attest(started.peer()).expect("attested");
    assert_eq!(selector_values(&workload, "run:name"), ["web"]);
    assert_eq!(selector_values(&workload, "unix:uid"), [own_peer().uid.to_string()]);
    assert!(workload.instance().starts_with("run:web@"), "{}", workload.instance());
    for peer in [other.peer(), own_peer()] {
        let stranger = attestor.attest(peer).expect("attested");
        assert!(selector_values(&stranger, "run:name").is_empty());
    }
    // Another agent did not start it.
    let elsewhere = Attestor::new().expect("attestor").attest(started.peer()).expect("attested");
    assert!(selector_values(&elsewhere, "run:name").is_empty());
    drop(mark);
    let forgotten = attestor.attest(started.peer()).expect("attested");
    assert!(selector_values(&forgotten, "run:name").is_empty());
}

#[test]
fn a_number_that_another_process_has_by_now_is_not_what_was_started() {
    let (proc, started) = (tempfile::tempdir().expect("folder"), Started::default());
    let write = |pid: u32, time: u32| {
        let folder = proc.path().join(pid.to_string());
        std::fs::create_dir_all(&folder).expect("created");
        let stat = format!("{pid} (app) S 1 {pid} {pid} 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 {time} 0 0");
        std::fs::write(folder.join("stat"), stat).expect("written");
    };
    let start = || Command::new("/bin/true").spawn().inspect(|child| write(child.id(), 1000));
    let (mut child, _mark) = started.start("web", proc.path(), start).expect("started");
    let name = || started.name_of(&Process::open(proc.path(), child.id()).expect("open"));
    assert_eq!(name().as_deref(), Some("web"));
    write(child.id(), 2000);
    assert_eq!(name(), None);
    child.wait().expect("ended");
}
