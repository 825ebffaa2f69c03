use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use bursar_core::audit::Action;
use bursar_core::{LeaseId, LeaseState};

use super::store::Fault;
use super::world::World;
use crate::failure::Failure;
use crate::lease::grant::{Granted, Terms};
use crate::ledger::{AuditQuery, HolderKind, LedgerError, Limit, Page, Quota, Quotas};

#[test]
fn a_repeated_read_gets_the_same_credential_also_of_the_next_broker() {
    let mut world = World::new();
    let first = world.one("a");
    assert_eq!(world.one("a"), first);
    world.lose_power();
    assert_eq!(world.one("a"), first);
    assert_eq!(world.store.issued(), 1, "the store was asked again");
    world.check().expect("every invariant");
}

#[test]
fn each_instance_and_each_read_for_a_new_lease_gets_a_credential_of_its_own() {
    let mut world = World::new();
    let (first, other) = (world.one("a"), world.one("b"));
    let anew = Terms { new_lease: true, ..terms("a") };
    let second = world.ask(anew, Fault::None).expect("granted").remove(0);
    assert!(first != other && first != second && other != second);
    assert_eq!(world.one("a"), second, "the newest is the one that is repeated");
    assert_eq!(world.lease(first.0).state, LeaseState::Active, "the older one is left alone");
    assert_eq!(world.store.issued(), 3);
}

#[test]
fn what_was_taken_back_is_not_handed_out_again() {
    let mut world = World::new();
    let first = world.one("a");
    world.take_back(first.0);
    let second = world.one("a");
    assert_ne!(first, second);
    world.clock.advance(LIFE);
    let leases = Arc::clone(&world.life.leases);
    world.run(Fault::None, async move { leases.reap_due().await }).expect("no crash").expect("ledger");
    assert_ne!(world.one("a"), second, "what has ended is not handed out");
}

#[test]
fn reads_that_come_together_get_one_credential() {
    let mut world = World::new();
    let reads: Vec<_> = (0..8).map(|_| world.reading_all(terms("a"), &[SECRET])).collect();
    let all = world.run(Fault::None, futures_util::future::join_all(reads)).expect("no crash");
    let ids: Vec<_> = all.into_iter().map(|read| read.expect("granted").remove(0).lease.id).collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    assert_eq!(world.store.issued(), 1);
}

#[test]
fn a_request_for_several_fields_of_one_credential_gets_one() {
    let mut world = World::new();
    let read = world.reading_all(terms("a"), &[SECRET, "fake/kv/app", "fake/creds/app#username"]);
    let granted = world.run(Fault::None, read).expect("no crash").expect("granted");
    assert_eq!(granted[0].lease.id, granted[2].lease.id);
    assert_eq!(world.store.issued(), 1);
}

#[test]
fn those_who_wait_share_the_failure_of_a_store_that_does_not_answer() {
    let mut world = World::new();
    let reads: Vec<_> = (0..8).map(|_| world.reading_all(terms("a"), &[SECRET])).collect();
    let all = world.run(Fault::LostBefore, futures_util::future::join_all(reads)).expect("no crash");
    assert!(all.iter().all(Result::is_err));
    assert_eq!(world.store.issued(), 1, "the store was asked once for each who waited");
    world.one("a");
}

#[test]
fn a_third_of_its_life_later_a_credential_is_renewed_once() {
    let mut world = World::new();
    let first = world.one("a");
    let end = world.lease(first.0).expires_at;
    world.clock.advance(LIFE / 4);
    assert_eq!((world.one("a"), world.store.renewed()), (first.clone(), 0));
    world.clock.advance(LIFE / 4);
    assert_eq!(world.one("a"), first);
    assert!(world.lease(first.0).expires_at > end, "its lease was not extended");
    assert_eq!((world.one("a"), world.store.renewed()), (first, 1));
    assert_eq!(world.store.issued(), 1);
}

#[test]
fn a_renewal_that_fails_issues_nothing_and_is_not_tried_by_each_read() {
    let mut world = World::new();
    let first = world.one("a");
    for wait in [LIFE / 2, LIFE / 4] {
        world.clock.advance(wait);
        assert_eq!(world.ask(terms("a"), Fault::Refused).expect("granted"), std::slice::from_ref(&first));
        assert_eq!(world.one("a"), first);
    }
    assert_eq!((world.store.issued(), world.store.renewed()), (1, 1));
}

