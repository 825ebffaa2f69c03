//! Doing what [`course`] says, and serving what is kept.
//!
//! In this order: what is to be trusted, then what is kept, then what is served. Whatever fails, and whoever was faster, is
//! seen at the next look.

use std::sync::Arc;
use std::time::Duration;

use bursar_core::tasks::Tasks;
use bursar_core::{Clock, Explained};
use data_encoding::BASE64;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::kept::{Holder, Kept};
use super::lease::Leadership;
use super::{Served, course};
use crate::config::SelfMade;
use crate::telemetry::webhook::Metrics;
use crate::webhook::api::{Api, ApiError};
use crate::webhook::missed::Missed;

/// Keeps the certificate of our own.
#[derive(Debug)]
pub(in crate::webhook) struct Keeper {
    settings: SelfMade,
    api: Api,
    clock: Arc<dyn Clock>,
    leadership: Leadership,
    missed: Missed,
    served: Served,
    /// The certificate that is served.
    current: Option<String>,
    metrics: Metrics,
}

impl Keeper {
    pub(in crate::webhook) fn new(
        settings: SelfMade,
        clock: Arc<dyn Clock>,
        served: Served,
        missed: Missed,
        metrics: Metrics,
    ) -> Self {
        let api = Api::new(settings.api.clone(), metrics.clone());
        let leadership = Leadership::of(&settings);
        Self { settings, api, clock, leadership, missed, served, current: None, metrics }
    }

    /// Looks every few seconds, until the process stops.
    pub(in crate::webhook) async fn keep(mut self, tasks: &Tasks) {
        let mut ticks = tasks.ticks(EVERY);
        let mut failing = false;
        while ticks.next().await {
            let looked = self.look().await;
            match &looked {
                Ok(()) if failing => tracing::info!("the certificate is kept again"),
                Err(error) if !failing => {
                    let error = Explained(error);
                    tracing::error!(%error, "the certificate cannot be kept; what is served stays");
                }
                Ok(()) | Err(_) => {}
            }
            failing = looked.is_err();
            if failing {
                self.metrics.certificate("failed");
                self.metrics.leads.set(0);
            }
        }
        self.leadership.release(&self.api).await;
    }

    /// Looks once, and does what is to be done.
    pub(super) async fn look(&mut self) -> Result<(), KeepError> {
        let leads = self.leadership.hold(&self.api, self.now()).await?;
        self.metrics.leads.set(i64::from(leads));
        let path = format!("{}/{}", self.secrets(), self.settings.secret);
        let mut secret = self.api.get::<Holder>(&path).await?;
        let mut kept = secret.as_mut().and_then(Kept::of);
        if leads {
            kept = Some(self.lead(kept, secret, &path).await?);
            self.missed.look(&self.api, &self.metrics).await;
        }
        let Some(kept) = kept else { return Ok(()) };
        if self.current.as_ref() != Some(&kept.server.certificate) {
            self.served.replace(kept.server.certificate.as_bytes(), &kept.server.key)?;
            self.current = Some(kept.server.certificate);
            tracing::info!("another certificate is served");
        }
        Ok(())
    }

    async fn lead(&self, kept: Option<Kept>, secret: Option<Holder>, path: &str) -> Result<Kept, KeepError> {
        let at = format!("{CONFIGURATIONS}/{}", self.settings.configuration);
        let configuration = self.api.get::<Value>(&at).await?;
        let configuration = configuration
            .ok_or_else(|| KeepError::NoConfiguration { name: self.settings.configuration.clone() })?;
        let (kept, done) = course::next(kept, &trusted(&configuration), self.now(), &self.settings)?;
        self.trust(configuration, &at, &kept.bundle()).await?;
        let Some(done) = done else { return Ok(kept) };
        let is_there = secret.is_some();
        let mut secret = secret.unwrap_or_else(|| Holder::named(&self.settings.secret));
        secret.fill(&kept);
        drop(match is_there {
            true => self.api.replace(path, &secret).await?,
            false => self.api.create(&self.secrets(), &secret).await?,
        });
        self.metrics.certificate(done);
        tracing::info!(done, "what is kept of the certificate was replaced");
        Ok(kept)
    }

    /// Has the API server trust exactly `bundle`. What else is in the configuration goes back as it came, members included
    /// that kube's types do not know.
    async fn trust(&self, mut configuration: Value, at: &str, bundle: &str) -> Result<(), ApiError> {
        let wanted = json!(BASE64.encode(bundle.as_bytes()));
        let mut changed = false;
        for webhook in configuration.pointer_mut(WEBHOOKS).and_then(Value::as_array_mut).into_iter().flatten()
        {
            let Some(client) = webhook.pointer_mut(CLIENT).and_then(Value::as_object_mut) else { continue };
            changed |= client.insert(BUNDLE.to_owned(), wanted.clone()).as_ref() != Some(&wanted);
        }
        if changed {
            drop(self.api.replace(at, &configuration).await?);
            tracing::info!("the API server is told whom to trust");
        }
        Ok(())
    }

    /// The API server's time; before its first answer, our own, by which nothing is decided.
    fn now(&self) -> Timestamp {
        self.api.now().unwrap_or_else(|| self.clock.now())
    }

    fn secrets(&self) -> String {
        format!("/api/v1/namespaces/{}/secrets", self.settings.namespace)
    }
}

/// What the API server trusts now, PEM.
fn trusted(configuration: &Value) -> String {
    let webhooks = configuration.pointer(WEBHOOKS).and_then(Value::as_array).into_iter().flatten();
    let bundles = webhooks.filter_map(|webhook| webhook.pointer(CLIENT)?.get(BUNDLE)?.as_str());
    let mut texts =
        bundles.filter_map(|bundle| String::from_utf8(BASE64.decode(bundle.as_bytes()).ok()?).ok());
    texts.find(|text| !text.is_empty()).unwrap_or_default()
}

/// Why the certificate was not kept.
#[derive(Debug, thiserror::Error)]
pub(super) enum KeepError {
    #[error(transparent)]
    Api(#[from] ApiError),
    #[error(
        "there is no MutatingWebhookConfiguration `{name}`; `self_made.configuration` names the one whose `caBundle` is kept"
    )]
    NoConfiguration { name: String },
    #[error("a certificate cannot be made")]
    Make(#[from] rcgen::Error),
    #[error("what is kept cannot be served")]
    Unusable(#[from] super::Unusable),
}

const EVERY: Duration = Duration::from_secs(5);
const CONFIGURATIONS: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";
const WEBHOOKS: &str = "/webhooks";
const CLIENT: &str = "/clientConfig";
const BUNDLE: &str = "caBundle";
