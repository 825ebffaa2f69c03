//! Callers who present a token: `authorization: Bearer TOKEN`, a JSON Web Token of an issuer that the configuration names.
//!
//! A token is believed in steps, cheapest first: its form, its issuer, its audience and times, then its signature, then
//! who it names, then, where asked for, the cluster that issued it. Nothing is fetched and no signature is computed for
//! a token that an earlier step refuses. One that was believed is remembered by its SHA-256, for a short time, in a
//! bounded memory, and only as long as the keys of its issuer are the same. One that was refused is not remembered:
//! there are as many of those as somebody cares to send.

mod claims;
mod fetch;
mod held;
mod json;
mod jws;
mod keys;
mod kubernetes;
mod refused;
mod review;
mod servers;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bursar_backend_http::SetupError;
use bursar_core::spiffe::TrustDomain;
use bursar_core::tasks::Tasks;
use bursar_core::{Clock, Secret, SpiffeId};
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use jiff::Timestamp;
use quick_cache::sync::Cache;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

pub use refused::Refused;

use self::fetch::Source;
use self::held::Held;
use self::jws::Jws;
use self::review::Review;
use super::admission::Account;
use super::{Caller, Method};
use crate::config::{IssuerKind, IssuerSettings, Rule};
use crate::policy::{Facts, GroupName, PrincipalFacts, Selector};
use crate::telemetry::Metrics;

/// Knows callers by their tokens.
#[derive(Debug)]
pub struct Tokens {
    /// By what `iss` says.
    issuers: HashMap<String, Arc<Issuer>>,
    domain: TrustDomain,
    verified: Cache<[u8; 32], Arc<Verified>>,
    metrics: Metrics,
}

#[derive(Debug)]
struct Issuer {
    name: String,
    audiences: Vec<String>,
    clock_skew: Duration,
    keys: Held,
    source: Source,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Kubernetes { path: Vec<String>, review: Option<Box<Review>> },
    Oidc { rules: Arc<[Rule]> },
}

/// Whom a token names.
#[derive(Debug)]
struct Subject {
    id: SpiffeId,
    selectors: Vec<Selector>,
    groups: Vec<GroupName>,
    instance: Option<String>,
    account: Option<Arc<Account>>,
}

/// A token that was believed.
#[derive(Debug)]
struct Verified {
    /// Its bearer, at no address.
    caller: Caller,
    issuer: Arc<Issuer>,
    /// Of the keys that it was believed by.
    revision: u64,
    /// It is looked at anew after that.
    until: Instant,
}

impl Tokens {
    /// Takes tokens of these issuers, and of nobody else.
    ///
    /// # Errors
    /// The name of the issuer whose servers cannot be called as configured, and why.
    pub fn new(
        issuers: &[IssuerSettings],
        domain: TrustDomain,
        metrics: Metrics,
    ) -> Result<Self, (String, SetupError)> {
        let open = |settings: &IssuerSettings| match Issuer::new(settings) {
            Ok(issuer) => Ok((settings.issuer.clone(), Arc::new(issuer))),
            Err(error) => Err((settings.name.clone(), error)),
        };
        let issuers = issuers.iter().map(open).collect::<Result<_, _>>()?;
        Ok(Self { issuers, domain, verified: Cache::new(REMEMBERED), metrics })
    }

    /// Fetches the keys of all issuers, until the broker stops.
    pub fn keep_keys(&self, clock: &Arc<dyn Clock>, tasks: &Tasks) {
        for issuer in self.issuers.values() {
            let (issuer, clock, metrics) = (Arc::clone(issuer), Arc::clone(clock), self.metrics.clone());
            let stop = tasks.clone();
            tasks.run("issuer keys", async move {
                stop.until_stopping(issuer.keys.keep(|| issuer.source.keys(), clock, metrics)).await;
            });
        }
    }

    /// Whoever the token in an `authorization` header names, at `peer`.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn caller(
        &self,
        header: &HeaderValue,
        peer: SocketAddr,
        now: Timestamp,
    ) -> Result<Arc<Caller>, Refused> {
        self.bearer(bearer(header), peer, now).await
    }

    /// Whoever a token names that came in a message.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn sent(
        &self,
        token: &Secret,
        peer: SocketAddr,
        now: Timestamp,
    ) -> Result<Arc<Caller>, Refused> {
        self.bearer(Ok(token.expose()), peer, now).await
    }

    async fn bearer(
        &self,
        token: Result<&[u8], Refused>,
        peer: SocketAddr,
        now: Timestamp,
    ) -> Result<Arc<Caller>, Refused> {
        let mut method = UNKNOWN;
        let known = match token {
            Ok(token) => self.known(token, now, &mut method).await,
            Err(refused) => Err(refused),
        };
        self.metrics.authentication(method, known.as_ref().map_or_else(|refused| refused.as_str(), |_| "ok"));
        known.map(|verified| Arc::new(Caller { peer: Some(peer), ..verified.caller.clone() }))
    }

    async fn known(
        &self,
        token: &[u8],
        now: Timestamp,
        method: &mut &'static str,
    ) -> Result<Arc<Verified>, Refused> {
        let digest: [u8; 32] = Sha256::digest(token).into();
        if let Some(verified) = self.verified.get(&digest) {
            *method = verified.issuer.method().as_str();
            let holds = verified.until > Instant::now() && verified.caller.credential_expires > now;
            if holds && verified.issuer.keys.revision()? == verified.revision {
                return Ok(verified);
            }
            self.verified.remove(&digest);
        }
        let token = str::from_utf8(token).map_err(|_| Refused::Form)?;
        let jws = Jws::parse(token.as_bytes())?;
        let issuer = self.issuers.get(claims::issuer(&jws.claims)?).ok_or(Refused::IssuerUnknown)?;
        *method = issuer.method().as_str();
        let ends = claims::check(&jws.claims, &issuer.audiences, issuer.clock_skew, now)?;
        let revision = issuer.keys.verify(&jws).await?;
        let subject = issuer.subject(token, &jws.claims, &self.domain).await?;
        let verified = Arc::new(Verified {
            caller: subject.caller(issuer.method(), &digest, ends),
            issuer: Arc::clone(issuer),
            revision,
            until: Instant::now() + issuer.believed_for(),
        });
        self.verified.insert(digest, Arc::clone(&verified));
        Ok(verified)
    }
}