#[test]
fn a_credential_that_its_store_lost_is_taken_back_and_another_made() {
    let mut world = World::new();
    let first = world.one("a");
    world.store.lose_all();
    world.clock.advance(LIFE / 2);
    assert_ne!(world.one("a"), first);
    assert_eq!(world.lease(first.0).state, LeaseState::Revoked);
    let leases = Arc::clone(&world.life.leases);
    world.run(Fault::None, async move { leases.look_once().await }).expect("no crash").expect("ledger");
    assert_eq!(world.lease(first.0).state, LeaseState::Gone);
}

#[test]
fn nobody_starts_with_a_credential_that_is_about_to_end_for_good() {
    let mut world = World::new();
    world.store.make_ends_final();
    let first = world.one("a");
    world.clock.advance(LIFE / 2);
    assert_eq!(world.one("a"), first);
    world.clock.advance(LIFE / 4);
    let second = world.one("a");
    assert_ne!(second, first);
    assert_eq!(world.one("a"), second);
    assert_eq!((world.store.issued(), world.store.renewed()), (2, 0));
}

#[test]
fn a_storm_for_new_leases_is_refused_without_a_call_to_the_store() {
    let quota = Quota { live: NonZeroU64::new(2), issued_per_minute: None };
    let mut world = World::under(Quotas { principal: quota, ..Quotas::default() });
    let (first, second) = (world.one("a"), world.one("b"));
    for number in 0..100 {
        let read = world.reading_all(terms(&format!("storm-{number}")), &[SECRET]);
        let refused = world.run(Fault::None, read).expect("no crash").expect_err("over the quota");
        let failure = &refused.first().expect("a refusal").failure;
        let Failure::Ledger(LedgerError::Quota(exceeded)) = failure else { panic!("{failure}") };
        assert_eq!((exceeded.of, exceeded.limit), (HolderKind::Principal, Limit::Live(2)));
    }
    assert_eq!(world.store.issued(), 2, "the store was called");
    assert_eq!(world.records_of("quota_exceeded"), 100);
    assert_eq!((world.one("a"), world.one("b")), (first.clone(), second), "what is held costs nothing");
    world.take_back(first.0);
    world.one("c");
}

/// A lease with the user under it.
type Got = (LeaseId, String);

impl World {
    fn one(&mut self, instance: &str) -> Got {
        self.ask(terms(instance), Fault::None).expect("granted").remove(0)
    }

    fn ask(&mut self, terms: Terms, fault: Fault) -> Option<Vec<Got>> {
        let read = self.reading_all(terms, &[SECRET]);
        let granted = self.run(fault, read).expect("no crash").ok()?;
        Some(granted.into_iter().map(|granted| self.got(granted)).collect())
    }

    fn got(&mut self, granted: Granted) -> Got {
        let id = granted.lease.id;
        assert!(granted.lease.state.is_live());
        self.take(granted);
        (id, self.received.get(&id).cloned().flatten().expect("a user"))
    }

    fn records_of(&self, kind: &str) -> usize {
        let query = AuditQuery { actions: vec![Action::Read], ..AuditQuery::default() };
        let ledger = self.life.ledger.clone();
        let found = self.life.block_on(ledger.audit(query, Page::first(1000))).expect("audit").items;
        found.iter().filter(|record| record.error_kind.as_deref() == Some(kind)).count()
    }

    fn take_back(&mut self, id: LeaseId) {
        let (lease, draft) = (self.lease(id), self.draft(Action::Revoke, "lease"));
        let leases = Arc::clone(&self.life.leases);
        let revoked = self.run(Fault::None, async move { leases.revoke(lease, draft).await });
        revoked.expect("no crash").expect("revoked");
    }
}

fn terms(instance: &str) -> Terms {
    Terms { instance: instance.to_owned(), ..Terms::default() }
}

const SECRET: &str = "fake/creds/app";
/// What the broker grants here when nobody asks for anything.
const LIFE: Duration = Duration::from_secs(600);
