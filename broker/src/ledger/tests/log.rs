use std::time::Duration;

use bursar_core::audit::{Action, AuditRecord, Decision, Outcome as Came};
use bursar_core::tlog::{
    LogVerifier, ReplayError, TreeHead, leaf_hash, verify_consistency, verify_inclusion,
};

use super::super::{AuditQuery, LedgerError, LogKey, Page, RecordOrder};
use super::{Fixture, first, signer, spiffe, within};

#[tokio::test]
async fn an_export_replays_to_the_signed_head() {
    let fixture = filled(600).await;
    let lines = within(fixture.ledger.audit_lines(0, 1000)).await.expect("lines");
    assert_eq!(lines.len(), 600);
    assert_eq!(replay(&fixture, &lines), Ok(()));
}

#[tokio::test]
async fn a_checkpoint_is_stored_when_it_is_time_and_at_the_end() {
    let fixture = filled(1).await;
    let own = signer(&fixture.key);
    let place = fixture.place();
    let signed = || place.inspect(LogKey::Own(&own)).expect("inspection").signed;
    fixture.records((0..9).map(|_| fixture.record(Action::Read, None)).collect()).await;
    assert_eq!((signed(), fixture.ledger.checkpoint().expect("head").size), (1, 10));
    within(fixture.ledger.sign()).await.expect("signed");
    assert_eq!(signed(), 10);
    let batches = fixture.ledger.stats().batches;
    within(fixture.ledger.sign()).await.expect("signed already");
    assert_eq!(fixture.ledger.stats().batches, batches, "nothing was left to be signed");
    fixture.records(vec![fixture.record(Action::Read, None)]).await;
    within(fixture.ledger.close()).await;
    assert_eq!(signed(), 11);
}

#[tokio::test]
async fn an_export_that_was_touched_does_not() {
    let fixture = filled(20).await;
    let lines = within(fixture.ledger.audit_lines(0, 1000)).await.expect("lines");
    let edited = with(&lines, |lines| lines[7][20] ^= 1);
    let removed = with(&lines, |lines| drop(lines.remove(3)));
    let moved = with(&lines, |lines| lines.swap(3, 4));
    let doubled = with(&lines, |lines| lines.insert(3, lines[3].clone()));
    assert_eq!(replay(&fixture, &edited), Err(ReplayError::RootMismatch { size: 20 }));
    assert_eq!(replay(&fixture, &removed), Err(ReplayError::Truncated { have: 19, want: 20 }));
    assert_eq!(replay(&fixture, &moved), Err(ReplayError::RootMismatch { size: 20 }));
    assert_eq!(replay(&fixture, &doubled), Err(ReplayError::Surplus { have: 21, want: 20 }));
}

#[tokio::test]
async fn every_older_head_is_proved_to_be_the_beginning_of_a_newer_one() {
    let fixture = Fixture::new();
    let mut heads = vec![TreeHead::empty()];
    for count in [1, 1, 253, 1, 1, 300, 512] {
        fixture.records((0..count).map(|_| fixture.record(Action::Read, None)).collect()).await;
        let head = fixture.ledger.checkpoint().expect("head");
        heads.push(TreeHead { size: head.size, root: head.root });
    }
    for (place, new) in heads.iter().enumerate() {
        for old in &heads[..=place] {
            let proof = within(fixture.ledger.consistency_proof(old.size, new.size)).await.expect("proof");
            assert_eq!(verify_consistency(old, new, &proof), Ok(()), "{} -> {}", old.size, new.size);
        }
    }
}

#[tokio::test]
async fn a_proof_beyond_the_log_is_refused() {
    let fixture = filled(3).await;
    for (old, new) in [(0, 4), (3, 2)] {
        let refused = within(fixture.ledger.consistency_proof(old, new)).await;
        assert!(matches!(refused, Err(LedgerError::ProofRange { size: 3, .. })), "{refused:?}");
    }
}

