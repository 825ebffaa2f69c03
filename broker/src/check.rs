//! Whether an environment would resolve, without reading a value.

use std::collections::HashMap;
use std::sync::Arc;

use bursar_core::Reference;
use bursar_core::audit::{Action, Decision};
use bursar_core::backend::Operation;

use crate::broker::Broker;
use crate::call::Call;
use crate::environment::{Definition, EntryName};
use crate::failure::Failure;
use crate::policy::Resource;

/// What was found about one entry, or about the environment as a whole.
#[derive(Debug)]
pub struct Finding {
    pub environment: String,
    pub entry: Option<EntryName>,
    pub reference: Option<Reference>,
    /// Nothing, when it is well.
    pub fault: Option<Failure>,
}

impl Broker {
    /// Looks at every reference of an environment, as the caller: is its backend there, may the caller read it, does
    /// the store have it. For a leased path the last question would create a credential, so it is not asked.
    ///
    /// # Errors
    /// That of the ledger; what is wrong with the environment is a finding.
    pub async fn check_environment(
        &self,
        call: &Call,
        name: &str,
        over: HashMap<String, Arc<Definition>>,
    ) -> Result<Vec<Finding>, Failure> {
        let flat = match self.catalog.flatten_over(name, over).await {
            Ok(flat) => flat,
            Err(fault @ Failure::Ledger(_)) => return Err(fault),
            Err(fault) => {
                return Ok(vec![Finding {
                    environment: name.to_owned(),
                    entry: None,
                    reference: None,
                    fault: Some(fault),
                }]);
            }
        };
        let mut findings = Vec::new();
        for (named, entry) in flat.entries() {
            let references = flat.basis(entry).references;
            if references.is_empty() {
                let (environment, entry) = (name.to_owned(), Some(named));
                findings.push(Finding { environment, entry, reference: None, fault: None });
                continue;
            }
            for reference in references {
                findings.push(Finding {
                    environment: name.to_owned(),
                    entry: Some(named.clone()),
                    reference: Some(reference.clone()),
                    fault: self.check_reference(call, reference).await.err(),
                });
            }
        }
        Ok(findings)
    }

    async fn check_reference(&self, call: &Call, reference: &Reference) -> Result<(), Failure> {
        let resource = Resource::secret(reference);
        let ruling = self.rulebook.decide(&call.caller, Action::Read, resource, "", call.time);
        if ruling.verdict.decision == Decision::Deny {
            return Err(Failure::Denied);
        }
        let mount = self.mounts.mount(&reference.backend);
        let mount = mount.ok_or_else(|| Failure::BackendUnknown(reference.backend.clone()))?;
        if mount.leasing(&reference.path).is_some() {
            return Ok(());
        }
        let versions = mount.call(Operation::Versions, mount.backend.versions(&reference.path)).await;
        let versions = versions.map_err(|error| Failure::of_store(reference, error))?;
        let wanted = versions.iter().find(|info| match &reference.version {
            Some(version) => info.version == *version,
            None => true,
        });
        match wanted {
            Some(info) if info.is_readable(call.time) => Ok(()),
            _ => Err(Failure::SecretNotFound(reference.clone())),
        }
    }
}
