//! Keeps the node certified for as long as the process runs.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bursar_core::retry::Retry;
use bursar_core::settings::SecretSource;
use bursar_core::spiffe::PrincipalKind;
use bursar_core::{Clock, Explained};
use bursar_proto::convert::wire_bytes;
use bursar_proto::v1::ClientCertificate;
use bursar_proto::v1::nodes_join_request::Credential as Presented;
use bursar_sdk::{Address, Identity};
use sha2::{Digest, Sha256};
use tokio::sync::{Mutex, watch};

use super::Credential;
use super::certify::{self, CertifyError};
use crate::config::Join;
use crate::source;
use crate::telemetry::Metrics;
use crate::upstream::Upstream;

/// What the task that keeps the node certified needs.
pub struct Keeper {
    pub broker: Address,
    /// The roots of the configuration, in PEM.
    pub ca: Vec<u8>,
    pub server_name: Option<String>,
    pub node: Option<String>,
    pub data_dir: PathBuf,
    pub join: Option<Join>,
    pub clock: Arc<dyn Clock>,
    pub upstream: Arc<Upstream>,
    pub metrics: Metrics,
    /// What is in force; the health check watches it.
    pub current: watch::Sender<Option<Arc<Credential>>>,
    /// Digest of a token that is used up, so that it is not sent again and again.
    pub spent: Mutex<Option<[u8; 32]>>,
}

impl Keeper {
    /// Takes up the certificate of an earlier run, if there is one.
    ///
    /// # Errors
    /// [`CertifyError`], when it is there and cannot be used, or is for another node.
    pub fn resume(&self) -> Result<bool, CertifyError> {
        let Some(credential) = Credential::load(&self.data_dir)? else { return Ok(false) };
        self.expect_own_name(&credential)?;
        self.use_now(credential)?;
        Ok(true)
    }

    /// Joins, renews, and joins again where that is the only way. Never ends.
    pub async fn keep(&self) {
        loop {
            self.until_due().await;
            let next = Retry::BACKGROUND.run(|| async {
                let next = self.keep_once().await;
                next.inspect_err(|error| {
                    self.metrics.certificate("failed");
                    let valid = self.valid().is_some();
                    tracing::warn!(
                        error = %Explained(error),
                        valid,
                        "there is no new certificate"
                    );
                })
            });
            if let Ok(next) = next.await {
                self.metrics.certificate(next);
            }
        }
    }

    /// Waits for the moment in the life of the certificate at which it wants renewal, or until the broker refuses it.
    async fn until_due(&self) {
        let Some(credential) = self.valid() else { return };
        let due = credential.at_share_of_life(0.45 + 0.1 * fastrand::f64());
        let new = tokio::time::Instant::now();
        while let Some(left) = left_until(due, self.clock.now()) {
            tokio::select! {
                // In short waits: wall time runs on while a machine sleeps, and this timer does not.
                () = tokio::time::sleep(left.min(LOOK_AGAIN)) => {}
                // A certificate that is refused although it was just renewed is not helped by another one.
                () = self.upstream.refused() => if new.elapsed() > LOOK_AGAIN { return },
            }
        }
    }

