//! Questions about leases.

use bursar_core::backend::StoreHandle;
use bursar_core::{BackendName, Lease, LeaseId, LeaseState, SecretPath, SpiffeId};
use jiff::Timestamp;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::super::codes::{at_most, holder_code, micros, read, state_code, state_of};
use super::super::slot::{self, CredentialSlot};
use super::failure::Fault;
use super::rows::{COLUMNS, damaged, get, id, lease};
use super::snapshot::State;
use crate::ledger::error::LedgerError;
use crate::ledger::query::{HolderKind, Kept, LeaseFilter, Page, Paged, Revocable};

/// Leases, newest first: a page looks at a bounded number of rows, and may be short or empty while more follows.
pub(super) fn leases(state: &State<'_>, filter: &LeaseFilter, page: &Page) -> Result<Paged<Lease>, Fault> {
    let before = match &page.token {
        Some(token) => {
            let id = token.parse::<LeaseId>();
            id.map_err(|_| Fault::Ledger(LedgerError::PageToken))?.to_bytes()
        }
        None => [u8::MAX; 16],
    };
    let mut condition = Condition::after(2);
    of_filter(&mut condition, filter);
    let tested = condition.sql(match filter.states.contains(&LeaseState::Gone) {
        true => "true",
        false => "slot IS NOT NULL",
    });
    // Those of one principal lie together in the index of slots; any others are met on the way along the ids.
    let along = match &filter.principal {
        Some(principal) if !filter.states.contains(&LeaseState::Gone) => condition.slots(principal),
        _ => "true".to_owned(),
    };
    let sql = format!(
        "SELECT {COLUMNS}, ({tested}) IS TRUE FROM (SELECT * FROM bursar.leases \
         WHERE id < $1 AND {along} ORDER BY id DESC LIMIT $2) AS met ORDER BY id DESC"
    );
    let before = before.as_slice();
    let values = [&before as _, &EFFORT as _];
    let rows = state.ask(&sql, values.into_iter().chain(condition.values()))?;
    let mut items: Vec<Lease> = Vec::new();
    let mut last = None;
    for row in &rows {
        if items.len() == page.limit() {
            return Ok(Paged { items, next: last.map(|id: LeaseId| id.to_string()) });
        }
        last = Some(id(row, 0)?);
        if get(row, TESTED)? {
            items.extend(Some(lease(row)?).filter(|lease| filter.selects(lease)));
        }
    }
    let more = rows.len() as i64 == EFFORT;
    Ok(Paged { items, next: last.filter(|_| more).map(|id| id.to_string()) })
}

pub(super) fn counts(state: &State<'_>) -> Result<Vec<(LeaseState, u64)>, Fault> {
    let rows = state.ask("SELECT state, sum(leases)::bigint FROM bursar.lease_counts GROUP BY state", [])?;
    let counts = rows.iter().map(|row| Ok((get(row, 0)?, get(row, 1)?)));
    let counts: Vec<(i64, i64)> = counts.collect::<Result<_, Fault>>()?;
    let of = |state| {
        counts.iter().find(|(code, _)| *code == state_code(state)).map_or(0, |(_, count)| read(*count))
    };
    Ok(LeaseState::ALL.into_iter().map(|state| (state, of(state))).collect())
}

pub(super) fn top(state: &State<'_>, kind: HolderKind, limit: usize) -> Result<Vec<(String, u64)>, Fault> {
    let rows = state.ask(TOP, [&holder_code(kind) as _, &at_most(limit) as _])?;
    rows.iter().map(|row| Ok((get(row, 0)?, read(get(row, 1)?)))).collect()
}

pub(super) fn due(state: &State<'_>, now: Timestamp, limit: usize) -> Result<Vec<Lease>, Fault> {
    let sql = format!("SELECT {COLUMNS} FROM bursar.leases {DUE} ORDER BY expires_at >> 26, id LIMIT $2");
    all(&state.ask(&sql, [&micros(now) as _, &at_most(limit) as _])?)
}

pub(super) fn ending(state: &State<'_>, times: &[Timestamp]) -> Result<Vec<u64>, Fault> {
    let sql = format!("SELECT count(*) FROM (SELECT 1 FROM bursar.leases {DUE} LIMIT 1000000) AS found");
    let count = |time: &Timestamp| {
        let row = state.ask_one(&sql, [&micros(*time) as _])?;
        Ok(row.map(|row| get(&row, 0)).transpose()?.map_or(0, read))
    };
    times.iter().map(count).collect()
}

