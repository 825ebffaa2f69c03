//! Somebody who was attested: who it is, how long it is there, and the pod that it is in.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use bursar_proto::v1::WorkloadContext;
use sha2::{Digest, Sha256};
use tonic::metadata::MetadataMap;

use super::Bearer;
use super::pods::Pod;
#[cfg(test)]
use super::pods::Pods;
use super::process::Alive;
#[cfg(test)]
use super::selector::Selectors;

/// An attested process or user, and the token that speaks for it where it presented one; or a set of files, a pod with a
/// volume, or a unit with credentials.
#[derive(Debug)]
pub struct Workload {
    context: Arc<WorkloadContext>,
    identity: Identity,
    life: Arc<Life>,
    /// The pod that it is in.
    pod: Option<Arc<Pod>>,
    bearer: Option<Bearer>,
}

/// How long a workload is there.
#[derive(Debug)]
pub(super) enum Life {
    /// As long as the process.
    Process(Alive),
    /// As long as the control group of a unit is, wherever this machine has it.
    Unit([PathBuf; 3]),
    /// As long as the agent.
    Agent,
}

/// A digest of everything that was attested of a process but its number, and of its token: processes of one identity
/// are the same workload to every registration, whatever the registrations are, and to every issuer.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Identity([u8; 32]);

impl Workload {
    pub(super) fn new(context: WorkloadContext, life: Life) -> Self {
        let mut digest = Sha256::new();
        for selector in &context.selectors {
            digest.update(selector);
            // No selector has a newline in it.
            digest.update("\n");
        }
        let identity = Identity(digest.finalize().into());
        Self { context: Arc::new(context), identity, life: Arc::new(life), pod: None, bearer: None }
    }

    /// The same, in this pod.
    pub(super) fn within(self, pod: Option<Arc<Pod>>) -> Self {
        Self { pod, ..self }
    }

    /// The same process, for whom a token speaks from now on.
    pub fn bearing(&self, bearer: Bearer) -> Self {
        let digest = Sha256::new().chain_update(self.identity.0).chain_update(bearer.digest());
        Self {
            context: Arc::clone(&self.context),
            identity: Identity(digest.finalize().into()),
            life: Arc::clone(&self.life),
            pod: self.pod.clone(),
            bearer: Some(bearer),
        }
    }

    /// The process of the tests under another name, which makes it another workload.
    #[cfg(test)]
    pub(crate) fn named(name: &str) -> Self {
        Self::named_instance(name, &format!("{name}:1@test"))
    }

    /// The same, and a token speaks for it.
    #[cfg(test)]
    pub(crate) fn named_bearing(name: &str, token: &str) -> Self {
        let header = http::HeaderValue::from_str(&format!("Bearer {token}")).expect("header");
        let mut headers = http::HeaderMap::from_iter([(http::header::AUTHORIZATION, header)]);
        Self::named(name).bearing(Bearer::take(&mut headers).expect("good").expect("a token"))
    }

    /// A process that ran when it was attested, and no longer does.
    #[cfg(test)]
    pub(crate) fn ended(name: &str) -> Self {
        let mut child = std::process::Command::new("/bin/true").spawn().expect("child");
        let life = Life::Process(Alive::watch(child.id()).expect("alive"));
        child.wait().expect("ended");
        Self { life: Arc::new(life), ..Self::named(name) }
    }

    /// A process of a pod, which ran when it was attested.
    #[cfg(test)]
    pub(crate) fn in_pod(name: &str, uid: &str) -> Self {
        Self { pod: Some(Pods::default().running(uid)), ..Self::ended(name) }
    }

    /// The same, and the pod is over.
    #[cfg(test)]
    pub(crate) fn left(name: &str, uid: &str) -> Self {
        Self { pod: Some(Pod::over(uid)), ..Self::ended(name) }
    }

    #[cfg(test)]
    pub(crate) fn named_instance(name: &str, instance: &str) -> Self {
        let mut selectors = Selectors::default();
        selectors.add("test:name", name);
        let pid = std::process::id();
        let context =
            WorkloadContext { selectors: selectors.into_sorted(), instance: instance.to_owned(), pid };
        Self::new(context, Life::Process(Alive::watch(pid).expect("alive")))
    }

    /// What the broker is told.
    pub fn context(&self) -> &Arc<WorkloadContext> {
        &self.context
    }

    /// Says to the broker who asks: its token, which is all that counts then, or else what was attested. `context` is the
    /// latter, as it is to be said this time.
    ///
    /// # Errors
    /// The words for the caller, when it cannot be said.
    pub fn introduce(&self, context: &WorkloadContext, metadata: &mut MetadataMap) -> Result<(), String> {
        match &self.bearer {
            Some(bearer) => bearer.attach(metadata).map_err(|error| error.to_string()),
            None => context.attach(metadata).map_err(|error| error.to_string()),
        }
    }

    /// Which process it is, on this machine and over all boots: `PID:START@BOOT`. Of a user, `user:UID@BOOT`; of a set of
    /// files, `files:NAME@BOOT`; of a program that the agent keeps running, `run:NAME@BOOT`; of a pod with a volume,
    /// `csi:UID@BOOT`; of a unit with credentials, `unit:NAME@BOOT`.
    pub fn instance(&self) -> &str {
        &self.context.instance
    }

    /// Under which instance its leases stand: that of its pod, `pod:UID@BOOT`, whose containers end and start again, or its own.
    pub fn tenant(&self) -> String {
        match (&self.pod, self.instance().rsplit_once('@')) {
            (Some(pod), Some((_, boot))) => format!("pod:{}@{boot}", pod.uid()),
            _ => self.instance().to_owned(),
        }
    }

    /// Which workload it is.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// The process, where it is one and was known by what was attested alone: a token is in no place but memory.
    pub fn pid(&self) -> Option<u32> {
        Some(self.context.pid).filter(|pid| *pid > 0 && self.bearer.is_none())
    }

    /// Whether the very process that was attested still runs. Who is no process does as long as the agent.
    pub fn is_alive(&self) -> bool {
        match &*self.life {
            Life::Process(alive) => alive.check(),
            Life::Unit(groups) => groups.iter().any(|group| group.is_dir()),
            Life::Agent => true,
        }
    }

    /// Whether what it got is needed: it runs, or the pod is there in which it will again.
    pub fn is_needing(&self) -> bool {
        match &self.pod {
            Some(pod) => pod.is_there(),
            None => self.is_alive(),
        }
    }

    /// Whether it was in a pod that is over.
    pub fn has_left(&self) -> bool {
        self.pod.as_ref().is_some_and(|pod| !pod.is_there())
    }
}

impl Identity {
    /// As it was kept.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The digest.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let start: String = self.0.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        write!(f, "Identity({start}…)")
    }
}
