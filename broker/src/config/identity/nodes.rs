//! `[identity.nodes.NAME]`: what a machine may have already that lets it in as a node.
//!
//! Nothing does unless it is written here. Each rule gives names that begin with its own `prefix`, and no prefix begins
//! with another, so that what one cluster or authority says of its machines never makes the node of another.

use bursar_core::SpiffeId;
use bursar_core::settings::Section;
use bursar_core::spiffe::TrustDomain;

use super::{IssuerKind, IssuerSettings};
use crate::config::TrustSettings;

/// Lets some machines in as nodes.
#[derive(Debug, Clone)]
pub struct NodeRule {
    pub name: String,
    /// What the names of its nodes begin with.
    pub prefix: String,
    pub proof: NodeProof,
}

/// What a machine has to present.
#[derive(Debug, Clone)]
pub enum NodeProof {
    /// A token of the service account of the agents of a cluster; the node is the one whose pod it is for.
    ServiceAccount { issuer: String, namespace: String, account: String },
    /// A certificate; the node is a segment of its SPIFFE ID.
    Certificate(HostPattern),
}

/// A SPIFFE ID with one segment left open.
#[derive(Debug, Clone)]
pub struct HostPattern {
    domain: TrustDomain,
    before: Vec<String>,
    after: Vec<String>,
}

impl HostPattern {
    fn parse(text: &str) -> Result<Self, &'static str> {
        let stands_for = SpiffeId::parse(&text.replace('*', "x")).map_err(|_| FORM)?;
        let path = text.splitn(4, '/').nth(3).ok_or(FORM)?;
        let segments: Vec<String> = path.split('/').map(str::to_owned).collect();
        let open = segments.iter().position(|segment| segment == "*").filter(|open| *open > 0).ok_or(FORM)?;
        let (before, after) = segments.split_at_checked(open).ok_or(FORM)?;
        let after = after.get(1..).unwrap_or_default();
        if before.iter().chain(after).any(|segment| segment.contains('*')) {
            return Err(FORM);
        }
        Ok(Self { domain: stands_for.trust_domain(), before: before.to_vec(), after: after.to_vec() })
    }

    /// What `id` has in the place that is open, if it fits.
    pub fn host<'id>(&self, id: &'id SpiffeId) -> Option<&'id str> {
        let mut segments = id.segments();
        let fits = self.before.iter().all(|wanted| segments.next() == Some(wanted.as_str()));
        let host = segments.next()?;
        let fits = fits && self.after.iter().all(|wanted| segments.next() == Some(wanted.as_str()));
        (fits && segments.next().is_none() && id.is_in(&self.domain)).then_some(host)
    }

    /// Whether it speaks of what has powers of its own in the broker's trust domain.
    fn is_reserved(&self, domain: &TrustDomain) -> bool {
        let first = self.before.first().map(String::as_str);
        self.domain == *domain && matches!(first, Some("node" | "broker" | "user"))
    }
}

pub(in crate::config) fn nodes(
    identity: &mut Section<'_>,
    domain: Option<&TrustDomain>,
    issuers: &[IssuerSettings],
    trust: &[TrustSettings],
) -> Vec<NodeRule> {
    let mut read: Vec<NodeRule> = Vec::new();
    identity.each("nodes", |name, section| {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if name.is_empty() || name.len() > 63 || !name.bytes().all(allowed) {
            section.fault::<()>("", "the name of a rule has 1 to 63 of a-z, 0-9 and `-`".to_owned());
        }
        let prefix = section.parsed("prefix", prefix);
        let prefix = section.required("prefix", prefix);
        let proof = proof(section, domain, issuers, trust);
        let rule = NodeRule { name: name.to_owned(), prefix: prefix?, proof: proof? };
        let overlaps = |other: &&NodeRule| {
            other.prefix.starts_with(&rule.prefix) || rule.prefix.starts_with(&other.prefix)
        };
        if let Some(other) = read.iter().find(overlaps) {
            let message = format!(
                "begins with that of `{}`, or the other way round: a machine of one could be a node of the other",
                other.name
            );
            return section.fault::<()>("prefix", message);
        }
        read.push(rule);
        None
    });
    read
}