#[tokio::test]
async fn records_are_numbered_without_a_gap_whatever_the_clock_does() {
    let fixture = Fixture::new();
    let back = AuditRecord {
        time: "2020-01-01T00:00:00Z".parse().expect("time"),
        ..fixture.record(Action::Read, None)
    };
    let committed = fixture.records(vec![fixture.record(Action::Read, None), back]).await;
    assert_eq!(committed.first_seq, 0);
    assert_eq!(fixture.records(vec![fixture.record(Action::Renew, None)]).await.first_seq, 2);
    let page = within(fixture.ledger.audit(AuditQuery::default(), first(10))).await.expect("page");
    assert_eq!(page.items.iter().map(|record| record.seq).collect::<Vec<_>>(), [2, 1, 0]);
}

#[tokio::test]
async fn a_refused_entry_takes_no_number() {
    let fixture = filled(1).await;
    let missing = fixture.event(super::new_id(fixture.now()), bursar_core::lease::LeaseEvent::Revoke);
    let entry =
        super::super::Entry { changes: vec![missing], records: vec![fixture.record(Action::Revoke, None)] };
    assert!(within(fixture.ledger.commit(entry)).await.is_err());
    assert_eq!(fixture.records(vec![fixture.record(Action::Read, None)]).await.first_seq, 1);
}

#[tokio::test]
async fn whoever_watches_learns_of_durable_records() {
    let fixture = Fixture::new();
    let mut appended = fixture.ledger.appended();
    fixture.records(vec![fixture.record(Action::Read, None)]).await;
    within(appended.wait_for(|size| *size == 1)).await.expect("size");
    assert_eq!(fixture.ledger.checkpoint().expect("head").size, 1);
}

#[tokio::test]
async fn a_query_selects_by_every_field() {
    let fixture = Fixture::new();
    let id = super::new_id(fixture.now());
    let plain = || fixture.record(Action::Read, None);
    let mut by_ada = plain();
    by_ada.actor.principal = "spiffe://example.org/user/ada".to_owned();
    // A name that stands in another field as well must not select by it.
    by_ada.reason = Some("shop/prod".to_owned());
    let mut on_node = plain();
    on_node.actor.node = Some("spiffe://example.org/node/n1".to_owned());
    let records = vec![
        plain(),
        by_ada,
        on_node,
        AuditRecord { environment: Some("shop/prod".to_owned()), ..plain() },
        AuditRecord { action: Action::Renew, ..plain() },
        AuditRecord { resource: "vault/odd \"name\"/ключ".to_owned(), ..plain() },
        AuditRecord { request_id: "request-2".to_owned(), ..plain() },
        AuditRecord { outcome: Came::Denied, decision: Decision::Deny, ..plain() },
        // Allowed by policy, and refused by a store.
        AuditRecord { outcome: Came::Denied, ..plain() },
        fixture.record(Action::Read, Some(id)),
    ];
    fixture.records(records).await;
    let all = AuditQuery::default;
    let cases = [
        (AuditQuery { principal: Some(spiffe("spiffe://example.org/user/ada")), ..all() }, vec![1]),
        (AuditQuery { node: Some(spiffe("spiffe://example.org/node/n1")), ..all() }, vec![2]),
        (AuditQuery { environment: Some("shop/prod".to_owned()), ..all() }, vec![3]),
        (AuditQuery { actions: vec![Action::Renew], ..all() }, vec![4]),
        (AuditQuery { actions: vec![Action::Renew, Action::Revoke], ..all() }, vec![4]),
        (AuditQuery { resource: Some("vault/odd \"na".to_owned()), ..all() }, vec![5]),
        (AuditQuery { request_id: Some("request-2".to_owned()), ..all() }, vec![6]),
        (AuditQuery { outcome: Some(Came::Denied), ..all() }, vec![8, 7]),
        (AuditQuery { decision: Some(Decision::Deny), ..all() }, vec![7]),
        (AuditQuery { decision: Some(Decision::Allow), outcome: Some(Came::Denied), ..all() }, vec![8]),
        (AuditQuery { lease_id: Some(id), ..all() }, vec![9]),
        (AuditQuery { resource: Some("odd".to_owned()), ..all() }, vec![]),
    ];
    for (query, expected) in cases {
        let page = within(fixture.ledger.audit(query.clone(), first(10))).await.expect("page");
        assert_eq!(page.items.iter().map(|record| record.seq).collect::<Vec<_>>(), expected, "{query:?}");
    }
}