    /// One attempt at the next certificate; answers how it was come by.
    ///
    /// # Errors
    /// [`CertifyError`]; what is in force stays in force.
    pub async fn keep_once(&self) -> Result<&'static str, CertifyError> {
        let rejoins = self.join.as_ref().is_some_and(Join::names_the_node);
        let (credential, how) = match self.valid() {
            // The broker asks anew, each time, whether it is to be let in.
            Some(_) if rejoins => (self.join().await?, "joined"),
            Some(_) => match self.renew().await {
                Err(error) if error.is_refusal() && self.join.is_some() => (self.join().await?, "joined"),
                renewed => (renewed?, "renewed"),
            },
            None => (self.join().await?, "joined"),
        };
        self.expect_own_name(&credential)?;
        tracing::info!(id = %credential.id(), until = %credential.not_after(), how, "the node has a new certificate");
        // The token that it cost may be used up: a full disk must not cost the certificate too.
        if let Err(error) = credential.store(&self.data_dir) {
            tracing::error!(
                error = %Explained(&error),
                "the new certificate is in memory only"
            );
        }
        self.use_now(credential)?;
        Ok(how)
    }

    async fn renew(&self) -> Result<Credential, CertifyError> {
        let channel = self.upstream.channel().ok_or(CertifyError::NoToken)?;
        certify::renew(channel, &*self.clock).await
    }

    async fn join(&self) -> Result<Credential, CertifyError> {
        match self.join.as_ref().ok_or(CertifyError::NoToken)? {
            Join::Token(source) => self.join_by_token(source).await,
            // Read anew each time: what was presented before may have ended.
            Join::Kubernetes { token_file } => {
                let token = source::projected(token_file)?;
                self.join_as(None, Presented::ServiceAccountToken(wire_bytes(&token))).await
            }
            Join::Certificate { cert, key } => {
                let identity = Identity {
                    cert_pem: source::public(cert)?,
                    key_pem: source::fetch(&SecretSource::File(key.clone()))?,
                };
                self.join_as(Some(identity), Presented::ClientCertificate(ClientCertificate {})).await
            }
        }
    }

    async fn join_by_token(&self, source: &SecretSource) -> Result<Credential, CertifyError> {
        let token = source::fetch(source)?;
        let digest: [u8; 32] = Sha256::digest(token.expose()).into();
        let mut spent = self.spent.lock().await;
        if *spent == Some(digest) {
            return Err(CertifyError::TokenSpent);
        }
        let joined = self.join_as(None, Presented::Token(wire_bytes(&token))).await;
        if joined.as_ref().err().is_none_or(CertifyError::is_of_token) {
            *spent = Some(digest);
        }
        joined
    }

    async fn join_as(
        &self,
        identity: Option<Identity>,
        presented: Presented,
    ) -> Result<Credential, CertifyError> {
        let tls =
            bursar_sdk::Tls { ca_pem: self.ca.clone(), identity, server_name: self.server_name.clone() };
        let channel = bursar_sdk::channel(&self.broker, Some(&tls)).await?;
        certify::join(channel, presented, &*self.clock).await
    }

    fn use_now(&self, credential: Credential) -> Result<(), CertifyError> {
        let credential = Arc::new(credential);
        let (broker, ca, name) = (self.broker.clone(), self.ca.clone(), self.server_name.clone());
        let shown = Arc::clone(&credential);
        let connect = move || bursar_sdk::channel_lazy(&broker, Some(&shown.tls(&ca, name.as_deref())));
        self.upstream.replace(connect)?;
        self.metrics.certificate_end.set(credential.not_after().as_second());
        self.current.send_replace(Some(credential));
        Ok(())
    }

    fn valid(&self) -> Option<Arc<Credential>> {
        self.current.borrow().clone().filter(|credential| credential.is_valid(self.clock.now()))
    }

    fn expect_own_name(&self, credential: &Credential) -> Result<(), CertifyError> {
        match (credential.id().kind(), &self.node) {
            (PrincipalKind::Node { name }, Some(expected)) if name == expected => Ok(()),
            (PrincipalKind::Node { .. }, None) => Ok(()),
            (_, configured) => Err(CertifyError::OtherNode {
                issued: credential.id().to_string(),
                configured: configured.clone().unwrap_or_default(),
            }),
        }
    }
}

impl std::fmt::Debug for Keeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keeper")
            .field("broker", &self.broker)
            .field("node", &self.node)
            .finish_non_exhaustive()
    }
}

fn left_until(due: jiff::Timestamp, now: jiff::Timestamp) -> Option<Duration> {
    Duration::try_from(due.duration_since(now)).ok().filter(|left| !left.is_zero())
}

/// How late a machine that slept may be.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
