//! Certificates of clients, as the handshake hands them on.

use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};

use bursar_broker::config::Config;
use bursar_broker::identity::peer::Peer;
use bursar_broker::identity::{Authority, Trust};
use bursar_broker::telemetry::Metrics;
use bursar_core::{Clock, SpiffeId, SystemClock};
use prometheus_client::registry::Registry;
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, SanType};
use rustls_pki_types::CertificateDer;

use crate::Target;

pub(super) const TARGET: Target = Target { name: "certificates", seeds, run, rounds: 3_000 };

/// A broker's trust, and what its authority signed.
struct Site {
    trust: Trust,
    signed: Vec<Vec<u8>>,
}

static SITE: LazyLock<Site> = LazyLock::new(|| {
    let config =
        "trust_domain = 'example.org'\ndata_dir = 'd'\n[identity.break_glass]\n[seal]\nkey = { env = 'K' }\n";
    let config = Config::parse(config).expect("a configuration");
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let made = Authority::create(config.trust_domain.clone(), Arc::clone(&clock));
    let (authority, _) = made.expect("an authority");
    let id = |path: &str| SpiffeId::parse(&format!("spiffe://example.org/{path}")).expect("an id");
    let hour = std::time::Duration::from_secs(3600);
    let glass = authority.break_glass(&id("user/break-glass"), "a drill", hour).expect("a certificate");
    let server = authority.server(&id("broker/b"), &["localhost".to_owned()]).expect("a certificate");
    let user = authority.user(&id("user/ada")).expect("a certificate");
    let signed = [glass, server, user].map(|made| made.certificate.der.to_vec()).to_vec();
    let metrics = Metrics::register(&mut Registry::default());
    let (root, glass) = (authority.root().clone(), config.break_glass());
    let trust = Trust::open(config.trust_domain, root, Vec::new(), glass, clock, metrics);
    Site { trust: trust.expect("trust"), signed }
});

/// The input is a leaf.
fn run(input: &[u8]) {
    let read = Peer::from_leaf(input);
    if let Ok(peer) = &read {
        assert_eq!(SpiffeId::parse(peer.id.as_str()).as_ref(), Ok(&peer.id));
    }
    let chain = vec![CertificateDer::from(input.to_vec())];
    if let Ok(presented) = SITE.trust.present(chain, SocketAddr::from(([127, 0, 0, 1], 1))) {
        assert!(
            SITE.signed.iter().any(|signed| signed == input),
            "somebody is believed whom nobody vouches for"
        );
        assert!(read.is_ok_and(|peer| peer.id == *presented.caller.id()));
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let own = |shape: &dyn Fn(&mut CertificateParams)| {
        let mut params = CertificateParams::default();
        let uri = |text: &str| SanType::URI(text.to_owned().try_into().expect("a URI"));
        params.subject_alt_names = vec![uri("spiffe://example.org/node/web-1")];
        shape(&mut params);
        let key = KeyPair::generate().expect("a key");
        params.self_signed(&key).expect("a certificate").der().to_vec()
    };
    let mut seeds = SITE.signed.clone();
    seeds.push(own(&|_| ()));
    seeds.push(own(&|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)));
    seeds.push(own(&|params| params.subject_alt_names.extend_from_within(..)));
    seeds.push(own(&|params| params.subject_alt_names.clear()));
    seeds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_authority_signed_is_believed() {
        let chain = |leaf: &Vec<u8>| vec![CertificateDer::from(leaf.clone())];
        let known = |leaf: &Vec<u8>| SITE.trust.present(chain(leaf), SocketAddr::from(([127, 0, 0, 1], 1)));
        let people: Vec<_> = SITE.signed.iter().filter_map(|leaf| known(leaf).ok()).collect();
        // That of a server is for no client.
        assert_eq!(people.len(), 2);
    }
}
