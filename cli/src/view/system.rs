use std::collections::BTreeMap;

use bursar_proto::convert::{WireError, duration_from_wire, lease_state_from_wire};
use bursar_proto::v1;
use jiff::Timestamp;
use serde::Serialize;

use super::{filled, time};
use crate::output::{Details, Row};
use crate::table::{Cell, Column, cut, whole};
use crate::text;

/// One thing that has to be well.
#[derive(Debug, Serialize)]
pub(crate) struct CheckView {
    pub(crate) name: String,
    pub(crate) ok: bool,
    pub(crate) message: Option<String>,
}

impl From<v1::HealthCheck> for CheckView {
    fn from(check: v1::HealthCheck) -> Self {
        Self { name: check.name, ok: check.ok, message: filled(check.message) }
    }
}

impl CheckView {
    fn cell(&self) -> Cell {
        match (self.ok, &self.message) {
            (true, None) => Cell::good("well"),
            (true, Some(message)) => Cell::good(message),
            (false, Some(message)) => Cell::bad(message),
            (false, None) => Cell::bad("not well"),
        }
    }
}

impl Row for CheckView {
    const COLUMNS: &'static [Column] = &[whole("CHECK"), cut("STATE")];

    fn cells(&self, _: Timestamp) -> Vec<Cell> {
        vec![Cell::new(&self.name), self.cell()]
    }
}

/// The state of the broker.
#[derive(Debug, Serialize)]
pub(crate) struct StatusView {
    ready: bool,
    degraded: bool,
    version: String,
    trust_domain: String,
    uptime_seconds: Option<u64>,
    policy_revision: u64,
    ledger_bytes: u64,
    log_size: u64,
    certificate_not_after: Option<Timestamp>,
    /// How many, by state.
    leases: BTreeMap<&'static str, u64>,
    checks: Vec<CheckView>,
}

impl StatusView {
    pub(crate) fn is_ready(&self) -> bool {
        self.ready
    }
}

impl TryFrom<v1::SystemStatusResponse> for StatusView {
    type Error = WireError;

    fn try_from(status: v1::SystemStatusResponse) -> Result<Self, WireError> {
        let leases = status.leases.into_iter().map(|counted| {
            Ok((lease_state_from_wire("leases.state", counted.state)?.as_str(), counted.count))
        });
        Ok(Self {
            ready: status.ready,
            degraded: status.degraded,
            version: status.version,
            trust_domain: status.trust_domain,
            uptime_seconds: duration_from_wire("uptime", status.uptime)?.map(|uptime| uptime.as_secs()),
            policy_revision: status.policy_revision,
            ledger_bytes: status.ledger_bytes,
            log_size: status.log_size,
            certificate_not_after: time("certificate_not_after", status.certificate_not_after)?,
            leases: leases.collect::<Result<_, WireError>>()?,
            checks: status.checks.into_iter().map(CheckView::from).collect(),
        })
    }
}

impl Details for StatusView {
    fn details(&self, now: Timestamp) -> Vec<(&'static str, Cell)> {
        let uptime = self.uptime_seconds.map(|uptime| text::duration(std::time::Duration::from_secs(uptime)));
        let some = self.leases.iter().filter(|(_, count)| **count > 0);
        let leases: Vec<_> = some.map(|(state, count)| format!("{count} {state}")).collect();
        let ready = match (self.ready, self.degraded) {
            (true, false) => Cell::good("yes"),
            (true, true) => Cell::bad("yes, degraded"),
            (false, _) => Cell::bad("no"),
        };
        let mut details = vec![
            ("ready", ready),
            ("version", Cell::new(&self.version)),
            ("trust domain", Cell::new(&self.trust_domain)),
            ("running for", Cell::maybe(uptime)),
            ("leases", Cell::maybe(filled(leases.join(", ")))),
            ("audit records", Cell::new(self.log_size.to_string())),
            ("ledger bytes", Cell::new(self.ledger_bytes.to_string())),
            ("policy revision", Cell::new(self.policy_revision.to_string())),
            ("certificate ends", Cell::maybe(self.certificate_not_after.map(|end| text::relative(end, now)))),
        ];
        details.extend(self.checks.iter().map(|check| match check.name.as_str() {
            "ledger" => ("ledger", check.cell()),
            "policy" => ("policy", check.cell()),
            "certificate" => ("certificate", check.cell()),
            _ => match (check.ok, &check.message) {
                (true, _) => ("check", Cell::new(format!("{}: well", check.name))),
                (false, message) => {
                    let why = message.as_deref().unwrap_or("not well");
                    ("check", Cell::bad(format!("{}: {why}", check.name)))
                }
            },
        }));
        details
    }
}

/// One store.
#[derive(Debug, Serialize)]
pub(crate) struct BackendView {
    name: String,
    kind: String,
    versions: bool,
    list: bool,
    leasing: bool,
    writing: bool,
    ok: bool,
    message: Option<String>,
}

impl TryFrom<v1::BackendStatus> for BackendView {
    type Error = WireError;

    fn try_from(backend: v1::BackendStatus) -> Result<Self, WireError> {
        let capabilities = backend.capabilities.ok_or(WireError::Missing { field: "capabilities" })?;
        let health = backend.health.ok_or(WireError::Missing { field: "health" })?;
        Ok(Self {
            name: backend.name,
            kind: backend.kind,
            versions: capabilities.versions,
            list: capabilities.list,
            leasing: capabilities.leasing,
            writing: capabilities.writing,
            ok: health.ok,
            message: filled(health.message),
        })
    }
}

impl Row for BackendView {
    const COLUMNS: &'static [Column] = &[whole("BACKEND"), whole("KIND"), whole("CAN"), cut("STATE")];

    fn cells(&self, _: Timestamp) -> Vec<Cell> {
        let can = [
            (true, "read"),
            (self.list, "list"),
            (self.versions, "versions"),
            (self.leasing, "lease"),
            (self.writing, "write"),
        ];
        let can: Vec<_> = can.into_iter().filter_map(|(can, what)| can.then_some(what)).collect();
        let state = match (self.ok, &self.message) {
            (true, _) => Cell::good("well"),
            (false, message) => Cell::bad(message.as_deref().unwrap_or("not well")),
        };
        vec![Cell::new(&self.name), Cell::new(&self.kind), Cell::new(can.join(", ")), state]
    }
}
