//! What a transaction has made of what it knew, written.
//!
//! Each table gets one statement with arrays, and all of them go out together. Every change of a row says which revision
//! it saw, and the server says how many rows a statement met. The COMMIT goes out only once all those numbers are what
//! they should be: where another broker was faster, the transaction is undone instead.

use bursar_core::tlog::Signer;
use bursar_core::{LeaseId, SpiffeId, Version};

use super::super::codes::{bound_code, holder_code, kind_code, micros, selector_codes, state_code, stored};
use super::super::{TILE, tally::Tally};
use super::batch::{Batch, Credential, ObjectChange, Written};
use super::connection::{Answer, Call, Connection};
use super::failure::Fault;
use super::leases::{Fate, Leases};
use super::rows::LeaseRow;
use crate::kill::{self, Point};
use crate::ledger::SignedHead;

/// Which log, and what of its row must be as it was.
#[derive(Debug, Clone, Copy)]
pub(super) struct Own {
    pub(super) log: i64,
    pub(super) epoch: i64,
    pub(super) batch: i64,
}

impl Batch<'_> {
    /// Writes everything; the COMMIT is still to come. Answers how many records are below the checkpoint that is stored,
    /// where that is a new one.
    pub(super) fn flush(
        &self,
        connection: &mut Connection,
        own: Own,
        signer: &Signer,
        sign: bool,
        before: u64,
    ) -> Result<Option<u64>, Fault> {
        for change in &self.written.objects {
            write_object(connection, change)?;
        }
        write_rare(connection, &self.written, own.log)?;
        let edge = &self.tail.frontier;
        let grew = edge.size() > before;
        let signed = (sign || (grew && before == 0)).then(|| SignedHead::sign(edge, signer));
        let head = (grew || sign).then(|| (edge.to_bytes(), signer.seal(edge)));
        write_many(
            connection,
            &self.known.leases,
            &self.written,
            &self.tally,
            own,
            head.as_ref(),
            signed.as_ref(),
        )?;
        kill::at(Point::HeadSealed);
        Ok(signed.map(|head| head.size))
    }
}

