//! What policy may know of whoever asks.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use bursar_core::SpiffeId;

use super::fingerprint::Fingerprint;

/// The facts about a caller that policies can depend on, fixed when they are established.
///
/// They do not change after, so their digest, which every cached decision is found by, is made once and not for every
/// request. Cheap to clone; reads like [`Facts`].
#[derive(Clone)]
pub struct PrincipalFacts(Arc<Fixed>);

struct Fixed {
    facts: Facts,
    digest: [u8; 32],
}

/// The parts of [`PrincipalFacts`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    pub id: SpiffeId,
    /// How the broker knows: `mtls`, `node`, `kubernetes`, `oidc`, or [`BREAK_GLASS`].
    pub method: String,
    /// The node whose agent speaks for the principal, or passed its token on.
    pub node: Option<SpiffeId>,
    /// What that agent attested, or a token said; kept sorted, each once.
    pub selectors: Vec<Selector>,
    /// The groups that a registration or a rule gives; those that follow from the id are not among them.
    pub groups: Vec<GroupName>,
}

impl PrincipalFacts {
    /// Fixes `facts`.
    pub fn new(mut facts: Facts) -> Self {
        facts.selectors.sort_unstable();
        facts.selectors.dedup();
        facts.groups.sort_unstable();
        facts.groups.dedup();
        let digest = Fingerprint::new()
            .text(facts.id.as_str())
            .text(&facts.method)
            .optional(facts.node.as_ref().map(SpiffeId::as_str))
            .texts(facts.selectors.iter().map(Selector::as_str))
            .texts(facts.groups.iter().map(GroupName::as_str))
            .finish();
        Self(Arc::new(Fixed { facts, digest }))
    }

    /// Whether policies are passed by for what administers.
    pub fn breaks_glass(&self) -> bool {
        self.method == BREAK_GLASS
    }

    /// The same for equal facts, and for no others.
    pub(super) fn digest(&self) -> &[u8; 32] {
        &self.0.digest
    }
}

impl Deref for PrincipalFacts {
    type Target = Facts;
    fn deref(&self) -> &Facts {
        &self.0.facts
    }
}

impl fmt::Debug for PrincipalFacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.facts.fmt(f)
    }
}

/// Something that an agent attests of a process: `KIND:VALUE`, such as `unix:uid:1001` or `k8s:ns:shop`. Printable ASCII
/// without spaces, at most 256 bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Selector(Arc<str>);

impl Selector {
    /// Parses a selector.
    ///
    /// # Errors
    /// [`NameError`], which shows the form.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let kind_and_value = text.split_once(':').is_some_and(|(kind, value)| {
            let lower = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
            !kind.is_empty() && kind.bytes().all(lower) && !value.is_empty()
        });
        if !kind_and_value || text.len() > MAX_SELECTOR || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(NameError { text: excerpt(text), form: SELECTOR_FORM });
        }
        Ok(Self(Arc::from(text)))
    }

    /// The whole text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A group that registrations put principals in: letters, digits, `.`, `_`, `-` and `/`, at most 128 bytes.
///
/// There is no `:`, so no registration can name a group that stands for a prefix of SPIFFE IDs, and nobody is put below
/// a namespace that he is not in.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupName(Arc<str>);

impl GroupName {
    /// Parses the name of a group.
    ///
    /// # Errors
    /// [`NameError`], which shows the form.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'/');
        if text.is_empty() || text.len() > MAX_GROUP || !text.bytes().all(allowed) {
            return Err(NameError { text: excerpt(text), form: GROUP_FORM });
        }
        Ok(Self(Arc::from(text)))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Text that is no selector, or no group.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no {form}")]
pub struct NameError {
    text: String,
    form: &'static str,
}

fn excerpt(text: &str) -> String {
    text.chars().take(EXCERPT).flat_map(char::escape_default).collect()
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for GroupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The method of whoever comes by a break-glass certificate, which nothing but the broker's own authority vouches for.
pub const BREAK_GLASS: &str = "break-glass";
const MAX_SELECTOR: usize = 256;
const MAX_GROUP: usize = 128;
const EXCERPT: usize = 64;
const SELECTOR_FORM: &str =
    "selector; write one like `unix:uid:1001`, printable, without spaces, at most 256 bytes";
const GROUP_FORM: &str = "group; write 1 to 128 of letters, digits, `.`, `_`, `-` and `/`";

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(selectors: &[&str], groups: &[&str]) -> PrincipalFacts {
        PrincipalFacts::new(Facts {
            id: SpiffeId::parse("spiffe://example.org/workload/payments").expect("id"),
            method: "node".to_owned(),
            node: None,
            selectors: selectors.iter().map(|text| Selector::parse(text).expect("selector")).collect(),
            groups: groups.iter().map(|text| GroupName::parse(text).expect("group")).collect(),
        })
    }

    #[test]
    fn the_digest_does_not_depend_on_order() {
        assert_eq!(facts(&["a:1", "b:2"], &[]).digest(), facts(&["b:2", "a:1", "a:1"], &[]).digest());
    }

    #[test]
    fn the_digest_tells_facts_apart() {
        assert_ne!(facts(&["a:1", "b:2"], &[]).digest(), facts(&["a:1"], &[]).digest());
        assert_ne!(facts(&["a:1", "a:b"], &[]).digest(), facts(&["a:1a:b"], &[]).digest());
        assert_ne!(facts(&[], &["x"]).digest(), facts(&[], &[]).digest());
    }

    #[test]
    fn what_is_no_selector_is_refused() {
        let long = format!("a:{}", "x".repeat(256));
        let bad =
            ["", ":", "unix", "unix:", ":uid", "unix:a b", "unix:\0", "Unix:uid:1", "unix:é", long.as_str()];
        let accepted: Vec<_> = bad.iter().filter(|text| Selector::parse(text).is_ok()).collect();
        assert!(accepted.is_empty(), "these must be refused: {accepted:?}");
    }

    #[test]
    fn a_group_cannot_pass_for_a_prefix_of_ids() {
        for bad in ["", "spiffe://example.org/ns/payments", "a:b", "a b", "ü"] {
            assert!(GroupName::parse(bad).is_err(), "`{bad}` must be refused");
        }
    }
}
