//! Who may vouch for whom.
//!
//! The broker's own authority vouches for its trust domain. Others may stand beside it, each for one trust domain and for
//! the principals that its table allows, so that an authority for people cannot name a node, and one of another trust
//! domain cannot name anybody here.
//!
//! [`Trust::judge`] is where that is decided, from the whole chain and the bundles of the leaf's own trust domain, and
//! from nothing else: at each handshake, one that resumes an earlier session included, and at the next call of a
//! connection after bundles have changed. During the handshake itself a chain is let through that ends in *any* known
//! root. That only tells strangers apart, and lets a caller who is refused hear why, which an alert cannot say.
//!
//! Files are read again when their content changes. Bad ones leave in force what was there, are logged once and shown
//! until they are mended: a half-written file must not lock everybody out.

mod bundle;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bursar_core::Clock;
use bursar_core::spiffe::TrustDomain;
use bursar_core::tasks::Tasks;
use jiff::Timestamp;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, SignatureScheme};
use rustls_pki_types::{CertificateDer, UnixTime};

pub use self::bundle::BundleError;
use self::bundle::{Bundle, Content};
use super::Method;
use super::break_glass::BreakGlass;
use super::peer::{CertificateFault, Peer, Presented};
use crate::config::TrustSettings;
use crate::telemetry::Metrics;

/// The bundles in force.
#[derive(Debug)]
pub struct Trust {
    domain: TrustDomain,
    settings: Vec<TrustSettings>,
    glass: BreakGlass,
    /// The broker's own first, then those of the configuration in its order.
    bundles: RwLock<Arc<[Arc<Bundle>]>>,
    /// Counts changes of `bundles`.
    generation: AtomicU64,
    findings: RwLock<Vec<Finding>>,
    algorithms: WebPkiSupportedAlgorithms,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
}

/// What the last look at the files of a bundle found.
#[derive(Debug, Clone)]
struct Finding {
    name: String,
    fault: Option<String>,
    /// Whether the lists of revoked certificates in force are out of date.
    late: bool,
}

impl Trust {
    /// Reads every bundle, beside the broker's own `root`.
    ///
    /// # Errors
    /// The table and its fault: a broker does not start with less trust than it is told to have.
    pub fn open(
        domain: TrustDomain,
        root: CertificateDer<'static>,
        settings: Vec<TrustSettings>,
        glass: BreakGlass,
        clock: Arc<dyn Clock>,
        metrics: Metrics,
    ) -> Result<Self, TrustError> {
        let own = |source| TrustError { table: "the broker's own authority".to_owned(), source };
        let mut bundles = vec![Arc::new(Bundle::own(domain.clone(), root).map_err(own)?)];
        for one in &settings {
            let read = Content::read(one).and_then(|content| Bundle::of(one, &content));
            let read = read.and_then(|bundle| shared(&bundle, &bundles).map(|()| bundle));
            bundles.push(Arc::new(read.map_err(|source| TrustError { table: one.to_string(), source })?));
            metrics.trust_stale(&one.name, false);
        }
        let findings =
            settings.iter().map(|one| Finding { name: one.name.clone(), fault: None, late: false }).collect();
        Ok(Self {
            domain,
            settings,
            glass,
            bundles: RwLock::new(bundles.into()),
            generation: AtomicU64::new(0),
            findings: RwLock::new(findings),
            algorithms: ring::default_provider().signature_verification_algorithms,
            clock,
            metrics,
        })
    }

    /// Whom a chain, leaf first, makes of whoever presents it at `address`.
    ///
    /// # Errors
    /// [`CertificateFault`], which names the rule that it breaks.
    pub fn present(
        &self,
        chain: Vec<CertificateDer<'static>>,
        address: SocketAddr,
    ) -> Result<Presented, CertificateFault> {
        // Read first: bundles that change in between are then judged by once more.
        let generation = self.generation.load(Ordering::Acquire);
        let peer = self.judge(&chain, self.clock.now())?;
        let presented = peer.presented(address, chain, generation, &self.domain, &self.glass);
        let method = if presented.broken.is_some() { Method::BreakGlass } else { Method::Mtls };
        self.metrics.authentication(method.as_str(), "ok");
        Ok(presented)
    }

