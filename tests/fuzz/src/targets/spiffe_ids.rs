//! SPIFFE IDs: out of certificates, tokens, registrations and queries.

use bursar_core::SpiffeId;
use bursar_core::spiffe::PrincipalKind;

use crate::Target;

pub(super) const TARGET: Target = Target { name: "spiffe-ids", seeds, run, rounds: 50_000 };

fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let Ok(id) = SpiffeId::parse(text) else { return };
    assert_eq!(id.as_str(), text, "an id is what was written");
    assert_eq!(SpiffeId::parse(&id.to_string()).as_ref(), Ok(&id));
    assert!(text.len() <= 2048 && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'%'));
    let segments: Vec<&str> = id.segments().collect();
    assert!(segments.iter().all(|segment| !matches!(*segment, "" | "." | "..")), "{segments:?}");
    let domain = id.trust_domain();
    assert!(id.is_in(&domain));
    assert_eq!(
        format!("spiffe://{domain}/{}", segments.join("/")),
        text,
        "nothing is lost between the parts"
    );
    assert_eq!(SpiffeId::from_segments(&domain, &segments).as_ref(), Ok(&id));
    if let PrincipalKind::Node { name } = id.kind() {
        assert_eq!(segments, ["node", name], "what is a node has a node's path and no other");
    }
}

fn seeds() -> Vec<Vec<u8>> {
    [
        "spiffe://example.org/ns/shop/sa/web",
        "spiffe://example.org/clusters/east/ns/shop/sa/web",
        "spiffe://example.org/node/web-1.example",
        "spiffe://example.org/user/ada",
        "spiffe://example.org/workload/a_b.c-d",
        "spiffe://example.org/../user/admin",
        "SPIFFE://example.org/user/ada",
        "spiffe://user@example.org:8443/x?y#z",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}
