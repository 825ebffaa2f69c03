//! Sets of policies and registrations, as `bursar policy apply` sends them.

use bursar_broker::policy::{
    Context, Facts, Policies, PolicyFile, PrincipalFacts, Request, Resource, Selector,
};
use bursar_core::audit::{Action, Decision};
use bursar_core::spiffe::TrustDomain;
use bursar_core::{Reference, SpiffeId};
use jiff::Timestamp;

use crate::Target;

pub(super) const TARGET: Target = Target { name: "policies", seeds, run, rounds: 400 };

/// The input is the files of a set, with a NUL between them: policies, registrations, grants.
fn run(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let mut parts = text.splitn(3, '\0');
    let mut part = || parts.next().unwrap_or_default();
    let (cedar, registrations, grants) = (part(), part(), part());
    let file = |name: &str, text: &str| PolicyFile { name: name.to_owned(), text: text.to_owned() };
    let files =
        [file("fuzz.cedar", cedar), file("registrations.toml", registrations), file("grants.toml", grants)];
    let domain = TrustDomain::parse("example.org").expect("a trust domain");
    let policies = match Policies::compile(&files, &domain, &id("user/admin")) {
        Ok(policies) => policies,
        Err(faults) => {
            assert!(!faults.is_empty(), "a set that is refused is told why");
            for fault in faults {
                let lines =
                    files.iter().find(|file| file.name == fault.file).map(|file| file.text.lines().count());
                let within = usize::try_from(fault.line).is_ok_and(|line| line <= lines.unwrap_or(0) + 1);
                assert!(within, "{fault:?} is beyond the end of its file");
            }
            return;
        }
    };
    let reference = Reference::parse("vault/payments/db").expect("a reference");
    let approved_by = [id("user/bob")];
    for (principal, governs) in [(node(), false), (workload(), false), (known("user/ada"), true)] {
        for (action, resource) in [
            (Action::Read, Resource::secret(&reference)),
            (Action::Resolve, Resource::Environment("payments/prod")),
            (Action::ApplyPolicy, Resource::System),
            (Action::EvictNode, Resource::Node("web-1")),
        ] {
            let context = Context { time: Timestamp::UNIX_EPOCH, reason: "why", approved_by: &approved_by };
            let request = Request { principal: &principal, action, resource, context };
            let (first, again) = (policies.decide(&request), policies.decide(&request));
            assert_eq!(first, again, "a decision that is kept is the decision that was made");
            let governing = matches!(action, Action::ApplyPolicy | Action::EvictNode);
            assert!(!governing || governs || first.decision == Decision::Deny, "{first:?}");
            assert!(first.errors.is_empty() || first.decision == Decision::Deny, "{first:?}");
        }
    }
}

fn node() -> PrincipalFacts {
    known("node/web-1")
}

fn workload() -> PrincipalFacts {
    let selectors = vec![Selector::parse("unix:uid:1001").expect("a selector")];
    let (method, node) = ("node".to_owned(), Some(id("node/web-1")));
    PrincipalFacts::new(Facts { id: id("workload/payments"), method, node, selectors, groups: Vec::new() })
}

fn known(path: &str) -> PrincipalFacts {
    let method = "mtls".to_owned();
    PrincipalFacts::new(Facts { id: id(path), method, node: None, selectors: Vec::new(), groups: Vec::new() })
}

fn id(path: &str) -> SpiffeId {
    SpiffeId::parse(&format!("spiffe://example.org/{path}")).expect("an id")
}

fn seeds() -> Vec<Vec<u8>> {
    [
        "permit (principal, action, resource);",
        "@id(\"payments\")\npermit (principal in Bursar::Group::\"spiffe://example.org/ns/payments\",\n  action in \
         Bursar::Action::\"use\", resource in Bursar::Folder::\"vault/payments\")\nwhen { context has reason && \
         context.reason like \"INC-*\" };\0[[registration]]\nprincipal = \"spiffe://example.org/workload/payments\"\n\
         node = \"web-*\"\nselectors = [\"unix:uid:1001\"]\n",
        "@id(\"mine\") permit (principal is Bursar::Principal in ?principal, action, resource == ?resource);\0\0[[grant]]\n\
         template = \"mine\"\nprincipal = \"spiffe://example.org/ns/*\"\nsecrets = \"vault/payments/db\"\n[[grant]]\n\
         template = \"bursar.use\"\nprincipal = \"people\"\nenvironments = \"payments/*\"\nid = \"x\"\n",
        "forbid (principal, action == Bursar::Action::\"read\", resource) unless { context.weekday < 6 && \
         principal.selectors.contains(\"unix:uid:1001\") };",
        "permit (principal, action in [Bursar::Action::\"govern\", Bursar::Action::\"read\"], resource) when { \
         9223372036854775807 + context.weekday > 0 };",
        "forbid (principal, action == Bursar::Action::\"read\", resource) unless { context.approvals > 0 && context has \
         approved_by && context.approved_by.contains(\"spiffe://example.org/user/bob\") };",
        "permit (principal == Bursar::Principal::\"spiffe://example.org/user/ada\", action, resource == \
         Bursar::System::\"broker\");\0[[registration]]\nprincipal = \"spiffe://example.org/ns/a/sa/b\"\nnode = \"*\"\n\
         selectors = []\nttl = \"1h\"\ngroups = [\"x\"]\n",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}
