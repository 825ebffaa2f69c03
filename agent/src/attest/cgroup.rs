//! Control groups: which systemd unit or container a process is in.
//!
//! A control group's name can be believed as far as only root could have made it. systemd hands whole subtrees to users
//! (`user@1000.service`) and to services that ask for them, whose owners may then name groups below as they like, such
//! as `docker-….scope` or `payments.service`. So the path is walked from the root: slices, and the fixed groups under
//! which container runtimes keep theirs, are stepped over, and the first other name decides. Nothing below it counts.
//!
//! An agent in a container may have a view of its own (cgroup_namespaces(7)): paths then begin where the agent is, and go up
//! from there. The groups that both share are not named, and need not be: whom they were handed to has the agent, too.

/// What a control group says of a process.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) kind: &'static str,
    pub(super) value: String,
}

/// The uid of the pod that a process is in, by its `/proc/PID/cgroup`.
pub(super) fn pod_of(lines: &str) -> Option<String> {
    selectors(lines).into_iter().find(|found| found.kind == POD).map(|found| found.value)
}

/// Reads `/proc/PID/cgroup` (cgroups(7)).
pub(super) fn selectors(lines: &str) -> Vec<Found> {
    let mut found = Vec::new();
    for name in path(lines).split('/').filter(|name| !name.is_empty()) {
        if let Some(uid) = pod(name) {
            found.push(Found { kind: POD, value: uid });
            continue;
        }
        if name.ends_with(".slice") || RUNTIME_FOLDERS.contains(&name) {
            continue;
        }
        if let Some(id) = container(name) {
            found.push(Found { kind: "container:id", value: id.to_owned() });
        } else if name.ends_with(".service") || name.ends_with(".scope") {
            found.push(Found { kind: "systemd:unit", value: name.to_owned() });
            found.extend(template(name).map(|value| Found { kind: "systemd:template", value }));
        }
        break;
    }
    found.retain(|found| found.value.bytes().all(|byte| byte.is_ascii_graphic()));
    found
}

/// The control group of the unit that `lines` are in, from the root.
pub(super) fn of_unit<'a>(lines: &'a str, unit: &str) -> Option<&'a str> {
    let path = path(lines);
    let end = path.match_indices(unit).find_map(|(start, unit)| {
        let end = start + unit.len();
        let is_whole =
            path.get(..start)?.ends_with('/') && matches!(path.get(end..)?.bytes().next(), None | Some(b'/'));
        is_whole.then_some(end)
    })?;
    path.get(..end)?.strip_prefix('/')
}

/// `web@.service` of the instance `web@1.service`.
fn template(unit: &str) -> Option<String> {
    let (prefix, instance) = unit.split_once('@')?;
    instance.strip_suffix(".service").filter(|instance| !instance.is_empty())?;
    Some(format!("{prefix}@.service"))
}

/// The path in the unified hierarchy or, on a machine that still has the old ones, in that of systemd.
fn path(lines: &str) -> &str {
    let of = |controller: &str| {
        lines.lines().find_map(|line| {
            let (_, rest) = line.split_once(':')?;
            rest.strip_prefix(controller)?.strip_prefix(':')
        })
    };
    let path = of("").filter(|path| *path != "/").or_else(|| of("name=systemd")).unwrap_or_default();
    let mut rest = path;
    // Whole segments: a group may have a name that begins with two dots.
    while let Some(below) =
        rest.strip_prefix("/..").filter(|below| below.is_empty() || below.starts_with('/'))
    {
        rest = below;
    }
    rest
}

/// `kubepods-burstable-pod0f8e…_….slice` or `pod0f8e…-…`, as the two kinds of cgroup driver name a pod.
fn pod(name: &str) -> Option<String> {
    let uid = match name.strip_suffix(".slice") {
        Some(slice) => slice.strip_prefix("kubepods")?.rsplit_once("-pod")?.1.replace('_', "-"),
        None => name.strip_prefix("pod")?.to_owned(),
    };
    let is_uid = uid.len() == 36 && uid.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    is_uid.then_some(uid)
}

/// `docker-ID.scope`, `cri-containerd-ID.scope` and their like, or the id alone.
fn container(name: &str) -> Option<&str> {
    let id = name.strip_suffix(".scope").map_or(name, |scope| scope.rsplit('-').next().unwrap_or(scope));
    let is_id = id.len() == 64 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    is_id.then_some(id)
}

