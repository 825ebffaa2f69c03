//! Credentials that the store creates and leases.
//! Endpoints: <https://openbao.org/api-docs/system/leases/>.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bursar_core::backend::{BackendError, ErrorKind, Issued, Leasing, Operation, Removal, StoreHandle};
use bursar_core::secret::json::{self, Members};
use bursar_core::{LeaseId, SecretPath};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::answer::{Answer, Reply};
use crate::backend::VaultBackend;
use crate::client::Request;
use crate::config::MountKind;
use crate::kv;
use crate::mounts::Place;

#[async_trait]
impl Leasing for VaultBackend {
    fn is_leased(&self, path: &SecretPath) -> bool {
        self.mounts.creates(path)
    }

    /// `ttl` is sent to engines that issue certificates; the others take the life of a credential from its role. The answer
    /// says what the store granted, and the broker revokes it when its own lease ends earlier.
    #[tracing::instrument(skip_all, fields(backend = %self.name))]
    async fn issue(&self, path: &SecretPath, _: LeaseId, ttl: Duration) -> Result<Issued, BackendError> {
        let place = self.place(path, Operation::Issue)?;
        let request = self.creation(path, &place, ttl);
        let request = request.ok_or_else(|| self.error(ErrorKind::Misconfigured, Operation::Issue))?;
        let answer = self.session.send(&request).await?;
        let issued = issued(place.kind, &answer)?;
        let ttl = self.session.lease_bound().map_or(issued.ttl, |bound| issued.ttl.min(bound));
        Ok(Issued { ttl, ..issued })
    }

    /// Not repeated here: the lease module decides whether a renewal is still worth it.
    #[tracing::instrument(skip_all, fields(backend = %self.name))]
    async fn renew(&self, handle: &StoreHandle, ttl: Duration) -> Result<Duration, BackendError> {
        // 0 would ask for the engine's default.
        let renewal = Renewal { lease_id: handle.as_str(), increment: ttl.as_secs().max(1) };
        let request = self.session.client.update(Operation::Renew, "sys/leases/renew", &renewal);
        let answer = match self.session.send(&request).await {
            // The store says 400 both to a lease that is gone and to one that cannot be renewed.
            Err(error)
                if error.code == Some(400) && self.issue_time(handle, Operation::Renew).await?.is_none() =>
            {
                return Err(BackendError { kind: ErrorKind::NotFound, ..error });
            }
            answer => answer?,
        };
        let granted = Duration::from_secs(answer.parse::<Grant>()?.lease_duration);
        Ok(self.session.lease_bound().map_or(granted, |bound| granted.min(bound)))
    }

    /// Not repeated here: the revoker's queue does that. Waits until the engine has taken the credential back. The
    /// stores answer yes for a lease that they do not know.
    #[tracing::instrument(skip_all, fields(backend = %self.name))]
    async fn revoke(&self, handle: &StoreHandle) -> Result<Removal, BackendError> {
        let revocation = Revocation { lease_id: handle.as_str(), sync: true };
        let request = self.session.client.update(Operation::Revoke, "sys/leases/revoke", &revocation);
        match self.session.send(&request).await {
            // Older Vaults refuse an unknown lease instead.
            Err(error) if error.code == Some(400) => {
                match self.issue_time(handle, Operation::Revoke).await? {
                    None => Ok(Removal::Gone),
                    Some(_) => Err(error),
                }
            }
            answer => answer.map(|_| Removal::Gone),
        }
    }

    /// Looks at every lease under `path`, four at a time, since the store tells the age of one only by asking for
    /// it. Refuses to begin on more than [`MOST_LEASES`]: a part of the answer would be taken for the whole.
    #[tracing::instrument(skip_all, fields(backend = %self.name))]
    async fn find_orphans(
        &self,
        path: &SecretPath,
        created: Range<Timestamp>,
    ) -> Result<Vec<StoreHandle>, BackendError> {
        let handles = self.leases_under(path).await?;
        if handles.len() > MOST_LEASES {
            tracing::warn!(
                leases = handles.len(),
                limit = MOST_LEASES,
                "too many leases to search for orphans"
            );
            return Err(self.error(ErrorKind::Misconfigured, Operation::FindOrphans));
        }
        let queue = Mutex::new(handles.into_iter());
        let lane = || async {
            let mut found = Vec::new();
            loop {
                let next = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
                let Some(handle) = next else { return Ok::<_, BackendError>(found) };
                let issued = self.issue_time(&handle, Operation::FindOrphans).await?;
                if issued.is_some_and(|issued| created.contains(&issued)) {
                    found.push(handle);
                }
            }
        };
        let (one, two, three, four) = tokio::try_join!(lane(), lane(), lane(), lane())?;
        Ok([one, two, three, four].concat())
    }
}

