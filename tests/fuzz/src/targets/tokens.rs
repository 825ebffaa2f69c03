//! Tokens: what a stranger writes into the `authorization` header, what an issuer that is known may say, and which node
//! that lets in.

use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};

use bursar_broker::config::Config;
use bursar_broker::identity::Caller;
use bursar_broker::identity::admission::NodeRules;
use bursar_broker::identity::token::Tokens;
use bursar_broker::telemetry::Metrics;
use bursar_core::spiffe::PrincipalKind;
use bursar_core::tasks::Tasks;
use bursar_core::{Clock, SpiffeId, SystemClock};
use bursar_tests::TokenIssuer;
use http::HeaderValue;
use jiff::Timestamp;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};

use crate::Target;

pub(super) const TARGET: Target = Target { name: "tokens", seeds, run, rounds: 10_000 };

/// A cluster and an issuer for people, whose tokens a broker takes.
struct Site {
    runtime: Runtime,
    issuer: TokenIssuer,
    tokens: Tokens,
    /// The cluster's nodes are let in by them.
    rules: NodeRules,
    _keys: tempfile::NamedTempFile,
}

static SITE: LazyLock<Site> = LazyLock::new(|| {
    let issuer = TokenIssuer::new().expect("an issuer");
    let keys = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(keys.path(), json!({ "keys": [issuer.jwk()] }).to_string()).expect("written");
    let config = format!(
        "trust_domain = 'example.org'\ndata_dir = 'd'\n[seal]\nkey = {{ env = 'K' }}\n\
         [identity.issuers.cluster]\nkind = 'kubernetes'\nissuer = '{CLUSTER}'\naudience = 'bursar'\n\
         jwks_file = '{keys}'\n\
         [identity.nodes.cluster]\nissuer = 'cluster'\nservice_account = 'shop/web'\nprefix = '{PREFIX}'\n\
         [identity.issuers.people]\nkind = 'oidc'\nissuer = '{PEOPLE}'\naudience = 'bursar'\njwks_file = '{keys}'\n\
         [[identity.issuers.people.rules]]\nmatch = {{ name = '*', groups = '*' }}\nprincipal = '/user/{{name}}'\n\
         groups = ['{{groups}}']\n",
        keys = keys.path().display()
    );
    let config = Config::parse(&config).expect("a configuration");
    let rules = NodeRules::new(config.identity.nodes);
    let metrics = Metrics::register(&mut Registry::default());
    let tokens = Tokens::new(&config.issuers, config.trust_domain, metrics).expect("issuers");
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    {
        // Reads the keys while the runtime waits for an answer.
        let (_context, clock) = (runtime.enter(), Arc::new(SystemClock) as Arc<dyn Clock>);
        tokens.keep_keys(&clock, &Tasks::new());
    }
    Site { runtime, issuer, tokens, rules, _keys: keys }
});

/// The first byte says whether the rest is the header as it comes, or claims that an issuer signs.
fn run(input: &[u8]) {
    let Some((first, rest)) = input.split_first() else { return };
    if *first != SIGNED {
        let Ok(header) = HeaderValue::from_bytes(rest) else { return };
        assert!(known(&header).is_none(), "a token is believed that nobody signed");
        return;
    }
    let token = SITE.issuer.token_of(rest).expect("a token");
    let Ok(header) = HeaderValue::from_str(&format!("Bearer {token}")) else { return };
    let Some(caller) = known(&header) else { return };
    let id = caller.id();
    // It was signed, so it names somebody; but nobody whom no token may name.
    assert!(
        id.segments().next() != Some("broker") && !matches!(id.kind(), PrincipalKind::Node { .. }),
        "{id}"
    );
    assert!(
        !["admin", "break-glass"].iter().any(|name| id.as_str().ends_with(&format!("/user/{name}"))),
        "{id}"
    );
    assert_eq!(id.trust_domain().as_str(), "example.org");
    if let Ok(admitted) = SITE.rules.by_token(&caller) {
        let node = SpiffeId::from_segments(&id.trust_domain(), &["node", &admitted.node]).expect("an id");
        let is_one = matches!(node.kind(), PrincipalKind::Node { name } if name == admitted.node && name.starts_with(PREFIX));
        assert!(is_one, "{node}");
    }
}

fn known(header: &HeaderValue) -> Option<Arc<Caller>> {
    let address = SocketAddr::from(([127, 0, 0, 1], 1));
    SITE.runtime.block_on(SITE.tokens.caller(header, address, now())).ok()
}

fn seeds() -> Vec<Vec<u8>> {
    let (issued, ends) = (now().as_second(), now().as_second() + 600);
    let pod = json!({
        "iss": CLUSTER,
        "aud": "bursar",
        "iat": issued,
        "exp": ends,
        "sub": "system:serviceaccount:shop:web",
        "kubernetes.io": {
            "namespace": "shop",
            "serviceaccount": { "name": "web", "uid": "1" },
            "pod": { "name": "web-0", "uid": "2" },
            "node": { "name": "node-1", "uid": "3" },
        },
    });
    let person = json!({
        "iss": PEOPLE, "aud": "bursar", "iat": issued, "exp": ends, "sub": "1", "name": "ada", "groups": ["ops", "dev"],
    });
    let signed = |claims: &Value| [&[SIGNED], claims.to_string().as_bytes()].concat();
    let bare = |text: &str| [&[0], text.as_bytes()].concat();
    let stranger = TokenIssuer::new().expect("an issuer");
    let by_a_stranger = stranger.token(&pod).expect("a token");
    let no_algorithm = by_a_stranger.replacen(|letter: char| letter.is_ascii_digit(), "A", 1);
    vec![
        signed(&pod),
        signed(&person),
        bare(&format!("Bearer {by_a_stranger}")),
        bare(&format!("Bearer {no_algorithm}")),
        bare("Bearer eyJhbGciOiJub25lIn0.e30."),
        bare("Basic dXNlcjpwYXNzd29yZA=="),
        bare("Bearer a.b.c"),
    ]
}

/// Long ago, and the same in each run.
fn now() -> Timestamp {
    Timestamp::constant(1_700_000_000, 0)
}

const CLUSTER: &str = "https://cluster.example.org";
const PEOPLE: &str = "https://people.example.org";
const SIGNED: u8 = 1;
const PREFIX: &str = "east.";

#[cfg(test)]
mod tests {
    use super::*;

    /// Else what is tried would be no more than that everything is refused.
    #[test]
    fn what_an_issuer_signs_is_believed() {
        let believed = |seed: &Vec<u8>| {
            let token = SITE.issuer.token_of(seed.get(1..)?).ok()?;
            known(&HeaderValue::from_str(&format!("Bearer {token}")).ok()?)
        };
        let callers: Vec<_> = seeds().iter().take(2).filter_map(believed).collect();
        let ids: Vec<_> = callers.iter().map(|caller| caller.id().to_string()).collect();
        assert_eq!(ids, ["spiffe://example.org/ns/shop/sa/web", "spiffe://example.org/user/ada"]);
        let nodes =
            callers.iter().map(|caller| SITE.rules.by_token(caller).ok().map(|admitted| admitted.node));
        assert_eq!(nodes.collect::<Vec<_>>(), [Some("east.node-1".to_owned()), None]);
    }
}
