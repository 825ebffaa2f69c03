//! From the text of `registrations.toml` to [`Registrations`].

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use bursar_core::SpiffeId;
use bursar_core::settings::parse_duration;
use bursar_core::spiffe::{PrincipalKind, TrustDomain};
use serde::Deserialize;
use toml::Spanned;

use super::{NodePattern, Registration};
use crate::policy::diagnostic::{Diagnostic, Source};
use crate::policy::principal::{GroupName, Selector};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    #[serde(default)]
    registration: Vec<Spanned<RawRegistration>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRegistration {
    principal: Spanned<String>,
    node: Spanned<String>,
    selectors: Spanned<Vec<Spanned<String>>>,
    #[serde(default)]
    groups: Vec<Spanned<String>>,
    ttl: Option<Spanned<String>>,
}

/// Reads the file. What is wrong goes to `faults`, and what looks like a mistake to `warnings`.
pub(in crate::policy) fn read(
    source: &Source<'_>,
    domain: &TrustDomain,
    administrator: &SpiffeId,
    faults: &mut Vec<Diagnostic>,
    warnings: &mut Vec<Diagnostic>,
) -> Vec<Registration> {
    let raw = match toml::from_str::<RawFile>(source.text) {
        Ok(raw) => raw.registration,
        Err(error) => {
            faults.push(match error.span() {
                Some(span) => source.at(span.start, error.message()),
                None => Diagnostic::whole(source.name, error.message()),
            });
            return Vec::new();
        }
    };
    let mut reader = Reader { source, domain, administrator, faults, warnings };
    let mut first_lines = HashMap::new();
    let mut read = Vec::with_capacity(raw.len());
    for raw in raw {
        let at = raw.span().start;
        let Some(registration) = reader.registration(raw) else { continue };
        let scope = (registration.node.clone(), registration.selectors.clone());
        let line = *first_lines.entry(scope).or_insert(registration.line);
        if line != registration.line {
            let message =
                format!("the node and the selectors are those of line {line}, so neither is more specific");
            reader.faults.push(source.at(at, message));
        }
        read.push(registration);
    }
    read
}

struct Reader<'a> {
    source: &'a Source<'a>,
    domain: &'a TrustDomain,
    administrator: &'a SpiffeId,
    faults: &'a mut Vec<Diagnostic>,
    warnings: &'a mut Vec<Diagnostic>,
}

impl Reader<'_> {
    /// Looks at every part before it gives up, so that all faults are found.
    fn registration(&mut self, raw: Spanned<RawRegistration>) -> Option<Registration> {
        let line = self.source.at(raw.span().start, "").line;
        let raw = raw.into_inner();
        let principal = self.principal(&raw.principal);
        let node = self.node(&raw.node);
        let selectors = self.selectors(&raw.selectors);
        let groups = self.each(&raw.groups, GroupName::parse);
        let ttl = match &raw.ttl {
            Some(ttl) => self.ttl(ttl).map(Some),
            None => Some(None),
        };
        Some(Registration {
            line,
            principal: principal?,
            node: node?,
            selectors: selectors?,
            groups: groups?,
            ttl: ttl?,
        })
    }

    fn principal(&mut self, text: &Spanned<String>) -> Option<SpiffeId> {
        let at = text.span().start;
        let id = match SpiffeId::parse(text.get_ref()) {
            Ok(id) => id,
            Err(error) => return self.fault(at, error.to_string()),
        };
        if !id.is_in(self.domain) {
            let domain = self.domain;
            return self.fault(at, format!("`{id}` is not in the broker's trust domain, `{domain}`"));
        }
        if id == *self.administrator {
            return self.fault(at, format!("`{id}` is the administrator, for whom no node may speak"));
        }
        let what = match id.kind() {
            PrincipalKind::Workload { .. } | PrincipalKind::ServiceAccount { .. } => return Some(id),
            PrincipalKind::Node { .. } => "a node, and no node may speak for another",
            PrincipalKind::User { .. } => "a person, and no node may speak for people",
            PrincipalKind::Other => "neither a workload nor a service account",
        };
        self.fault(at, format!("`{id}` is {what}; register `/workload/NAME` or `/ns/NAMESPACE/sa/ACCOUNT`"))
    }

    fn node(&mut self, text: &Spanned<String>) -> Option<NodePattern> {
        let at = text.span().start;
        let (name, prefix) = match text.get_ref().strip_suffix('*') {
            Some(name) => (name, true),
            None => (text.get_ref().as_str(), false),
        };
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        if !name.bytes().all(allowed) || (name.is_empty() && !prefix) {
            let shown = text.get_ref().escape_default();
            return self.fault(
                at,
                format!("`{shown}` is no node; write a name like `web-1`, or its beginning and `*`"),
            );
        }
        if name.is_empty() {
            let warning = self.source.at(at, "`*` lets every node speak for this principal");
            self.warnings
                .push(warning.advise("name the nodes that run it, so that no other can ask in its name"));
        }
        Some(if prefix { NodePattern::Prefix(name.to_owned()) } else { NodePattern::Exact(name.to_owned()) })
    }

    fn selectors(&mut self, texts: &Spanned<Vec<Spanned<String>>>) -> Option<Vec<Selector>> {
        if texts.get_ref().is_empty() {
            return self.fault(
                texts.span().start,
                "there are no selectors, which would fit every process; give at least one".to_owned(),
            );
        }
        self.each(texts.get_ref(), Selector::parse)
    }

    fn ttl(&mut self, text: &Spanned<String>) -> Option<Duration> {
        let at = text.span().start;
        match parse_duration(text.get_ref()) {
            Ok(ttl) if ttl.is_zero() => self.fault(at, "the ttl must not be zero".to_owned()),
            Ok(ttl) => Some(ttl),
            Err(error) => self.fault(at, error.to_string()),
        }
    }

    /// All of `texts`, sorted and each once, or nothing.
    fn each<T: Ord, E: fmt::Display>(
        &mut self,
        texts: &[Spanned<String>],
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Option<Vec<T>> {
        let mut parsed = Vec::with_capacity(texts.len());
        for text in texts {
            match parse(text.get_ref()) {
                Ok(one) => parsed.push(one),
                Err(error) => drop(self.fault::<T>(text.span().start, error.to_string())),
            }
        }
        let complete = parsed.len() == texts.len();
        parsed.sort_unstable();
        parsed.dedup();
        complete.then_some(parsed)
    }

    /// Reads as nothing, so that it can stand at the end of a match.
    fn fault<T>(&mut self, at: usize, message: String) -> Option<T> {
        self.faults.push(self.source.at(at, message));
        None
    }
}

pub(in crate::policy) const FILE: &str = "registrations.toml";
