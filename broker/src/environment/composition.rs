//! Compositions: text with the values of references and of other variables put into it.
//!
//! `${NAME}` is a variable of the same environment, `${BACKEND/PATH#FIELD}` a reference; the `/` tells them apart.
//! `$${` is the text `${`; any other `$` is itself. A `}` within a reference is written `%7D`. For a `$` right before
//! a placeholder, give a variable the literal `$` and name it.
//!
//! There are no functions, defaults or conditions: a value that needs them wants a template where it is delivered.

use std::fmt;
use std::sync::Arc;

use bursar_core::Reference;
use bursar_core::reference::ReferenceError;

use super::name::{EXCERPT, VariableName, excerpt};

/// A checked composition. Two are equal when they are written the same.
#[derive(Clone)]
pub struct Composition {
    text: Arc<str>,
    parts: Arc<[Part]>,
}

impl Composition {
    /// Reads a composition of at most 64 placeholders.
    ///
    /// # Errors
    /// Every placeholder that is none.
    pub fn parse(text: &str) -> Result<Self, Vec<CompositionError>> {
        let mut parts = Vec::new();
        let mut errors = Vec::new();
        let mut literal = String::new();
        let mut placeholders = 0_usize;
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            rest = after;
            if let Some(before) = before.strip_suffix('$') {
                literal.push_str(before);
                literal.push_str("${");
                continue;
            }
            literal.push_str(before);
            let Some((inside, after)) = after.split_once('}') else {
                errors.push(CompositionError::Unclosed);
                break;
            };
            rest = after;
            placeholders += 1;
            if !literal.is_empty() {
                parts.push(Part::Text(Arc::from(std::mem::take(&mut literal))));
            }
            match Part::placeholder(inside) {
                Ok(part) => parts.push(part),
                Err(error) => errors.push(error),
            }
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            parts.push(Part::Text(Arc::from(literal)));
        }
        if placeholders > MAX_PLACEHOLDERS {
            return Err(vec![CompositionError::TooMany { placeholders }]);
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        Ok(Self { text: Arc::from(text), parts: Arc::from(parts) })
    }

    /// The composition as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What it is made of, in order.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }
}

/// One stretch of a composition.
#[derive(Clone, PartialEq, Eq)]
pub enum Part {
    /// Text as it stands, escapes undone.
    Text(Arc<str>),
    /// The value that a reference means.
    Reference(Reference),
    /// The value of another variable.
    Variable(VariableName),
}

impl Part {
    fn placeholder(inside: &str) -> Result<Self, CompositionError> {
        if inside.contains('/') {
            return Ok(Self::Reference(Reference::parse(inside)?));
        }
        let neither = |_| CompositionError::Neither { placeholder: excerpt(inside, EXCERPT) };
        Ok(Self::Variable(VariableName::parse(inside).map_err(neither)?))
    }
}

/// Text that is no composition.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompositionError {
    #[error("has a `${{` that no `}}` closes; write `$${{` for the text `${{` itself")]
    Unclosed,
    #[error("has a placeholder that is no reference: {0}")]
    Reference(#[from] ReferenceError),
    #[error(
        "has a placeholder `{placeholder}` that is neither the name of a variable nor a reference \
         BACKEND/PATH[#FIELD][@VERSION]"
    )]
    Neither { placeholder: String },
    #[error("has {placeholders} placeholders; at most 64 are allowed")]
    TooMany { placeholders: usize },
}

impl PartialEq for Composition {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Composition {}

/// Names only: the text between them may be a credential that somebody put into a definition by mistake.
impl fmt::Debug for Composition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.parts()).finish()
    }
}

impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(_) => f.write_str(".."),
            Self::Reference(reference) => write!(f, "`{reference}`"),
            Self::Variable(name) => write!(f, "{name:?}"),
        }
    }
}

const MAX_PLACEHOLDERS: usize = 64;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(text: &str) -> Part {
        Part::Text(Arc::from(text))
    }

    fn variable(name: &str) -> Part {
        Part::Variable(VariableName::parse(name).expect("name"))
    }

    fn reference(reference: &str) -> Part {
        Part::Reference(Reference::parse(reference).expect("reference"))
    }

    fn parts(text: &str) -> Vec<Part> {
        Composition::parse(text).expect("composition").parts().to_vec()
    }

    fn errors(text: &str) -> Vec<String> {
        let errors = Composition::parse(text).expect_err("refused");
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn variables_and_references_are_told_apart_by_the_slash() {
        let expected =
            [text("pg://"), variable("USER"), text(":"), reference("pg/pay#password@3"), text("@db")];
        assert_eq!(parts("pg://${USER}:${pg/pay#password@3}@db"), expected);
    }

    #[test]
    fn a_doubled_dollar_before_a_brace_is_text() {
        assert_eq!(parts("a$${B}${C}"), [text("a${B}"), variable("C")]);
        assert_eq!(parts("$$${B}"), [text("$${B}")]);
    }

    #[test]
    fn other_dollars_and_braces_stand_for_themselves() {
        assert_eq!(parts("$5 $$ {a} }$"), [text("$5 $$ {a} }$")]);
    }

    #[test]
    fn a_closing_brace_in_a_reference_is_escaped() {
        assert_eq!(parts("${v/a%7Db}"), [reference("v/a%7Db")]);
    }

    #[test]
    fn nothing_is_a_composition_too() {
        assert_eq!(parts(""), []);
    }

    #[test]
    fn every_bad_placeholder_is_reported() {
        let found = errors("${} ${a-b} ${V/x} ${LD_PRELOAD} ${OK} ${A");
        assert_eq!(found.len(), 5, "{found:?}");
        assert!(found.iter().any(|error| error.contains("`a-b`")), "{found:?}");
        assert!(found.iter().any(|error| error.contains("no `}` closes")), "{found:?}");
    }

    #[test]
    fn placeholders_are_limited() {
        assert!(Composition::parse(&"${A}".repeat(64)).is_ok());
        assert_eq!(errors(&"${A}".repeat(65)), ["has 65 placeholders; at most 64 are allowed"]);
    }

    #[test]
    fn text_is_not_shown_by_debug() {
        let composition = Composition::parse("canary${A}${v/b}canary").expect("composition");
        assert_eq!(format!("{composition:?}"), "[.., `A`, `v/b`, ..]");
    }

    proptest! {
        #[test]
        fn text_without_placeholders_survives_escaping(written in "\\PC*") {
            let escaped = written.replace("${", "$${");
            let expected = if written.is_empty() { vec![] } else { vec![text(&written)] };
            prop_assert_eq!(parts(&escaped), expected);
        }
    }
}
