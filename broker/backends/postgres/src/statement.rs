//! The operator's statements, and where values stand in them.
//!
//! A placeholder is a whole token: `{{name}}` becomes a quoted name, `{{password}}` and `{{expiration}}` become quoted
//! texts. Quoting is never the operator's, since one who forgets it, or quotes a name as a text, has a hole or a fault
//! that shows only when a role is made. So a placeholder within quotes is refused, which takes a reader that knows what
//! is quoted. It is the server's lexer as far as quotes go; the server reads the rest.
//!
//! Each text is one statement, so that a refusal can be told by its number. It neither begins nor ends a transaction,
//! which are made here, nor changes the session, which others use after it.

use std::fmt;

use crate::sql;

/// Statements for one purpose, in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statements(Vec<Statement>);

/// What statements are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Making a role.
    Creation,
    /// Moving the end of a role.
    Renewal,
    /// Dropping a role.
    Revocation,
}

/// What placeholders stand for.
#[derive(Clone, Copy)]
pub(crate) struct Values<'a> {
    pub(crate) name: &'a str,
    /// A verifier; empty where the purpose has none.
    pub(crate) password: &'a str,
    /// When the role ends; empty where the purpose has none.
    pub(crate) expiration: &'a str,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Statement {
    parts: Vec<Part>,
    changes_what_is_shared: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Value(Placeholder),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Placeholder {
    Name,
    Password,
    Expiration,
}

impl Statements {
    /// Reads the statements of a configuration.
    ///
    /// # Errors
    /// Every fault, each with the number of its statement.
    pub fn parse(texts: &[String], purpose: Purpose) -> Result<Self, Vec<StatementFault>> {
        let (mut statements, mut faults) = (Vec::new(), Vec::new());
        for (index, text) in texts.iter().enumerate() {
            match reader::read(text, purpose.placeholders()) {
                Ok(statement) => statements.push(statement),
                Err(fault) => faults.push(StatementFault { number: Some(index + 1), fault }),
            }
        }
        if texts.len() > MOST_STATEMENTS {
            faults.push(StatementFault { number: None, fault: Fault::TooMany });
        }
        if faults.is_empty() {
            let needed =
                purpose.placeholders().iter().filter(|needed| !statements.iter().any(|s| s.has(**needed)));
            faults.extend(needed.map(|needed| StatementFault { number: None, fault: Fault::Lacks(*needed) }));
            if purpose == Purpose::Revocation && !statements.iter().any(Statement::drops) {
                faults.push(StatementFault { number: None, fault: Fault::DropsNothing });
            }
        }
        if faults.is_empty() { Ok(Self(statements)) } else { Err(faults) }
    }

    /// What there is when the configuration has none: for creation nothing fits everybody.
    pub fn default_for(purpose: Purpose) -> Option<Self> {
        let texts: &[&str] = match purpose {
            Purpose::Creation => return None,
            Purpose::Renewal => &["ALTER ROLE {{name}} VALID UNTIL {{expiration}}"],
            // What the role made stays, and belongs to the broker's user then: a lease that ends takes no data along.
            Purpose::Revocation => &[
                "REASSIGN OWNED BY {{name}} TO CURRENT_USER",
                "DROP OWNED BY {{name}}",
                "DROP ROLE {{name}}",
            ],
        };
        Self::parse(&texts.iter().map(ToString::to_string).collect::<Vec<_>>(), purpose).ok()
    }

    /// How many statements the server is sent for them at most, those of the broker's own included.
    pub fn most_calls(&self) -> u32 {
        u32::try_from(self.0.len()).unwrap_or(u32::MAX).saturating_add(1)
    }

    /// The statements with their values.
    pub(crate) fn written<'a>(&'a self, values: Values<'a>) -> impl Iterator<Item = String> + 'a {
        self.0.iter().map(move |statement| statement.parts.iter().map(|part| part.written(values)).collect())
    }

    /// Whether they write rows of the catalogue that other roles' statements write too, such as the privileges on a
    /// table. PostgreSQL refuses one of two transactions that do so at a time.
    pub(crate) fn change_what_is_shared(&self) -> bool {
        self.0.iter().any(|statement| statement.changes_what_is_shared)
    }
}

impl Statement {
    fn has(&self, placeholder: Placeholder) -> bool {
        self.parts.contains(&Part::Value(placeholder))
    }

    fn drops(&self) -> bool {
        let Some(Part::Text(text)) = self.parts.first() else { return false };
        let mut words = text.split_whitespace().map(str::to_ascii_uppercase);
        let (first, second) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        first == "DROP" && matches!(second.as_str(), "ROLE" | "USER") && self.has(Placeholder::Name)
    }
}

impl Part {
    fn written(&self, values: Values<'_>) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Value(Placeholder::Name) => sql::identifier(values.name),
            Self::Value(Placeholder::Password) => sql::literal(values.password),
            Self::Value(Placeholder::Expiration) => sql::literal(values.expiration),
        }
    }
}

impl Purpose {
    /// All of which its statements have to have, and no other.
    fn placeholders(self) -> &'static [Placeholder] {
        match self {
            Self::Creation => &[Placeholder::Name, Placeholder::Password, Placeholder::Expiration],
            Self::Renewal => &[Placeholder::Name, Placeholder::Expiration],
            Self::Revocation => &[Placeholder::Name],
        }
    }
}

impl fmt::Display for Placeholder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Name => "{{name}}",
            Self::Password => "{{password}}",
            Self::Expiration => "{{expiration}}",
        })
    }
}

/// What is wrong with statements.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{fault}", number.map(|number| format!("statement {number} ")).unwrap_or_default())]
pub struct StatementFault {
    /// Which statement, from 1; none where it is about all of them.
    pub number: Option<usize>,
    fault: Fault,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum Fault {
    #[error("is empty")]
    Empty,
    #[error("has `{placeholder}` within quotes; write it bare, it is quoted for you")]
    Quoted { placeholder: String },
    #[error("has `{placeholder}`, which means nothing here; there are {allowed}")]
    Unknown { placeholder: String, allowed: String },
    #[error("has a `{{{{` without its `}}}}`")]
    Open,
    #[error("has a quote that does not end")]
    Unterminated,
    #[error("has a comment; leave it out")]
    Comment,
    #[error("is more than one; write each as a text of its own")]
    Several,
    #[error("begins with `{word}`; leave it out, all statements are one transaction already")]
    Transaction { word: String },
    #[error("begins with `{word}`, which would outlast it; write `SET LOCAL` or leave it out")]
    Session { word: String },
    #[error("needs `{0}` in one of its statements")]
    Lacks(Placeholder),
    #[error("needs the statement `DROP ROLE {{{{name}}}}`: what is revoked has to be gone")]
    DropsNothing,
    #[error("has more than {MOST_STATEMENTS} statements")]
    TooMany,
}

const MOST_STATEMENTS: usize = 32;

mod reader;

#[cfg(test)]
mod tests;
