//! SPIFFE IDs: the only names that principals have.
//!
//! Rules: SPIFFE-ID standard, sections 2.1 to 2.4 (trust domain characters and length, path segments, no query, no
//! fragment, no percent-encoding, at most 2,048 bytes).

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// `spiffe://TRUST_DOMAIN/PATH`, checked. Cheap to clone; ordered and hashed by its text.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpiffeId {
    text: Arc<str>,
    /// Length of `spiffe://TRUST_DOMAIN`.
    authority: usize,
}

impl SpiffeId {
    /// Parses an id that names somebody: the path must not be empty.
    ///
    /// # Errors
    /// [`SpiffeIdError`], which says which rule the text breaks.
    pub fn parse(text: &str) -> Result<Self, SpiffeIdError> {
        let fault = |reason| SpiffeIdError { text: excerpt(text), reason };
        if text.len() > MAX_LENGTH {
            return Err(fault("is longer than 2048 bytes"));
        }
        let rest = text.strip_prefix(SCHEME).ok_or_else(|| fault("does not start with `spiffe://`"))?;
        let (domain, path) =
            rest.split_once('/').ok_or_else(|| fault("has no path after the trust domain"))?;
        TrustDomain::check(domain).map_err(fault)?;
        for segment in path.split('/') {
            check_segment(segment).map_err(fault)?;
        }
        Ok(Self { text: Arc::from(text), authority: SCHEME.len() + domain.len() })
    }

    /// Builds an id from a trust domain and path segments.
    ///
    /// # Errors
    /// [`SpiffeIdError`] when a segment has a character that SPIFFE does not allow.
    pub fn from_segments(domain: &TrustDomain, segments: &[&str]) -> Result<Self, SpiffeIdError> {
        Self::parse(&format!("{SCHEME}{domain}/{}", segments.join("/")))
    }

    /// The whole text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The trust domain that vouches for this id.
    pub fn trust_domain(&self) -> TrustDomain {
        TrustDomain(Arc::from(self.text.get(SCHEME.len()..self.authority).unwrap_or_default()))
    }

    /// Whether `domain` vouches for this id.
    pub fn is_in(&self, domain: &TrustDomain) -> bool {
        self.text.get(SCHEME.len()..self.authority) == Some(domain.as_str())
    }

    /// The path segments, at least one.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.text.get(self.authority + 1..).unwrap_or_default().split('/')
    }

    /// What kind of principal the path says this is.
    pub fn kind(&self) -> PrincipalKind<'_> {
        let mut segments = self.segments();
        let four = (segments.next(), segments.next(), segments.next(), segments.next(), segments.next());
        match four {
            (Some("ns"), Some(namespace), Some("sa"), Some(account), None) => {
                PrincipalKind::ServiceAccount { cluster: "", namespace, account }
            }
            (Some("node"), Some(name), None, ..) => PrincipalKind::Node { name },
            (Some("user"), Some(name), None, ..) => PrincipalKind::User { name },
            (Some("workload"), Some(name), None, ..) => PrincipalKind::Workload { name },
            _ => self.account_of_a_cluster().unwrap_or(PrincipalKind::Other),
        }
    }

    /// Where the accounts of several clusters are told apart, a path stands before what one cluster's are called by.
    fn account_of_a_cluster(&self) -> Option<PrincipalKind<'_>> {
        let path = self.text.get(self.authority + 1..)?;
        let mut from_the_end = path.rsplitn(5, '/');
        let (account, sa) = (from_the_end.next()?, from_the_end.next()?);
        let (namespace, ns) = (from_the_end.next()?, from_the_end.next()?);
        let cluster = from_the_end.next()?;
        let first = cluster.split('/').next()?;
        let fits = ns == "ns" && sa == "sa" && !KINDS.contains(&first);
        fits.then_some(PrincipalKind::ServiceAccount { cluster, namespace, account })
    }
}

