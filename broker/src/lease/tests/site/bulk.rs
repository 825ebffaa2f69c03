use bursar_core::audit::Outcome;

use super::*;
use crate::lease::{Heard, Next};
use crate::ledger::RevokeSelector;

async fn order(site: &Site, selector: RevokeSelector) -> crate::ledger::Revocation {
    let draft = site.draft(Action::Revoke);
    let (asked, record) = (draft.clone().asked(), draft.as_revocation("leases of a test"));
    site.leases.revoke_many(selector, asked, record).await.expect("ordered")
}

fn all_of(name: &str) -> RevokeSelector {
    RevokeSelector::PathPrefix { backend: BackendName::parse(name).expect("name"), path: None }
}

#[tokio::test]
async fn every_lease_is_taken_over_many_steps_and_holders_hear_of_it() {
    let store = Store::new("store", well());
    let site = Site::start(&[&store]);
    site.mark();
    let mut changes = Vec::new();
    for number in 0..2300 {
        changes.push(Change::Grant(site.lease(&format!("local/{number}"))));
    }
    site.commit(changes).await;
    let mut watch = site.leases.watch(principal(), None).watch;
    let revocation = order(&site, all_of("local")).await;
    assert_eq!((revocation.marked, revocation.dynamic, revocation.waiting), (2300, 0, 0));
    assert!(revocation.marked_at.is_some());
    let Next::Told(told) = watch.hear().await else { panic!("something was lost") };
    assert!(matches!(told.heard, Heard::ManyEnded));
    let counts = site.ledger.lease_counts().await.expect("counts");
    assert!(counts.contains(&(LeaseState::Gone, 2300)), "{counts:?}");
    let query = |outcome| AuditQuery {
        actions: vec![Action::Revoke],
        outcome: Some(outcome),
        ..AuditQuery::default()
    };
    let records = |query| site.ledger.audit(query, Page::first(1));
    let asked = records(query(Outcome::Asked)).await.expect("audit").items;
    let done = records(query(Outcome::Ok)).await.expect("audit").items;
    let resources = [asked, done].map(|records| records.first().map(|record| record.resource.clone()));
    assert_eq!(resources, ["leases of a test", "leases of a test: 2300"].map(|text| Some(text.to_owned())));
}

#[tokio::test]
async fn a_broker_that_stops_half_way_goes_on_when_it_is_back() {
    let store = Store::new("store", well());
    let site = Site::start(&[&store]);
    let mut dynamic = Vec::new();
    for _ in 0..3 {
        dynamic.push(site.issue("store/a").await.id);
    }
    let kept = site.grant("local/a").await;
    // Nobody carries it out: the broker is about to stop.
    let draft = site.draft(Action::Revoke);
    let record = Box::new(draft.as_revocation("leases of a test"));
    let at = site.clock.now();
    site.commit(vec![Change::OrderRevocation { selector: all_of("store"), record, at }]).await;
    let site = site.restart(&[&store]).await;
    site.mark();
    for id in dynamic {
        site.until(id, LeaseState::Gone).await;
    }
    assert_eq!(site.get(kept).await.state, LeaseState::Active);
    let revocations = site.ledger.revocations(None, 5).await.expect("revocations");
    let counts: Vec<_> = revocations.iter().map(|one| (one.marked, one.dynamic, one.waiting)).collect();
    assert_eq!(counts, [(3, 3, 0)]);
}

#[tokio::test]
async fn one_lease_that_fails_does_not_keep_the_others() {
    let (fails, serves) =
        (Store::new("fails", Conduct::Fails(ErrorKind::Denied)), Store::new("serves", well()));
    let site = Site::start(&[&fails, &serves]);
    site.mark();
    site.issue("fails/a").await;
    let taken = site.issue("serves/a").await.id;
    let revocation = order(&site, RevokeSelector::Principal(principal())).await;
    assert_eq!((revocation.marked, revocation.dynamic), (2, 2));
    site.until(taken, LeaseState::Gone).await;
    for _ in 0..ROUNDS {
        let now = site.ledger.revocations(Some(revocation.id), 1).await.expect("revocations");
        if now.iter().any(|now| (now.waiting, now.stuck) == (1, 1)) {
            return;
        }
        site.wall.pass(ROUND);
        tokio::time::sleep(ROUND).await;
    }
    panic!("the lease that fails was not counted as stuck");
}
