//! The admission webhook: pods that opted in are changed while they are created, so that they start with their secrets.
//!
//! From the outside in: [`server`] takes connections, [`review`] reads what is asked and writes what is answered,
//! [`mutate`] decides, purely, by what [`annotations`] say (or [`vault`]'s), what each [`shape`] adds and what the pod has
//! already ([`draft`]). Beside them, `certificate` keeps what the port is served with, and `missed` counts pods that were
//! made while nobody asked.
//!
//! What a pod becomes depends on the pod and the settings alone. There is no call on the way to an answer, so nothing that
//! is away can make it late: neither the API server nor a registry, a broker or a disk.

pub(crate) mod annotations;
mod api;
mod certificate;
mod covers;
mod draft;
pub(crate) mod form;
mod missed;
pub mod mutate;
pub mod review;
pub mod server;
pub(crate) mod shape;
#[cfg(test)]
mod testing;
mod text;
mod vault;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bursar_core::Clock;
use bursar_core::tasks::{Stop, Tasks};
use prometheus_client::registry::Registry;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::sync::watch;

use crate::agent;
use crate::config::{Injection, Serving, WebhookConfig};
use crate::health::Findings;
use crate::http::Shown;
use crate::source::{self, SourceError};
use crate::telemetry::webhook::Metrics;
use certificate::{Keeper, Served};
use missed::Missed;
use server::{LINGER, Server};

/// What decides about pods.
#[derive(Debug, Clone)]
pub struct Settings {
    pub injection: Injection,
    /// The roots that vouch for the broker, PEM.
    pub trust_bundle: String,
}

/// Starts everything, runs until `tasks` stop, and goes down in order. Answers why it stopped.
///
/// # Errors
/// [`StartError`]: what is wrong here and now. An API server that is away is no such thing.
pub async fn run(config: WebhookConfig, clock: Arc<dyn Clock>, tasks: &Tasks) -> Result<Stop, StartError> {
    let mut registry = Registry::default();
    let metrics = Metrics::register(&mut registry);
    let missed = Missed::of(config.injection.namespaces.keys());
    let settings = Settings { trust_bundle: trust_bundle(&config.ca_file)?, injection: config.injection };
    let served = Served::new(metrics.clone());
    let address = config.listen;
    let server = Server::bind(address, settings, config.limits, served.subscribe(), metrics.clone()).await;
    let server = server.map_err(|source| StartError::Listen { address, source })?;
    let findings = watch::Sender::new(Findings::default());
    if let Some(address) = config.http {
        let shown = Shown { registry, findings: findings.subscribe() };
        agent::serve_http(address, shown, tasks).await?;
    }
    let (stop, tls) = (tasks.clone(), served.subscribe());
    tasks.run("health", async move {
        let mut ticks = stop.ticks(INTERVAL);
        while ticks.next().await {
            let is_ready = tls.borrow().is_some();
            metrics.ready.set(i64::from(is_ready));
            let not_ready = (!is_ready).then_some("there is no certificate yet; the log says why");
            findings.send_replace(Findings { not_ready, fault: None });
        }
        findings.send_replace(Findings { not_ready: Some("stopping"), fault: None });
    });
    let stop = tasks.clone();
    match config.serving {
        Serving::Files { cert, key } => {
            tasks.run(
                "certificate",
                async move { certificate::watch_files(&cert, &key, &served, &stop).await },
            );
        }
        Serving::SelfMade(own) => {
            let keeper = Keeper::new(*own, clock, served.clone(), missed, served.metrics());
            tasks.run("certificate", async move { keeper.keep(&stop).await });
        }
    }
    let stop = tasks.clone();
    tasks.run("reviews", async move { server.serve(stop).await });
    tracing::info!(%address, "the webhook runs");

    let stop = tasks.stopping().await;
    tracing::info!(?stop, "the webhook goes down");
    if !tasks.drain(LINGER + GRACE).await {
        tracing::warn!("some work did not end in time and is left behind");
    }
    Ok(stop)
}

/// The certificates in a file, and nothing else that somebody may have put there.
fn trust_bundle(path: &Path) -> Result<String, StartError> {
    let pem = source::public(path)?;
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok).collect();
    let text = String::from_utf8(pem).ok().filter(|text| !text.contains("PRIVATE KEY"));
    match text {
        Some(text) if !certificates.is_empty() && !text.contains('$') => Ok(text),
        _ => Err(StartError::NoBundle { path: path.to_owned() }),
    }
}

/// Why the webhook did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("`ca_file` cannot be read")]
    CaFile(#[from] SourceError),
    #[error("`ca_file` `{}` has no certificate, or something else that no pod is to be given; put the broker's roots there, PEM", path.display())]
    NoBundle { path: PathBuf },
    #[error("cannot listen on `{address}`; another process may")]
    Listen {
        address: std::net::SocketAddr,
        #[source]
        source: std::io::Error,
    },
    #[error(transparent)]
    Http(#[from] agent::StartError),
}

const INTERVAL: Duration = Duration::from_secs(1);
/// For reviews under way, and for giving the Lease back.
const GRACE: Duration = Duration::from_secs(10);
