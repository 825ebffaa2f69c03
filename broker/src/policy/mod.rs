//! What callers may do, decided by Cedar.
//!
//! [`Policies`] is one revision: policies, registrations and a cache of decisions, all made at once by
//! [`Policies::compile`] and never changed after. Applying a new set means making a new `Policies` and swapping it in;
//! the cache goes with the old one, so no decision outlives the policies that made it.
//!
//! Four rules hold for every decision:
//! - What no policy permits is denied.
//! - What cannot be evaluated is denied. Cedar itself passes over a policy that fails, which would turn a `forbid` with
//!   a fault into no `forbid` at all; here any such failure is a denial that names the policy.
//! - Whoever broke the glass may do what administers, and nothing else, whatever the set says: it is the way back from a
//!   set that locks everybody out.
//! - Nodes, and workloads that nodes speak for, never decide who may do what (`guard.cedar`, part of every set).
//!
//! Cedar takes time in proportion to the number of policies. A decision that depends on nothing but stable facts is
//! therefore kept ([`decisions`]), each action has policies of its own, those whose scope does not exclude it ([`slices`]),
//! and of them a request meets those whose scope does not exclude its principal and its resource ([`scopes`]).
//!
//! Compiling takes seconds for the largest set that the API takes: do it off the async threads.

mod bootstrap;
mod compile;
mod context_use;
mod decisions;
mod diagnostic;
mod explain;
mod fingerprint;
mod grants;
mod nesting;
mod policies;
mod principal;
mod registrations;
mod request;
mod scopes;
mod slices;
mod target;
mod vocabulary;

pub use diagnostic::Diagnostic;
pub use explain::{Explanation, NearMiss, Obstacle};
pub use policies::{Policies, PolicyFile, Verdict};
pub use principal::{BREAK_GLASS, Facts, GroupName, NameError, PrincipalFacts, Selector};
pub use registrations::{Registration, Registrations, Unregistered};
pub use request::{Context, Request, Resource};
pub use target::Target;

#[cfg(test)]
mod tests;