fn proof(
    section: &mut Section<'_>,
    domain: Option<&TrustDomain>,
    issuers: &[IssuerSettings],
    trust: &[TrustSettings],
) -> Option<NodeProof> {
    let given = (section.text("issuer"), section.text("service_account"), section.text("spiffe_id"));
    match given {
        (None, None, Some(text)) => certificate(&text, section, domain, trust),
        (Some(issuer), Some(text), None) => cluster(issuer, &text, section, issuers),
        _ => section.fault("", "needs `issuer` and `service_account`, or `spiffe_id` alone".to_owned()),
    }
}

fn certificate(
    text: &str,
    section: &mut Section<'_>,
    domain: Option<&TrustDomain>,
    trust: &[TrustSettings],
) -> Option<NodeProof> {
    let pattern = match HostPattern::parse(text) {
        Ok(pattern) => pattern,
        Err(form) => return section.fault("spiffe_id", form.to_owned()),
    };
    if domain.is_some_and(|domain| pattern.is_reserved(domain)) {
        let message = "must not be that of a node, a broker or a person of this trust domain";
        return section.fault("spiffe_id", message.to_owned());
    }
    if !trust.iter().any(|trust| trust.domain == pattern.domain) {
        let domain = pattern.domain.as_str();
        let message = format!("is of `{domain}`, for which no good `[identity.trust.NAME]` vouches");
        return section.fault("spiffe_id", message);
    }
    Some(NodeProof::Certificate(pattern))
}

fn cluster(
    issuer: String,
    account: &str,
    section: &mut Section<'_>,
    issuers: &[IssuerSettings],
) -> Option<NodeProof> {
    let is_cluster = |settings: &IssuerSettings| {
        settings.name == issuer && matches!(settings.kind, IssuerKind::Kubernetes { .. })
    };
    if !issuers.iter().any(is_cluster) {
        let message = format!("there is no good `[identity.issuers.{issuer}]` of kind `kubernetes`");
        section.fault::<()>("issuer", message);
    }
    match service_account(account) {
        Ok((namespace, account)) => Some(NodeProof::ServiceAccount { issuer, namespace, account }),
        Err(form) => section.fault("service_account", form.to_owned()),
    }
}

fn prefix(text: &str) -> Result<String, &'static str> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let is_one = (1..=LONGEST_PREFIX).contains(&text.len()) && text.bytes().all(allowed);
    is_one.then(|| text.to_owned()).ok_or("has 1 to 63 letters, digits, `.`, `_` and `-`")
}

fn service_account(text: &str) -> Result<(String, String), &'static str> {
    let parts = text.split_once('/').filter(|(namespace, account)| {
        !namespace.is_empty() && !account.is_empty() && !account.contains('/')
    });
    let (namespace, account) = parts.ok_or("is `NAMESPACE/ACCOUNT`")?;
    Ok((namespace.to_owned(), account.to_owned()))
}

const LONGEST_PREFIX: usize = 63;
const FORM: &str = "is a SPIFFE ID in which one segment after the first is `*`, such as \
                    `spiffe://machines.example.org/host/*`";

#[cfg(test)]
mod tests {
    use super::*;

    fn host(pattern: &str, id: &str) -> Option<String> {
        let id = SpiffeId::parse(id).expect("id");
        HostPattern::parse(pattern).expect("pattern").host(&id).map(str::to_owned)
    }

    #[test]
    fn the_open_segment_is_the_host_and_everything_else_has_to_be_as_written() {
        let pattern = "spiffe://machines.example/host/*/agent";
        assert_eq!(host(pattern, "spiffe://machines.example/host/a-1/agent").as_deref(), Some("a-1"));
        for other in [
            "spiffe://machines.example/host/a-1",
            "spiffe://machines.example/host/a-1/agent/x",
            "spiffe://machines.example/host/a/b/agent",
            "spiffe://machines.example/hosts/a-1/agent",
            "spiffe://other.example/host/a-1/agent",
        ] {
            assert_eq!(host(pattern, other), None, "{other}");
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for bad in [
            "",
            "/host/*",
            "spiffe://*/host/x",
            "spiffe://machines.example/*",
            "spiffe://machines.example/*/x",
            "spiffe://machines.example/host",
            "spiffe://machines.example/host/a*",
            "spiffe://machines.example/host/*/*",
            "spiffe://machines.example/host/*/",
        ] {
            assert!(HostPattern::parse(bad).is_err(), "`{bad}`");
        }
    }
}
