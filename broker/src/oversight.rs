//! Looking at leases: everybody at their own, administrators at all.

use bursar_core::audit::Action;
use bursar_core::{Lease, LeaseId};

use crate::broker::Broker;
use crate::call::Call;
use crate::failure::Failure;
use crate::ledger::{LeaseFilter, MAX_PAGE, Page, Paged, RevokeSelector};
use crate::policy::Resource;

impl Broker {
    /// One lease: the caller's own, or any for whoever may list leases.
    ///
    /// # Errors
    /// [`Failure::LeaseNotFound`] for one that is not there or not the caller's to see.
    pub async fn lease(&self, call: &Call, id: LeaseId) -> Result<Lease, Failure> {
        let own = call.asks(Action::ListLeases, id.to_string());
        let lease = self.settle(own.clone(), self.leases.find(id)).await?;
        if lease.principal == *call.caller.id() {
            self.note(own.allowed_as_owner()).await?;
            return Ok(lease);
        }
        match self.permit(call, Action::ListLeases, Resource::System, &id.to_string(), "").await {
            Ok(draft) => self.note(draft).await.map(|()| lease),
            Err(Failure::Denied) => Err(Failure::LeaseNotFound(id)),
            Err(other) => Err(other),
        }
    }

    /// Leases that `filter` selects. A list that is limited to the caller's own needs no policy.
    ///
    /// # Errors
    /// [`Failure::Denied`].
    pub async fn list_leases(
        &self,
        call: &Call,
        filter: LeaseFilter,
        page: Page,
    ) -> Result<Paged<Lease>, Failure> {
        let draft = match &filter.principal {
            Some(principal) if principal == call.caller.id() => {
                call.asks(Action::ListLeases, "own leases").allowed_as_owner()
            }
            _ => self.permit(call, Action::ListLeases, Resource::System, "leases", "").await?,
        };
        let list = async { Ok(self.ledger.leases(filter, page).await?) };
        self.observe(draft, list).await
    }

    /// How many leases a bulk revocation would take.
    ///
    /// # Errors
    /// That of the ledger.
    pub async fn count_leases(&self, selector: &RevokeSelector) -> Result<u64, Failure> {
        use bursar_core::LeaseState::{Active, Expired, Intent};
        let states = vec![Intent, Active, Expired];
        let filter = match selector.clone() {
            RevokeSelector::PathPrefix { backend, path } => {
                LeaseFilter { states, backend: Some(backend), path, ..LeaseFilter::default() }
            }
            RevokeSelector::Principal(id) => {
                LeaseFilter { states, principal: Some(id), ..LeaseFilter::default() }
            }
            RevokeSelector::Node(id) => LeaseFilter { states, node: Some(id), ..LeaseFilter::default() },
            RevokeSelector::Environment(name) => {
                LeaseFilter { states, environment: Some(name), ..LeaseFilter::default() }
            }
        };
        let (mut count, mut token) = (0, None);
        loop {
            let page = self.ledger.leases(filter.clone(), Page { size: MAX_PAGE, token }).await?;
            count += page.items.len() as u64;
            token = page.next;
            if token.is_none() {
                return Ok(count);
            }
        }
    }
}
