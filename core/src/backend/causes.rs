//! What is behind an error of a client library.

use std::error::Error;
use std::io;

/// The causes of `error`, the nearest first, through what wraps them in I/O errors.
pub fn causes<'error>(
    error: &'error (dyn Error + 'static),
) -> impl Iterator<Item = &'error (dyn Error + 'static)> {
    std::iter::successors(error.source(), |cause| match cause.downcast_ref::<io::Error>() {
        // `source` of an I/O error skips the error that it wraps.
        Some(error) => error.get_ref().map(|inner| inner as &(dyn Error + 'static)),
        None => (**cause).source(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] io::Error);

    #[derive(Debug, thiserror::Error)]
    #[error("inner")]
    struct Inner;

    #[test]
    fn what_an_io_error_wraps_is_among_the_causes() {
        let error = Outer(io::Error::other(Inner));
        assert!(causes(&error).any(<dyn Error>::is::<Inner>));
    }
}
