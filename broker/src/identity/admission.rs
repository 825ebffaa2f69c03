//! Which node a machine joins as, by what it has already: a token of its agent's service account, or a certificate.
//!
//! What a machine says of itself is never asked. The name comes from what its cluster or its authority signed, behind the
//! prefix of the one rule that fits, so that no two of them can mean the same node.

use bursar_core::SpiffeId;
use bursar_core::spiffe::PrincipalKind;
use bursar_proto::limits;

use super::Caller;
use crate::config::{NodeProof, NodeRule};

/// The rules of the configuration; without any, machines join by tokens alone.
#[derive(Debug)]
pub struct NodeRules(Vec<NodeRule>);

/// A service account as the token says that is for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// The name of the issuer in the configuration.
    pub issuer: String,
    pub namespace: String,
    pub name: String,
    /// The machine that the token's pod runs on.
    pub node: Option<String>,
}

/// A node that a rule lets in.
#[derive(Debug, PartialEq, Eq)]
pub struct Admitted {
    /// The name of the node.
    pub node: String,
    /// The rule, as the audit record names it.
    pub rule: String,
}

impl NodeRules {
    /// Goes by these.
    pub fn new(rules: Vec<NodeRule>) -> Self {
        Self(rules)
    }

    /// The node that the bearer of a token joins as.
    ///
    /// # Errors
    /// [`JoinFault::NoRule`], [`JoinFault::NoNode`], [`JoinFault::Name`].
    pub fn by_token(&self, bearer: &Caller) -> Result<Admitted, JoinFault> {
        let no_rule = || JoinFault::NoRule { principal: bearer.id().to_string() };
        let account = bearer.account.as_deref().ok_or_else(no_rule)?;
        let rule = self.0.iter().find(|rule| is_for(rule, account)).ok_or_else(no_rule)?;
        admitted(rule, account.node.as_deref().ok_or(JoinFault::NoNode)?)
    }

    /// The node that whoever presents a certificate joins as.
    ///
    /// # Errors
    /// [`JoinFault::NoRule`], [`JoinFault::Name`].
    pub fn by_certificate(&self, machine: &Caller) -> Result<Admitted, JoinFault> {
        let fitting = |rule: &'_ NodeRule| match &rule.proof {
            NodeProof::Certificate(pattern) => pattern.host(machine.id()).map(str::to_owned),
            NodeProof::ServiceAccount { .. } => None,
        };
        let found = self.0.iter().find_map(|rule| fitting(rule).map(|host| (rule, host)));
        let (rule, host) = found.ok_or_else(|| JoinFault::NoRule { principal: machine.id().to_string() })?;
        admitted(rule, &host)
    }

    /// Whether a token of this account may come by way of a node: where the nodes of its cluster are known, only by that
    /// of its own pod.
    pub fn is_at_home(&self, account: &Account, node: &SpiffeId) -> bool {
        let of_cluster = |rule: &&NodeRule| match &rule.proof {
            NodeProof::ServiceAccount { issuer, .. } => *issuer == account.issuer,
            NodeProof::Certificate(_) => false,
        };
        let PrincipalKind::Node { name } = node.kind() else { return false };
        let mut rules = self.0.iter().filter(of_cluster).peekable();
        let is_own = |rule: &NodeRule| name.strip_prefix(rule.prefix.as_str()) == account.node.as_deref();
        rules.peek().is_none() || rules.any(|rule| account.node.is_some() && is_own(rule))
    }
}

fn is_for(rule: &NodeRule, account: &Account) -> bool {
    match &rule.proof {
        NodeProof::ServiceAccount { issuer, namespace, account: name } => {
            (issuer, namespace, name) == (&account.issuer, &account.namespace, &account.name)
        }
        NodeProof::Certificate(_) => false,
    }
}

fn admitted(rule: &NodeRule, machine: &str) -> Result<Admitted, JoinFault> {
    let node = format!("{}{machine}", rule.prefix);
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if node.len() > limits::NODE_NAME || !node.bytes().all(allowed) || matches!(node.as_str(), "." | "..") {
        return Err(JoinFault::Name);
    }
    Ok(Admitted { node, rule: format!("identity.nodes.{}", rule.name) })
}

/// Why somebody who is known does not join as a node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JoinFault {
    #[error(
        "no `[identity.nodes.NAME]` of the broker lets `{principal}` in as a node; add one for it, or join by a token \
         of `bursar node token`"
    )]
    NoRule { principal: String },
    #[error(
        "the token does not say on which machine its pod runs, so it makes no node; tokens of pods do so from Kubernetes \
         1.30 on"
    )]
    NoNode,
    #[error(
        "the name of this machine, with its prefix, cannot be that of a node: 1 to 253 letters, digits, `.`, `_`, `-`"
    )]
    Name,
    #[error(
        "node `{node}` was let in by a join token, so only another one lets it in again; to let it in by what it has, \
         evict and readmit it"
    )]
    Held { node: String },
    #[error("node `{node}` is not renewed by its certificate: it joins again by what let it in")]
    Rejoins { node: String },
}

impl JoinFault {
    /// The name in audit records.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::NoRule { .. } => "join_no_rule",
            Self::NoNode => "join_no_node",
            Self::Name => "join_name",
            Self::Held { .. } => "join_held",
            Self::Rejoins { .. } => "join_again",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(issuer: &str, prefix: &str) -> NodeRule {
        let proof = NodeProof::ServiceAccount {
            issuer: issuer.to_owned(),
            namespace: "bursar-system".to_owned(),
            account: "agent".to_owned(),
        };
        NodeRule { name: issuer.to_owned(), prefix: prefix.to_owned(), proof }
    }

    fn pod(issuer: &str, node: Option<&str>) -> Account {
        Account {
            issuer: issuer.to_owned(),
            namespace: "shop".to_owned(),
            name: "web".to_owned(),
            node: node.map(str::to_owned),
        }
    }

    fn is_at_home(account: &Account, node: &str) -> bool {
        let id = SpiffeId::parse(&format!("spiffe://example.org/node/{node}")).expect("id");
        NodeRules::new(vec![rule("east", "east."), rule("west", "west.")]).is_at_home(account, &id)
    }

    #[test]
    fn a_pods_token_is_at_home_on_its_own_node_alone_where_the_clusters_nodes_are_known() {
        assert!(is_at_home(&pod("east", Some("n1")), "east.n1"));
        assert!(!is_at_home(&pod("east", Some("n1")), "east.n2"));
        assert!(!is_at_home(&pod("east", Some("n1")), "west.n1"));
        assert!(!is_at_home(&pod("east", Some("n1")), "n1"));
        assert!(!is_at_home(&pod("east", None), "east."));
        assert!(
            is_at_home(&pod("north", Some("n1")), "anything") && is_at_home(&pod("north", None), "anything")
        );
    }

    #[test]
    fn a_name_that_no_node_may_have_makes_none() {
        for bad in ["", ".", "a/b", "a b", "ä", &"n".repeat(253)] {
            assert_eq!(admitted(&rule("east", "."), bad), Err(JoinFault::Name), "{bad}");
        }
    }
}