fn write_many(
    connection: &mut Connection,
    leases: &Leases,
    written: &Written,
    tally: &Tally,
    own: Own,
    head: Option<&(Vec<u8>, Vec<u8>)>,
    signed: Option<&SignedHead>,
) -> Result<(), Fault> {
    let new = Columns::of(&leases.with_fate(Fate::New));
    let changed = Columns::of(&leases.with_fate(Fate::Changed));
    let forgotten: Vec<_> = leases.with_fate(Fate::Forgotten).iter().map(|row| bytes(row.lease.id)).collect();
    let seqs: Vec<i64> = written.records.iter().map(|(seq, ..)| *seq).collect();
    let times: Vec<i64> = written.records.iter().map(|(_, at, _)| *at).collect();
    let lines: Vec<&[u8]> = written.records.iter().map(|(.., line)| line.as_slice()).collect();
    let levels: Vec<i64> = written.tiles.iter().map(|node| i64::from(node.level)).collect();
    let places: Vec<i64> = written.tiles.iter().map(|node| stored(node.index)).collect();
    let hashes: Vec<&[u8]> = written.tiles.iter().map(|node| node.hash.as_bytes().as_slice()).collect();
    let mut sums = tally.states();
    *sums.entry(bursar_core::LeaseState::Gone).or_default() -= written.forgotten;
    let states: Vec<i64> = sums.keys().map(|state| state_code(*state)).collect();
    let counts: Vec<i64> = sums.values().copied().collect();
    let mut holders: Vec<_> =
        tally.holders().into_iter().map(|((kind, name), sum)| (holder_code(kind), name, sum)).collect();
    holders.sort_unstable();
    let kinds: Vec<i64> = holders.iter().map(|(kind, ..)| *kind).collect();
    let names: Vec<&str> = holders.iter().map(|(_, name, _)| *name).collect();
    let held: Vec<i64> = holders.iter().map(|(.., sum)| *sum).collect();
    let (frontier, seal) = (head.map(|(frontier, _)| frontier), head.map(|(_, seal)| seal));
    let note = signed.map(|head| &head.note);
    let next = own.batch + 1;

    let mut calls = Vec::new();
    let mut wanted = Vec::new();
    let mut push = |call, rows: Option<usize>| {
        calls.push(call);
        wanted.push(rows.map(|rows| rows as u64));
    };
    let insert = format!("INSERT INTO bursar.leases ({ALL}) SELECT $1::bigint, {UNNESTED}");
    let update = format!(
        "UPDATE bursar.leases AS l SET {SET} FROM (SELECT {CHANGED}) AS u WHERE l.id = u.id AND l.revision = u.revision"
    );
    if !new.ids.is_empty() {
        push(Call::count(&insert, std::iter::once(&own.log as _).chain(new.whole())), Some(new.ids.len()));
    }
    if !changed.ids.is_empty() {
        push(Call::count(&update, changed.mutable()), Some(changed.ids.len()));
    }
    if !forgotten.is_empty() {
        push(
            Call::count("DELETE FROM bursar.leases WHERE id = ANY($1::bytea[])", [&forgotten as _]),
            Some(forgotten.len()),
        );
    }
    if !seqs.is_empty() {
        push(Call::count(APPEND, [&own.log as _, &seqs as _, &times as _, &lines as _]), Some(seqs.len()));
    }
    if !levels.is_empty() {
        push(
            Call::count(TILES, [&own.log as _, &levels as _, &places as _, &hashes as _]),
            Some(levels.len()),
        );
    }
    if counts.iter().any(|count| *count != 0) {
        push(Call::count(COUNT, [&own.log as _, &states as _, &counts as _]), None);
    }
    if !kinds.is_empty() {
        push(Call::count(HOLD, [&own.log as _, &kinds as _, &names as _, &held as _]), None);
    }
    if held.iter().any(|sum| *sum < 0) {
        push(Call::count(LET_GO, [&own.log as _, &kinds as _, &names as _]), None);
    }
    push(
        Call::count(
            HEAD,
            [
                &own.log as _,
                &own.epoch as _,
                &own.batch as _,
                &next as _,
                &frontier as _,
                &seal as _,
                &note as _,
            ],
        ),
        Some(1),
    );
    let answers = connection.all(None, calls, None)?;
    match answers
        .iter()
        .map(Answer::count)
        .zip(wanted)
        .all(|(met, wanted)| wanted.is_none_or(|wanted| wanted == met))
    {
        true => Ok(()),
        false => Err(Fault::Conflict),
    }
}

/// What is written now and then, in statements of its own.
fn write_rare(connection: &mut Connection, written: &Written, log: i64) -> Result<(), Fault> {
    for credentials in written.credentials.chunks(TOGETHER) {
        let calls = credentials.iter().map(|credential| match credential {
            Credential::Keep { slot, lease, sealed } => {
                Call::count(KEEP, [slot as _, lease as _, sealed as _])
            }
            Credential::Drop { lease } => {
                Call::count("DELETE FROM bursar.credentials WHERE lease = $1", [lease as _])
            }
        });
        connection.all(None, calls.collect(), None)?;
    }
    for order in &written.orders {
        let (code, backend, name) = selector_codes(&order.selector);
        let values = [
            &order.id as _,
            &order.at as _,
            &code as _,
            &backend as _,
            &name as _,
            &order.record as _,
            &order.newest as _,
        ];
        connection.one(Call::count(ORDER, values))?;
        connection.one(Call::count(
            "UPDATE bursar.ledger SET revocations = $1 WHERE single = 0",
            [&order.id as _],
        ))?;
    }
    for step in &written.steps {
        let values =
            [&step.id as _, &step.place as _, &step.marked as _, &step.dynamic as _, &step.ended as _];
        connection.one(Call::count(STEP, values))?;
    }
    if !written.forgotten_orders.is_empty() {
        let done = &written.forgotten_orders;
        connection
            .one(Call::count("DELETE FROM bursar.revocations WHERE id = ANY($1::bigint[])", [done as _]))?;
    }
    for (sink, position) in &written.shipped {
        connection.one(Call::count(SHIPPED, [&log as _, sink as _, position as _]))?;
    }
    for pruned in &written.pruned {
        let place = stored(pruned.place);
        let (from, to) = (stored(pruned.place * TILE), stored((pruned.place + 1) * TILE));
        connection.one(Call::count(LEAVES, [&log as _, &place as _, &pruned.hashes as _]))?;
        connection.one(Call::count(PRUNE, [&log as _, &from as _, &to as _]))?;
    }
    Ok(())
}

