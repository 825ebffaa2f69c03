use bursar_core::Lease;
use bursar_core::lease::LeaseState;
use bursar_proto::convert::WireError;
use bursar_proto::v1;
use jiff::Timestamp;
use serde::{Serialize, Serializer};

use crate::output::{Details, Row};
use crate::table::{Cell, Column, cut, whole};
use crate::text;

/// A lease.
#[derive(Debug, Serialize)]
pub(crate) struct LeaseView {
    id: String,
    reference: String,
    principal: String,
    node: Option<String>,
    instance: Option<String>,
    environment: Option<String>,
    #[serde(serialize_with = "name")]
    state: LeaseState,
    issued_at: Timestamp,
    renewed_at: Timestamp,
    expires_at: Timestamp,
    max_expires_at: Option<Timestamp>,
    renewable: bool,
    ttl_bound: &'static str,
    dynamic: bool,
    attempts: u32,
    last_error_kind: Option<String>,
    reason: Option<String>,
}

impl From<Lease> for LeaseView {
    fn from(lease: Lease) -> Self {
        Self {
            id: lease.id.to_string(),
            reference: lease.reference.to_string(),
            principal: lease.principal.to_string(),
            node: lease.node.map(|node| node.to_string()),
            instance: super::filled(lease.instance),
            environment: lease.environment,
            state: lease.state,
            issued_at: lease.issued_at,
            renewed_at: lease.renewed_at,
            expires_at: lease.expires_at,
            max_expires_at: lease.max_expires_at,
            renewable: lease.renewable,
            ttl_bound: lease.ttl_bound.as_str(),
            dynamic: lease.dynamic,
            attempts: lease.attempts,
            last_error_kind: lease.last_error,
            reason: lease.reason,
        }
    }
}

impl TryFrom<v1::Lease> for LeaseView {
    type Error = WireError;

    fn try_from(lease: v1::Lease) -> Result<Self, WireError> {
        Lease::try_from(lease).map(Self::from)
    }
}

impl Row for LeaseView {
    const COLUMNS: &'static [Column] = &[
        whole("LEASE"),
        whole("STATE"),
        cut("SECRET"),
        cut("PRINCIPAL"),
        cut("ENVIRONMENT"),
        whole("EXPIRES"),
    ];

    fn cells(&self, now: Timestamp) -> Vec<Cell> {
        vec![
            Cell::new(&self.id),
            // Of a lease that waits to be removed, why it still does is what matters.
            match self.last_error_kind.as_deref().filter(|_| self.state != LeaseState::Gone) {
                Some(kind) => Cell::bad(format!("{} ({kind})", self.state.as_str())),
                None => state_cell(self.state),
            },
            Cell::new(&self.reference),
            Cell::new(&self.principal),
            Cell::maybe(self.environment.as_deref()),
            // Of a lease that is over, the end that it would have had says nothing.
            Cell::maybe(self.state.is_live().then(|| text::relative(self.expires_at, now))),
        ]
    }
}

impl Details for LeaseView {
    fn details(&self, now: Timestamp) -> Vec<(&'static str, Cell)> {
        let at = |time: Timestamp| Cell::new(format!("{} ({})", text::time(time), text::relative(time, now)));
        let kind = if self.dynamic { "made by the store for this lease" } else { "shared" };
        let mut details = vec![
            ("lease", Cell::new(&self.id)),
            ("state", state_cell(self.state)),
            ("secret", Cell::new(&self.reference)),
            ("principal", Cell::new(&self.principal)),
            ("node", Cell::maybe(self.node.as_deref())),
            ("instance", Cell::maybe(self.instance.as_deref())),
            ("environment", Cell::maybe(self.environment.as_deref())),
            ("credential", Cell::new(kind)),
            ("issued", at(self.issued_at)),
            ("renewed", at(self.renewed_at)),
            ("expires", at(self.expires_at)),
            ("at the latest", self.max_expires_at.map_or_else(|| Cell::new("-"), at)),
            ("bound by", Cell::new(self.ttl_bound)),
            ("renewable", Cell::new(if self.renewable { "yes" } else { "no" })),
            ("reason", Cell::maybe(self.reason.as_deref())),
        ];
        if let Some(kind) = &self.last_error_kind {
            details.push(("removal", Cell::bad(format!("failed {} times, last: {kind}", self.attempts))));
        }
        details
    }
}

fn name<S: Serializer>(state: &LeaseState, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(state.as_str())
}

fn state_cell(state: LeaseState) -> Cell {
    let name = state.as_str();
    match state {
        LeaseState::Active => Cell::good(name),
        LeaseState::Stuck => Cell::bad(name),
        LeaseState::Intent | LeaseState::Revoking | LeaseState::Revoked | LeaseState::Expired => {
            Cell::doubtful(name)
        }
        LeaseState::Gone => Cell::new(name),
    }
}

/// How many live leases somebody has.
#[derive(Debug, Serialize)]
pub(crate) struct HolderView {
    holder: String,
    live: u64,
    /// Absent without a limit.
    quota: Option<u64>,
}

impl From<v1::LeaseCount> for HolderView {
    fn from(count: v1::LeaseCount) -> Self {
        Self { holder: count.holder, live: count.live, quota: Some(count.quota).filter(|quota| *quota > 0) }
    }
}

impl Row for HolderView {
    const COLUMNS: &'static [Column] = &[whole("LIVE"), whole("QUOTA"), cut("HOLDER")];

    fn cells(&self, _: Timestamp) -> Vec<Cell> {
        let quota = self.quota.map(|quota| quota.to_string()).unwrap_or_default();
        vec![Cell::new(self.live.to_string()), Cell::new(&quota), Cell::new(&self.holder)]
    }
}
