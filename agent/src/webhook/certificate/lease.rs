//! Who leads: a Lease of the cluster, held by whoever renewed it last.
//!
//! What a holder wrote as its time is compared with nobody's clock. A Lease that does not change for its duration, by the
//! watch of whoever looks, is taken over; whoever is slower has written on an older version and is refused.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use tokio::time::Instant;

use crate::config::SelfMade;
use crate::webhook::api::{Api, ApiError};

/// One replica's part in it.
#[derive(Debug)]
pub(super) struct Leadership {
    list: String,
    name: String,
    /// What this replica is called there.
    identity: String,
    /// The version that was seen last, and since when.
    seen: Option<(String, Instant)>,
    leads: bool,
}

impl Leadership {
    pub(super) fn of(settings: &SelfMade) -> Self {
        Self {
            list: format!("/apis/coordination.k8s.io/v1/namespaces/{}/leases", settings.namespace),
            name: settings.lease.clone(),
            identity: format!("bursar-webhook-{:016x}", fastrand::u64(..)),
            seen: None,
            leads: false,
        }
    }

    /// Takes, renews or looks at the Lease. Answers whether this replica leads.
    ///
    /// # Errors
    /// [`ApiError`]; this replica does not lead then.
    pub(super) async fn hold(&mut self, api: &Api, now: Timestamp) -> Result<bool, ApiError> {
        let was = std::mem::replace(&mut self.leads, false);
        self.leads = match self.attempt(api, now).await {
            Err(ApiError::Conflict) => false,
            other => other?,
        };
        if was != self.leads {
            tracing::info!(leads = self.leads, identity = self.identity, "leadership changed");
        }
        Ok(self.leads)
    }

    async fn attempt(&mut self, api: &Api, now: Timestamp) -> Result<bool, ApiError> {
        let path = format!("{}/{}", self.list, self.name);
        let Some(mut lease) = api.get::<Lease>(&path).await? else {
            let metadata = ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() };
            let lease = Lease { metadata, spec: Some(self.spec(None, now)) };
            return api.create(&self.list, &lease).await.map(|_: Lease| true);
        };
        let holder = lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref()).unwrap_or_default();
        if holder != self.identity && !holder.is_empty() && !self.is_abandoned(&lease) {
            return Ok(false);
        }
        lease.spec = Some(self.spec(lease.spec.as_ref(), now));
        api.replace(&path, &lease).await.map(|_: Lease| true)
    }

    /// Gives the Lease back, so that another need not wait.
    pub(super) async fn release(&mut self, api: &Api) {
        if !std::mem::replace(&mut self.leads, false) {
            return;
        }
        let path = format!("{}/{}", self.list, self.name);
        // Whoever cannot give it back leaves it to be taken over.
        let Ok(Some(mut lease)) = api.get::<Lease>(&path).await else { return };
        let Some(spec) =
            lease.spec.as_mut().filter(|spec| spec.holder_identity.as_ref() == Some(&self.identity))
        else {
            return;
        };
        spec.holder_identity = Some(String::new());
        drop(api.replace(&path, &lease).await);
    }

    fn is_abandoned(&mut self, lease: &Lease) -> bool {
        let version = lease.metadata.resource_version.clone().unwrap_or_default();
        match &self.seen {
            Some((seen, since)) if *seen == version => since.elapsed() >= DURATION,
            _ => {
                self.seen = Some((version, Instant::now()));
                false
            }
        }
    }

    fn spec(&self, before: Option<&LeaseSpec>, now: Timestamp) -> LeaseSpec {
        let before = before.cloned().unwrap_or_default();
        let is_held = before.holder_identity.as_ref() == Some(&self.identity);
        let changes = before.lease_transitions.unwrap_or_default();
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            acquire_time: if is_held { before.acquire_time } else { micro_time(now) },
            renew_time: micro_time(now),
            lease_transitions: Some(if is_held { changes } else { changes.saturating_add(1) }),
            ..before
        }
    }
}

/// In the types of kube, whose clock is another version of ours.
fn micro_time(now: Timestamp) -> Option<MicroTime> {
    let seconds = k8s_openapi::jiff::Timestamp::new(now.as_second(), now.subsec_nanosecond() / 1000 * 1000);
    seconds.ok().map(MicroTime)
}

const DURATION: Duration = Duration::from_secs(20);
