use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::*;
use crate::attest::Attestor;

const UID: &str = "0f8e6c1a-2b3d-4c5e-8f70-91a2b3c4d5e6";

/// A `/proc` of real processes, of which the tests say in which pods they are.
struct Node {
    proc: TempDir,
    pods: Pods,
}

impl Node {
    fn new() -> Self {
        Self { proc: tempfile::tempdir().expect("folder"), pods: Pods::default() }
    }

    fn run(&self, uid: &str, started: u64) -> Running<'_> {
        let cat =
            Command::new("/bin/cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("child");
        let (pid, folder) = (cat.id(), self.proc.path().join(cat.id().to_string()));
        std::fs::create_dir(&folder).expect("created");
        let stat = format!("{pid} (cat) S 1 {pid} {pid} 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 {started} 0 0");
        std::fs::write(folder.join("stat"), stat).expect("written");
        let container = "4c01db0b339c1f29b4a3d1e7c6d6f8b0d1a5f2c3b4a5968778695a4b3c2d1e0f";
        let group = format!("0::/kubepods/burstable/pod{uid}/{container}\n");
        std::fs::write(folder.join("cgroup"), group).expect("written");
        Running { node: self, cat }
    }

    /// How many more looks it takes until the pod is over, of three.
    fn looks_until_over(&self, pod: &Pod) -> Option<usize> {
        (1..=3).find(|_| {
            let ended = self.look();
            assert_eq!(ended, !pod.is_there(), "it is said when it is so");
            ended
        })
    }

    fn look(&self) -> bool {
        self.pods.look(self.proc.path()).expect("looked")
    }
}

/// A process, until this is dropped.
struct Running<'node> {
    node: &'node Node,
    cat: Child,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        drop(self.cat.stdin.take());
        self.cat.wait().expect("ended");
        std::fs::remove_dir_all(self.node.proc.path().join(self.cat.id().to_string())).expect("removed");
    }
}

#[test]
fn a_pod_whose_containers_end_is_there_until_its_last_process_has_ended() {
    let node = Node::new();
    let (pause, container) = (node.run(UID, 1), node.run(UID, 2));
    let pod = node.pods.running(UID);
    assert!(!node.look());
    drop(container);
    assert_eq!(node.looks_until_over(&pod), None);
    drop(pause);
    assert_eq!(node.looks_until_over(&pod), Some(2));
}

#[test]
fn another_process_of_the_pod_is_found_when_the_oldest_has_ended() {
    let node = Node::new();
    let first = node.run(UID, 1);
    let pod = node.pods.running(UID);
    assert!(!node.look());
    drop(first);
    assert!(!node.look());
    let next = node.run(UID, 3);
    assert_eq!(node.looks_until_over(&pod), None);
    drop(next);
    assert_eq!(node.looks_until_over(&pod), Some(2));
}

#[test]
fn a_pod_that_ended_before_the_first_look_is_over_and_another_of_its_uid_is_not() {
    let node = Node::new();
    let _other = node.run(&UID.replace('0', "1"), 1);
    let pod = node.pods.running(UID);
    assert_eq!(node.looks_until_over(&pod), Some(2));
    assert!(node.pods.running(UID).is_there());
}

#[test]
fn a_pod_that_is_only_coming_is_not_over_for_having_no_process_and_is_once_it_had_one() {
    let node = Node::new();
    let pod = node.pods.coming(UID);
    for _ in 0..7 {
        assert!(!node.look());
    }
    let process = node.run(UID, 1);
    assert!(!node.look());
    drop(process);
    assert_eq!(node.looks_until_over(&pod), Some(2));
}

#[test]
fn two_who_are_in_a_pod_have_the_same_and_nothing_is_kept_of_one_that_nobody_is_in() {
    let node = Node::new();
    let (one, two) = (node.pods.running(UID), node.pods.coming(UID));
    assert!(Arc::ptr_eq(&one, &two));
    drop((one, two));
    assert!(!node.look());
    assert!(node.pods.known().is_empty());
}

#[test]
fn where_processes_cannot_be_seen_no_pod_is_over() {
    let pods = Pods::default();
    let pod = pods.running(UID);
    for _ in 0..3 {
        assert!(matches!(pods.look(Path::new("/nowhere")), Err(AttestError::Proc(_))));
    }
    assert!(pod.is_there());
}

#[test]
fn for_whom_a_volume_is_mounted_is_in_the_pod_until_it_is_over() {
    let node = Node::new();
    let random = node.proc.path().join("sys/kernel/random");
    std::fs::create_dir_all(&random).expect("created");
    std::fs::write(random.join("boot_id"), "b1d76ce7-0").expect("written");
    let attestor = Attestor::with_proc(node.proc.path()).expect("attestor");
    let workload = attestor.mount(UID);
    assert_eq!(workload.tenant(), format!("pod:{UID}@b1d76ce7"));
    let process = node.run(UID, 1);
    assert!(!attestor.look_at_pods().expect("looked") && workload.is_needing());
    drop(process);
    assert!(!attestor.look_at_pods().expect("looked") && workload.is_needing(), "it was looked for once");
    assert!(attestor.look_at_pods().expect("looked") && workload.has_left() && !workload.is_needing());
}