impl VaultBackend {
    /// The call that creates what `path` stands for; none where nothing can be.
    fn creation(&self, path: &SecretPath, place: &Place<'_>, ttl: Duration) -> Option<Request> {
        let client = &self.session.client;
        let path = creating(path, place);
        let parameters = self.parameters.get(path);
        match place.kind {
            MountKind::KvV1 | MountKind::KvV2 => None,
            MountKind::Leased if place.rest.is_empty() => None,
            MountKind::Leased => Some(match parameters {
                Some(parameters) => client.update(Operation::Issue, path, parameters),
                None => client.read(Operation::Issue, path),
            }),
            MountKind::Pki => {
                let (_, common_name) = place.rest.strip_prefix("issue/")?.split_once('/')?;
                let ttl = format!("{}s", ttl.as_secs().max(1));
                let mut body = BTreeMap::from([("ttl", ttl.as_str())]);
                body.extend(
                    parameters.into_iter().flatten().map(|(name, value)| (name.as_str(), value.as_str())),
                );
                body.insert("common_name", common_name);
                Some(client.update(Operation::Issue, path, &body))
            }
        }
    }

    async fn leases_under(&self, path: &SecretPath) -> Result<Vec<StoreHandle>, BackendError> {
        let path = creating(path, &self.place(path, Operation::FindOrphans)?);
        let lookup = format!("sys/leases/lookup/{path}");
        let request = self.session.client.read(Operation::FindOrphans, &lookup).with_query("list", "true");
        let keys = match self.ask(&request).await {
            Ok(answer) => kv::keys(&answer)?,
            Err(error) if error.kind == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        // What ends in `/` leads to leases of longer paths.
        let leases = keys.iter().filter(|key| !key.ends_with('/'));
        Ok(leases.map(|key| StoreHandle::new(format!("{path}/{key}"))).collect())
    }

    /// When a lease was made; none if the store does not know it, which it says by 400.
    async fn issue_time(
        &self,
        handle: &StoreHandle,
        operation: Operation,
    ) -> Result<Option<Timestamp>, BackendError> {
        #[derive(Deserialize)]
        struct Lookup {
            issue_time: Timestamp,
        }
        let lease = Leased { lease_id: handle.as_str() };
        let request = self.session.client.update(operation, "sys/leases/lookup", &lease);
        match self.ask(&request).await {
            Ok(answer) => Ok(Some(answer.parse::<Reply<Lookup>>()?.data.issue_time)),
            Err(error) if error.code == Some(400) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// The path at the store that creates what `path` stands for: a common name is no part of it.
fn creating<'path>(path: &'path SecretPath, place: &Place<'_>) -> &'path str {
    match (place.kind, path.as_str().rsplit_once('/')) {
        (MountKind::Pki, Some((issuing, _))) => issuing,
        _ => path.as_str(),
    }
}

fn issued(kind: MountKind, answer: &Answer) -> Result<Issued, BackendError> {
    #[derive(Deserialize)]
    struct Credential<'body> {
        lease_id: String,
        lease_duration: u64,
        renewable: bool,
        #[serde(borrow)]
        data: Option<Members<'body>>,
    }
    let credential: Credential<'_> = answer.parse()?;
    if credential.lease_id.is_empty() {
        // What it answered has no end that the store would see to, and cannot be taken back.
        tracing::warn!("the engine leases nothing; for certificates, set `generate_lease` on the role");
        return Err(answer.error(ErrorKind::Misconfigured));
    }
    let members = credential.data.as_ref();
    let data = match kind {
        MountKind::Pki => members.and_then(json::texts),
        MountKind::KvV1 | MountKind::KvV2 | MountKind::Leased => members.and_then(json::fields),
    };
    Ok(Issued {
        data: data.ok_or_else(|| answer.error(ErrorKind::Malformed))?,
        handle: StoreHandle::new(credential.lease_id),
        ttl: Duration::from_secs(credential.lease_duration),
        renewable: credential.renewable,
    })
}

#[derive(Serialize)]
struct Renewal<'a> {
    lease_id: &'a str,
    increment: u64,
}

#[derive(Serialize)]
struct Revocation<'a> {
    lease_id: &'a str,
    sync: bool,
}

#[derive(Serialize)]
struct Leased<'a> {
    lease_id: &'a str,
}

#[derive(Deserialize)]
struct Grant {
    lease_duration: u64,
}

const MOST_LEASES: usize = 20_000;