fn write_object(connection: &mut Connection, change: &ObjectChange) -> Result<(), Fault> {
    let (kind, name, was) = (kind_code(change.kind), &change.name, &change.was);
    let one = |connection: &mut Connection, call: Call<'_>| {
        let answers = connection.all(None, vec![call], None)?;
        match answers.first().map(Answer::count) {
            Some(1) => Ok(()),
            _ => Err(Fault::Conflict),
        }
    };
    if change.was > 0 && change.kind.has_history() {
        one(connection, Call::count(HISTORY, [&kind as _, name as _, was as _]))?;
    }
    match &change.new {
        None => one(connection, Call::count(REMOVE, [&kind as _, name as _, was as _])),
        Some(new) if change.was == 0 => {
            let values =
                [&kind as _, name as _, &new.revision as _, &new.body as _, &new.at as _, &new.by as _];
            one(connection, Call::count(PUT, values))
        }
        Some(new) => {
            let values = [
                &kind as _,
                name as _,
                was as _,
                &new.revision as _,
                &new.body as _,
                &new.at as _,
                &new.by as _,
            ];
            one(connection, Call::count(REPLACE, values))
        }
    }
}

/// Rows of `bursar.leases` by column.
struct Columns<'r> {
    ids: Vec<Vec<u8>>,
    revisions: Vec<i64>,
    states: Vec<i64>,
    dynamic: Vec<bool>,
    slots: Vec<Option<&'r [u8]>>,
    issued: Vec<i64>,
    renewed: Vec<i64>,
    expires: Vec<i64>,
    max_expires: Vec<Option<i64>>,
    next_attempts: Vec<Option<i64>>,
    renewable: Vec<bool>,
    bounds: Vec<i64>,
    attempts: Vec<i64>,
    backends: Vec<&'r str>,
    paths: Vec<&'r str>,
    versions: Vec<Option<&'r str>>,
    principals: Vec<&'r str>,
    nodes: Vec<Option<&'r str>>,
    instances: Vec<&'r str>,
    environments: Vec<Option<&'r str>>,
    reasons: Vec<Option<&'r str>>,
    errors: Vec<Option<&'r str>>,
    handles: Vec<Option<&'r str>>,
    gone: Vec<Option<i64>>,
    revocations: Vec<Option<i64>>,
}

