//! New passwords for the broker's own logins at stores.
//!
//! Asked for in the ledger before it is begun, as every write to a store is: a crash leaves the record of an attempt.

use bursar_core::backend::Operation;
use bursar_core::{BackendName, Reference};

use crate::broker::Broker;
use crate::call::Draft;
use crate::failure::Failure;
use crate::ledger::Entry;

impl Broker {
    /// Changes the password of the broker's login at `backend`; answers where the new one is kept.
    ///
    /// # Errors
    /// [`Failure::NotRotatable`], or that of the store or of the backend that keeps the password.
    pub async fn rotate_root(&self, backend: &BackendName, draft: Draft) -> Result<Reference, Failure> {
        let rotated = async {
            let mount = self.mounts.mount(backend).ok_or_else(|| Failure::BackendUnknown(backend.clone()))?;
            let rotating = mount.backend.rotating().ok_or_else(|| Failure::NotRotatable(backend.clone()))?;
            let records = vec![draft.clone().asked()];
            self.ledger.commit(Entry { changes: Vec::new(), records }).await?;
            let rotated = mount.call(Operation::Rotate, rotating.rotate_root()).await?;
            self.mounts.forget(&rotated.kept.backend, &rotated.kept.path);
            Ok(rotated.kept)
        };
        let kept = self.settle(draft.clone(), rotated).await?;
        self.note(draft.version(kept.version.as_ref())).await?;
        Ok(kept)
    }
}
