//! The caller of a request, as everything behind the identity layer sees it.

use std::net::SocketAddr;
use std::sync::Arc;

use bursar_core::SpiffeId;
use bursar_core::audit::Actor;
use jiff::Timestamp;

use super::admission::Account;
use crate::policy::{BREAK_GLASS, Facts, PrincipalFacts, Selector};

/// Somebody whose identity is established.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Who it is, how that is known, and what policy may depend on.
    pub facts: PrincipalFacts,
    /// SHA-256 of the credential, as hex.
    pub credential: String,
    /// When the credential ends; no lease outlives it.
    pub credential_expires: Timestamp,
    /// The workload instance that the agent, or a pod's token, vouches for.
    pub instance: Option<String>,
    /// A cap on leases that the registration sets.
    pub ttl: Option<std::time::Duration>,
    /// The network address that the call came from.
    pub peer: Option<SocketAddr>,
    /// Of the bearer of a cluster's token: what it is for.
    pub account: Option<Arc<Account>>,
}

/// How the broker knows a caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// A client certificate.
    Mtls,
    /// A node's agent spoke for a workload that it attested.
    Node,
    /// A token of a service account, by a Kubernetes cluster.
    Kubernetes,
    /// A token of an OIDC issuer.
    Oidc,
    /// A one-time join token.
    JoinToken,
    /// A client certificate that was made beside the broker, with its seal key, for an emergency.
    BreakGlass,
    /// The broker itself: expiry, revocation.
    Broker,
}

impl Method {
    /// The name in policies and audit records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mtls => "mtls",
            Self::Node => "node",
            Self::Kubernetes => "kubernetes",
            Self::Oidc => "oidc",
            Self::JoinToken => "join-token",
            Self::BreakGlass => BREAK_GLASS,
            Self::Broker => "broker",
        }
    }
}

impl Caller {
    /// The principal.
    pub fn id(&self) -> &SpiffeId {
        &self.facts.id
    }

    /// The bearer of a token that the agent of `node` passed on.
    #[must_use]
    pub fn by_way_of(&self, node: &SpiffeId) -> Self {
        let facts = Facts { node: Some(node.clone()), ..Facts::clone(&self.facts) };
        Self { facts: PrincipalFacts::new(facts), ..self.clone() }
    }

    /// The caller as an audit record names it.
    pub fn actor(&self) -> Actor {
        Actor {
            principal: self.facts.id.to_string(),
            method: self.facts.method.clone(),
            credential: Some(self.credential.clone()),
            node: self.facts.node.as_ref().map(ToString::to_string),
            selectors: self.facts.selectors.iter().map(Selector::to_string).collect(),
            peer: self.peer.map(|peer| peer.to_string()),
        }
    }
}
