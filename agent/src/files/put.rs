//! Files made and put where they are read, as one piece of blocking work. Whatever fails leaves those from before.

use std::sync::Arc;

use bursar_core::Clock;

use super::directory::{Delivered, Directory, DirectoryError, Expected};
use super::render::{RenderError, Rendered};

/// Puts what `make` makes into `directory`, in the place of all that was there.
///
/// # Errors
/// [`DeliveryError`]; the files are as they were.
pub(crate) async fn put(
    directory: Directory,
    clock: Arc<dyn Clock>,
    make: impl FnOnce() -> Result<Rendered, RenderError> + Send + 'static,
) -> Result<(Delivered, Expected), DeliveryError> {
    let work = move || Ok(directory.deliver(&make()?, &*clock)?);
    tokio::task::spawn_blocking(work).await.map_err(|_| DeliveryError::Panicked)?
}

/// Why files were not delivered, or not removed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DeliveryError {
    #[error(transparent)]
    Render(#[from] RenderError),
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    #[error("the delivery did not end as it should; the lines before this one say why")]
    Panicked,
}
