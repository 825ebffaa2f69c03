//! Which pods are there.
//!
//! A pod is over when none of its processes is left: its containers end and start again, with minutes in between, but the
//! one that keeps its namespaces stays as long as the pod does. So the oldest process of a pod's control group is watched by
//! a handle that means no other process, which costs one system call a look. Only when it ended is `/proc` read, once for
//! all pods in doubt; and a pod of which nothing is found twice is over.
//!
//! That the control group itself is gone would say the same, to an agent that sees the machine's: one in a container sees
//! those below its own, and would have to be given the rest.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::AttestError;
use super::cgroup;
use super::process::{self, Alive, Process};

/// The pods that somebody holds something of. As many as there are callers and leases, which are capped.
#[derive(Debug, Default)]
pub(super) struct Pods(Mutex<HashMap<String, Weak<Pod>>>);

/// One pod, until it is over.
#[derive(Debug)]
pub(super) struct Pod {
    uid: String,
    is_over: AtomicBool,
    sight: Mutex<Sight>,
}

/// What was seen of it last.
#[derive(Debug)]
enum Sight {
    /// Nothing yet: volumes are mounted before there is a process. How often it was looked for.
    Unseen { looks: u32 },
    /// Its oldest process, which runs as far as is known.
    Process(Alive),
    /// It was there. How often nothing was found since.
    Missing { looks: u32 },
}

impl Pods {
    /// The pod with this uid, which kubelet is about to start.
    pub(super) fn coming(&self, uid: &str) -> Arc<Pod> {
        let mut known = self.known();
        let there = known.get(uid).and_then(Weak::upgrade).filter(|pod| pod.is_there());
        there.unwrap_or_else(|| {
            let pod = Arc::new(Pod {
                uid: uid.to_owned(),
                is_over: AtomicBool::new(false),
                sight: Mutex::new(Sight::Unseen { looks: 0 }),
            });
            known.insert(uid.to_owned(), Arc::downgrade(&pod));
            pod
        })
    }

    /// The pod with this uid, of which a process was just seen.
    pub(super) fn running(&self, uid: &str) -> Arc<Pod> {
        let pod = self.coming(uid);
        let mut sight = pod.sight();
        if matches!(*sight, Sight::Unseen { .. }) {
            *sight = Sight::Missing { looks: 0 };
        }
        drop(sight);
        pod
    }

    /// Looks whether they are there, and says whether one is over that was not. Blocks.
    ///
    /// # Errors
    /// [`AttestError::Proc`]; nothing is concluded then.
    pub(super) fn look(&self, proc: &Path) -> Result<bool, AttestError> {
        let mut known = self.known();
        known.retain(|_, pod| pod.strong_count() > 0);
        let pods: Vec<_> = known.values().filter_map(Weak::upgrade).collect();
        drop(known);
        let in_doubt: Vec<_> = pods.into_iter().filter(|pod| pod.is_there() && pod.is_in_doubt()).collect();
        if in_doubt.is_empty() {
            return Ok(false);
        }
        let mut found = oldest(proc, |uid| in_doubt.iter().any(|pod| pod.uid == uid))?;
        let mut ended = false;
        for pod in in_doubt {
            ended |= pod.looked(found.remove(&pod.uid));
        }
        Ok(ended)
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, Weak<Pod>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pod {
    /// A pod that is over.
    #[cfg(test)]
    pub(super) fn over(uid: &str) -> Arc<Self> {
        let sight = Mutex::new(Sight::Missing { looks: LOOKS });
        Arc::new(Self { uid: uid.to_owned(), is_over: AtomicBool::new(true), sight })
    }

    pub(super) fn uid(&self) -> &str {
        &self.uid
    }

    pub(super) fn is_there(&self) -> bool {
        !self.is_over.load(Ordering::Acquire)
    }

    /// Whether `/proc` has to be read for it.
    fn is_in_doubt(&self) -> bool {
        match &mut *self.sight() {
            Sight::Process(oldest) => !oldest.check(),
            Sight::Missing { .. } => true,
            // Ever more seldom: what never shows itself here costs nothing in the end.
            Sight::Unseen { looks } => {
                *looks = looks.saturating_add(1);
                looks.is_power_of_two()
            }
        }
    }

    /// Takes down what was found of it, and says whether it is over by that.
    fn looked(&self, found: Option<Alive>) -> bool {
        let mut sight = self.sight();
        *sight = match (found, &*sight) {
            (Some(oldest), _) => Sight::Process(oldest),
            (None, Sight::Unseen { looks }) => Sight::Unseen { looks: *looks },
            (None, Sight::Process(_)) => Sight::Missing { looks: 1 },
            (None, Sight::Missing { looks }) => Sight::Missing { looks: looks.saturating_add(1) },
        };
        let is_over = matches!(&*sight, Sight::Missing { looks } if *looks >= LOOKS);
        self.is_over.fetch_or(is_over, Ordering::AcqRel);
        is_over
    }

    fn sight(&self) -> MutexGuard<'_, Sight> {
        self.sight.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The oldest process of each pod that is `wanted`.
fn oldest(proc: &Path, wanted: impl Fn(&str) -> bool) -> Result<HashMap<String, Alive>, AttestError> {
    let mut oldest: HashMap<String, ((u64, u32), Alive)> = HashMap::new();
    for pid in process::pids(proc)? {
        // One that ended meanwhile, or may not be looked at, is not seen to be there.
        let Ok(Some((uid, age, alive))) = look_at(proc, pid, &wanted) else { continue };
        if oldest.get(&uid).is_none_or(|(known, _)| age < *known) {
            oldest.insert(uid, (age, alive));
        }
    }
    Ok(oldest.into_iter().map(|(uid, (_, alive))| (uid, alive)).collect())
}

type Seen = (String, (u64, u32), Alive);

fn look_at(proc: &Path, pid: u32, wanted: impl Fn(&str) -> bool) -> Result<Option<Seen>, AttestError> {
    let process = Process::open(proc, pid)?;
    let Some(uid) = cgroup::pod_of(&process.cgroups()?).filter(|uid| wanted(uid)) else { return Ok(None) };
    let alive = Alive::watch(pid)?;
    process.confirm()?;
    Ok(Some((uid, process.age(), alive)))
}

/// In which nothing is found of a pod that was there, until it is over.
const LOOKS: u32 = 2;

#[cfg(test)]
mod tests;
