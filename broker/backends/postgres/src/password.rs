//! Where the password of the broker's own login comes from.

use std::sync::Arc;

use async_trait::async_trait;
use bursar_core::backend::BackendError;
use bursar_core::{Reference, Secret, Version};
use jiff::Timestamp;

/// Gives the password of the broker's own login. Asked anew for each login; what it gives is not kept.
#[async_trait]
pub trait RootPassword: Send + Sync + 'static {
    /// The password that was the newest `back` changes ago, 0 for the one that is; none where there is none. A change
    /// that was interrupted leaves the server with the one before.
    ///
    /// # Errors
    /// Those of what keeps it.
    async fn before(&self, back: usize) -> Result<Option<Kept>, BackendError>;

    /// The power to keep another, where it is kept in a backend that Bursar writes.
    fn keeper(&self) -> Option<&dyn Keeper> {
        None
    }
}

/// Keeps one password in versions.
#[async_trait]
pub trait Keeper: Send + Sync + 'static {
    /// Where.
    fn place(&self) -> &Reference;

    /// The newest; none before there is one.
    ///
    /// # Errors
    /// Those of what keeps it.
    async fn newest(&self) -> Result<Option<Kept>, BackendError>;

    /// When the newest was kept.
    ///
    /// # Errors
    /// Those of what keeps it.
    async fn kept_at(&self) -> Result<Option<Timestamp>, BackendError>;

    /// Keeps a new password, durably, over the version that has to be the newest, none where there is none; answers the
    /// new one.
    ///
    /// # Errors
    /// Those of what keeps it; a conflict where `over` is not the newest.
    async fn keep(&self, password: Arc<Secret>, over: Option<&Version>) -> Result<Version, BackendError>;
}

/// A password as it is kept.
#[expect(missing_debug_implementations, reason = "holds a secret")]
pub struct Kept {
    pub password: Arc<Secret>,
    /// What its keeper calls it; none where there are no versions.
    pub version: Option<Version>,
}