pub(super) fn to_revoke(
    state: &State<'_>,
    backend: &BackendName,
    now: Timestamp,
    limit: usize,
) -> Result<Vec<Revocable>, Fault> {
    let sql = format!("SELECT {COLUMNS} FROM bursar.leases {TO_REVOKE}");
    let rows = state.ask(&sql, [&backend.as_str() as _, &micros(now) as _, &at_most(limit) as _])?;
    let revocable = |row: &Row| {
        let handle: Option<String> = get(row, 22)?;
        Ok(Revocable { lease: lease(row)?, handle: handle.map(StoreHandle::new) })
    };
    rows.iter().map(revocable).collect()
}

pub(super) fn waiting_backends(state: &State<'_>) -> Result<Vec<BackendName>, Fault> {
    let rows = state.ask(WAITING_BACKENDS, [])?;
    rows.iter().map(|row| BackendName::parse(get(row, 0)?).map_err(|_| damaged())).collect()
}

pub(super) fn intents(state: &State<'_>, before: Timestamp, limit: usize) -> Result<Vec<Lease>, Fault> {
    let sql = format!(
        "SELECT {COLUMNS} FROM bursar.leases WHERE state = 0 AND issued_at <= $1 ORDER BY issued_at LIMIT $2"
    );
    all(&state.ask(&sql, [&micros(before) as _, &at_most(limit) as _])?)
}

pub(super) fn handle(state: &State<'_>, id: LeaseId) -> Result<Option<StoreHandle>, Fault> {
    let id = id.to_bytes();
    let row = state.ask_one("SELECT handle FROM bursar.leases WHERE id = $1", [&id.as_slice() as _])?;
    let handle = row.map(|row| get::<Option<String>>(&row, 0)).transpose()?;
    Ok(handle.flatten().map(StoreHandle::new))
}

pub(super) fn kept(state: &State<'_>, slot: &CredentialSlot) -> Result<Option<Kept>, Fault> {
    let found = state
        .ask_one("SELECT lease, sealed FROM bursar.credentials WHERE slot = $1", [&slot.as_bytes() as _])?;
    let Some(credential) = found else { return Ok(None) };
    let sql = format!("SELECT {COLUMNS} FROM bursar.leases WHERE id = $1");
    let row = state.ask_one(&sql, [&get::<&[u8]>(&credential, 0)? as _])?;
    row.map(|row| Ok(Kept { sealed: get(&credential, 1)?, lease: lease(&row)? })).transpose()
}

pub(super) fn of_handle(
    state: &State<'_>,
    backend: &BackendName,
    handle: &StoreHandle,
) -> Result<Option<LeaseId>, Fault> {
    let sql = "SELECT id FROM bursar.leases WHERE backend = $1 AND handle IS NOT NULL AND handle = $2";
    let row = state.ask_one(sql, [&backend.as_str() as _, &handle.as_str() as _])?;
    row.map(|row| id(&row, 0)).transpose()
}

pub(super) fn each(
    state: &State<'_>,
    visit: &mut dyn FnMut(Result<Lease, LedgerError>),
) -> Result<(), Fault> {
    let sql = format!("SELECT {COLUMNS} FROM bursar.leases WHERE id > $1 ORDER BY id LIMIT $2");
    let mut after: Vec<u8> = Vec::new();
    loop {
        let rows = state.ask(&sql, [&after as _, &EFFORT as _])?;
        for row in &rows {
            after = get(row, 0)?;
            visit(lease(row).map_err(LedgerError::from));
        }
        if (rows.len() as i64) < EFFORT {
            return Ok(());
        }
    }
}

pub(super) fn stray_credentials(state: &State<'_>) -> Result<Vec<LeaseId>, Fault> {
    state.ask(STRAY_CREDENTIALS, [])?.iter().map(|row| id(row, 0)).collect()
}

pub(super) fn wrong_counts(state: &State<'_>) -> Result<Vec<(Option<LeaseState>, u64)>, Fault> {
    let rows = state.ask(WRONG_COUNTS, [])?;
    rows.iter().map(|row| Ok((state_of(get(row, 0)?), read(get(row, 1)?)))).collect()
}

pub(super) fn wrong_holders(state: &State<'_>, kind: HolderKind) -> Result<Vec<String>, Fault> {
    let sql = WRONG_HOLDERS.replace("COLUMN", kind.as_str());
    state.ask(&sql, [&holder_code(kind) as _])?.iter().map(|row| get(row, 0)).collect()
}

fn all(rows: &[Row]) -> Result<Vec<Lease>, Fault> {
    rows.iter().map(lease).collect()
}

/// Conditions put together from fixed pieces. Values travel as parameters only.
pub(super) struct Condition {
    terms: Vec<String>,
    values: Vec<Value>,
    /// Parameters that stand before its own.
    before: usize,
}

enum Value {
    Text(String),
    Bytes(Vec<u8>),
}

impl Condition {
    /// None yet; its parameters are numbered after so many others.
    pub(super) fn after(before: usize) -> Self {
        Self { terms: Vec::new(), values: Vec::new(), before }
    }

