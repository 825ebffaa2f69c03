//! Writing secrets, in stores that Bursar may write.
//!
//! The store and the ledger are two books: the write is recorded as asked for before it is done, so a crash between
//! the two leaves a record of an attempt and never a change without one.

use bursar_core::backend::{
    BackendError, ErrorKind, LabelChange, Labels, Operation, PutTerms, VersionInfo, Writing,
};
use bursar_core::secret::SecretData;
use bursar_core::{BackendName, Reference, SecretPath, Version};

use crate::broker::Broker;
use crate::call::Draft;
use crate::failure::Failure;
use crate::ledger::Entry;
use crate::mounts::Mount;

impl Broker {
    /// Writes a new version.
    ///
    /// # Errors
    /// That of the store, [`ErrorKind::Conflict`] when the newest version is not the expected one.
    pub async fn put(
        &self,
        reference: &Reference,
        data: SecretData,
        terms: PutTerms,
        draft: Draft,
    ) -> Result<Version, Failure> {
        let written = async {
            let (mount, writing) = self.writing(reference, Operation::Put, &draft).await?;
            let put = writing.put(&reference.path, data, terms);
            self.written(reference, mount.call(Operation::Put, put).await)
        };
        let version = self.settle(draft.clone(), written).await?;
        self.note(draft.version(Some(&version))).await?;
        Ok(version)
    }

    /// Marks versions deleted; the newest when none is named.
    ///
    /// # Errors
    /// That of the store.
    pub async fn delete(
        &self,
        reference: &Reference,
        versions: &[Version],
        draft: Draft,
    ) -> Result<(), Failure> {
        let written = async {
            let (mount, writing) = self.writing(reference, Operation::Delete, &draft).await?;
            let delete = writing.delete(&reference.path, versions);
            self.written(reference, mount.call(Operation::Delete, delete).await)
        };
        self.observe(draft.clone(), written).await
    }

    /// Takes deletions back.
    ///
    /// # Errors
    /// That of the store.
    pub async fn undelete(
        &self,
        reference: &Reference,
        versions: &[Version],
        draft: Draft,
    ) -> Result<(), Failure> {
        let written = async {
            let (mount, writing) = self.writing(reference, Operation::Undelete, &draft).await?;
            let undelete = writing.undelete(&reference.path, versions);
            self.written(reference, mount.call(Operation::Undelete, undelete).await)
        };
        self.observe(draft.clone(), written).await
    }

    /// Removes versions for good; all that there is of the secret when none is named.
    ///
    /// # Errors
    /// That of the store.
    pub async fn destroy(
        &self,
        reference: &Reference,
        versions: &[Version],
        draft: Draft,
    ) -> Result<(), Failure> {
        let written = async {
            let (mount, writing) = self.writing(reference, Operation::Destroy, &draft).await?;
            let destroy = writing.destroy(&reference.path, versions);
            self.written(reference, mount.call(Operation::Destroy, destroy).await)
        };
        self.observe(draft.clone(), written).await
    }

    /// Changes the labels of a secret, and answers all that it has then.
    ///
    /// # Errors
    /// That of the store.
    pub async fn label(
        &self,
        reference: &Reference,
        change: LabelChange,
        draft: Draft,
    ) -> Result<Labels, Failure> {
        let written = async {
            let (mount, writing) = self.writing(reference, Operation::Label, &draft).await?;
            let labelled = mount.call(Operation::Label, writing.label(&reference.path, change)).await;
            labelled.map_err(|error| Failure::of_store(reference, error))
        };
        self.observe(draft.clone(), written).await
    }

    /// What is known of a secret besides its value: its versions, newest first, and its labels.
    ///
    /// # Errors
    /// That of the store.
    pub async fn describe(&self, reference: &Reference) -> Result<(Vec<VersionInfo>, Labels), Failure> {
        let versions = self.versions(reference).await?;
        let mount = self.mounted(&reference.backend)?;
        let labels = mount.call(Operation::Labels, mount.backend.labels(&reference.path)).await;
        Ok((versions, labels.map_err(|error| Failure::of_store(reference, error))?))
    }

    /// The versions of a secret, newest first.
    ///
    /// # Errors
    /// That of the store.
    pub async fn versions(&self, reference: &Reference) -> Result<Vec<VersionInfo>, Failure> {
        let mount = self.mounted(&reference.backend)?;
        let versions = mount.call(Operation::Versions, mount.backend.versions(&reference.path)).await;
        versions.map_err(|error| Failure::of_store(reference, error))
    }

    /// The entries right below a folder.
    ///
    /// # Errors
    /// That of the store.
    pub async fn list_secrets(
        &self,
        backend: &BackendName,
        folder: Option<&SecretPath>,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>, Failure> {
        let mount = self.mounted(backend)?;
        Ok(mount.call(Operation::List, mount.backend.list(folder, after, limit)).await?)
    }

    fn mounted(&self, backend: &BackendName) -> Result<&Mount, Failure> {
        self.mounts.mount(backend).ok_or_else(|| Failure::BackendUnknown(backend.clone()))
    }

    /// The power to write, with the record of what it is about to be used for.
    async fn writing(
        &self,
        reference: &Reference,
        operation: Operation,
        draft: &Draft,
    ) -> Result<(&Mount, &dyn Writing), Failure> {
        let refused = BackendError::new(ErrorKind::Misconfigured, &reference.backend, operation);
        let mount = self.mounted(&reference.backend)?;
        let writing = mount.backend.writing().ok_or(refused)?;
        let records = vec![draft.clone().asked()];
        self.ledger.commit(Entry { changes: Vec::new(), records }).await?;
        Ok((mount, writing))
    }

    fn written<T>(&self, reference: &Reference, written: Result<T, BackendError>) -> Result<T, Failure> {
        self.mounts.forget(&reference.backend, &reference.path);
        written.map_err(|error| Failure::of_store(reference, error))
    }
}
