//! Named bytes, read.

use bursar_core::SpiffeId;
use tokio_postgres::Row;

use super::super::codes::{at_most, kind_code, read};
use super::super::page_of;
use super::failure::Fault;
use super::rows::{get, time};
use super::snapshot::State;
use crate::ledger::entry::{Object, ObjectKind};
use crate::ledger::error::LedgerError;
use crate::ledger::query::{Page, Paged};

pub(super) fn object(state: &State<'_>, kind: ObjectKind, name: &str) -> Result<Option<Object>, Fault> {
    state.ask_one(GET, [&kind_code(kind) as _, &name as _])?.map(|row| of(&row)).transpose()
}

pub(super) fn objects(state: &State<'_>, kind: ObjectKind, page: &Page) -> Result<Paged<Object>, Fault> {
    let after = page.token.as_deref().unwrap_or_default();
    let found = state.ask(LIST, [&kind_code(kind) as _, &after as _, &at_most(page.limit() + 1) as _])?;
    let found = found.iter().map(of).collect::<Result<_, _>>()?;
    Ok(page_of(found, page, |object: &Object| object.name.clone()))
}

pub(super) fn object_history(
    state: &State<'_>,
    kind: ObjectKind,
    name: &str,
    page: &Page,
) -> Result<Paged<Object>, LedgerError> {
    let before: i64 = match &page.token {
        Some(token) => token.parse().map_err(|_| LedgerError::PageToken)?,
        None => i64::MAX,
    };
    let values = [&kind_code(kind) as _, &name as _, &before as _, &at_most(page.limit() + 1) as _];
    let found = state.ask(HISTORY, values)?;
    let found = found.iter().map(of).collect::<Result<_, _>>()?;
    Ok(page_of(found, page, |object: &Object| object.revision.to_string()))
}

fn of(row: &Row) -> Result<Object, Fault> {
    let damaged = |_| Fault::Damaged { table: "bursar.objects" };
    Ok(Object {
        name: get(row, 0)?,
        revision: read(get(row, 1)?),
        body: get(row, 2)?,
        updated_at: time(get(row, 3)?)?,
        updated_by: SpiffeId::parse(get(row, 4)?).map_err(damaged)?,
    })
}

const GET: &str =
    "SELECT name, revision, body, updated_at, updated_by FROM bursar.objects WHERE kind = $1 AND name = $2";
/// By the bytes of the names, whatever the database sorts by.
const LIST: &str = "SELECT name, revision, body, updated_at, updated_by FROM bursar.objects \
     WHERE kind = $1 AND name COLLATE \"C\" > $2 ORDER BY name COLLATE \"C\" LIMIT $3";
const HISTORY: &str = "SELECT name, revision, body, updated_at, updated_by FROM bursar.object_history \
     WHERE kind = $1 AND name = $2 AND revision < $3 ORDER BY revision DESC LIMIT $4";