/// The kinds of principal that Bursar gives meaning to, by the shape of the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PrincipalKind<'id> {
    /// `/ns/NAMESPACE/sa/ACCOUNT`, or that below the path of a cluster: a Kubernetes service account.
    ServiceAccount { cluster: &'id str, namespace: &'id str, account: &'id str },
    /// `/node/NAME`: a node agent.
    Node { name: &'id str },
    /// `/user/NAME`: a person.
    User { name: &'id str },
    /// `/workload/NAME`: a workload outside Kubernetes.
    Workload { name: &'id str },
    /// Any other path, as a foreign trust domain may use.
    Other,
}

/// The authority of a SPIFFE ID: `[a-z0-9._-]`, at most 255 bytes.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrustDomain(Arc<str>);

impl TrustDomain {
    /// Parses a bare trust domain, such as `example.org`.
    ///
    /// # Errors
    /// [`SpiffeIdError`], which says which rule the text breaks.
    pub fn parse(text: &str) -> Result<Self, SpiffeIdError> {
        Self::check(text).map_err(|reason| SpiffeIdError { text: excerpt(text), reason })?;
        Ok(Self(Arc::from(text)))
    }

    /// The bare name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn check(text: &str) -> Result<(), &'static str> {
        if text.is_empty() {
            return Err("has an empty trust domain");
        }
        if text.len() > MAX_DOMAIN_LENGTH {
            return Err("has a trust domain longer than 255 bytes");
        }
        let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
        if !text.bytes().all(allowed) {
            return Err("has a trust domain with a character other than a-z, 0-9, `.`, `_` and `-`");
        }
        Ok(())
    }
}

fn check_segment(segment: &str) -> Result<(), &'static str> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    match segment {
        "" => Err("has an empty path segment"),
        "." | ".." => Err("has a path segment `.` or `..`"),
        _ if !segment.bytes().all(allowed) => {
            Err("has a path character other than letters, digits, `.`, `_` and `-`")
        }
        _ => Ok(()),
    }
}

/// Text that is no SPIFFE ID, or no trust domain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("SPIFFE ID `{text}` {reason}")]
pub struct SpiffeIdError {
    text: String,
    reason: &'static str,
}

/// Errors are read by people and kept in logs: a hostile name is shown escaped and cut short.
fn excerpt(text: &str) -> String {
    text.chars().take(EXCERPT_LENGTH).flat_map(char::escape_default).collect()
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for SpiffeId {
    type Err = SpiffeIdError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

const SCHEME: &str = "spiffe://";
/// What the path of a cluster does not begin with, since it says what kind of principal an id is, or is the broker's own.
const KINDS: [&str; 5] = ["broker", "node", "ns", "user", "workload"];
const MAX_LENGTH: usize = 2048;
const MAX_DOMAIN_LENGTH: usize = 255;
const EXCERPT_LENGTH: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_follow_the_path() {
        let kind = |text| format!("{:?}", SpiffeId::parse(text).expect("id").kind());
        assert!(kind("spiffe://example.org/ns/shop/sa/web").starts_with("ServiceAccount"));
        assert!(kind("spiffe://example.org/node/n1").starts_with("Node"));
        assert!(kind("spiffe://example.org/user/ada").starts_with("User"));
        assert!(kind("spiffe://example.org/workload/payments").starts_with("Workload"));
        assert_eq!(kind("spiffe://example.org/ns/shop/sa/web/extra"), "Other");
        assert_eq!(
            kind("spiffe://example.org/clusters/east/ns/shop/sa/web"),
            r#"ServiceAccount { cluster: "clusters/east", namespace: "shop", account: "web" }"#
        );
        assert_eq!(kind("spiffe://example.org/user/ns/shop/sa/web"), "Other");
        assert_eq!(kind("spiffe://example.org/node/n1/ns/shop/sa/web"), "Other");
        assert_eq!(kind("spiffe://example.org/ns/a/sa/b/ns/shop/sa/web"), "Other");
        assert_eq!(kind("spiffe://example.org/node/n1/extra"), "Other");
    }

    #[test]
    fn every_rule_of_the_standard_refuses() {
        let long = format!("spiffe://d/{}", "a".repeat(2048));
        let bad = [
            "",
            "spiffe://",
            "spiffe:///x",
            "spiffe://d",
            "spiffe://d/",
            "spiffe://d/a/",
            "spiffe://d//a",
            "spiffe://d/./a",
            "spiffe://d/../a",
            "spiffe://D/a",
            "spiffe://d:1/a",
            "spiffe://u@d/a",
            "spiffe://d/a?q",
            "spiffe://d/a#f",
            "spiffe://d/%41",
            "https://d/a",
            "spiffe://d/a\0",
            long.as_str(),
        ];
        let accepted: Vec<_> = bad.iter().filter(|text| SpiffeId::parse(text).is_ok()).collect();
        assert!(accepted.is_empty(), "these must be refused: {accepted:?}");
    }

    #[test]
    fn a_domain_is_matched_whole() {
        let id = SpiffeId::parse("spiffe://example.org/user/ada").expect("id");
        assert!(id.is_in(&TrustDomain::parse("example.org").expect("domain")));
        assert!(!id.is_in(&TrustDomain::parse("example.or").expect("domain")));
    }
}