    /// Whether what was presented when a connection was made is still vouched for. Costs nothing while the bundles are
    /// the same.
    ///
    /// # Errors
    /// As [`Trust::present`].
    pub fn stands(&self, presented: &Presented) -> Result<(), CertificateFault> {
        let generation = self.generation.load(Ordering::Acquire);
        if presented.judged_in.load(Ordering::Acquire) != generation {
            self.judge(&presented.chain, self.clock.now())?;
            presented.judged_in.store(generation, Ordering::Release);
        }
        Ok(())
    }

    /// What each bundle's files met last.
    pub fn findings(&self) -> Vec<(String, Option<String>)> {
        let findings = self.findings.read().unwrap_or_else(PoisonError::into_inner);
        findings.iter().map(|found| (format!("trust {}", found.name), found.fault.clone())).collect()
    }

    /// Takes up changes of the files until the process stops.
    pub async fn watch(self: Arc<Self>, tasks: Tasks) {
        let mut ticks = tasks.ticks(TICK);
        while ticks.next().await {
            let trust = Arc::clone(&self);
            if tokio::task::spawn_blocking(move || trust.look_again()).await.is_err() {
                tracing::error!("trust bundles could not be looked at");
            }
        }
    }

    /// Reads the files whose content is another than what is in force.
    fn look_again(&self) {
        for (place, settings) in self.settings.iter().enumerate() {
            let bundles = self.bundles();
            // The broker's own is the first of them.
            let Some(present) = bundles.get(place + 1) else { continue };
            let fault = match self.read_again(settings, present, &bundles) {
                Ok(None) => None,
                Ok(Some(bundle)) => {
                    let roots = bundle.roots.len();
                    self.replace(place + 1, bundle);
                    tracing::info!(bundle = settings.name, roots, "a trust bundle was read again");
                    None
                }
                Err(error) => Some(told(&error)),
            };
            let until = self.bundles().get(place + 1).and_then(|bundle| bundle.until);
            let late = until.filter(|until| *until < self.clock.now());
            let out_of_date =
                || late.map(|until| format!("its list of revoked certificates is out of date since {until}"));
            self.find(place, settings, fault.or_else(out_of_date), late.is_some());
        }
    }

    fn read_again(
        &self,
        settings: &TrustSettings,
        present: &Bundle,
        bundles: &[Arc<Bundle>],
    ) -> Result<Option<Bundle>, BundleError> {
        let content = Content::read(settings)?;
        if content.digest() == present.digest {
            return Ok(None);
        }
        let bundle = Bundle::of(settings, &content)?;
        shared(&bundle, bundles)?;
        Ok(Some(bundle))
    }