    /// That a column has this text.
    pub(super) fn is(&mut self, column: &'static str, text: &str) {
        let value = self.value(Value::Text(text.to_owned()));
        self.terms.push(format!("{column} = {value}"));
    }

    /// That a slot is one of this principal's; not among the terms.
    fn slots(&mut self, principal: &SpiffeId) -> String {
        let [first, above] = slot::range(principal).map(|bound| self.value(Value::Bytes(bound)));
        format!("slot IS NOT NULL AND slot >= {first} AND slot < {above}")
    }

    /// All of it, and `also`.
    pub(super) fn sql(&self, also: &str) -> String {
        std::iter::once(also.to_owned()).chain(self.terms.iter().cloned()).collect::<Vec<_>>().join(" AND ")
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &(dyn ToSql + Sync)> {
        self.values.iter().map(|value| match value {
            Value::Text(text) => text as &(dyn ToSql + Sync),
            Value::Bytes(bytes) => bytes,
        })
    }

    fn value(&mut self, value: Value) -> String {
        self.values.push(value);
        format!("${}", self.before + self.values.len())
    }
}

/// `PATH0` is what comes after everything that begins with `PATH/`.
pub(super) fn below(condition: &mut Condition, path: &SecretPath) {
    let path = path.as_str();
    let [same, from, to] = [path.to_owned(), format!("{path}/"), format!("{path}0")]
        .map(|bound| condition.value(Value::Text(bound)));
    condition
        .terms
        .push(format!("(path = {same} OR (path COLLATE \"C\" >= {from} AND path COLLATE \"C\" < {to}))"));
}

fn of_filter(condition: &mut Condition, filter: &LeaseFilter) {
    if let Some(backend) = &filter.backend {
        condition.is("backend", backend.as_str());
    }
    if let Some(path) = &filter.path {
        below(condition, path);
    }
    if let Some(node) = &filter.node {
        condition.is("node", node.as_str());
    }
    if let Some(environment) = &filter.environment {
        condition.is("environment", environment);
    }
}

const TOP: &str = "SELECT name, sum(leases)::bigint FROM bursar.holders WHERE kind = $1 GROUP BY name \
     HAVING sum(leases) > 0 ORDER BY sum(leases) DESC, name LIMIT $2";

/// The second condition is the first one to the minute, in the words of the index.
const DUE: &str = "WHERE state = 1 AND expires_at <= $1::bigint AND expires_at >> 26 <= $1::bigint >> 26";

const TO_REVOKE: &str = "WHERE backend = $1 AND next_attempt_at IS NOT NULL AND next_attempt_at <= $2 \
     ORDER BY next_attempt_at LIMIT $3";

/// Steps from one name to the next along the index, however many leases wait under each.
const WAITING_BACKENDS: &str = "WITH RECURSIVE names (name) AS ( \
     (SELECT backend FROM bursar.leases WHERE next_attempt_at IS NOT NULL ORDER BY backend LIMIT 1) \
     UNION ALL SELECT (SELECT backend FROM bursar.leases WHERE next_attempt_at IS NOT NULL AND backend > names.name \
     ORDER BY backend LIMIT 1) FROM names WHERE names.name IS NOT NULL) SELECT name FROM names WHERE name IS NOT NULL";

const STRAY_CREDENTIALS: &str = "SELECT c.lease FROM bursar.credentials AS c WHERE NOT EXISTS ( \
     SELECT 1 FROM bursar.leases AS l WHERE l.id = c.lease AND l.state = 1 AND l.dynamic)";

const WRONG_COUNTS: &str = "SELECT coalesce(counted.state, held.state), coalesce(counted.leases, 0)::bigint FROM \
     (SELECT state, sum(leases) AS leases FROM bursar.lease_counts GROUP BY state) AS counted FULL JOIN \
     (SELECT state, count(*) AS leases FROM bursar.leases GROUP BY state) AS held ON counted.state = held.state \
     WHERE coalesce(counted.leases, 0) <> coalesce(held.leases, 0)";

/// State 6 is gone, and nobody holds it. The columns have the names of the kinds.
const WRONG_HOLDERS: &str = "SELECT coalesce(counted.name, held.name) FROM \
     (SELECT name, sum(leases) AS leases FROM bursar.holders WHERE kind = $1 GROUP BY name) AS counted FULL JOIN \
     (SELECT COLUMN AS name, count(*) AS leases FROM bursar.leases WHERE state <> 6 AND COLUMN IS NOT NULL \
     GROUP BY COLUMN) AS held ON counted.name = held.name WHERE coalesce(counted.leases, 0) <> coalesce(held.leases, 0)";

/// What comes after [`COLUMNS`].
const TESTED: usize = 25;
/// Leases that one page looks at.
const EFFORT: i64 = 5000;
