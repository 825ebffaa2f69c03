//! What the kernel says of a process, in which names stand that somebody chose.

use bursar_agent::attest::{grouped, owned, since};

use crate::Target;

pub(super) const TARGET: Target = Target { name: "processes", seeds, run, rounds: 30_000 };

fn run(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    // A command may hold anything, and shifts nothing: of two that differ in it alone the same is read.
    if let Some((started, zombie)) = since(&text) {
        let (_, fields) = text.rsplit_once(')').expect("a command stands in parentheses");
        assert_eq!(since(&format!("1 (a) R 1 2) x){fields}")), Some((started, zombie)));
    }
    if let Some((_, _, groups)) = owned(&text) {
        assert!(groups.is_sorted(), "the same groups are not always the same");
    }
    let found = grouped(&text);
    // Pods within pods are not made by anybody who is believed, but are read.
    let others = found.iter().filter(|(kind, _)| *kind != "k8s:pod-uid").count();
    assert!(others <= 2, "{found:?}");
    for (kind, value) in &found {
        assert!(!value.is_empty() && value.bytes().all(|byte| byte.is_ascii_graphic()), "{kind}={value:?}");
        // A value is one name of the path, as it stands there or with another separator.
        assert!(!value.contains('/'), "{kind}={value}");
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let id = "4c01db0b339c1f29b4a3d1e7c6d6f8b0d1a5f2c3b4a5968778695a4b3c2d1e0f";
    let pod = "0f8e1c7a-1b2c-4d3e-8f90-123456789abc";
    [
        "42 (a) b (c) S 1 42 42 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 98765 1000 10 184467".to_owned(),
        "42 (sh) Z 1 42 42 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 98765".to_owned(),
        "Name:\tUid:\nUid:\t1000\t0\t0\t0\nGid:\t1000\t7\t0\t0\nGroups:\t4 24 \n".to_owned(),
        "0::/system.slice/web@1.service/b.service".to_owned(),
        format!("0::/user.slice/user-7.slice/user@7.service/app.slice/docker-{id}.scope"),
        format!("0::/kubepods.slice/kubepods-pod{}.slice/cri-containerd-{id}.scope", pod.replace('-', "_")),
        format!("12:memory:/docker/{id}\n1:name=systemd:/kubepods/burstable/pod{pod}/{id}\n0::/"),
    ]
    .map(String::into_bytes)
    .to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Else what is tried would be no more than that nothing is found.
    #[test]
    fn what_the_kernel_writes_is_read() {
        let seeds: Vec<_> = seeds().into_iter().map(|seed| String::from_utf8(seed).expect("text")).collect();
        assert_eq!(since(&seeds[0]), Some((98765, false)));
        assert_eq!(since(&seeds[1]), Some((98765, true)));
        assert_eq!(owned(&seeds[2]), Some((0, 7, vec![4, 24])));
        let found: Vec<_> = seeds.iter().skip(3).map(|seed| grouped(seed).len()).collect();
        assert_eq!(found, [2, 2, 2, 2]);
    }
}
