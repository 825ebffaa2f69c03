//! Pods that opted in and have none of what is injected: they were made while the webhook was not asked.
//!
//! Listed now and then by the leader, in pages, up to a number: a watch of every pod would hold them all.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Deserialize;
use tokio::time::Instant;

use super::api::{Api, ApiError};
use super::shape;
use crate::telemetry::webhook::Metrics;

/// What was found last.
#[derive(Debug, Default)]
pub(super) struct Missed {
    /// By uid, so that each is told once.
    told: BTreeSet<String>,
    looked: Option<Instant>,
    is_refused: bool,
}

impl Missed {
    /// Looks, where it is time to.
    pub(super) async fn look(&mut self, api: &Api, metrics: &Metrics) {
        if self.looked.is_some_and(|looked| looked.elapsed() < EVERY) {
            return;
        }
        self.looked = Some(Instant::now());
        match self.count(api).await {
            Ok(missed) => {
                self.is_refused = false;
                metrics.missed_pods.set(i64::try_from(missed).unwrap_or(i64::MAX));
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                if !std::mem::replace(&mut self.is_refused, true) {
                    tracing::warn!(error, "pods cannot be listed; it is not known which were missed");
                }
            }
        }
    }

    async fn count(&mut self, api: &Api) -> Result<usize, ApiError> {
        let mut missed = BTreeSet::new();
        let mut more = String::new();
        for _ in 0..PAGES {
            let path = match more.as_str() {
                "" => LIST.to_owned(),
                more => format!(
                    "{LIST}&continue={}",
                    percent_encoding::utf8_percent_encode(more, percent_encoding::NON_ALPHANUMERIC)
                ),
            };
            let Some(page) = api.get::<Page>(&path).await? else { break };
            for pod in page.items.into_iter().filter(|pod| !pod.is_injected()) {
                let Metadata { name, namespace, uid } = pod.metadata;
                if !self.told.contains(&uid) {
                    tracing::warn!(
                        pod = name,
                        namespace,
                        "a pod opted in and has no secrets: it was made while the webhook was not asked"
                    );
                }
                missed.insert(uid);
            }
            more = page.metadata.more;
            if more.is_empty() {
                break;
            }
        }
        self.told = missed;
        Ok(self.told.len())
    }
}

/// As much of a list of pods as is looked at; the rest is passed over while it is read.
#[derive(Deserialize)]
struct Page {
    #[serde(default)]
    metadata: PageMetadata,
    #[serde(default)]
    items: Vec<Listed>,
}

#[derive(Default, Deserialize)]
struct PageMetadata {
    #[serde(default, rename = "continue")]
    more: String,
}

#[derive(Deserialize)]
struct Listed {
    metadata: Metadata,
    #[serde(default)]
    spec: Spec,
}

#[derive(Deserialize)]
struct Metadata {
    #[serde(default)]
    name: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    uid: String,
}

#[derive(Default, Deserialize)]
struct Spec {
    #[serde(default)]
    volumes: Vec<Named>,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

impl Listed {
    /// By what every shape adds. The annotation is written by whoever likes to.
    fn is_injected(&self) -> bool {
        self.spec.volumes.iter().any(|volume| volume.name == shape::TOKEN_VOLUME)
    }
}

const LIST: &str = "/api/v1/pods?labelSelector=bursar.io%2Finject%3Dtrue\
                    &fieldSelector=status.phase%21%3DSucceeded%2Cstatus.phase%21%3DFailed&limit=200";
const PAGES: usize = 50;
const EVERY: Duration = Duration::from_secs(60);