#[tokio::test]
async fn times_select_a_stretch_of_the_log_in_the_order_of_the_ledger() {
    let fixture = Fixture::new();
    let start = fixture.now();
    for seconds in [0, 10, 20] {
        let time = start.checked_add(Duration::from_secs(seconds)).expect("time");
        fixture.records(vec![AuditRecord { time, ..fixture.record(Action::Read, None) }]).await;
    }
    // The clock was set back: what is recorded now still comes after what was recorded before.
    fixture.records(vec![fixture.record(Action::Read, None)]).await;
    let select = |since: u64, until: u64| {
        let at = |seconds| Some(start.checked_add(Duration::from_secs(seconds)).expect("time"));
        AuditQuery { since: at(since), until: at(until), ..AuditQuery::default() }
    };
    for (since, until, expected) in
        [(0, 10, vec![0]), (1, 20, vec![1]), (20, 60, vec![3, 2]), (30, 60, vec![])]
    {
        let page = within(fixture.ledger.audit(select(since, until), first(10))).await.expect("page");
        assert_eq!(
            page.items.iter().map(|record| record.seq).collect::<Vec<_>>(),
            expected,
            "{since}..{until}"
        );
    }
}

#[tokio::test]
async fn pages_lead_through_the_log() {
    let fixture = filled(25).await;
    let newest_first = walk(&fixture, RecordOrder::NewestFirst).await;
    assert_eq!(newest_first, (0..25).rev().collect::<Vec<_>>());
    assert_eq!(walk(&fixture, RecordOrder::OldestFirst).await, (0..25).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_record_is_proved_to_be_in_every_log_that_has_it() {
    let fixture = filled(300).await;
    for (seq, size) in [(0, 1), (0, 300), (255, 256), (256, 300), (299, 300)] {
        let head = within(fixture.ledger.checkpoint_at(size)).await.expect("head");
        let (line, proof) = within(fixture.ledger.inclusion_proof(seq, size)).await.expect("proof");
        let head = TreeHead { size: head.size, root: head.root };
        let leaf = leaf_hash(&line.expect("line"));
        assert_eq!(verify_inclusion(&leaf, seq, &head, &proof), Ok(()), "{seq} in {size}");
    }
    for (seq, size) in [(5, 5), (0, 301), (u64::MAX, 300)] {
        let refused = within(fixture.ledger.inclusion_proof(seq, size)).await;
        assert!(matches!(refused, Err(LedgerError::ProofRange { .. })), "{seq} in {size}: {refused:?}");
    }
}

#[tokio::test]
async fn an_earlier_head_is_signed_as_it_was() {
    let fixture = filled(20).await;
    let then = fixture.ledger.checkpoint().expect("head");
    fixture.records((0..300).map(|_| fixture.record(Action::Read, None)).collect()).await;
    assert_eq!(within(fixture.ledger.checkpoint_at(20)).await.expect("head"), then);
    assert!(within(fixture.ledger.checkpoint_at(321)).await.is_err());
}

async fn walk(fixture: &Fixture, order: RecordOrder) -> Vec<u64> {
    let (mut seen, mut page) = (Vec::new(), first(10));
    loop {
        let query = AuditQuery { order, ..AuditQuery::default() };
        let found = within(fixture.ledger.audit(query, page)).await.expect("page");
        seen.extend(found.items.iter().map(|record| record.seq));
        let Some(token) = found.next else { return seen };
        page = Page { token: Some(token), ..first(10) };
    }
}

async fn filled(records: usize) -> Fixture {
    let fixture = Fixture::new();
    fixture.records((0..records).map(|_| fixture.record(Action::Read, None)).collect()).await;
    fixture
}

fn with(lines: &[Vec<u8>], touch: impl FnOnce(&mut Vec<Vec<u8>>)) -> Vec<Vec<u8>> {
    let mut lines = lines.to_vec();
    touch(&mut lines);
    lines
}

fn replay(fixture: &Fixture, lines: &[Vec<u8>]) -> Result<(), ReplayError> {
    let mut log = LogVerifier::new(signer(&fixture.key).verifier().clone());
    lines.iter().for_each(|line| log.push(line));
    log.finish(&fixture.ledger.checkpoint().expect("head").note).map(drop)
}
