//! The writer without its thread: batches are put together by hand, and the disk is as large as the test says.

use std::sync::Arc;

use bursar_core::audit::Action;
use bursar_core::clock::TestClock;
use bursar_core::lease::LeaseEvent;
use tokio::sync::oneshot::Receiver;
use tokio::sync::{mpsc, oneshot};

use super::super::Sqlite;
use super::*;
use crate::ledger::board::Board;
use crate::ledger::quota::{Meter, Quotas};
use crate::ledger::tests::{Fixture, new_id, new_key, signer};
use crate::ledger::writer::Writer as Commits;
use crate::ledger::{Change, Health, proofs};

#[tokio::test]
async fn a_refused_entry_does_not_sink_its_batch() {
    let (fixture, mut writer) = (Fixture::new(), Bench::new());
    let [before, after] = [fixture.lease("vault/a"), fixture.lease("vault/b")];
    let grants_then_fails = Entry {
        changes: vec![
            Change::Grant(fixture.lease("vault/c")),
            fixture.event(new_id(fixture.now()), LeaseEvent::Revoke),
        ],
        records: vec![fixture.record(Action::Revoke, None)],
    };
    let answers = writer.batch(vec![
        read(&fixture, Change::Grant(before.clone())),
        Work::Commit(grants_then_fails),
        read(&fixture, Change::Grant(after.clone())),
    ]);
    let seqs: Vec<_> = answers.iter().map(|answer| answer.as_ref().map(|done| done.first_seq).ok()).collect();
    assert_eq!(seqs, [Some(0), None, Some(1)]);
    assert!(matches!(&answers[1], Err(LedgerError::LeaseMissing { .. })));
    assert_eq!(writer.count("leases"), 2);
    assert_eq!(writer.count("audit"), 2);
    assert_eq!(writer.sum("SELECT leases FROM lease_counts WHERE state = 1"), 2);
}

#[tokio::test]
async fn a_full_disk_refuses_the_whole_batch_and_says_so() {
    let (fixture, mut writer) = (Fixture::new(), Bench::new());
    writer.limit_pages(Some(0));
    let answers = writer.batch((0..200).map(|number| granting(&fixture, number)).collect());
    assert!(answers.iter().all(|answer| matches!(answer, Err(LedgerError::Full))), "{:?}", answers.first());
    assert_eq!(*writer.writer.board.health.borrow(), Health::Full);
    assert_eq!((writer.count("leases"), writer.count("audit")), (0, 0));
}

#[tokio::test]
async fn a_probe_finds_out_that_a_full_disk_has_space_again() {
    let (fixture, mut writer) = (Fixture::new(), Bench::new());
    writer.limit_pages(Some(0));
    drop(writer.batch((0..200).map(|number| granting(&fixture, number)).collect()));
    assert!(matches!(writer.batch(vec![Work::Beat])[..], [Err(LedgerError::Full)]));
    assert_eq!(*writer.writer.board.health.borrow(), Health::Full);
    writer.limit_pages(None);
    assert!(matches!(writer.batch(vec![Work::Beat])[..], [Ok(_)]));
    assert_eq!(*writer.writer.board.health.borrow(), Health::Ready);
}

#[tokio::test]
async fn the_log_goes_on_without_a_gap_after_a_full_disk() {
    let (fixture, mut writer) = (Fixture::new(), Bench::new());
    drop(writer.batch(vec![granting(&fixture, 0)]));
    let before = writer.writer.board.edge.borrow().clone();
    writer.limit_pages(Some(0));
    drop(writer.batch((1..200).map(|number| granting(&fixture, number)).collect()));
    assert_eq!(*writer.writer.board.edge.borrow(), before, "an edge is published for what is durable only");
    writer.limit_pages(None);
    let answers = writer.batch(vec![granting(&fixture, 1)]);
    assert!(matches!(&answers[..], [Ok(Committed { first_seq: 1, .. })]), "{answers:?}");
    let stored = proofs::head(&writer.writer.transactions.connection).expect("head");
    assert_eq!(stored.tail.frontier.size(), 2);
}

/// A writer whose batches the test makes.
struct Bench {
    writer: Commits<Writer>,
    _folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("ledger.db");
        let files = Arc::new(Files::open(&path).expect("files"));
        let (transactions, stored, _) = Sqlite::new(path).writer(&files).expect("writer");
        let board = Arc::new(Board::new(stored.tail.frontier));
        board.signer.set(signer(&new_key())).expect("first key");
        let (_, queue) = mpsc::channel(1);
        let clock = Arc::new(TestClock::new());
        let meter = Meter::new(Quotas::default());
        let writer = Commits { queue, transactions: Box::new(transactions), meter, board, clock };
        Self { writer, _folder: folder }
    }

    /// Commits all of `work` in one transaction.
    fn batch(&mut self, work: Vec<Work>) -> Vec<Result<Committed, LedgerError>> {
        let (replies, answers): (Vec<_>, Vec<Receiver<_>>) = work.iter().map(|_| oneshot::channel()).unzip();
        self.writer.commit((work, replies));
        answers.into_iter().map(|mut answer| answer.try_recv().expect("answer")).collect()
    }

    /// The disk has `more` pages left; any number when absent.
    fn limit_pages(&self, more: Option<i64>) {
        let connection = &self.writer.transactions.connection;
        let pages: i64 = connection.pragma_query_value(None, "page_count", |row| row.get(0)).expect("pages");
        let limit = more.map_or(i64::from(i32::MAX), |more| pages + more);
        connection.pragma_update(None, "max_page_count", limit).expect("limit");
    }

    fn count(&self, table: &str) -> i64 {
        self.sum(&format!("SELECT count(*) FROM {table}"))
    }

    fn sum(&self, query: &str) -> i64 {
        self.writer.transactions.connection.query_row(query, [], |row| row.get(0)).expect("number")
    }
}

fn granting(fixture: &Fixture, number: u32) -> Work {
    read(fixture, Change::Grant(fixture.lease(&format!("vault/s{number}"))))
}

fn read(fixture: &Fixture, change: Change) -> Work {
    Work::Commit(Entry { changes: vec![change], records: vec![fixture.record(Action::Read, None)] })
}
