//! Conditions on leases that are not gone, put together from fixed pieces. Values travel as parameters only.
//!
//! Every column named here is in the index `lease_held`, so a walk along it tests them without touching the leases.

use bursar_core::{BackendName, SecretPath, SpiffeId};
use rusqlite::types::Value;

use super::super::slot;
use crate::ledger::entry::RevokeSelector;
use crate::ledger::query::LeaseFilter;

/// What stands after a `WHERE`, with the values of its parameters in order.
#[derive(Debug)]
pub(super) struct Condition {
    terms: Vec<&'static str>,
    values: Vec<Value>,
}

impl Condition {
    /// Every lease but the gone ones, in the words of the indexes: SQLite uses an index only where the query says what
    /// the index says.
    pub(super) fn held() -> Self {
        Self { terms: vec!["slot IS NOT NULL"], values: Vec::new() }
    }

    /// Every lease.
    pub(super) fn any() -> Self {
        Self { terms: vec!["true"], values: Vec::new() }
    }

    /// What waits to be taken back.
    pub(super) fn waiting() -> Self {
        Self { terms: vec!["next_attempt_at IS NOT NULL"], values: Vec::new() }
    }

    /// The leases that a bulk revocation names.
    pub(super) fn of_selector(self, selector: &RevokeSelector) -> Self {
        match selector {
            RevokeSelector::PathPrefix { backend, path } => {
                let named = self.of_backend(backend);
                match path {
                    Some(path) => named.at_or_below(path),
                    None => named,
                }
            }
            RevokeSelector::Principal(principal) => self.of_principal(principal),
            RevokeSelector::Node(node) => self.and("node = ?", [text(node.as_str())]),
            RevokeSelector::Environment(name) => self.and("environment = ?", [text(name)]),
        }
    }

    /// What a filter says of the place of a lease; of its state and principal it says more.
    pub(super) fn of_filter(mut self, filter: &LeaseFilter) -> Self {
        if let Some(backend) = &filter.backend {
            self = self.of_backend(backend);
        }
        if let Some(path) = &filter.path {
            self = self.at_or_below(path);
        }
        if let Some(node) = &filter.node {
            self = self.and("node = ?", [text(node.as_str())]);
        }
        if let Some(environment) = &filter.environment {
            self = self.and("environment = ?", [text(environment)]);
        }
        self
    }

    /// The principal's slots, and now and then those of one that shares the beginning of its hash.
    pub(super) fn of_principal(self, principal: &SpiffeId) -> Self {
        let range = slot::range(principal);
        self.and("slot >= ? AND slot < ?", range.map(Value::Blob))
    }

    /// The SQL.
    pub(super) fn sql(&self) -> String {
        self.terms.join(" AND ")
    }

    /// The parameters, in the order of the SQL.
    pub(super) fn values(&self) -> &[Value] {
        &self.values
    }

    fn of_backend(self, backend: &BackendName) -> Self {
        self.and("backend = ?", [text(backend.as_str())])
    }

    /// `PATH0` is what comes after everything that begins with `PATH/`.
    fn at_or_below(self, path: &SecretPath) -> Self {
        let path = path.as_str();
        let bounds = [path.to_owned(), format!("{path}/"), format!("{path}0")];
        self.and("(path = ? OR path >= ? AND path < ?)", bounds.map(Value::Text))
    }

    fn and(mut self, term: &'static str, values: impl IntoIterator<Item = Value>) -> Self {
        self.terms.push(term);
        self.values.extend(values);
        self
    }
}

fn text(value: &str) -> Value {
    Value::Text(value.to_owned())
}
