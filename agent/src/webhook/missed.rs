//! Pods that opted in, or whose namespace did, and have none of what is injected: they were made while the webhook was not
//! asked.
//!
//! Listed now and then by the leader, in pages, up to a number: a watch of every pod would hold them all.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bursar_core::Explained;
use k8s_openapi::api::core::v1::PodOS;
use serde::Deserialize;
use tokio::time::Instant;

use super::api::{Api, ApiError};
use super::{mutate, shape};
use crate::telemetry::webhook::Metrics;

/// What was found last.
#[derive(Debug)]
pub(super) struct Missed {
    /// Paths of the lists of those that opted in.
    lists: Vec<String>,
    /// By uid, so that each is told once.
    told: BTreeSet<String>,
    looked: Option<Instant>,
    is_refused: bool,
}

impl Missed {
    /// Nothing yet, of pods with the label, and of those without it in `namespaces`.
    pub(super) fn of<'a>(namespaces: impl IntoIterator<Item = &'a String>) -> Self {
        let labelled = format!("/api/v1/pods?labelSelector=bursar.io%2Finject%3Dtrue{RUNNING}");
        let selector = "bursar.io%2Finject%20notin%20%28true%2Cfalse%29";
        let within = |name| format!("/api/v1/namespaces/{name}/pods?labelSelector={selector}{RUNNING}");
        let lists = std::iter::once(labelled).chain(namespaces.into_iter().map(within)).collect();
        Self { lists, told: BTreeSet::new(), looked: None, is_refused: false }
    }

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
                let error = Explained(&error);
                if !std::mem::replace(&mut self.is_refused, true) {
                    tracing::warn!(%error, "pods cannot be listed; it is not known which were missed");
                }
            }
        }
    }

    async fn count(&mut self, api: &Api) -> Result<usize, ApiError> {
        let mut missed = BTreeSet::new();
        let mut lists = self.lists.iter();
        let mut next = lists.next().cloned();
        for _ in 0..PAGES {
            let Some(path) = next else { break };
            let page = api.get::<Page>(&path).await?.unwrap_or_default();
            for pod in page.items.into_iter().filter(Listed::is_missed) {
                let Metadata { name, namespace, uid, .. } = pod.metadata;
                if !self.told.contains(&uid) {
                    tracing::warn!(
                        pod = name,
                        namespace,
                        "a pod opted in and has no secrets: it was made while the webhook was not asked"
                    );
                }
                missed.insert(uid);
            }
            next = match page.metadata.more.as_str() {
                "" => lists.next().cloned(),
                more => Some(after(&path, more)),
            };
        }
        self.told = missed;
        Ok(self.told.len())
    }
}

/// The page that follows one of the list at `path`.
fn after(path: &str, more: &str) -> String {
    let list = path.split(CONTINUE).next().unwrap_or_default();
    let more = percent_encoding::utf8_percent_encode(more, percent_encoding::NON_ALPHANUMERIC);
    format!("{list}{CONTINUE}{more}")
}

/// As much of a list of pods as is looked at; the rest is passed over while it is read.
#[derive(Default, Deserialize)]
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
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    #[serde(default)]
    volumes: Vec<Named>,
    os: Option<PodOS>,
    node_selector: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

impl Listed {
    /// It has nothing of what every shape adds (the annotation is written by whoever likes to), and is none that is left as it
    /// is.
    fn is_missed(&self) -> bool {
        let is_injected = self.spec.volumes.iter().any(|volume| volume.name == shape::TOKEN_VOLUME);
        let (os, selector) = (self.spec.os.as_ref(), self.spec.node_selector.as_ref());
        let is_left = self.metadata.annotations.contains_key(mutate::MIRROR)
            || (mutate::is_windows(os, selector) && !self.metadata.labels.contains_key(LABEL));
        !is_injected && !is_left
    }
}

const RUNNING: &str = "&fieldSelector=status.phase%21%3DSucceeded%2Cstatus.phase%21%3DFailed&limit=200";
const LABEL: &str = "bursar.io/inject";
const CONTINUE: &str = "&continue=";
/// Of all lists together.
const PAGES: usize = 50;
const EVERY: Duration = Duration::from_secs(60);
