use std::sync::Arc;
use std::time::Duration;

use bursar_core::LeaseState;
use bursar_core::audit::Action;

use super::store::Fault;
use super::world::World;

#[test]
fn a_crash_after_creation_is_settled_as_soon_as_the_next_broker_looks() {
    let mut world = World::new();
    assert!(!world.read(SECRET, Fault::CrashAfter));
    assert_eq!(world.store.alive().len(), 1);
    world.sweep();
    assert!(world.store.alive().is_empty(), "the credential outlived the first look");
    // Something may still come of the request: the intent stays open.
    assert_eq!(world.leases()[0].state, LeaseState::Revoking);
    world.clock.advance(SETTLED);
    world.sweep();
    assert_eq!(world.leases()[0].state, LeaseState::Gone);
}

#[test]
fn what_a_store_creates_after_the_first_look_is_found_by_the_second() {
    for fault in [Fault::CrashLate, Fault::Late] {
        let mut world = World::new();
        assert!(!world.read(SECRET, fault));
        world.clock.advance(Duration::from_secs(31));
        world.sweep();
        assert!(world.store.alive().is_empty());
        world.clock.advance(SETTLED);
        assert_eq!(world.store.alive().len(), 1, "{fault:?}: the store was not late");
        world.sweep();
        assert!(world.store.alive().is_empty(), "{fault:?}: found by nobody");
    }
}

#[test]
fn an_intent_whose_store_may_answer_yet_is_left_alone() {
    let mut world = World::new();
    assert!(!world.read(SECRET, Fault::LostAfter));
    world.clock.advance(Duration::from_secs(29));
    world.sweep();
    assert_eq!(world.leases()[0].state, LeaseState::Intent);
    world.clock.advance(Duration::from_secs(1));
    world.sweep();
    assert!(world.store.alive().is_empty());
}

#[test]
fn a_search_spares_what_an_issuance_under_way_was_just_given() {
    let mut world = World::new();
    assert!(!world.read(SECRET, Fault::CrashAfter));
    world.pass();
    world.store.hold();
    let (read, leases, store) = (world.reading(SECRET), Arc::clone(&world.life.leases), world.store.clone());
    let both = async move {
        let search = async {
            // The second credential is there, and nobody holds it yet.
            while store.alive().len() < 2 {
                tokio::task::yield_now().await;
            }
            let search = leases.look_once();
            let answer = async {
                while store.finds() == 0 {
                    tokio::task::yield_now().await;
                }
                store.let_go();
            };
            tokio::join!(search, answer).0
        };
        tokio::join!(read, search)
    };
    let (granted, searched) = world.run(Fault::None, both).expect("no crash");
    searched.expect("the search works");
    world.take(granted.expect("the read works"));
    world.check().expect("every invariant");
    assert_eq!(world.store.alive().len(), 1, "the orphan alone is taken back");
}

#[test]
fn intents_that_wait_for_their_second_look_hold_up_no_revocation() {
    let mut world = World::new();
    for _ in 0..3 {
        assert!(!world.read(SECRET, Fault::CrashBefore));
    }
    world.sweep();
    let finds = world.store.finds();
    world.sweep();
    assert_eq!(world.store.finds(), finds, "an intent is searched for again before it is due");
}

#[test]
fn a_broker_that_ends_while_it_gives_a_lease_up_leaves_no_live_lease_without_its_credential() {
    for fault in [Fault::CrashBefore, Fault::CrashAfter] {
        let mut world = World::new();
        assert!(world.read(SECRET, Fault::None));
        let id = *world.received.keys().next().expect("a lease");
        let (lease, draft) = (world.lease(id), world.draft(Action::ForceRevoke, "lease"));
        let leases = Arc::clone(&world.life.leases);
        assert!(world.run(fault, async move { leases.give_up(lease, draft).await }).is_none(), "no crash");
        assert_eq!(world.lease(id).state, LeaseState::Revoked, "{fault:?}");
        world.check().expect("every invariant");
        world.clock.advance(Duration::from_secs(31));
        world.pass();
        assert_eq!(world.lease(id).state, LeaseState::Gone, "{fault:?}: nobody went on");
    }
}

#[test]
fn an_hour_of_a_store_that_refuses_costs_a_bounded_number_of_attempts() {
    let mut world = World::new();
    assert!(world.read(SECRET, Fault::None));
    let id = *world.received.keys().next().expect("a lease");
    let (lease, draft) = (world.lease(id), world.draft(Action::Revoke, "lease"));
    let leases = Arc::clone(&world.life.leases);
    world
        .run(Fault::Refused, async move { leases.revoke(lease, draft).await })
        .expect("no crash")
        .expect("marked");
    for _ in 0..3600 {
        world.clock.advance(Duration::from_secs(1));
        let leases = Arc::clone(&world.life.leases);
        world
            .run(Fault::Refused, async move { leases.look_once().await })
            .expect("no crash")
            .expect("ledger");
    }
    let stuck = world.lease(id);
    assert_eq!(stuck.state, LeaseState::Stuck);
    assert!((12..=24).contains(&stuck.attempts), "{} attempts", stuck.attempts);
    world.clock.advance(Duration::from_secs(600));
    world.pass();
    assert_eq!(world.lease(id).state, LeaseState::Gone, "a store that is well again is asked again");
}

impl World {
    /// Two passes of the revoker: the first gives intents up, the second looks for what came of them.
    fn sweep(&mut self) {
        self.pass();
        self.pass();
    }

    fn pass(&mut self) {
        let leases = Arc::clone(&self.life.leases);
        self.run(Fault::None, async move { leases.look_once().await }).expect("no crash").expect("ledger");
    }
}

const SECRET: &str = "fake/creds/app";
const SETTLED: Duration = Duration::from_secs(91);