impl<'r> Columns<'r> {
    fn of(rows: &[&'r LeaseRow]) -> Self {
        fn column<'r, T>(rows: &[&'r LeaseRow], of: impl Fn(&'r LeaseRow) -> T) -> Vec<T> {
            rows.iter().map(|row| of(row)).collect()
        }
        Self {
            ids: column(rows, |row| bytes(row.lease.id)),
            revisions: column(rows, |row| row.revision),
            states: column(rows, |row| state_code(row.lease.state)),
            dynamic: column(rows, |row| row.lease.dynamic),
            slots: column(rows, |row| row.slot.as_deref()),
            issued: column(rows, |row| micros(row.lease.issued_at)),
            renewed: column(rows, |row| micros(row.lease.renewed_at)),
            expires: column(rows, |row| micros(row.lease.expires_at)),
            max_expires: column(rows, |row| row.lease.max_expires_at.map(micros)),
            next_attempts: column(rows, |row| row.next_attempt_at),
            renewable: column(rows, |row| row.lease.renewable),
            bounds: column(rows, |row| bound_code(row.lease.ttl_bound)),
            attempts: column(rows, |row| i64::from(row.lease.attempts)),
            backends: column(rows, |row| row.lease.reference.backend.as_str()),
            paths: column(rows, |row| row.lease.reference.path.as_str()),
            versions: column(rows, |row| row.lease.reference.version.as_ref().map(Version::as_str)),
            principals: column(rows, |row| row.lease.principal.as_str()),
            nodes: column(rows, |row| row.lease.node.as_ref().map(SpiffeId::as_str)),
            instances: column(rows, |row| row.lease.instance.as_str()),
            environments: column(rows, |row| row.lease.environment.as_deref()),
            reasons: column(rows, |row| row.lease.reason.as_deref()),
            errors: column(rows, |row| row.lease.last_error.as_deref()),
            handles: column(rows, |row| row.handle.as_deref()),
            gone: column(rows, |row| row.gone_at),
            revocations: column(rows, |row| row.revocation),
        }
    }

    /// The values of [`UNNESTED`].
    fn whole(&self) -> [&(dyn tokio_postgres::types::ToSql + Sync); 25] {
        [
            &self.ids,
            &self.revisions,
            &self.states,
            &self.dynamic,
            &self.slots,
            &self.issued,
            &self.renewed,
            &self.expires,
            &self.max_expires,
            &self.next_attempts,
            &self.renewable,
            &self.bounds,
            &self.attempts,
            &self.backends,
            &self.paths,
            &self.versions,
            &self.principals,
            &self.nodes,
            &self.instances,
            &self.environments,
            &self.reasons,
            &self.errors,
            &self.handles,
            &self.gone,
            &self.revocations,
        ]
    }

    /// The values of [`CHANGED`].
    fn mutable(&self) -> [&(dyn tokio_postgres::types::ToSql + Sync); 17] {
        [
            &self.ids,
            &self.revisions,
            &self.states,
            &self.slots,
            &self.renewed,
            &self.expires,
            &self.max_expires,
            &self.next_attempts,
            &self.renewable,
            &self.bounds,
            &self.attempts,
            &self.versions,
            &self.reasons,
            &self.errors,
            &self.handles,
            &self.gone,
            &self.revocations,
        ]
    }
}

fn bytes(id: LeaseId) -> Vec<u8> {
    id.to_bytes().to_vec()
}

/// Statements in one round trip.
const TOGETHER: usize = 24;

const ALL: &str = "log, id, revision, state, dynamic, slot, issued_at, renewed_at, expires_at, max_expires_at, \
     next_attempt_at, renewable, ttl_bound, attempts, backend, path, version, principal, node, instance, environment, \
     reason, last_error, handle, gone_at, revocation";

const UNNESTED: &str = "u.* FROM unnest($2::bytea[], $3::bigint[], $4::bigint[], $5::boolean[], $6::bytea[], $7::bigint[], \
     $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::boolean[], $13::bigint[], $14::bigint[], $15::text[], \
     $16::text[], $17::text[], $18::text[], $19::text[], $20::text[], $21::text[], $22::text[], $23::text[], $24::text[], \
     $25::bigint[], $26::bigint[]) AS u";

const CHANGED: &str = "* FROM unnest($1::bytea[], $2::bigint[], $3::bigint[], $4::bytea[], $5::bigint[], $6::bigint[], \
     $7::bigint[], $8::bigint[], $9::boolean[], $10::bigint[], $11::bigint[], $12::text[], $13::text[], $14::text[], \
     $15::text[], $16::bigint[], $17::bigint[]) AS c (id, revision, state, slot, renewed_at, expires_at, max_expires_at, \
     next_attempt_at, renewable, ttl_bound, attempts, version, reason, last_error, handle, gone_at, revocation)";

