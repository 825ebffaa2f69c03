//! Errors as a line of a log has them.

use std::error::Error;
use std::fmt;

/// An error with its causes on one line, `what: why: why of that`. A cause that an error's own text has already is left
/// out. For lines of a log: a field of `tracing` that is an error loses its causes where lines are JSON.
#[derive(Clone, Copy)]
pub struct Explained<'error>(pub &'error (dyn Error + 'static));

impl fmt::Display for Explained<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said = self.0.to_string();
        f.write_str(&said)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            let text = error.to_string();
            if !said.contains(&text) {
                write!(f, ": {text}")?;
                said = text;
            }
            cause = error.source();
        }
        Ok(())
    }
}

impl fmt::Debug for Explained<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    enum Failed {
        #[error("the file cannot be read")]
        Quiet(#[source] Box<Failed>),
        #[error("the disk fails: {0}")]
        Telling(#[source] std::io::Error),
    }

    #[test]
    fn every_cause_is_said_once() {
        let failed = Failed::Quiet(Box::new(Failed::Telling(std::io::Error::other("it is full"))));
        assert_eq!(Explained(&failed).to_string(), "the file cannot be read: the disk fails: it is full");
    }
}
