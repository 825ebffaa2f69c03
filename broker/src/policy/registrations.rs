//! Which nodes speak for which workloads: `registrations.toml`.
//!
//! An agent says what it saw of a process, and the broker has no other witness. A node that was broken into can claim
//! any selectors, so a registration hands its principal to every node that the pattern fits. That bounds what may be
//! registered: workloads and service accounts of the broker's own trust domain, never a node (it would become another
//! one), a person, or anything of a shape that Bursar gives no meaning to. What registered workloads may not do
//! even if policy lets them is in `guard.cedar`.

mod file;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use bursar_core::SpiffeId;
use bursar_core::spiffe::{PrincipalKind, TrustDomain};

pub(super) use file::{FILE, read};

use super::principal::{GroupName, Selector};

/// Lets some nodes speak for one principal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// Where it stands in the file, from 1.
    pub line: u32,
    pub principal: SpiffeId,
    node: NodePattern,
    /// All of these must be attested; at least one, sorted, each once.
    selectors: Vec<Selector>,
    /// The groups that the principal is in beside those of its id.
    pub groups: Vec<GroupName>,
    /// No lease is granted for longer.
    pub ttl: Option<Duration>,
}

/// Every registration of one revision.
#[derive(Debug)]
pub struct Registrations {
    domain: TrustDomain,
    all: Vec<Registration>,
    /// Places in `all`, by the longest selector: the one likeliest to be rare.
    by_selector: HashMap<Selector, Vec<usize>>,
}

impl Registrations {
    pub(super) fn new(domain: TrustDomain, all: Vec<Registration>) -> Self {
        let mut by_selector: HashMap<Selector, Vec<usize>> = HashMap::new();
        for (place, registration) in all.iter().enumerate() {
            if let Some(longest) =
                registration.selectors.iter().max_by_key(|selector| selector.as_str().len())
            {
                by_selector.entry(longest.clone()).or_default().push(place);
            }
        }
        Self { domain, all, by_selector }
    }

    /// Who a process is that `node` attests `selectors` of: the registration with the most selectors among those that
    /// fit.
    ///
    /// # Errors
    /// [`Unregistered`]: nothing fits, or several fit equally well and say different things.
    pub fn find(&self, node: &SpiffeId, selectors: &[Selector]) -> Result<&Registration, Unregistered> {
        let none = || Unregistered::NoMatch { node: node.clone() };
        let PrincipalKind::Node { name } = node.kind() else { return Err(none()) };
        if !node.is_in(&self.domain) {
            return Err(none());
        }
        let attested: BTreeSet<&Selector> = selectors.iter().collect();
        let places = attested.iter().filter_map(|selector| self.by_selector.get(*selector)).flatten();
        let fitting = places.filter_map(|place| self.all.get(*place)).filter(|registration| {
            let mut wanted = registration.selectors.iter();
            registration.node.fits(name) && wanted.all(|selector| attested.contains(selector))
        });
        let fitting: Vec<&Registration> = fitting.collect();
        let most = fitting.iter().map(|registration| registration.selectors.len()).max().ok_or_else(none)?;
        let mut best = fitting.into_iter().filter(|registration| registration.selectors.len() == most);
        let first = best.next().ok_or_else(none)?;
        match best.find(|other| !other.says_the_same_as(first)) {
            None => Ok(first),
            Some(other) => Err(Unregistered::tie(node, first, other)),
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }
}

impl Registration {
    fn says_the_same_as(&self, other: &Self) -> bool {
        self.principal == other.principal && self.groups == other.groups && self.ttl == other.ttl
    }
}

/// The name of a node, or what names begin with.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum NodePattern {
    Exact(String),
    Prefix(String),
}

impl NodePattern {
    fn fits(&self, name: &str) -> bool {
        match self {
            Self::Exact(exact) => name == exact,
            Self::Prefix(prefix) => name.starts_with(prefix.as_str()),
        }
    }
}

/// Why a node does not speak for anybody here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unregistered {
    #[error("no registration lets `{node}` speak for a workload with these selectors")]
    NoMatch { node: SpiffeId },
    #[error(
        "on `{node}` the registrations for `{}` (line {}) and `{}` (line {}) fit equally well; give one of them \
         another selector",
        .first.0, .first.1, .second.0, .second.1
    )]
    Tie { node: SpiffeId, first: (SpiffeId, u32), second: (SpiffeId, u32) },
}

impl Unregistered {
    /// Names the two in the order of the file.
    fn tie(node: &SpiffeId, one: &Registration, other: &Registration) -> Self {
        let (first, second) = if one.line <= other.line { (one, other) } else { (other, one) };
        let named = |registration: &Registration| (registration.principal.clone(), registration.line);
        Self::Tie { node: node.clone(), first: named(first), second: named(second) }
    }
}