    fn replace(&self, place: usize, bundle: Bundle) {
        let mut current = self.bundles.write().unwrap_or_else(PoisonError::into_inner);
        let mut bundles = current.to_vec();
        if let Some(old) = bundles.get_mut(place) {
            *old = Arc::new(bundle);
        }
        *current = bundles.into();
        drop(current);
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    fn find(&self, place: usize, settings: &TrustSettings, fault: Option<String>, late: bool) {
        self.metrics.trust_stale(&settings.name, fault.is_some());
        let mut findings = self.findings.write().unwrap_or_else(PoisonError::into_inner);
        let Some(found) = findings.get_mut(place) else { return };
        if let (Some(error), true) = (&fault, fault != found.fault) {
            tracing::warn!(bundle = settings.name, error, "a trust bundle is not what its files should say");
        }
        found.fault = fault;
        if late && !found.late {
            // Whoever is connected came in by lists that held then.
            self.generation.fetch_add(1, Ordering::AcqRel);
        }
        found.late = late;
    }

    fn bundles(&self) -> Arc<[Arc<Bundle>]> {
        Arc::clone(&self.bundles.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn judge(&self, chain: &[CertificateDer<'static>], now: Timestamp) -> Result<Peer, CertificateFault> {
        let (leaf, intermediates) = chain.split_first().ok_or(CertificateFault::Unreadable)?;
        let peer = Peer::from_leaf(leaf)?;
        let own = peer.id.is_in(&self.domain);
        let breaks_glass = peer.id == self.glass.id;
        let bundles = self.bundles();
        let mut fault = CertificateFault::UnknownDomain { id: peer.id.clone() };
        let mut admitted = false;
        for bundle in bundles.iter().filter(|bundle| peer.id.is_in(&bundle.domain)) {
            // Nobody but the broker's own authority names this one, whatever a table says.
            if breaks_glass && bundle.name.is_some() {
                continue;
            }
            let verified = bundle.verifier.verify_client_cert(leaf, intermediates, unix(now));
            match verified {
                Ok(_) if bundle.principals.cover(&peer.id, own) => admitted = true,
                Ok(_) => {
                    let bundle = bundle.name.clone().unwrap_or_default();
                    fault = CertificateFault::NotItsPrincipal { id: peer.id.clone(), bundle };
                }
                // Whichever other bundle has the same root and knows nothing of it.
                Err(rustls::Error::InvalidCertificate(CertificateError::Revoked)) => {
                    return Err(CertificateFault::Revoked);
                }
                Err(_) if matches!(fault, CertificateFault::NotItsPrincipal { .. }) => {}
                Err(_) => fault = CertificateFault::NotVouchedFor { id: peer.id.clone() },
            }
        }
        match admitted {
            true if breaks_glass => self.glass.admit(&peer).map(|()| peer),
            true => Ok(peer),
            false => Err(fault),
        }
    }
}

impl ClientCertVerifier for Trust {
    /// A node that joins has no certificate yet.
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    /// Strangers are not told whom the broker trusts.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let bytes: usize = intermediates.iter().map(|one| one.len()).sum();
        if intermediates.len() > MAX_INTERMEDIATES || bytes + end_entity.len() > MAX_CHAIN_BYTES {
            return Err(rustls::Error::General("the client's certificate chain is too long".to_owned()));
        }
        let mut refused = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        for bundle in self.bundles().iter() {
            match bundle.verifier.verify_client_cert(end_entity, intermediates, now) {
                Ok(verified) => return Ok(verified),
                Err(error) if is_unknown(&refused) => refused = error,
                Err(_) => {}
            }
        }
        Err(refused)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

fn is_unknown(error: &rustls::Error) -> bool {
    matches!(error, rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer))
}

/// One root for two trust domains could name everybody in both.
fn shared(bundle: &Bundle, others: &[Arc<Bundle>]) -> Result<(), BundleError> {
    let mut elsewhere = others.iter().filter(|other| other.domain != bundle.domain);
    match elsewhere.find(|other| other.roots.iter().any(|root| bundle.roots.contains(root))) {
        Some(other) => Err(BundleError::Shared { other: other.domain.clone() }),
        None => Ok(()),
    }
}

fn unix(time: Timestamp) -> UnixTime {
    let seconds = u64::try_from(time.as_second()).unwrap_or_default();
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

/// With its cause, for whoever looks at the broker's health.
fn told(error: &BundleError) -> String {
    match error {
        BundleError::Unreadable { source, .. } => format!("{error}: {source}"),
        _ => error.to_string(),
    }
}

/// Why the broker does not know whom to trust.
#[derive(Debug, thiserror::Error)]
#[error("`{table}` cannot be used")]
pub struct TrustError {
    table: String,
    source: BundleError,
}

const TICK: Duration = Duration::from_secs(2);
/// A chain is kept for as long as its connection, so that it can be judged again.
const MAX_INTERMEDIATES: usize = 7;
const MAX_CHAIN_BYTES: usize = 16 * 1024;

#[cfg(test)]
mod tests;
