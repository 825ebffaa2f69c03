//! Where the password of the broker's own login comes from.

use std::sync::Arc;

use async_trait::async_trait;
use bursar_core::Secret;
use bursar_core::backend::BackendError;

/// Gives the password of the broker's own login. Asked anew for each login; what it gives is not kept.
#[async_trait]
pub trait RootPassword: Send + Sync + 'static {
    /// The password that was the newest `back` changes ago, 0 for the one that is; none where there is none. A change
    /// that was interrupted leaves the server with the one before.
    ///
    /// # Errors
    /// Those of what keeps it.
    async fn before(&self, back: usize) -> Result<Option<Arc<Secret>>, BackendError>;
}