impl Issuer {
    fn new(settings: &IssuerSettings) -> Result<Self, SetupError> {
        let kind = match &settings.kind {
            IssuerKind::Oidc { rules } => Kind::Oidc { rules: Arc::clone(rules) },
            IssuerKind::Kubernetes { path, review } => {
                let review = review.as_ref();
                let review = review.map(|review| Review::new(review, &settings.name, &settings.audiences));
                Kind::Kubernetes { path: path.clone(), review: review.transpose()?.map(Box::new) }
            }
        };
        Ok(Self {
            name: settings.name.clone(),
            audiences: settings.audiences.clone(),
            clock_skew: settings.clock_skew,
            keys: Held::new(settings.name.clone(), settings.refresh, settings.max_stale),
            source: Source::new(settings)?,
            kind,
        })
    }

    fn method(&self) -> Method {
        match self.kind {
            Kind::Kubernetes { .. } => Method::Kubernetes,
            Kind::Oidc { .. } => Method::Oidc,
        }
    }

    /// How long a token is believed without looking at it again.
    fn believed_for(&self) -> Duration {
        match self.kind {
            Kind::Kubernetes { review: Some(_), .. } => REVIEWED,
            _ => BELIEVED,
        }
    }

    async fn subject(
        &self,
        token: &str,
        claims: &Map<String, Value>,
        domain: &TrustDomain,
    ) -> Result<Subject, Refused> {
        match &self.kind {
            Kind::Kubernetes { path, review } => {
                let account = kubernetes::account(claims, domain, path, &self.name)?;
                if let Some(review) = review {
                    review.confirm(token, &account).await?;
                }
                Ok(account.subject)
            }
            Kind::Oidc { rules } => {
                let matched = rules.iter().find_map(|rule| rule.apply(claims)).ok_or(Refused::NoRule)?;
                let said = matched.claims.iter().map(|(claim, text)| format!("oidc:{claim}:{text}"));
                let issuer = std::iter::once(format!("oidc:issuer:{}", self.name));
                // For the record. What does not fit is left out: claims say anything, and the name is made already.
                let selectors = issuer.chain(said).filter_map(|text| Selector::parse(&text).ok()).collect();
                let id = matched.id.ok_or(Refused::Principal)?;
                Ok(Subject { id, selectors, groups: matched.groups, instance: None, account: None })
            }
        }
    }
}

impl Subject {
    fn caller(self, method: Method, digest: &[u8; 32], ends: Timestamp) -> Caller {
        let Self { id, selectors, groups, instance, account } = self;
        let method = method.as_str().to_owned();
        Caller {
            facts: PrincipalFacts::new(Facts { id, method, node: None, selectors, groups }),
            credential: data_encoding::HEXLOWER.encode(digest),
            credential_expires: ends,
            instance,
            ttl: None,
            peer: None,
            account,
        }
    }
}

/// Takes the token out of a call, so that nothing behind this meets it.
///
/// # Errors
/// [`Refused::Scheme`] when there are several.
pub fn take(headers: &mut HeaderMap) -> Result<Option<HeaderValue>, Refused> {
    if !headers.contains_key(AUTHORIZATION) {
        return Ok(None);
    }
    let several = headers.get_all(AUTHORIZATION).iter().nth(1).is_some();
    let mut header = headers.remove(AUTHORIZATION);
    if let Some(header) = &mut header {
        header.set_sensitive(true);
    }
    if several { Err(Refused::Scheme) } else { Ok(header) }
}

/// The token of the scheme `Bearer` (RFC 6750, section 2.1).
fn bearer(header: &HeaderValue) -> Result<&[u8], Refused> {
    let (scheme, token) = header.as_bytes().split_at_checked(SCHEME.len()).ok_or(Refused::Scheme)?;
    (scheme.eq_ignore_ascii_case(SCHEME) && !token.is_empty()).then_some(token).ok_or(Refused::Scheme)
}

const SCHEME: &[u8] = b"Bearer ";
/// Tokens that are remembered.
const REMEMBERED: usize = 16_384;
const BELIEVED: Duration = Duration::from_secs(300);
const REVIEWED: Duration = Duration::from_secs(60);
/// The method of a token that names no issuer of ours.
const UNKNOWN: &str = "token";

#[cfg(test)]
mod tests;
