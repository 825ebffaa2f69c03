//! Statements that are sent in one piece.
//!
//! The server runs what arrives in one piece as one transaction, and takes it back by itself when a statement fails:
//! one round trip, and a session that is as it was before.

/// Statements in one piece.
#[derive(Default)]
pub(crate) struct Batch {
    sql: String,
    /// Where each statement begins, in characters from 1, as the server counts.
    starts: Vec<usize>,
    characters: usize,
    /// How many of the statements are the broker's own, before the operator's.
    own: usize,
}

impl Batch {
    /// With statements of the broker's own, which come before the operator's.
    #[must_use]
    pub(crate) fn own<S: AsRef<str>>(mut self, statements: impl IntoIterator<Item = S>) -> Self {
        for statement in statements {
            self.push(statement.as_ref());
            self.own += 1;
        }
        self
    }

    /// With the operator's statements.
    #[must_use]
    pub(crate) fn and(mut self, statements: impl IntoIterator<Item = String>) -> Self {
        for statement in statements {
            self.push(&statement);
        }
        self
    }

    /// Where `needed`, after whatever else of the kind is under way: until its end nothing else changes what is shared.
    #[must_use]
    pub(crate) fn alone(self, needed: bool) -> Self {
        self.own(needed.then_some(LOCK))
    }

    pub(crate) fn sql(&self) -> &str {
        &self.sql
    }

    /// Which of the operator's statements failed, from 1, when `done` were done before and the server named a position.
    pub(crate) fn failed(&self, done: usize, position: Option<usize>) -> Option<usize> {
        // What cannot be read fails before anything is done.
        let at = position.and_then(|position| self.starts.iter().rposition(|start| *start <= position));
        (at.unwrap_or(done) + 1).checked_sub(self.own).filter(|number| *number > 0)
    }

    fn push(&mut self, statement: &str) {
        self.starts.push(self.characters + 1);
        self.sql.push_str(statement);
        self.sql.push_str(END);
        self.characters += statement.chars().count() + END.len();
    }
}

/// Held until the end of the transaction, by every broker that uses the database. The number is arbitrary.
const LOCK: &str = "SELECT pg_catalog.pg_advisory_xact_lock(7098895543131043186)";
const END: &str = ";\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_told_by_the_number_of_the_operators_statement() {
        let batch =
            Batch::default().own(["SELECT 'ä'"]).alone(true).and(["CREATE".to_owned(), "GRANT".to_owned()]);
        assert_eq!(batch.failed(0, None), None);
        assert_eq!(batch.failed(1, None), None);
        assert_eq!(batch.failed(2, None), Some(1));
        assert_eq!(batch.failed(3, None), Some(2));
        let grant = batch.sql().chars().count() - "GRANT;\n".len() + 1;
        assert_eq!(batch.failed(0, Some(grant)), Some(2));
        assert_eq!(batch.failed(0, Some(grant - 1)), Some(1));
    }
}