const POD: &str = "k8s:pod-uid";
/// Made by container runtimes and the kubelet, writable by root alone.
const RUNTIME_FOLDERS: [&str; 5] = ["docker", "kubepods", "burstable", "besteffort", "machine"];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: &str = "4c01db0b339c1f29b4a3d1e7c6d6f8b0d1a5f2c3b4a5968778695a4b3c2d1e0f";

    fn of(lines: &str) -> Vec<String> {
        selectors(lines).into_iter().map(|found| format!("{}={}", found.kind, found.value)).collect()
    }

    #[test]
    fn a_system_service_is_its_unit_wherever_it_puts_its_processes() {
        assert_eq!(of("0::/system.slice/payments.service"), ["systemd:unit=payments.service"]);
        assert_eq!(of("0::/system.slice/a.service/b.service"), ["systemd:unit=a.service"]);
    }

    #[test]
    fn a_name_that_a_user_chose_is_not_believed() {
        let lines = format!("0::/user.slice/user-7.slice/user@7.service/app.slice/docker-{ID}.scope");
        let wanted = ["systemd:unit=user@7.service", "systemd:template=user@.service"];
        assert_eq!(of(&lines), wanted);
        assert_eq!(of("0::/user.slice/user-7.slice/user@7.service/payments.service"), wanted);
    }

    #[test]
    fn the_group_of_a_unit_ends_with_its_name() {
        let group = |path: &str, unit| of_unit(path, unit).map(str::to_owned);
        let path = "0::/system.slice/a.service/.control";
        assert_eq!(group(path, "a.service").as_deref(), Some("system.slice/a.service"));
        let twice = "0::/system.slice/xa.service/a.service/b";
        assert_eq!(group(twice, "a.service").as_deref(), Some("system.slice/xa.service/a.service"));
        assert_eq!((group(twice, "service"), group("0::/", "a.service")), (None, None));
    }

    #[test]
    fn containers_of_each_driver_are_recognised() {
        let wanted = [format!("container:id={ID}")];
        assert_eq!(of(&format!("0::/system.slice/docker-{ID}.scope")), wanted);
        assert_eq!(of(&format!("0::/docker/{ID}")), wanted);
        assert_eq!(of(&format!("0::/docker/{ID}/docker/{}", ID.replace('4', "5"))), wanted);
    }

    #[test]
    fn pods_of_both_drivers_are_recognised() {
        let pod = "0f8e6c1a-2b3d-4c5e-8f70-91a2b3c4d5e6";
        let wanted = [format!("k8s:pod-uid={pod}"), format!("container:id={ID}")];
        let slices = format!(
            "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{}.slice/cri-containerd-{ID}.scope",
            pod.replace('-', "_")
        );
        assert_eq!(of(&slices), wanted);
        assert_eq!(of(&format!("0::/kubepods/burstable/pod{pod}/{ID}")), wanted);
    }

    #[test]
    fn an_agent_in_a_pod_of_its_own_sees_what_the_others_are() {
        let pod = "0f8e6c1a-2b3d-4c5e-8f70-91a2b3c4d5e6";
        let slice = format!("kubepods-besteffort-pod{}.slice", pod.replace('-', "_"));
        let lines = format!("0::/../../../kubepods-besteffort.slice/{slice}/cri-containerd-{ID}.scope");
        assert_eq!(of(&lines), [format!("k8s:pod-uid={pod}"), format!("container:id={ID}")]);
        assert_eq!(of("0::/../../../../system.slice/cron.service"), ["systemd:unit=cron.service"]);
        assert_eq!(pod_of(&lines).as_deref(), Some(pod));
        assert_eq!(
            pod_of(&format!("0::/../..{slice}/cri-containerd-{ID}.scope")),
            None,
            "a name is no way up"
        );
    }

    #[test]
    fn a_machine_with_the_old_hierarchies_is_read_by_that_of_systemd() {
        let lines = "9:memory:/x\n1:name=systemd:/system.slice/cron.service\n0::/\n";
        assert_eq!(of(lines), ["systemd:unit=cron.service"]);
    }

    #[test]
    fn what_says_nothing_gives_nothing() {
        for lines in ["", "0::/", "0::/../../x", "nonsense", "0::/system.slice", "0::/a b.service"] {
            assert_eq!(of(lines), Vec::<String>::new(), "{lines}");
        }
    }

    proptest! {
        #[test]
        fn no_text_breaks_it_and_at_most_pod_and_two_more_come_out(lines in "(.|\\n|/|:|-|\\.slice|pod|\\.scope){0,80}") {
            prop_assert!(selectors(&lines).len() <= 2 + lines.matches("pod").count());
        }
    }
}
