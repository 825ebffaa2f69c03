//! Tokens of a Kubernetes cluster: bound tokens of service accounts.
//!
//! <https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/> shows the claims. A token of the old
//! kind, kept in a Secret, has no `kubernetes.io` and never ends; it is refused for both.

use std::sync::Arc;

use bursar_core::SpiffeId;
use bursar_core::spiffe::TrustDomain;
use serde_json::{Map, Value};

use super::Subject;
use super::refused::Refused;
use crate::policy::Selector;

/// A service account as its token names it.
pub(super) struct Account {
    pub(super) subject: Subject,
    /// The user name that the cluster knows it by.
    pub(super) user: String,
    /// The uid of the service account.
    pub(super) uid: String,
}

/// The service account, and the pod, that a token is for. `path` stands before `/ns/NAMESPACE/sa/ACCOUNT`.
pub(super) fn account(
    claims: &Map<String, Value>,
    domain: &TrustDomain,
    path: &[String],
    cluster: &str,
) -> Result<Account, Refused> {
    let bound = claims.get("kubernetes.io").ok_or(Refused::Claim("kubernetes.io"))?;
    let namespace = text(bound, "/namespace").ok_or(Refused::Claim("kubernetes.io.namespace"))?;
    let account = text(bound, "/serviceaccount/name");
    let account = account.ok_or(Refused::Claim("kubernetes.io.serviceaccount.name"))?;
    let uid = text(bound, "/serviceaccount/uid").ok_or(Refused::Claim("kubernetes.io.serviceaccount.uid"))?;
    let user = format!("system:serviceaccount:{namespace}:{account}");
    if claims.get("sub").and_then(Value::as_str) != Some(&user) {
        return Err(Refused::Claim("sub"));
    }
    let (pod, pod_uid) = (text(bound, "/pod/name"), text(bound, "/pod/uid"));
    if bound.get("pod").is_some() && (pod.is_none() || pod_uid.is_none()) {
        return Err(Refused::Claim("kubernetes.io.pod"));
    }
    let segments: Vec<&str> =
        path.iter().map(String::as_str).chain(["ns", namespace, "sa", account]).collect();
    let id = SpiffeId::from_segments(domain, &segments).map_err(|_| Refused::Claim("sub"))?;
    let attested = [
        ("cluster", Some(cluster)),
        ("ns", Some(namespace)),
        ("sa", Some(account)),
        ("pod-name", pod),
        ("pod-uid", pod_uid),
        ("node-name", text(bound, "/node/name")),
    ];
    let selector = |(kind, value): (&str, Option<&str>)| {
        let value = value?;
        Some(Selector::parse(&format!("k8s:{kind}:{value}")).map_err(|_| Refused::Claim("kubernetes.io")))
    };
    let selectors = attested.into_iter().filter_map(selector).collect::<Result<_, _>>()?;
    // Leases belong to a pod, so that one that starts anew under the same account gets its own.
    let instance = pod_uid.map(str::to_owned);
    let named = super::Account {
        issuer: cluster.to_owned(),
        namespace: namespace.to_owned(),
        name: account.to_owned(),
        node: text(bound, "/node/name").map(str::to_owned),
    };
    let account = Some(Arc::new(named));
    let subject = Subject { id, selectors, groups: Vec::new(), instance, account };
    Ok(Account { subject, user, uid: uid.to_owned() })
}

fn text<'claims>(bound: &'claims Value, at: &str) -> Option<&'claims str> {
    bound.pointer(at).and_then(Value::as_str).filter(|text| !text.is_empty())
}
