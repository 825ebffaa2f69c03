//! Names of secrets, as Envoy's configuration has them: `[FORM:]SOURCE`.
//!
//! A reference has no `:` before its first `/`, so that none is taken for anything else.

use bursar_core::Reference;
use bursar_core::reference::ReferenceError;
use bursar_proto::limits;

/// What a name asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name {
    /// As it was asked for.
    pub(super) text: String,
    pub(super) form: Form,
    pub(super) source: Source,
}

/// In which form Envoy gets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// The value, as a `generic_secret`.
    Generic,
    /// A certificate with its key, as a `tls_certificate`.
    Tls,
    /// Certificates of authorities, as a `validation_context`.
    Ca,
}

/// Where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    /// A secret, by its reference.
    Secret(String),
    /// A variable of an environment.
    Variable { environment: String, variable: String },
}

impl Name {
    /// Reads a name.
    ///
    /// # Errors
    /// [`NameError`], which says the name.
    pub(super) fn parse(text: &str) -> Result<Self, NameError> {
        let fault = |reason| NameError { name: excerpt(text), reason };
        if text.len() > limits::REFERENCE {
            return Err(fault(Fault::Long));
        }
        let (form, rest) = match text.split_once(':') {
            Some(("generic", rest)) => (Form::Generic, rest),
            Some(("tls", rest)) => (Form::Tls, rest),
            Some(("ca", rest)) => (Form::Ca, rest),
            _ => (Form::Generic, text),
        };
        let source = match rest.split_once(':') {
            Some(("env", rest)) => {
                let (environment, variable) = rest.split_once('#').ok_or(fault(Fault::Variable))?;
                if environment.is_empty()
                    || environment.len() > limits::ENVIRONMENT_NAME
                    || variable.is_empty()
                {
                    return Err(fault(Fault::Variable));
                }
                Source::Variable { environment: environment.to_owned(), variable: variable.to_owned() }
            }
            Some((form, _)) if !form.contains('/') => return Err(fault(Fault::Form)),
            _ => {
                Reference::parse(rest).map_err(|error| fault(Fault::Reference(error)))?;
                Source::Secret(rest.to_owned())
            }
        };
        Ok(Self { text: text.to_owned(), form, source })
    }
}

/// Why a name is none.
#[derive(Debug, thiserror::Error)]
#[error("`{name}` is no name of a secret")]
pub(super) struct NameError {
    name: String,
    #[source]
    reason: Fault,
}

impl NameError {
    /// All of it, for somebody who sees one line.
    pub(super) fn line(&self) -> String {
        format!("{self}: {}", self.reason)
    }
}

#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("it is longer than {} bytes", limits::REFERENCE)]
    Long,
    #[error("a variable is written `env:ENVIRONMENT#VARIABLE`")]
    Variable,
    #[error("before a `:` stands `generic`, `tls` or `ca`, or `env` for a variable of an environment")]
    Form,
    #[error(transparent)]
    Reference(ReferenceError),
}

fn excerpt(text: &str) -> String {
    text.chars().take(EXCERPT).flat_map(char::escape_debug).collect()
}

const EXCERPT: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Form, Source) {
        let name = Name::parse(text).expect("a name");
        assert_eq!(name.text, text);
        (name.form, name.source)
    }

    #[test]
    fn a_name_is_a_form_and_a_source() {
        let secret = |reference: &str| Source::Secret(reference.to_owned());
        let variable = Source::Variable { environment: "shop/prod".to_owned(), variable: "TOKEN".to_owned() };
        assert_eq!(read("local/web#token"), (Form::Generic, secret("local/web#token")));
        assert_eq!(read("generic:local/web#token@3"), (Form::Generic, secret("local/web#token@3")));
        assert_eq!(read("tls:vault/pki/issue/web/a.b"), (Form::Tls, secret("vault/pki/issue/web/a.b")));
        assert_eq!(read("ca:local/web"), (Form::Ca, secret("local/web")));
        assert_eq!(read("env:shop/prod#TOKEN"), (Form::Generic, variable.clone()));
        assert_eq!(read("tls:env:shop/prod#TOKEN"), (Form::Tls, variable));
        // A colon may be part of a path.
        assert_eq!(read("local/a:b"), (Form::Generic, secret("local/a:b")));
        assert_eq!(read("ca:local/tls:b"), (Form::Ca, secret("local/tls:b")));
    }

    #[test]
    fn what_is_no_name_is_refused_by_name() {
        for (text, fault) in [
            ("", "has no `/`"),
            ("default", "has no `/`"),
            ("ROOTCA", "has no `/`"),
            ("spiffe://example.org/web", "before a `:` stands"),
            ("pem:local/web", "before a `:` stands"),
            ("tls:ca:local/web", "before a `:` stands"),
            ("env:shop/prod", "env:ENVIRONMENT#VARIABLE"),
            ("env:#A", "env:ENVIRONMENT#VARIABLE"),
            ("env:shop#", "env:ENVIRONMENT#VARIABLE"),
            ("local/../web", "empty path segment"),
            ("tls:", "has no `/`"),
        ] {
            let error = Name::parse(text).expect_err(text).line();
            assert!(error.starts_with(&format!("`{text}`")) && error.contains(fault), "{error}");
        }
        let long = Name::parse(&format!("local/{}", "x".repeat(8192))).expect_err("long").line();
        assert!(long.contains("longer than 4096") && long.len() < 300, "{long}");
        let odd = Name::parse("a\nb").expect_err("odd").line();
        assert!(odd.starts_with("`a\\nb`"), "{odd}");
    }
}
