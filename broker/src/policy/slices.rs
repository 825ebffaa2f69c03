//! For each action, the policies whose scope includes it.
//!
//! A policy whose scope excludes an action is false for every request of that action and cannot fail either, so leaving
//! it out changes no decision. It does change what a policy costs: one that looks at the time keeps decisions about its
//! own actions from being kept, and no others.

use std::collections::HashMap;
use std::sync::Arc;

use bursar_core::audit::Action;
use cedar_policy::{ActionConstraint, Policy, PolicyToJsonError};

use super::context_use::ContextUse;
use super::scopes::Scopes;
use super::vocabulary::Vocabulary;

/// The policies that can matter to one action.
pub(super) struct Slice {
    pub(super) scopes: Scopes,
    pub(super) uses: ContextUse,
}

/// A slice for every action that policies decide about.
pub(super) struct Slices(HashMap<Action, Arc<Slice>>);

impl Slices {
    /// Sorts `policies`, whose ids must differ, by action. Actions with the same policies share them.
    pub(super) fn new(policies: &[Policy], vocabulary: &Vocabulary) -> Result<Self, SliceError> {
        let uses = policies.iter().map(ContextUse::of).collect::<Result<Vec<_>, _>>()?;
        let mut shared: HashMap<Vec<usize>, Arc<Slice>> = HashMap::new();
        let mut slices = HashMap::new();
        for action in vocabulary.actions() {
            let mut chosen = Vec::new();
            let mut used = ContextUse::default();
            for (index, (policy, uses)) in policies.iter().zip(&uses).enumerate() {
                if includes(policy, action, vocabulary) {
                    chosen.push(index);
                    used = used.and(*uses);
                }
            }
            if let Some(known) = shared.get(&chosen) {
                slices.insert(action, Arc::clone(known));
                continue;
            }
            let included = chosen.iter().filter_map(|index| policies.get(*index)).cloned().collect();
            let slice = Arc::new(Slice { scopes: Scopes::new(included), uses: used });
            shared.insert(chosen, Arc::clone(&slice));
            slices.insert(action, slice);
        }
        Ok(Self(slices))
    }

    pub(super) fn of(&self, action: Action) -> Option<&Slice> {
        self.0.get(&action).map(Arc::as_ref)
    }
}

fn includes(policy: &Policy, action: Action, vocabulary: &Vocabulary) -> bool {
    match policy.action_constraint() {
        ActionConstraint::Any => true,
        ActionConstraint::Eq(named) => vocabulary.covers(&named, action),
        ActionConstraint::In(named) => named.iter().any(|named| vocabulary.covers(named, action)),
    }
}

/// Why checked policies could not be sorted: never for a reason that the files give.
#[derive(Debug, thiserror::Error)]
pub(super) enum SliceError {
    #[error("a policy cannot be read back")]
    Unreadable(#[from] Box<PolicyToJsonError>),
}
