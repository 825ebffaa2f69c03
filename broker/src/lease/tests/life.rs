//! Random lives: whatever happens in whatever order, the invariants hold after each step, and in the end nothing is left.

use std::sync::Arc;
use std::time::Duration;

use bursar_core::audit::Action;
use bursar_core::{BackendName, LeaseId, LeaseState};
use proptest::prelude::*;

use super::store::{FAULTS, Fault};
use super::world::World;
use crate::lease::grant::Terms;
use crate::ledger::RevokeSelector;

#[derive(Debug, Clone)]
enum Step {
    Read(Fault),
    /// By one instance, which may hold a credential already.
    ReadAgain(Fault),
    ReadStatic,
    /// Of a field that is not there: what was created for it is not handed out.
    ReadLacking(Fault),
    /// A read and the revoker at the same time.
    ReadWhileSweeping(Fault),
    Renew(usize, Fault),
    Revoke(usize, Fault),
    RevokeAll,
    Wait(u64),
    Reap,
    Sweep(Fault),
    LosePower,
}

fn step() -> impl Strategy<Value = Step> {
    let fault = || prop_oneof![2 => Just(Fault::None), 3 => prop::sample::select(FAULTS.as_slice())];
    prop_oneof![
        4 => fault().prop_map(Step::Read),
        3 => fault().prop_map(Step::ReadAgain),
        1 => Just(Step::ReadStatic),
        1 => fault().prop_map(Step::ReadLacking),
        2 => fault().prop_map(Step::ReadWhileSweeping),
        2 => (0_usize..8, fault()).prop_map(|(which, fault)| Step::Renew(which, fault)),
        2 => (0_usize..8, fault()).prop_map(|(which, fault)| Step::Revoke(which, fault)),
        1 => Just(Step::RevokeAll),
        3 => (1_u64..700).prop_map(Step::Wait),
        2 => Just(Step::Reap),
        4 => fault().prop_map(Step::Sweep),
        1 => Just(Step::LosePower),
    ]
}

impl World {
    fn step(&mut self, step: &Step) -> Result<(), String> {
        let leases = Arc::clone(&self.life.leases);
        match *step {
            Step::Read(fault) => drop(self.read("fake/creds/app", fault)),
            Step::ReadAgain(fault) => {
                let terms = Terms { instance: "the same".to_owned(), ..Terms::default() };
                let read = self.reading_all(terms, &["fake/creds/app"]);
                if let Some(Ok(granted)) = self.run(fault, read) {
                    granted.into_iter().for_each(|granted| self.take(granted));
                }
            }
            Step::ReadStatic => drop(self.read("fake/kv/app#username", Fault::None)),
            Step::ReadLacking(fault) => {
                if self.read("fake/creds/app#absent", fault) {
                    return Err("a field that is not there was handed out".to_owned());
                }
            }
            Step::ReadWhileSweeping(fault) => {
                let read = self.reading("fake/creds/app");
                let both = async move { tokio::join!(read, leases.look_once()).0 };
                if let Some(granted) = self.run(fault, both).flatten() {
                    self.take(granted);
                }
            }
            Step::Renew(which, fault) => {
                if let Some(id) = self.received_at(which) {
                    return self.renew(id, fault);
                }
            }
            Step::Revoke(which, fault) => {
                if let Some(id) = self.received_at(which) {
                    let (lease, draft) = (self.lease(id), self.draft(Action::Revoke, "lease"));
                    drop(self.run(fault, async move { leases.revoke(lease, draft).await }));
                    if self.lease(id).state.is_live() {
                        return Err("a revocation that was asked for left the lease live".to_owned());
                    }
                }
            }
            Step::RevokeAll => self.revoke_all(),
            Step::Wait(seconds) => self.clock.advance(Duration::from_secs(seconds)),
            Step::Reap => drop(self.run(Fault::None, async move { leases.reap_due().await })),
            Step::Sweep(fault) => drop(self.run(fault, async move { leases.look_once().await })),
            Step::LosePower => self.lose_power(),
        }
        // One for its lease, and one by a search that found it just before it was gone.
        match self.store.most_removals() {
            0..=2 => self.check(),
            more => Err(format!("{more} removals of one credential in one step")),
        }
    }

    /// A failed renewal issues nothing, and neither does one that works.
    fn renew(&mut self, id: LeaseId, fault: Fault) -> Result<(), String> {
        let (lease, draft, caller) = (self.lease(id), self.draft(Action::Renew, "lease"), self.caller());
        let (before, end, issued) = (lease.state, lease.expires_at, self.store.issued());
        let leases = Arc::clone(&self.life.leases);
        let renewed = self.run(fault, async move { leases.renew(&caller, lease, None, draft).await });
        let after = self.lease(id);
        match renewed {
            _ if self.store.issued() != issued => Err("a renewal issued a credential".to_owned()),
            Some(Ok(renewed)) if renewed.expires_at != after.expires_at => {
                Err("a renewal that was answered is not in the ledger".to_owned())
            }
            Some(Ok(renewed)) if renewed.expires_at < end => Err("a renewal took time away".to_owned()),
            Some(Err(_)) if (after.state, after.expires_at) != (before, end) => {
                Err("a renewal that failed changed the lease".to_owned())
            }
            _ => Ok(()),
        }
    }

    fn revoke_all(&mut self) {
        let leases = Arc::clone(&self.life.leases);
        let backend = BackendName::parse("fake").expect("name");
        let draft = self.draft(Action::Revoke, "fake");
        let (asked, record) = (draft.clone().asked(), draft.as_revocation("fake"));
        let selector = RevokeSelector::PathPrefix { backend, path: None };
        let work = async move {
            tokio::select! {
                marked = leases.revoke_many(selector, asked, record) => drop(marked),
                () = Arc::clone(&leases).mark_ordered() => {}
            }
        };
        self.run(Fault::None, work);
    }

    fn received_at(&self, which: usize) -> Option<LeaseId> {
        self.received.keys().rev().nth(which).copied()
    }

    /// The store works again, time goes by, and everything is taken back.
    fn end(&mut self) -> Result<(), String> {
        self.lose_power();
        self.revoke_all();
        for _ in 0..4 {
            self.clock.advance(Duration::from_secs(700));
            for step in [Step::Reap, Step::Sweep(Fault::None), Step::Sweep(Fault::None)] {
                self.step(&step)?;
            }
        }
        let left: Vec<_> =
            self.leases().into_iter().filter(|lease| lease.state != LeaseState::Gone).collect();
        match (self.store.alive().len(), left.as_slice()) {
            (0, []) => Ok(()),
            (alive, left) => Err(format!("{alive} credentials are left, and these leases: {left:?}")),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_invariants_of_leases_hold_whatever_happens(steps in prop::collection::vec(step(), 1..24)) {
        let mut world = World::new();
        for step in &steps {
            world.step(step).map_err(|broken| TestCaseError::fail(format!("after {step:?}: {broken}")))?;
        }
        world.end().map_err(TestCaseError::fail)?;
    }
}
