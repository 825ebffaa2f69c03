use bursar_core::audit::{Action, AuditRecord};
use bursar_core::tlog::{LogVerifier, TreeHead, leaf_hash, verify_consistency, verify_inclusion};
use jiff::Timestamp;

use super::super::{AuditQuery, Change, LedgerError, Prunable, RecordOrder};
use super::{Fixture, first, signer, within};

#[tokio::test]
async fn records_go_in_whole_tiles_and_never_the_last() {
    let fixture = filled(1000).await;
    assert_eq!(pruned_to(&fixture, 600).await, 512);
    assert_eq!(pruned_to(&fixture, 100_000).await, 768);
    let fixture = filled(513).await;
    assert_eq!(pruned_to(&fixture, 513).await, 512);
    let fixture = filled(512).await;
    assert_eq!(pruned_to(&fixture, 512).await, 256);
}

#[tokio::test]
async fn a_change_prunes_a_bounded_number_of_records() {
    let fixture = filled(3000).await;
    fixture.change(Change::Prune { below: 3000 }).await.expect("pruned");
    assert_eq!(within(fixture.ledger.first_kept()).await.expect("first"), 1024);
}

#[tokio::test]
async fn every_proof_outlives_the_records() {
    let fixture = filled(1000).await;
    let mut heads = Vec::new();
    for size in [1, 100, 256, 300, 512, 700, 768, 999, 1000] {
        heads.push(within(fixture.ledger.checkpoint_at(size)).await.expect("head"));
    }
    let old_line = within(fixture.ledger.inclusion_proof(300, 1000)).await.expect("proof").0.expect("line");
    assert_eq!(pruned_to(&fixture, 800).await, 768);
    let fixture = fixture.reopen().await;

    for (place, new) in heads.iter().enumerate() {
        assert_eq!(within(fixture.ledger.checkpoint_at(new.size)).await.expect("head"), *new);
        for old in &heads[..=place] {
            let proof = within(fixture.ledger.consistency_proof(old.size, new.size)).await.expect("proof");
            let head = |size, root| TreeHead { size, root };
            let verified = verify_consistency(&head(old.size, old.root), &head(new.size, new.root), &proof);
            assert_eq!(verified, Ok(()), "{} -> {}", old.size, new.size);
        }
    }
    // Whoever kept a pruned record can still prove it.
    let (line, proof) = within(fixture.ledger.inclusion_proof(300, 1000)).await.expect("proof");
    let newest = heads.last().expect("head");
    let head = TreeHead { size: newest.size, root: newest.root };
    assert_eq!(line, None);
    assert_eq!(verify_inclusion(&leaf_hash(&old_line), 300, &head, &proof), Ok(()));
}

#[tokio::test]
async fn what_is_left_replays_to_the_signed_head_from_its_edge() {
    let fixture = filled(1000).await;
    assert_eq!(pruned_to(&fixture, 512).await, 512);
    let lines = within(fixture.ledger.audit_lines(512, 1000)).await.expect("lines");
    let edge = within(fixture.ledger.edge_at(512)).await.expect("edge");
    let mut log = LogVerifier::new(signer(&fixture.key).verifier().clone());
    log.start_at(edge);
    lines.iter().for_each(|line| log.push(line));
    log.finish(&fixture.ledger.checkpoint().expect("head").note).expect("verified");
}

#[tokio::test]
async fn what_was_pruned_is_told_from_what_never_was() {
    let fixture = filled(600).await;
    assert_eq!(pruned_to(&fixture, 512).await, 512);
    let refused = within(fixture.ledger.audit_lines(100, 10)).await;
    assert!(matches!(refused, Err(LedgerError::Pruned { from: 100, first: 512 })), "{refused:?}");
    for order in [RecordOrder::NewestFirst, RecordOrder::OldestFirst] {
        let since = Some(Timestamp::UNIX_EPOCH);
        let query = AuditQuery { order, since, ..AuditQuery::default() };
        let page = within(fixture.ledger.audit(query, first(1000))).await.expect("page");
        assert_eq!(page.items.len(), 88);
    }
}

#[tokio::test]
async fn the_age_of_records_says_which_may_go() {
    let fixture = Fixture::new();
    let start = fixture.now();
    for second in 0..20 {
        let time = start.checked_add(std::time::Duration::from_secs(second)).expect("time");
        fixture
            .records((0..100).map(|_| AuditRecord { time, ..fixture.record(Action::Read, None) }).collect())
            .await;
    }
    for (second, below) in [(0, 0), (1, 0), (3, 256), (6, 512), (8, 768), (100, 1792)] {
        let prunable = within(fixture.ledger.prunable(fixture.after(second))).await.expect("prunable");
        assert_eq!(prunable, Prunable { first: 0, below }, "before second {second}");
    }
    assert_eq!(pruned_to(&fixture, 512).await, 512);
    let prunable = within(fixture.ledger.prunable(fixture.after(8))).await.expect("prunable");
    assert_eq!(prunable, Prunable { first: 512, below: 768 });
}

#[tokio::test]
async fn a_sink_goes_on_where_it_was_and_never_back() {
    let fixture = filled(3).await;
    let shipped = |position| Change::Shipped { sink: "siem".to_owned(), position };
    assert_eq!(within(fixture.ledger.shipped("siem")).await.expect("position"), 0);
    fixture.change(shipped(3)).await.expect("shipped");
    fixture.change(shipped(1)).await.expect("shipped");
    let fixture = fixture.reopen().await;
    assert_eq!(within(fixture.ledger.shipped("siem")).await.expect("position"), 3);
    assert_eq!(within(fixture.ledger.shipped("other")).await.expect("position"), 0);
}

/// Prunes as far as it goes and answers the first record that is left.
async fn pruned_to(fixture: &Fixture, below: u64) -> u64 {
    let mut first = within(fixture.ledger.first_kept()).await.expect("first");
    loop {
        fixture.change(Change::Prune { below }).await.expect("pruned");
        let now = within(fixture.ledger.first_kept()).await.expect("first");
        if now == first {
            return first;
        }
        first = now;
    }
}

async fn filled(records: usize) -> Fixture {
    let fixture = Fixture::new();
    fixture.records((0..records).map(|_| fixture.record(Action::Read, None)).collect()).await;
    fixture
}