const SET: &str = "revision = u.revision + 1, state = u.state, slot = u.slot, renewed_at = u.renewed_at, \
     expires_at = u.expires_at, max_expires_at = u.max_expires_at, next_attempt_at = u.next_attempt_at, \
     renewable = u.renewable, ttl_bound = u.ttl_bound, attempts = u.attempts, version = u.version, reason = u.reason, \
     last_error = u.last_error, handle = u.handle, gone_at = u.gone_at, revocation = u.revocation";

const APPEND: &str = "INSERT INTO bursar.audit (log, seq, at, line) \
     SELECT $1::bigint, u.* FROM unnest($2::bigint[], $3::bigint[], $4::bytea[]) AS u";
const TILES: &str = "INSERT INTO bursar.tiles (log, level, place, hash) \
     SELECT $1::bigint, u.* FROM unnest($2::bigint[], $3::bigint[], $4::bytea[]) AS u";
const COUNT: &str = "INSERT INTO bursar.lease_counts AS c (log, state, leases) \
     SELECT $1::bigint, u.* FROM unnest($2::bigint[], $3::bigint[]) AS u \
     ON CONFLICT (log, state) DO UPDATE SET leases = c.leases + excluded.leases";
const HOLD: &str = "INSERT INTO bursar.holders AS h (log, kind, name, leases) \
     SELECT $1::bigint, u.* FROM unnest($2::bigint[], $3::text[], $4::bigint[]) AS u \
     ON CONFLICT (kind, name, log) DO UPDATE SET leases = h.leases + excluded.leases";
/// Who holds nothing takes no row.
const LET_GO: &str = "DELETE FROM bursar.holders AS h USING unnest($2::bigint[], $3::text[]) AS u (kind, name) \
     WHERE h.log = $1 AND h.kind = u.kind AND h.name = u.name AND h.leases = 0";
/// Fails the transaction where another process has taken the log over. Every transaction prolongs the hold on it.
const HEAD: &str = "UPDATE bursar.logs SET batch = $4, frontier = coalesce($5, frontier), seal = coalesce($6, seal), \
     note = coalesce($7, note, ''), held_until = now() + interval '15 seconds' \
     WHERE id = $1 AND epoch = $2 AND batch = $3";
const KEEP: &str = "INSERT INTO bursar.credentials (slot, lease, sealed) VALUES ($1, $2, $3) \
     ON CONFLICT (slot) DO UPDATE SET lease = excluded.lease, sealed = excluded.sealed";
const ORDER: &str = "INSERT INTO bursar.revocations \
     (id, ordered_at, selector, backend, name, record, newest, place, marked, dynamic) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, ''::bytea, 0, 0)";
const STEP: &str = "UPDATE bursar.revocations SET place = coalesce($2, place), marked = marked + $3, \
     dynamic = dynamic + $4, marked_at = $5 WHERE id = $1";
const SHIPPED: &str = "INSERT INTO bursar.sinks AS s (log, name, position) VALUES ($1, $2, $3) \
     ON CONFLICT (log, name) DO UPDATE SET position = greatest(s.position, excluded.position)";
const LEAVES: &str = "INSERT INTO bursar.leaves (log, place, hashes) VALUES ($1, $2, $3)";
const PRUNE: &str = "DELETE FROM bursar.audit WHERE log = $1 AND seq >= $2 AND seq < $3";
const HISTORY: &str = "INSERT INTO bursar.object_history (kind, name, revision, body, updated_at, updated_by) \
     SELECT kind, name, revision, body, updated_at, updated_by FROM bursar.objects \
     WHERE kind = $1 AND name = $2 AND revision = $3";
const PUT: &str = "INSERT INTO bursar.objects (kind, name, revision, body, updated_at, updated_by) \
     VALUES ($1, $2, $3, $4, $5, $6)";
const REPLACE: &str = "UPDATE bursar.objects SET revision = $4, body = $5, updated_at = $6, updated_by = $7 \
     WHERE kind = $1 AND name = $2 AND revision = $3";
const REMOVE: &str = "DELETE FROM bursar.objects WHERE kind = $1 AND name = $2 AND revision = $3";
