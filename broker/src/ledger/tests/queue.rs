use bursar_core::audit::Action;

use super::super::{Change, Entry, FailureKind, Health, LedgerError};
use super::{Fixture, raw, within};

#[tokio::test]
async fn a_full_queue_pushes_back() {
    let fixture = Fixture::with_queue(1);
    let entry = || Entry { changes: Vec::new(), records: vec![fixture.record(Action::Read, None)] };
    let other = raw(&fixture.path());
    other.execute_batch("BEGIN IMMEDIATE").expect("lock");

    // One is with the writer, which waits for the lock; one fills the queue.
    let mut commits = tokio::task::JoinSet::new();
    for _ in 0..3 {
        let (ledger, entry) = (fixture.ledger.clone(), entry());
        commits.spawn(async move { ledger.commit(entry).await });
    }
    let refused = within(commits.join_next()).await.expect("one").expect("no panic");
    assert!(matches!(refused, Err(LedgerError::Busy)), "{refused:?}");

    other.execute_batch("ROLLBACK").expect("unlock");
    assert!(within(commits.join_all()).await.iter().any(Result::is_ok));
}

#[tokio::test]
async fn a_ledger_that_another_program_locks_says_so_and_recovers() {
    let fixture = Fixture::new();
    let other = raw(&fixture.path());
    other.execute_batch("BEGIN IMMEDIATE").expect("lock");
    let refused = within(fixture.ledger.probe()).await;
    assert!(
        matches!(refused, Err(LedgerError::Unavailable { kind: FailureKind::Locked, .. })),
        "{refused:?}"
    );
    assert_eq!(fixture.ledger.health(), Health::Failed(FailureKind::Locked));
    other.execute_batch("ROLLBACK").expect("unlock");
    within(fixture.ledger.probe()).await.expect("probe");
    assert_eq!(fixture.ledger.health(), Health::Ready);
}

#[tokio::test]
async fn closing_writes_what_is_queued_and_refuses_the_rest() {
    let fixture = Fixture::new();
    let mut commits = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let ledger = fixture.ledger.clone();
        let entry = Entry { changes: Vec::new(), records: vec![fixture.record(Action::Read, None)] };
        commits.spawn(async move { ledger.commit(entry).await });
    }
    tokio::task::yield_now().await;
    let watcher = fixture.ledger.clone();
    within(fixture.ledger.clone().close()).await;
    within(watcher.closed()).await;
    let written = within(commits.join_all()).await.into_iter().filter(Result::is_ok).count();
    assert!(matches!(within(fixture.ledger.probe()).await, Err(LedgerError::Closed)));
    assert!(matches!(within(fixture.ledger.lease_counts()).await, Err(LedgerError::Closed)));
    let lease = fixture.lease("vault/a").id;
    assert!(matches!(within(fixture.ledger.lease(lease)).await, Err(LedgerError::Closed)));
    let fixture = fixture.reopen().await;
    assert_eq!(fixture.ledger.checkpoint().expect("head").size, written as u64);
}

#[tokio::test]
async fn whoever_asks_after_a_commit_sees_it_however_many_ask_at_once() {
    let fixture = Fixture::new();
    let missing = fixture.lease("vault/missing").id;
    let mut asked = tokio::task::JoinSet::new();
    for number in 0..300 {
        let lease = fixture.lease(&format!("vault/s{number}"));
        let ledger = fixture.ledger.clone();
        asked.spawn(async move {
            let id = lease.id;
            // More at once than the queue of this ledger has places for; some are pushed back.
            let entry = Entry { changes: vec![Change::Grant(lease)], records: Vec::new() };
            let committed = ledger.commit(entry).await.is_ok();
            (committed, ledger.lease(id).await.expect("lookup").map(|lease| lease.id) == Some(id))
        });
    }
    let seen = within(asked.join_all()).await;
    assert!(seen.iter().any(|(committed, _)| *committed));
    assert!(seen.iter().all(|(committed, found)| committed == found), "a commit and a lookup disagree");
    assert_eq!(within(fixture.ledger.lease(missing)).await.expect("lookup"), None);
}
