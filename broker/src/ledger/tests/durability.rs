use std::fs;
use std::path::Path;

use bursar_core::LeaseState;
use bursar_core::audit::Action;

use super::super::{Change, Entry, Ledger, ObjectKind, OpenError};
use super::{Fixture, image, open, signer, spiffe, within};

#[tokio::test]
async fn what_was_committed_is_in_the_files_at_that_moment() {
    let fixture = Fixture::new();
    let lease = fixture.lease("vault/shop/db");
    let id = lease.id;
    let records = vec![fixture.record(Action::Read, Some(id))];
    within(fixture.ledger.commit(Entry { changes: vec![Change::Grant(lease)], records }))
        .await
        .expect("entry");

    let image = image(&fixture);
    let after = open(&image, &fixture.clock).expect("ledger");
    after.start_signing(signer(&fixture.key)).expect("signing");
    assert_eq!(
        within(after.lease(id)).await.expect("answer").map(|lease| lease.state),
        Some(LeaseState::Active)
    );
    assert_eq!(within(after.audit_lines(0, 10)).await.expect("lines").len(), 1);
    assert_eq!(after.checkpoint().expect("head"), fixture.ledger.checkpoint().expect("head"));
}

#[tokio::test]
async fn a_log_goes_on_where_it_ended() {
    let fixture = Fixture::new();
    fixture.records((0..300).map(|_| fixture.record(Action::Read, None)).collect()).await;
    let head = fixture.ledger.checkpoint().expect("head");
    let fixture = fixture.reopen().await;
    assert_eq!(fixture.ledger.checkpoint().expect("head"), head);
    assert_eq!(fixture.records(vec![fixture.record(Action::Read, None)]).await.first_seq, 300);
    let fixture = fixture.reopen().await;
    assert_eq!(fixture.ledger.checkpoint().expect("head").size, 301);
}

#[tokio::test]
async fn many_at_once_share_transactions_and_all_arrive() {
    let fixture = Fixture::with_queue(1000);
    let mut commits = tokio::task::JoinSet::new();
    for number in 0..500 {
        let (ledger, lease) = (fixture.ledger.clone(), fixture.lease(&format!("vault/s{number}")));
        let records = vec![fixture.record(Action::Read, Some(lease.id))];
        commits.spawn(
            async move { ledger.commit(Entry { changes: vec![Change::Grant(lease)], records }).await },
        );
    }
    for committed in within(commits.join_all()).await {
        committed.expect("entry");
    }
    let stats = fixture.ledger.stats();
    assert_eq!((stats.entries, stats.queued), (500, 0));
    assert!(stats.batches < 500, "{stats:?}");
    let counts = within(fixture.ledger.lease_counts()).await.expect("counts");
    assert!(counts.contains(&(LeaseState::Active, 500)), "{counts:?}");
    assert_eq!(fixture.ledger.checkpoint().expect("head").size, 500);
}

#[tokio::test]
async fn the_write_ahead_log_is_empty_after_closing() {
    let fixture = Fixture::new();
    fixture.records(vec![fixture.record(Action::Read, None)]).await;
    let mut wal = fixture.path().into_os_string();
    wal.push("-wal");
    assert!(fs::metadata(&wal).expect("log").len() > 0);
    within(fixture.ledger.clone().close()).await;
    assert!(fs::metadata(&wal).map_or(0, |metadata| metadata.len()) == 0);
}

#[tokio::test]
async fn the_write_ahead_log_stays_bounded_however_much_is_written() {
    let fixture = Fixture::new();
    let body = vec![7; 4 * 1024 * 1024];
    let mut longest = 0;
    for number in 0..60 {
        let change = Change::PutObject {
            kind: ObjectKind::Node,
            name: format!("n{}", number % 4),
            body: body.clone(),
            expected: None,
            by: spiffe("spiffe://example.org/user/ada"),
            at: fixture.now(),
        };
        fixture.change(change).await.expect("object");
        longest = fixture.ledger.stats().wal_bytes.max(longest);
    }
    assert!(longest < 200 * 1024 * 1024, "{longest} bytes after writing 240 MiB");
}

#[tokio::test]
async fn a_transaction_that_power_cut_short_never_was() {
    let fixture = Fixture::new();
    fixture.records(vec![fixture.record(Action::Read, None)]).await;
    let image = image(&fixture);
    let mut wal = image.clone().into_os_string();
    wal.push("-wal");
    let first = fs::metadata(&wal).expect("log").len();
    let head = fixture.ledger.checkpoint().expect("head");
    fixture.records(vec![fixture.record(Action::Read, None)]).await;
    let whole = fs::read(fixture.path().with_extension("db-wal")).expect("log");
    let last = whole.len() - usize::try_from(first).expect("length");

    // Cut anywhere in what was written last, and with its last page torn: the front of it new, the rest what was there.
    let cuts = [1, 24, 100, last / 2, last - 1].map(|length| whole[..whole.len() - last + length].to_vec());
    let mut torn = whole.clone();
    torn[whole.len() - 2048..].fill(0);
    for bytes in cuts.into_iter().chain([torn]) {
        fs::write(&wal, &bytes).expect("log");
        let after = open(&image, &fixture.clock).expect("ledger");
        after.start_signing(signer(&fixture.key)).expect("signing");
        assert_eq!(after.checkpoint().expect("head"), head, "{} bytes", bytes.len());
        assert_eq!(within(after.audit_lines(0, 10)).await.expect("lines").len(), 1);
        abandon(after, &image).await;
    }
}

#[tokio::test]
async fn a_torn_page_of_the_database_is_never_taken_for_the_end_of_the_log() {
    let fixture = Fixture::new();
    fixture.records((0..300).map(|_| fixture.record(Action::Read, None)).collect()).await;
    let head = fixture.ledger.checkpoint().expect("head");
    within(fixture.ledger.clone().close()).await;
    let path = fixture.path();
    let whole = fs::read(&path).expect("file");
    for end in (PAGE..=whole.len()).step_by(PAGE) {
        let mut torn = whole.clone();
        torn[end - PAGE / 2..end].fill(0x5a);
        fs::write(&path, &torn).expect("file");
        match open(&path, &fixture.clock) {
            Ok(ledger) => {
                ledger.start_signing(signer(&fixture.key)).expect("signing");
                assert_eq!(ledger.checkpoint().expect("head"), head, "the page before {end}");
                within(ledger.close()).await;
            }
            Err(OpenError::Corrupt { .. } | OpenError::NotALedger { .. }) => {}
            Err(other) => panic!("the page before {end}: {other:?}"),
        }
    }
}

/// Lets go of a ledger whose file is written anew, so that nothing of its log is in there.
async fn abandon(ledger: Ledger, image: &Path) {
    let before = fs::read(image).expect("file");
    within(ledger.close()).await;
    fs::write(image, before).expect("file");
}

/// Bytes of a page.
const PAGE: usize = 4096;
